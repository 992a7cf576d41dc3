//! Decisions allocate nothing once their memory is warm. A binary of its own, since its allocator counts.

mod decisions;

use decisions::Decisions;

/// The recorder's ring, twice over.
const N_WARM_UP: usize = 600;

/// A tree within a tree: the inner one leaves nobody, so the outer one starts over.
const FAILING_TREE: &str = "
plugins:
- {type: low-queue-filter, parameters: {threshold: 0}}
- {type: least-kv-cache-filter}
- {type: header-based-testing-filter, name: nobody}
- type: decision-tree-filter
  name: inner
  parameters: {current: {pluginRef: low-queue-filter}, nextOnSuccess: {pluginRef: nobody}}
- type: decision-tree-filter
  name: tree
  parameters: {current: {pluginRef: inner}, nextOnFailure: {pluginRef: least-kv-cache-filter}}
schedulingProfiles:
- {name: default, plugins: [{pluginRef: tree}]}
";

/// What sources of data leave on endpoints.
const ATTRIBUTES: &str = "
plugins:
- type: endpoint-attribute-filter
  parameters:
    attribute: depth
    algorithm: {type: threshold, threshold: {operator: GreaterThan, value: -1}}
- type: endpoint-attribute-scorer
  parameters: {attributeKey: depth, algorithm: {type: linear_lower_is_better}}
- type: topology-affinity-filter
- type: topology-affinity-scorer
";

/// LoRA scores for those that a header names, of which up to four are picked.
fn several(picker: &str, n_endpoints: u32) -> Decisions {
    let mut decisions = Decisions::under(
        &format!(
            "plugins: [{{type: lora-affinity-scorer}}, {{type: header-based-testing-filter}}, \
             {{type: {picker}, parameters: {{maxNumOfEndpoints: 4}}}}]"
        ),
        n_endpoints,
    );
    let named: Vec<_> = (0..n_endpoints.min(200)).rev().map(|n| format!("10.0.0.{n}")).collect();
    decisions.request.headers = [("test-epp-endpoint-selection", named.join(","))].into_iter().collect();
    decisions
}

/// Scorers and filters of v1.5 and llm-d, none of which leaves nobody.
const CATALOGUE: &str = "
plugins:
- {type: running-requests-size-scorer}
- {type: token-load-scorer}
- {type: load-aware-scorer}
- {type: active-request-scorer}
- {type: no-hit-lru-scorer}
- {type: context-length-aware, parameters: {enableFiltering: true}}
";

/// The others.
const CATALOGUE_2: &str = "
plugins:
- {type: session-affinity-scorer}
- {type: session-affinity-scorer, name: by-session, parameters: {strategy: session_id}}
- {type: session-affinity-filter, parameters: {strategy: session_id}}
- {type: header-label-affinity-scorer, parameters: {headerName: x-zone, labelKey: zone}}
- {type: mm-embeddings-cache-scorer}
- {type: latency-scorer}
- {type: slo-headroom-tier-filter}
- {type: prefix-cache-affinity-filter}
- {type: label-selector-filter, parameters: {matchExpressions: [{key: a, operator: DoesNotExist}]}}
- {type: decode-filter}
- type: utilization-filter
  parameters: {conditions: [{metric: active-requests, maxValue: 0}], fallbackOnEmpty: true}
";

/// Those for a request with a token, a session and a zone.
fn catalogue(config: &str, n_endpoints: u32) -> Decisions {
    let mut decisions = Decisions::under(config, n_endpoints);
    let headers = [("x-session-token", "ZGVmYXVsdC9wb2QtMA=="), ("x-session-id", "s"), ("x-zone", "a")];
    decisions.request.headers = headers.map(|(name, value)| (name, value.to_owned())).into_iter().collect();
    decisions
}

#[test]
fn a_warm_decision_allocates_nothing() {
    for n_endpoints in [1, 10, 16, 17, 100, 1000] {
        for (name, mut decisions) in [
            ("known prompt", Decisions::of_a_known_prompt(n_endpoints)),
            ("no prompt", Decisions::without_a_prompt(n_endpoints)),
            ("tree", Decisions::by_a_tree(n_endpoints)),
            ("failing tree", Decisions::under(FAILING_TREE, n_endpoints)),
            ("attributes", Decisions::under(ATTRIBUTES, n_endpoints)),
            ("catalogue", catalogue(CATALOGUE, n_endpoints)),
            ("the rest of it", catalogue(CATALOGUE_2, n_endpoints)),
            ("twelve plugins", Decisions::by_twelve(n_endpoints)),
            ("several, by score", several("max-score-picker", n_endpoints)),
            ("several, at random", several("random-picker", n_endpoints)),
            ("several, by weight", several("weighted-random-picker", n_endpoints)),
        ] {
            let cold = allocation_counter::measure(|| decisions.decide_often(N_WARM_UP));
            assert!(cold.count_total > 0, "the counter counts");
            decisions.request.request_id = "chosen by a client ".repeat(20);
            let warm = allocation_counter::measure(|| decisions.decide_often(5 * N_WARM_UP));
            assert_eq!(warm.count_total, 0, "{name}, {n_endpoints} endpoints: {warm:?}");
        }
    }
}

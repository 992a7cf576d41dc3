//! What the built-in types of v1.5 and llm-d accept, refuse and warn of, over the real table.

use epp_plugins::BUILT_IN;

use super::{HEAD, told_by};

/// A configuration of these plugins, all of them in the one profile.
fn config(plugins: &str) -> String {
    format!("{HEAD}plugins:\n{plugins}")
}

#[track_caller]
fn refused(row: &str, plugins: &str, why: &str) {
    let told = told_by(&config(plugins), BUILT_IN).0.expect_err(row);
    assert!(told.contains(why), "{row}: {told}");
}

/// The warnings of a configuration that loads.
#[track_caller]
fn warnings(row: &str, plugins: &str) -> String {
    let (outline, warnings) = told_by(&config(plugins), BUILT_IN);
    outline.expect(row);
    warnings
}

#[test]
fn prefix_parameters_that_make_no_sense_are_refused() {
    for (row, plugins, why) in [
        ("P5", "- {type: prefix-cache-scorer, parameters: {matchLengthWeight: -0.1}}", "from 0 to 1"),
        ("P5", "- {type: prefix-cache-scorer, parameters: {matchLengthWeight: 1.1}}", "from 0 to 1"),
        (
            "P6",
            "- {type: prefix-cache-scorer, parameters: {matchLengthWeight: 0.5, matchLengthScaleTokens: 0}}",
            "`matchLengthScaleTokens` must be above 0",
        ),
        (
            "X15",
            "- {type: approx-prefix-cache-producer, parameters: {autoTune: false, blockSizeTokens: 0}}",
            "blocks have no size",
        ),
        (
            "X16",
            "- {type: approx-prefix-cache-producer, parameters: {maxPrefixTokensToMatch: -1}}",
            "an integer from 0",
        ),
        (
            "not a producer",
            "- type: queue-scorer\n- {type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: queue-scorer}}",
            "is not a producer of prefix matches",
        ),
    ] {
        refused(row, plugins, why);
    }
    let scale = "- {type: prefix-cache-scorer, parameters: {matchLengthScaleTokens: 0}}";
    assert_eq!(warnings("P6: a scale that does not count", scale), "");
}

#[test]
fn a_prefix_scorer_that_reads_from_a_producer_says_what_of_its_own_does_nothing() {
    let sizes = "- {type: prefix-cache-scorer, parameters: {hashBlockSize: 32, lruCapacityPerServer: 31250}}";
    assert_eq!(warnings("alone", sizes), "");
    let told = warnings("with a producer", &format!("{sizes}\n- type: approx-prefix-cache-producer"));
    assert!(told.contains(
        "`hashBlockSize` does nothing here, prompts are matched by `approx-prefix-cache-producer`"
    ));
    assert!(!told.contains("lruCapacityPerServer"), "{told}");
    let both = "- {type: prefix-cache-scorer, parameters: {blockSize: 64, blockSizeTokens: 16}}";
    assert!(warnings("two sizes", both).contains("`blockSize` does nothing beside `blockSizeTokens`"));
}

/// A scorer finds its matches by itself only where no producer is declared.
#[test]
fn a_prefix_scorer_is_a_producer_only_while_it_reads_from_nobody() {
    let filter = "- {type: prefix-cache-affinity-filter, parameters: {prefixMatchInfoProducerName: p}}\n";
    let scorer = "- {type: prefix-cache-scorer, name: p}\n";
    let declared = "- {type: approx-prefix-cache-producer, name: a}\n";
    assert_eq!(warnings("by itself", &format!("{filter}{scorer}")), "");
    let why = "`p` is not a producer of prefix matches; it reads them from `a`, name that";
    for (row, plugins) in [
        ("declared last", format!("{filter}{scorer}{declared}")),
        ("declared first", format!("{declared}{scorer}{filter}")),
        (
            "named",
            format!(
                "{filter}{declared}- {{type: prefix-cache-scorer, name: p, parameters: {{prefixMatchInfoProducerName: a}}}}"
            ),
        ),
        (
            "injected for another",
            format!("{filter}{scorer}").replace("Name: p", "Name: approx-prefix-cache-producer")
                + &filter.replace("type:", "name: second, type:"),
        ),
    ] {
        let why = if row.starts_with("injected") {
            why.replace("`a`", "`approx-prefix-cache-producer`")
        } else {
            why.to_owned()
        };
        refused(row, &plugins, &why);
    }
    let precise = "- {type: precise-prefix-cache-scorer, name: p}\n";
    let told = warnings("it always is one", &format!("{filter}{precise}{declared}"));
    assert!(!told.contains("not a producer"), "{told}");
}

#[test]
fn an_injected_plugin_is_judged_as_a_declared_one() {
    let session = "- {type: session-affinity-filter, parameters: {strategy: session_id, sessionIdConfig: \
                   {sources: [{attribute: b, producer: session-id-producer}]}}}";
    refused("a producer", session, "`session-id-producer` is not declared, and cannot do with its defaults");
    let (_, problems) = super::load(&config(session), BUILT_IN);
    let at = problems.iter().find(|problem| problem.is_error()).unwrap().at();
    assert!(at.line == 4 && at.column > 60, "where it is referred to: {at:?}");
    let policy = "- type: queue-scorer\nfeatureGates: [flowControl]\nflowControl: {usageLimitPolicyPluginRef: priority-holdback-policy}";
    refused("a policy", policy, "`minCeiling` is required");
}

#[test]
fn readers_of_prefix_matches_get_a_producer() {
    for (row, plugins, producer) in [
        ("none declared", "- type: token-load-scorer", "approx-prefix-cache-producer"),
        ("a scorer's own", "- type: token-load-scorer\n- {type: prefix-cache-scorer, name: p}", "p"),
        (
            "declared",
            "- type: prefix-cache-affinity-filter\n- {type: approx-prefix-cache-producer, name: a}\n- type: prefix-cache-scorer",
            "a",
        ),
    ] {
        let (composition, problems) = super::load(&config(plugins), BUILT_IN);
        let composition = composition.unwrap_or_else(|| panic!("{row}: {problems:?}"));
        let reader = composition.instances[0].parameters.reference("prefixMatchInfoProducerName");
        assert_eq!((reader, problems.len()), (Some(producer), 0), "{row}");
    }
}

#[test]
fn parameters_that_make_no_sense_are_refused() {
    for (row, plugins, why) in [
        ("B6", "- {type: by-label, parameters: {label: a}}", "expected `validValues`"),
        ("by-label", "- {type: by-label, parameters: {validValues: [a]}}", "`label` is required"),
        (
            "operator",
            "- {type: label-selector-filter, parameters: {matchExpressions: [{key: a, operator: Is}]}}",
            "expected one of `In`, `NotIn`, `Exists`, `DoesNotExist`",
        ),
        (
            "values",
            "- {type: by-label-selector, parameters: {matchExpressions: [{key: a, operator: In}]}}",
            "`In` needs `values`",
        ),
        ("no condition", "- {type: utilization-filter, parameters: {conditions: []}}", "a list of 1 to"),
        (
            "more than the cache",
            "- {type: utilization-filter, parameters: {conditions: [{metric: kv-cache-utilization, maxValue: 2}]}}",
            "is a fraction, at most 1",
        ),
        ("neither", "- type: session-id-producer", "found neither"),
        (
            "strategy",
            "- {type: session-affinity-scorer, parameters: {strategy: sticky}}",
            "expected one of `encoded_endpoint_header`, `session_id`",
        ),
        (
            "both sources",
            "- {type: session-affinity-filter, parameters: {strategy: session_id, sessionIdConfig: {sources: [{header: a, attribute: b}]}}}",
            "expected either `header` or `attribute`, found both",
        ),
        (
            "no time",
            "- {type: session-affinity-filter, parameters: {strategy: session_id, sessionIdConfig: {evictionTtlSeconds: 0}}}",
            "an integer from 1",
        ),
        (
            "not a session",
            "- type: queue-scorer\n- {type: session-affinity-filter, parameters: {strategy: session_id, sessionIdConfig: \
             {sources: [{attribute: b, producer: queue-scorer}]}}}",
            "is not a producer of session ids",
        ),
        (
            "no header",
            "- {type: header-label-affinity-scorer, parameters: {labelKey: a}}",
            "`headerName` is required",
        ),
        (
            "no header's name",
            "- {type: header-label-affinity-scorer, parameters: {headerName: 'a b', labelKey: a}}",
            "expected the name of a header",
        ),
    ] {
        refused(row, plugins, why);
    }
}

#[test]
fn u11_thresholds_that_make_no_sense_are_refused() {
    for (parameter, why) in [
        ("queueDepthThreshold: 0", "`queueDepthThreshold`: expected an integer from 1"),
        ("kvCacheUtilThreshold: 1.1", "`kvCacheUtilThreshold`: expected a number from 0 to 1, found 1.1"),
        ("kvCacheUtilThreshold: 0", "`kvCacheUtilThreshold`: expected more than 0"),
        ("metricsStalenessThreshold: 0", "`metricsStalenessThreshold`: expected a span of time of at least"),
        ("headroom: -1", "`headroom`: expected a number of at least 0, found -1"),
    ] {
        let detector = format!("- {{type: utilization-detector, parameters: {{{parameter}}}}}");
        refused(&format!("U11 {parameter}"), &detector, why);
    }
}

#[test]
fn configurations_with_latency_prediction_load_and_say_what_is_missing() {
    let told = warnings(
        "v1.5",
        "- {type: predicted-latency-scorer, parameters: {samplingMean: 1000, affinityGateTau: 0.8}}",
    );
    assert_eq!(told.matches("no latencies are predicted yet").count(), 1, "{told}");
    let family = "- type: latency-scorer\n- type: slo-headroom-tier-filter\n- type: latency-slo-admitter\n";
    assert_eq!(warnings("injected", family).matches("no latencies").count(), 1);
    let producer = "- {type: predicted-latency-producer, parameters: {sloBufferFactor: 1.2, contextTTL: 300000000000, \
                    streamingMode: true, predictInPrepareData: false, samplingMean: 1000}}";
    let told = warnings("declared", &format!("{family}{producer}"));
    assert_eq!(told.matches("no latencies").count(), 1, "{told}");
    for (parameters, why) in
        [("sloBufferFactor: 0", "a number of at least"), ("ttftWeight: -1", "a number from 0")]
    {
        let name =
            if parameters.starts_with("slo") { "predicted-latency-producer" } else { "latency-scorer" };
        refused(parameters, &format!("- {{type: {name}, parameters: {{{parameters}}}}}"), why);
    }
}

#[test]
fn what_other_releases_take_is_taken() {
    for (row, plugins, why) in [
        (
            "cacheSizeInMB",
            "- {type: mm-embeddings-cache-producer, parameters: {cacheSizeInMB: 2048}}\n- type: mm-embeddings-cache-scorer",
            "`cacheSizeInMB` is read as `cacheSizeInMBPerServer`",
        ),
        (
            "AR7",
            "- {type: active-request-scorer, parameters: {requestTimeout: invalid}}",
            "`requestTimeout` does nothing",
        ),
        (
            "no-hit-lru",
            "- {type: no-hit-lru-scorer, parameters: {prefixPluginType: prefix-cache-scorer}}",
            "`prefixPluginType` does nothing",
        ),
        (
            "by-label",
            "- {type: by-label, parameters: {label: a, validValues: [b]}}",
            "deprecated: use `label-selector-filter`",
        ),
        (
            "C4 is not met, as with any text: an empty label is the default one, where llm-d refuses it",
            "- {type: context-length-aware, parameters: {label: ''}}",
            "",
        ),
        ("older llm-d", "- type: session-affinity-scorer", ""),
        ("roles", "- type: decode-filter", ""),
        ("a reader of media", "- type: mm-embeddings-cache-scorer", ""),
    ] {
        let told = warnings(row, plugins);
        assert!(told.contains(why) && told.is_empty() == why.is_empty(), "{row}: {told}");
    }
}

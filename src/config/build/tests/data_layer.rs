//! The rows on `dataLayer.sources` and `injectDefaults`, for both versions of the file.

use super::{HEAD, LLM_D_HEAD, load};
use crate::config::problem::Problem;

/// The sources of a configuration, each with its extractors, or its errors; and the warnings.
fn sources(head: &str, body: &str) -> (Result<String, String>, String) {
    let text = format!("{head}{body}");
    let (composition, problems) = load(&text, epp_plugins::BUILT_IN);
    let lines = |errors: bool| {
        let chosen = problems.iter().filter(|problem| problem.is_error() == errors);
        chosen.map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(composition.is_none(), problems.iter().any(Problem::is_error));
    let outline = composition.map(|composition| {
        let name = |at: usize| composition.instances[at].name.as_str();
        let source = |plan: &super::SourcePlan| {
            let extractors: Vec<_> = plan.extractors.iter().map(|&at| name(at)).collect();
            let interval = plan.interval.map_or_else(String::new, |interval| format!("@{interval:?}"));
            format!("{}{interval}[{}]", name(plan.source), extractors.join(" "))
        };
        composition.sources.iter().map(source).collect::<Vec<_>>().join(" ")
    });
    (outline.ok_or_else(|| lines(true)), lines(false))
}

const PLUGINS: &str =
    "plugins: [{type: queue-scorer}, {type: dcgm-data-source}, {type: dcgm-extractor, name: gpu}]\n";
const DCGM: &str = "{pluginRef: dcgm-data-source, extractors: [{pluginRef: gpu}]}";
const DEFAULT: &str = "metrics-data-source[core-metrics-extractor]";

/// A warning of the load that nobody reads.
fn blind(at: &str) -> String {
    format!(
        "{at}: warning: the load of endpoints is not read: `dataLayer` lists no source with an extractor of type \
         `core-metrics-extractor`, and has no `injectDefaults: true`"
    )
}

#[test]
fn g29_to_g31_the_default_source_is_there_as_in_the_version_of_the_file() {
    let both = format!("dcgm-data-source[gpu] {DEFAULT}");
    let dcgm = "dcgm-data-source[gpu]";
    for (row, data_layer, gie, llm_d) in [
        ("absent", String::new(), DEFAULT, DEFAULT),
        ("null", "dataLayer:\n".to_owned(), DEFAULT, DEFAULT),
        ("G29", "dataLayer: {}\n".to_owned(), "", DEFAULT),
        ("an empty list", "dataLayer: {sources: []}\n".to_owned(), "", DEFAULT),
        ("G30", "dataLayer: {injectDefaults: false}\n".to_owned(), "", ""),
        ("the default", "dataLayer: {injectDefaults: true}\n".to_owned(), DEFAULT, DEFAULT),
        ("G31", format!("dataLayer: {{sources: [{DCGM}]}}\n"), dcgm, &both),
        ("G31, told to", format!("dataLayer: {{injectDefaults: true, sources: [{DCGM}]}}\n"), &both, &both),
        (
            "G30 with a source",
            format!("dataLayer: {{injectDefaults: false, sources: [{DCGM}]}}\n"),
            dcgm,
            dcgm,
        ),
        ("what v1.5 does not know", "dataLayer: {discovery: {}}\n".to_owned(), DEFAULT, DEFAULT),
    ] {
        for (head, want) in [(HEAD, gie), (LLM_D_HEAD, llm_d)] {
            let (outline, warnings) = sources(head, &format!("{PLUGINS}{data_layer}"));
            assert_eq!(outline.as_deref(), Ok(want), "{row}: {head}{data_layer}");
            let is_blind = !want.contains("core-metrics-extractor");
            assert_eq!(warnings.contains(&blind("4:12")), is_blind, "{row}: {warnings}");
        }
    }
}

#[test]
fn a_source_that_is_listed_is_not_there_twice() {
    let v1_5_chart = "plugins:\n- {type: queue-scorer}\n\
        - {type: metrics-data-source, parameters: {scheme: http, path: /metrics, insecureSkipVerify: true}}\n\
        - {type: core-metrics-extractor, parameters: {defaultEngine: sglang}}\n";
    let list = "dataLayer: {sources: [{pluginRef: metrics-data-source, interval: 200ms, extractors: \
                [{pluginRef: core-metrics-extractor}]}]}\n";
    for head in [HEAD, LLM_D_HEAD] {
        let (outline, warnings) = sources(head, &format!("{v1_5_chart}{list}"));
        let want = "metrics-data-source@200ms[core-metrics-extractor]";
        assert_eq!((outline.as_deref(), warnings.as_str()), (Ok(want), ""));
        let (outline, warnings) = sources(head, v1_5_chart);
        assert_eq!((outline.as_deref(), warnings.as_str()), (Ok(DEFAULT), ""), "what is declared is taken");
        let named = v1_5_chart.replace("type: m", "name: m, type: m").replace("type: c", "name: c, type: c");
        assert_eq!(sources(head, &named).0.as_deref(), Ok("m[c]"), "whatever its name");
    }
}

/// Two sources and two extractors of some types, one of others.
const MANY: &str = "plugins: [{type: queue-scorer}, {type: metrics-data-source}, {type: dcgm-data-source, name: d}, \
                   {type: dcgm-data-source, name: e}, {type: dcgm-extractor, name: gpu}, {type: models-data-source}, \
                   {type: models-data-extractor}, {type: core-metrics-extractor}, {type: core-metrics-extractor, \
                   name: second}, {type: endpoint-notification-source}, {type: topology-extractor}]\n";

#[track_caller]
fn refuses(row: &str, list: &str, want: &str) {
    let (told, _) = sources(LLM_D_HEAD, &format!("{MANY}dataLayer: {{sources: {list}}}"));
    let told = told.expect_err(row);
    assert_eq!(told.split_once("error: ").expect("a problem").1, want, "{row}");
    assert!(told.starts_with("4:"), "{row}: {told}");
}

#[test]
fn g32_sources_must_be_there_and_be_sources() {
    for (row, list, want) in [
        (
            "no such source",
            "[{pluginRef: metrics-data-sourc}]",
            "`dataLayer.sources`: no plugin is named \
             `metrics-data-sourc`, did you mean `metrics-data-source`?",
        ),
        (
            "not declared",
            "[{pluginRef: k8s-notification-source}]",
            "`dataLayer.sources`: no plugin is named \
             `k8s-notification-source`, declare one of that type in `plugins`",
        ),
        (
            "no source",
            "[{pluginRef: queue-scorer}]",
            "`dataLayer.sources`: `queue-scorer` is not a source of data",
        ),
        (
            "a type twice",
            "[{pluginRef: d}, {pluginRef: e}]",
            "`dataLayer.sources` has two sources of type `dcgm-data-source`",
        ),
        ("no name", "[{}]", "entry of `dataLayer.sources` has no `pluginRef`"),
        (
            "another field",
            "[{pluginRef: d, parameters: {}}]",
            "unknown field `parameters`, expected one of `pluginRef`, `interval`, `extractors`",
        ),
        (
            "no duration",
            "[{pluginRef: d, interval: soon}]",
            "`interval`: expected a duration of at least 10ms, such as 1s, found `soon`",
        ),
        (
            "too short",
            "[{pluginRef: d, interval: 9ms}]",
            "`interval`: expected a duration of at least 10ms, such as 1s, found `9ms`",
        ),
        ("no list", "{}", "`dataLayer.sources`: expected a list, found a map"),
    ] {
        refuses(row, list, want);
    }
}

#[test]
fn g32_extractors_must_be_there_and_fit_the_source() {
    for (row, list, want) in [
        (
            "no such extractor",
            "[{pluginRef: d, extractors: [{pluginRef: gpus}]}]",
            "`extractors`: no plugin is named `gpus`, did you mean `gpu`?",
        ),
        (
            "no extractor",
            "[{pluginRef: d, extractors: [{pluginRef: queue-scorer}]}]",
            "`extractors`: `queue-scorer` is not an extractor",
        ),
        (
            "another input",
            "[{pluginRef: d, extractors: [{pluginRef: models-data-extractor}]}]",
            "`extractors`: `models-data-extractor` cannot read `d`, which is a source of metrics",
        ),
        (
            "another input",
            "[{pluginRef: models-data-source, extractors: [{pluginRef: gpu}]}]",
            "`extractors`: `gpu` cannot read `models-data-source`, which is a source of models",
        ),
        (
            "an extractor twice",
            "[{pluginRef: d, extractors: [{pluginRef: gpu}, {pluginRef: gpu}]}]",
            "`extractors`: `gpu` is listed twice",
        ),
        (
            "the load twice",
            "[{pluginRef: d, extractors: [{pluginRef: second}]}, {pluginRef: metrics-data-source, \
          extractors: [{pluginRef: core-metrics-extractor}]}]",
            "`extractors`: `core-metrics-extractor` is a second one of type `core-metrics-extractor`",
        ),
        ("no name", "[{pluginRef: d, extractors: [{}]}]", "entry of `extractors` has no `pluginRef`"),
    ] {
        refuses(row, list, want);
    }
    let good = "[{pluginRef: d, extractors: [{pluginRef: gpu}]}, {pluginRef: endpoint-notification-source, extractors: \
                [{pluginRef: topology-extractor}]}]";
    let (outline, _) = sources(LLM_D_HEAD, &format!("{MANY}dataLayer: {{sources: {good}}}"));
    let want = format!("d[gpu] endpoint-notification-source[topology-extractor] {DEFAULT}");
    assert_eq!(outline.as_deref(), Ok(want.as_str()));
}

#[test]
fn what_is_not_supported_says_so() {
    for (data_layer, want) in [
        (
            "{injectDefaults: 1}",
            Err("4:29: error: `dataLayer.injectDefaults`: expected `true` or `false`, found 1"),
        ),
        ("[]", Err("4:12: error: `dataLayer`: expected a map, found a list")),
        (
            "{peerDiscovery: {pluginRef: a}}",
            Err(
                "4:13: error: `dataLayer.peerDiscovery` is not supported, remove it: endpoints of other clusters are not \
                 picked",
            ),
        ),
        (
            "{crossReplicaSyncInterval: 1s}",
            Ok(
                "4:13: warning: `dataLayer.crossReplicaSyncInterval` does nothing: replicas do not share what they \
                learned",
            ),
        ),
        ("{source: []}", Err("4:13: error: unknown field `source`, did you mean `sources`?")),
    ] {
        let (told, warnings) =
            sources(LLM_D_HEAD, &format!("plugins: [{{type: queue-scorer}}]\ndataLayer: {data_layer}"));
        assert_eq!(told.map(|_| warnings), want.map(str::to_owned).map_err(str::to_owned), "{data_layer}");
    }
}

#[test]
fn what_nobody_reads_or_lists_is_told() {
    let (_, warnings) = sources(LLM_D_HEAD, PLUGINS);
    let want = "3:40: warning: plugin `dcgm-data-source` does nothing, `dataLayer.sources` does not list it\n\
                3:88: warning: plugin `gpu` does nothing, `dataLayer.sources` does not list it";
    assert_eq!(warnings, want);
    let list = "dataLayer: {sources: [{pluginRef: dcgm-data-source}]}";
    let (outline, warnings) = sources(LLM_D_HEAD, &format!("{PLUGINS}{list}"));
    assert_eq!(outline.as_deref(), Ok("dcgm-data-source[] metrics-data-source[core-metrics-extractor]"));
    assert!(
        warnings.contains("source `dcgm-data-source` has no extractor, its page is not read"),
        "{warnings}"
    );
}

#[test]
fn shipped_configurations_load() {
    let gpu = "plugins:\n- type: dcgm-data-source\n  name: dcgm-source\n  parameters: {port: 9400, interval: \"1s\"}\n\
               - {type: dcgm-extractor, name: dcgm-extractor}\n- type: kv-cache-utilization-scorer\n\
               dataLayer:\n  sources:\n  - pluginRef: dcgm-source\n    extractors:\n    - pluginRef: dcgm-extractor\n";
    let (outline, warnings) = sources(LLM_D_HEAD, gpu);
    let want = format!("dcgm-source[dcgm-extractor] {DEFAULT}");
    assert_eq!((outline.as_deref(), warnings.as_str()), (Ok(want.as_str()), ""), "sim-epp-gpu-config");
    let precise = "plugins:\n- type: endpoint-notification-source\n- type: metrics-data-source\n\
                   - type: core-metrics-extractor\n- type: queue-scorer\n- type: topology-extractor\n\
                   - type: precise-prefix-cache-producer\n\
                   - {type: k8s-notification-source, parameters: {group: '', version: v1, kind: Pod}}\n\
                   dataLayer:\n  sources:\n  - pluginRef: metrics-data-source\n\
                   \x20   extractors:\n    - pluginRef: core-metrics-extractor\n\
                   \x20 - pluginRef: endpoint-notification-source\n\
                   \x20   extractors:\n    - pluginRef: precise-prefix-cache-producer\n";
    let (outline, warnings) = sources(LLM_D_HEAD, precise);
    let want = format!("{DEFAULT} endpoint-notification-source[precise-prefix-cache-producer]");
    assert_eq!(outline.as_deref(), Ok(want.as_str()), "epp-precise-prefix-cache-config");
    assert!(!warnings.contains("does nothing"), "{warnings}");
}

/// Warnings of the extractor with these parameters, or its errors.
fn of_extractor(parameters: &str) -> Result<String, String> {
    let body = format!(
        "plugins:\n- {{type: queue-scorer}}\n- {{type: core-metrics-extractor, parameters: {parameters}}}\n"
    );
    let (told, warnings) = sources(LLM_D_HEAD, &body);
    told.map(|_| warnings)
}

#[test]
fn engines_may_be_added_and_chosen() {
    let mine = "{engineConfigs: [{name: mine, queuedRequestsSpec: 'q{a=b}'}], defaultEngine: mine}";
    assert_eq!(of_extractor(mine), Ok(String::new()));
    for engine in crate::scrape::engine::ENGINES {
        let chosen = format!("{{defaultEngine: {}}}", engine.name);
        assert_eq!(of_extractor(&chosen), Ok(String::new()), "{}", engine.name);
    }
    let silenced = "{engineConfigs: [{name: vllm, customMetrics: [{attributeKey: a, metricSpec: n}]}]}";
    let want = "5:10: warning: plugin `core-metrics-extractor`: the entry `vllm` of `engineConfigs` takes the place of the \
                built-in one and names no load, so none is read; `customMetrics` beside `engineConfigs` are read of every \
                engine";
    assert_eq!(of_extractor(silenced).as_deref(), Ok(want));
}

#[test]
fn parameters_of_the_extractor_hang_together() {
    for (name, parameters, want) in [
        (
            "no such engine",
            "{defaultEngine: sg-lang}",
            "5:46: error: plugin `core-metrics-extractor`: `defaultEngine`: expected one of vllm, sglang, trtllm-serve, \
             triton-tensorrt-llm, triton, found `sg-lang`",
        ),
        (
            "a spec that cannot be read, where it is",
            "{engineConfigs: [{name: a, kvUsageSpec: 'k{'}]}",
            "5:86: error: plugin `core-metrics-extractor`: `plugins[1].parameters.engineConfigs[0].kvUsageSpec`: \
             expected a label name at character 3 (metric specs look like `name` or `name{label=value,…}`)",
        ),
        (
            "a reserved name",
            "{engineConfigs: [{name: default}]}",
            "5:70: error: plugin `core-metrics-extractor`: `plugins[1].parameters.engineConfigs[0].name`: `default` \
             stands for the engine of endpoints without a label",
        ),
        (
            "an engine twice",
            "{engineConfigs: [{name: a}, {name: a}]}",
            "5:46: error: plugin `core-metrics-extractor`: `engineConfigs` has two engines `a`",
        ),
        (
            "an attribute twice",
            "{customMetrics: [{attributeKey: a, metricSpec: m}], engineConfigs: [{name: e, customMetrics: \
             [{attributeKey: a, metricSpec: n}]}]}",
            "5:46: error: plugin `core-metrics-extractor`: `customMetrics` has the attribute `a` twice",
        ),
    ] {
        assert_eq!(of_extractor(parameters), Err(want.to_owned()), "{name}");
    }
}

#[test]
fn an_attribute_that_no_endpoint_has_is_told() {
    let warnings = |attribute: &str| {
        let scorer = format!(
            "- {{type: endpoint-attribute-scorer, parameters: {{attributeKey: {attribute}, algorithm: {{type: \
             linear_lower_is_better}}}}}}\n"
        );
        let extractor = "- {type: core-metrics-extractor, parameters: {customMetrics: [{attributeKey: depth, \
                         metricSpec: d}]}}\n";
        sources(LLM_D_HEAD, &format!("plugins:\n{scorer}{extractor}")).1
    };
    assert_eq!(warnings("depth"), "");
    for (attribute, advice) in [
        ("dept", "add it to `customMetrics` of `core-metrics-extractor`"),
        (
            "GPUUtilization/dcgm-extractor",
            "declare a plugin of type `dcgm-extractor`, and list it in `dataLayer.sources` with a source of metrics",
        ),
        ("Topology/topology-extractor", "declare a plugin of type `topology-extractor`"),
        ("depth/of-mine", "no extractor is named `of-mine`, or of that type"),
        ("depth/max-score-picker", "`max-score-picker` leaves no attributes"),
    ] {
        let name = attribute.split('/').next().unwrap();
        let want = format!(
            "plugin `endpoint-attribute-scorer` reads the attribute `{name}`, which no data source provides: {advice}"
        );
        assert!(warnings(attribute).ends_with(&want), "{}", warnings(attribute));
    }
}

#[test]
fn attributes_are_left_by_name_or_by_type() {
    let gpu = "dataLayer: {sources: [{pluginRef: dcgm-data-source, extractors: [{pluginRef: gpu}]}], injectDefaults: true}";
    let plugins = |scorer: &str| {
        format!(
            "plugins: [{{type: dcgm-data-source}}, {{type: dcgm-extractor, name: gpu}}, {scorer}]\n{gpu}\n"
        )
    };
    let attribute = |name: &str| {
        plugins(&format!(
            "{{type: endpoint-attribute-scorer, parameters: {{attributeKey: {name}, algorithm: {{type: \
             linear_lower_is_better}}}}}}"
        ))
    };
    let place = |producer: &str| {
        let scorer =
            format!("{{type: topology-affinity-scorer, parameters: {{topologyProducerName: {producer}}}}}");
        plugins(&format!("{scorer}, {{type: topology-extractor, name: place}}"))
    };
    for (name, config, want) in [
        ("by name", attribute("GPUUtilization/gpu"), ""),
        ("by type", attribute("GPUMemoryUsed/dcgm-extractor"), ""),
        ("a place by name", place("place"), ""),
        ("a place by type", place("topology-extractor"), ""),
        ("no such one", attribute("GPU/gpu"), "`gpu` leaves `GPUUtilization`, `GPUMemoryUsed`"),
        ("no place", place("gpu"), "`gpu` leaves `GPUUtilization`, `GPUMemoryUsed`"),
    ] {
        let warnings = sources(LLM_D_HEAD, &config).1;
        assert!(warnings.ends_with(want) && warnings.is_empty() == want.is_empty(), "{name}: {warnings}");
    }
}

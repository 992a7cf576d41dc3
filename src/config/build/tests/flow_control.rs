//! `flowControl`, `saturationDetector`, and what they refer to.

use super::*;

const GATE: &str = "featureGates: [flowControl]\n";
const OFF: &str = "`flowControl` does nothing while its feature gate is off";
const ON: &str = "feature gate `flowControl`: no request waits yet, each is decided at once";

/// The warnings of a configuration with a scorer and `body`, or its errors; and its saturation detector by name.
fn judged(body: &str) -> (Result<String, String>, Option<String>) {
    let config =
        format!("{HEAD}plugins: [{{type: queue-scorer}}, {{type: concurrency-detector, name: c}}]\n");
    let config =
        format!("{config}schedulingProfiles: [{{name: d, plugins: [{{pluginRef: queue-scorer}}]}}]\n{body}");
    let (told, warnings) = told_by(&config, epp_plugins::BUILT_IN);
    let composition = load(&config, epp_plugins::BUILT_IN).0;
    let detector = composition.and_then(|it| it.saturation.map(|at| it.instances[at].name.clone()));
    (told.map(|_| warnings), detector)
}

#[test]
fn the_saturation_detector_is_the_one_that_is_named() {
    let unused = "plugin `c` is in no scheduling profile";
    for (row, body, want, detector) in [
        ("none", "", Ok(unused), None),
        ("G40", "saturationDetector: {}", Ok(unused), Some("utilization-detector")),
        (
            "by type",
            "saturationDetector: {pluginRef: utilization-detector}",
            Ok(unused),
            Some("utilization-detector"),
        ),
        ("by name", "saturationDetector: {pluginRef: c}", Ok(""), Some("c")),
        (
            "G24",
            "saturationDetector: {pluginRef: nobody}\nflowControl: {saturationDetector: {pluginRef: c}}",
            Ok("`saturationDetector` does nothing beside `flowControl.saturationDetector`"),
            Some("c"),
        ),
        (
            "E16",
            "saturationDetector: {pluginRef: nobody}",
            Err("no plugin is named `nobody`; `plugins` declares `queue-scorer`, `c`"),
            None,
        ),
        (
            "E16",
            "saturationDetector: {pluginRef: queue-scorer}",
            Err("`queue-scorer` is not a saturation detector"),
            None,
        ),
        ("shape", "saturationDetector: [c]", Err("`saturationDetector`: expected a map, found a list"), None),
    ] {
        let (told, found) = judged(body);
        assert_eq!(told.as_deref().map_err(String::as_str), want, "{row}");
        assert_eq!(found.as_deref(), detector, "{row}");
    }
}

#[test]
fn policies_are_judged_strictly_where_the_gate_is_on() {
    let bands = |band: &str| format!("flowControl: {{priorityBands: [{{priority: 1, {band}}}]}}");
    let edf = bands("orderingPolicyRef: edf-ordering-policy, fairnessPolicyRef: round-robin-fairness-policy");
    let detector = "saturationDetector: {pluginRef: c}\n";
    for (row, gate, body, want) in [
        ("known", GATE, edf.clone(), Ok(ON.to_owned())),
        ("known", "", edf, Ok(OFF.to_owned())),
        (
            "G33",
            GATE,
            bands("orderingPolicyRef: nobody"),
            Err("no plugin is named `nobody`; `plugins` declares `queue-scorer`, `c`".to_owned()),
        ),
        (
            "G33: another kind",
            GATE,
            bands("fairnessPolicyRef: queue-scorer"),
            Err("`queue-scorer` is not a fairness policy".to_owned()),
        ),
        ("G34", "", bands("orderingPolicyRef: nobody"), Ok(format!("{OFF}\nno plugin is named `nobody`"))),
        (
            "usage",
            GATE,
            "flowControl: {usageLimitPolicyPluginRef: edf-ordering-policy}".to_owned(),
            Err("no plugin is named `edf-ordering-policy`, declare one of that type in `plugins`".to_owned()),
        ),
    ] {
        let (told, _) = judged(&format!("{gate}{detector}{body}"));
        let others = |told: String| {
            let lines: Vec<_> = told.lines().filter(|line| !line.contains("it does nothing yet")).collect();
            lines.join("\n")
        };
        assert_eq!(told.map(others), want, "{row}");
    }
}

#[test]
fn quantities_spans_and_bands_are_read() {
    let flow = |body: &str| read(&format!("{HEAD}flowControl: {body}")).0.unwrap().flow_control;
    let seconds = std::time::Duration::from_secs;
    let read = flow("{maxBytes: 1Gi, maxRequests: '0', defaultRequestTTL: 30s, enableEviction: true}");
    assert_eq!((read.max_bytes, read.max_requests), (Some(1 << 30), Some(0)));
    assert_eq!((read.default_request_ttl, read.no_endpoint_request_ttl), (Some(seconds(30)), None), "G44");
    assert!(read.enable_eviction && read.queues());
    let bands =
        flow("{priorityBands: [{priority: -1, maxRequests: 5}], defaultPriorityBand: {maxBytes: 5k}}");
    assert_eq!((bands.bands[0].priority, bands.bands[0].max_requests), (Some(-1), Some(5)));
    assert_eq!(bands.default_band.unwrap().max_bytes, Some(5000));
    assert!(!flow("{}").queues());
    for (row, body, want) in [
        (
            "E20",
            "{maxBytes: -1}",
            "`maxBytes`: expected a quantity such as `1Gi` or `500`, at least 0, found -1",
        ),
        (
            "a word",
            "{maxRequests: many}",
            "`maxRequests`: expected a quantity such as `1Gi` or `500`, at least 0, found the string `many`",
        ),
        (
            "negative",
            "{defaultRequestTTL: -5s}",
            "`defaultRequestTTL`: expected a span of time such as `30s`, at least 0s, found the string `-5s`",
        ),
        ("no priority", "{priorityBands: [{}]}", "priority band has no `priority`"),
        (
            "twice",
            "{priorityBands: [{priority: 1}, {priority: 1}]}",
            "a band for priority 1 is already defined at line 3",
        ),
        ("unknown", "{maxByte: 1}", "unknown field `maxByte`, did you mean `maxBytes`?"),
    ] {
        fails(row, &format!("flowControl: {body}"), want);
    }
}

/// Rows G16 and E13, with the built-in types: parsers that are injected hide nothing.
#[test]
fn g16_two_profiles_need_a_handler() {
    let config =
        format!("{HEAD}plugins: [{{type: queue-scorer}}]\nschedulingProfiles: [{{name: a}}, {{name: b}}]");
    let told = told_by(&config, epp_plugins::BUILT_IN).0.unwrap_err();
    assert!(told.starts_with("2 profiles need a profile handler, none is declared"), "{told}");
}

#[test]
fn types_that_will_not_be_are_told_with_what_to_use() {
    for (name, want) in [
        ("multicluster-queue-scorer", "use the type without `multicluster-`"),
        ("disaggregatedset-rollout-screener", "give each an `InferencePool` of its own"),
    ] {
        let config = format!("{HEAD}plugins: [{{type: {name}}}]");
        let told = told_by(&config, epp_plugins::BUILT_IN).0.unwrap_err();
        assert!(told.contains(want) && !told.contains("known types"), "{told}");
    }
}

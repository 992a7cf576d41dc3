//! What is shown loads again, and means the same.

use super::*;
use crate::config::{DEFAULT_CONFIG, LEGACY_CONFIG, build, read};
use epp_plugins::BUILT_IN;

const FOUR: &str = include_str!("../../../tests/it/fixtures/config/four-scorers.yaml");
const TREE: &str = include_str!("../../../tests/it/fixtures/config/v051-tree.yaml");
const SCORERS: &str = include_str!("../../../tests/it/fixtures/config/v051-scorers.yaml");

const EVERYTHING: &str = r#"
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: openai-parser
  name: "yes"
  parameters: {validate: true}
- type: kv-cache-scorer
  name: "é: 'x' #"
- type: header-based-testing-filter
- type: random-picker
- type: weighted-random-picker
- type: file-discovery
  parameters: {path: "/etc/a b.yaml"}
- type: request-attribute-reporter
  parameters:
    attributes:
    - key: {name: "a # b"}
      expression: "usage.prompt_tokens * 2.0"
    - key: {name: b, namespace: "true"}
      expression: "1"
      condition: has(usage.prompt_tokens)
schedulingProfiles:
- name: "1"
  plugins:
  - pluginRef: weighted-random-picker
  - pluginRef: "é: 'x' #"
    weight: 0.125
  - pluginRef: header-based-testing-filter
  - pluginRef: "é: 'x' #"
    weight: -1e11
dataLayer: {discovery: {pluginRef: file-discovery}}
featureGates: [flowControl]
flowControl:
  maxBytes: 1Gi
  defaultRequestTTL: 1m30s
  defaultPriorityBand: {maxRequests: 5}
  priorityBands:
  - {priority: -1, fairnessPolicyRef: round-robin-fairness-policy}
  - {priority: 2, orderingPolicyRef: fcfs-ordering-policy, maxBytes: "2k"}
  saturationDetector: {}
requestHandler:
  parsers:
  - pluginRef: generic-parser
  - pluginRef: "yes"
"#;

fn compose(text: &str) -> (EndpointPickerConfig, Composition) {
    let (composition, problems) = build::load(text, BUILT_IN);
    (read(text).0.unwrap(), composition.unwrap_or_else(|| panic!("{problems:?}\n{text}")))
}

fn shown(text: &str) -> String {
    let (config, composition) = compose(text);
    show(&config, &composition)
}

/// Without comments; no text in the fixtures has a line that begins with `#`.
fn values(text: &str) -> Vec<&str> {
    let lines = text.lines().map(|line| line.split("  # ").next().unwrap_or_default());
    lines.filter(|line| !line.trim_start().starts_with('#')).map(str::trim_end).collect()
}

#[test]
fn what_is_shown_composes_the_same() {
    for text in [DEFAULT_CONFIG, LEGACY_CONFIG, FOUR, TREE, SCORERS, EVERYTHING, "", "plugins: []"] {
        let once = shown(text);
        let (before, after) = (compose(text).1, compose(&once).1);
        let plans =
            |of: &Composition| of.instances.iter().map(|plan| format!("{plan:?}")).collect::<Vec<_>>();
        assert_eq!(plans(&after), plans(&before), "{once}");
        assert_eq!(after.profiles, before.profiles, "{once}");
        assert_eq!(after.parsers, before.parsers, "{once}");
        assert_eq!((after.handler, after.discovery), (before.handler, before.discovery), "{once}");
        assert_eq!(after.saturation, before.saturation, "{once}");
        let twice = shown(&once);
        assert_eq!(values(&twice), values(&once));
        assert_eq!(shown(&twice), twice);
    }
}

#[test]
fn comments_say_where_values_come_from() {
    let text = shown(EVERYTHING);
    for line in [
        "apiVersion: llm-d.ai/v1alpha1",
        "- name: \"yes\"",
        "    validate: true",
        "    maxNumOfEndpoints: 1  # default; endpoints",
        "    watchFile: false  # default",
        "# injected: `requestHandler.parsers` lists its type",
        "# injected: no profile handler is declared",
        "        namespace: envoy.lb  # default",
        "        namespace: \"true\"",
        "    weight: -100000000000",
        "    pluginRef: file-discovery",
        "- flowControl",
        "  maxBytes: 1073741824",
        "  defaultRequestTTL: 90s",
        "  - {priority: 2, maxBytes: 2000, orderingPolicyRef: \"fcfs-ordering-policy\"}",
        "  saturationDetector: {pluginRef: utilization-detector}",
        "# injected: `flowControl` names its type",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is missing:\n{text}");
    }
    assert!(!text.contains("# injected: no reporter"), "{text}");
    let text = shown("kind: EndpointPickerConfig\nplugins: [{type: queue-scorer}]");
    for line in [
        "# injected: no profile is declared",
        "# injected: a profile has no picker, and none is declared",
        "# injected: no reporter is declared",
        "# injected: `requestHandler.parsers` lists nobody",
        "    weight: 1  # default",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is missing:\n{text}");
    }
}

/// What is left to flags, or to what is usual, has no value that one could write.
#[test]
fn what_no_value_stands_for_is_told_in_words() {
    let text = shown("plugins: [{type: metrics-data-source}, {type: core-metrics-extractor}]");
    for line in [
        "    # scheme: not given. Protocol of the page, `http` or `https`; unless it is said, as the flags say, else `http`.",
        "    # port: not given. Port of the page; 0 is as the flags say, else the port that requests go to.",
        "    # interval: not given. From one poll to the next; unless it is said, as the flags say, else 50ms.",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is missing:\n{text}");
    }
    assert!(!text.contains(": \"\""), "{text}");
}

#[test]
fn spans_are_written_as_they_are_read() {
    for (nanos, want) in [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1500ns"),
        (2_000, "2us"),
        (90_000_000_000, "90s"),
        (7_200_000_000_000, "2h"),
    ] {
        assert_eq!(span(Duration::from_nanos(nanos)), want);
        let read = crate::args::duration::parse(want).unwrap();
        assert_eq!(read, Duration::from_nanos(nanos), "{want}");
    }
}

#[test]
fn strings_are_bare_where_that_is_safe() {
    for (text, want) in [
        ("queue-scorer", "queue-scorer"),
        ("a/b.c_d", "a/b.c_d"),
        ("no", "\"no\""),
        ("NULL", "\"NULL\""),
        ("1", "\"1\""),
        ("", "\"\""),
        ("a b", "\"a b\""),
        ("a\n\"b\"", "\"a\\n\\\"b\\\"\""),
    ] {
        assert_eq!(scalar(text), want);
    }
}

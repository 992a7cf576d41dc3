//! Which texts of a file are configurations, and where their problems are told.

use super::*;
use crate::config::report;

/// Key and place of each configuration that is found, then every problem with its place.
fn told(text: &str) -> Vec<String> {
    let (found, problems) = find(text);
    let mut told = Vec::new();
    for found in &found {
        let key = found.key.as_deref().unwrap_or("whole");
        told.push(format!("{key} {}:{}", found.at.line, found.at.column));
        let (_, problems) = report::load(found, epp_plugins::BUILT_IN);
        told.extend(problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string));
    }
    told.extend(problems.iter().map(ToString::to_string));
    told
}

const WRONG: &str = "kind: EndpointPickerConfig\nplugins:\n- type: queue-scorr\n";
const UNKNOWN: &str = "error: unknown plugin type `queue-scorr`, did you mean `queue-scorer`?";

#[test]
fn places_are_those_of_the_outer_file() {
    let indented = |by: usize| WRONG.lines().map(|line| " ".repeat(by) + line + "\n").collect::<String>();
    let (four, six) = (indented(4), indented(6));
    for (what, text, want) in [
        ("a plain file", WRONG.to_owned(), vec!["whole 1:1".to_owned(), format!("3:9: {UNKNOWN}")]),
        ("a block", format!("data:\n  a: |\n{four}"), vec!["a 3:5".to_owned(), format!("5:13: {UNKNOWN}")]),
        ("stripped", format!("data:\n  a: |-\n{four}"), vec!["a 3:5".to_owned(), format!("5:13: {UNKNOWN}")]),
        (
            "kept",
            format!("data:\n  a: |+\n{four}\n\nb: 1\n"),
            vec!["a 3:5".to_owned(), format!("5:13: {UNKNOWN}")],
        ),
        (
            "empty lines first",
            format!("a: |\n\n\n{four}"),
            vec!["a 4:5".to_owned(), format!("6:13: {UNKNOWN}")],
        ),
        (
            "comments first",
            format!("a: | # c\n    # c\n{four}"),
            vec!["a 2:5".to_owned(), format!("5:13: {UNKNOWN}")],
        ),
        (
            "deeper than it says",
            format!("a: |2\n{four}"),
            vec!["a 2:3".to_owned(), format!("4:13: {UNKNOWN}")],
        ),
        ("in a list", format!("a:\n- - |\n{six}"), vec![" 3:7".to_owned(), format!("5:15: {UNKNOWN}")]),
        (
            "carriage returns",
            format!("data:\n  a: |\n{four}").replace('\n', "\r\n"),
            vec!["a 3:5".to_owned(), format!("5:13: {UNKNOWN}")],
        ),
        ("a map", format!("x: é\na:\n{four}b: 1\n"), vec!["a 3:5".to_owned(), format!("5:13: {UNKNOWN}")]),
        (
            "a map in one line",
            "é: {kind: EndpointPickerConfig, plugins: [{type: queue-scorr}]}\n".to_owned(),
            vec!["é 1:4".to_owned(), format!("1:50: {UNKNOWN}")],
        ),
        (
            "quoted",
            "data:\n  a: \"kind: EndpointPickerConfig\\nplugins:\\n- type: queue-scorr\"\n".to_owned(),
            vec!["a 2:6".to_owned(), format!("2:6: {UNKNOWN} (line 3 of this text)")],
        ),
        (
            "several documents",
            format!("a: 1\n---\nb: |\n{four}---\nc: |\n{six}"),
            vec![
                "b 4:5".to_owned(),
                format!("6:13: {UNKNOWN}"),
                "c 9:7".to_owned(),
                format!("11:15: {UNKNOWN}"),
            ],
        ),
    ] {
        assert_eq!(told(&text), want, "{what}");
    }
}

#[test]
fn other_lines_in_messages_are_those_of_the_outer_file() {
    let text = "data:\n  a: |\n    kind: EndpointPickerConfig\n    plugins:\n    - type: queue-scorer\n    - type: queue-scorer\n";
    let want = "6:13: error: plugin name `queue-scorer` is already taken at line 5; give this one a `name`";
    assert_eq!(told(text), ["a 3:5", want]);
}

#[test]
fn configurations_are_told_from_other_texts() {
    for (what, text, want) in [
        ("kind in another case", "kind: endpointpickerconfig", "whole 1:1"),
        ("no kind", "plugins: []", "whole 1:1"),
        ("no kind in a text", "a: |\n  schedulingProfiles: []\n", "a 2:3"),
        ("nothing", "# nothing", "whole 1:1"),
        ("broken", "a: [", "whole 1:1"),
        ("broken within", "a: |\n  kind: EndpointPickerConfig\n  plugins: [", "a 2:3"),
        ("JSON", r#"{"kind": "EndpointPickerConfig"}"#, "whole 1:1"),
        ("JSON in a text", r#"{"data": {"a": "{\"kind\": \"EndpointPickerConfig\"}"}}"#, "a 1:16"),
        ("plugins of something else", "a: |\n  plugins: [x]\n", "1:1: error: no `EndpointPickerConfig`"),
        (
            "a manifest that kubectl keeps",
            "kind: ConfigMap\nmetadata: {annotations: {last: '{\"kind\": \"ConfigMap\", \"data\": {\"a\": \"kind: EndpointPickerConfig\"}}'}}\n",
            "1:1: error: no `EndpointPickerConfig`",
        ),
        ("a word", "EndpointPickerConfig", "1:1: error: no `EndpointPickerConfig`"),
        ("a template", "a: {{ .Values.a }}\nkind: ConfigMap", "may be a Helm template"),
        ("a template's block", "a:\n{{- if .b }}\nkind: EndpointPickerConfig", "may be a Helm template"),
    ] {
        let first = told(text).first().cloned().unwrap_or_default();
        assert!(first.contains(want), "{what}: {first}");
    }
    let both = told("a: |\n  kind: EndpointPickerConfig\n---\nb: [\n");
    assert_eq!(both.len(), 2, "what comes before an error is judged: {both:?}");
    let many = told(&"- {kind: EndpointPickerConfig}\n".repeat(MAX_FOUND + 2));
    assert_eq!(many.len(), MAX_FOUND + 1);
    assert_eq!(many.last().unwrap(), "101:3: error: expected at most 100 configurations in a file");
    let deep = "[".repeat(100_000);
    assert!(told(&deep)[0].starts_with("whole"));
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "([a: \n|>{}\\[\\]'\"-]|kind: EndpointPickerConfig|plugins:|\\PC){0,60}") {
        drop(told(&text));
    }
}

/// A chart's values may share what several configurations have.
#[test]
fn aliases_may_mean_what_stands_outside() {
    let shared = "\
x-type: &type queue-scorer
x-base: &base
  name: 'a, b'
  type: *type
x-limits: &limits {lruCapacityPerServer: &n 128}
epp:
  config:
    kind: EndpointPickerConfig
    plugins:
    - *base
    - <<: *base
      name: &c c
    - {type: prefix-cache-scorer, parameters: *limits}
    - type: random-picker
      parameters: {maxNumOfEndpoints: *n}
    schedulingProfiles:
    - name: *type
      plugins: [{pluginRef: 'a, b'}, {pluginRef: *c}, {pluginRef: nobody}]
";
    let told = told(shared);
    let want = "18:67: error: no plugin is named `nobody`; `plugins` declares `a, b`, `c`, `prefix-cache-scorer`, \
                `random-picker`";
    assert_eq!(told, ["config 8:5", want]);
}

/// What aliases come to is bounded.
#[test]
fn aliases_that_swell_are_refused() {
    let mut text = "x0: &x0 [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\n".to_owned();
    for n in 1..30 {
        let refer = format!("*x{}", n - 1);
        text = [text, format!("x{n}: &x{n} [{}]\n", [refer.as_str(); 9].join(", "))].concat();
    }
    text += "a:\n  kind: EndpointPickerConfig\n  plugins: *x29\n";
    let told = told(&text);
    assert!(told.iter().any(|line| line.contains("error")), "{told:?}");
}

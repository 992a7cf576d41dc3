//! Errors and warnings of one file, at once: each is told by itself, and nothing that merely follows from another.

use super::{HEAD, LLM_D_HEAD, load};

/// All that is told of a file, in its order; the body begins at line 3.
fn all(head: &str, body: &str) -> Vec<String> {
    let (_, problems) = load(&format!("{head}{body}"), epp_plugins::BUILT_IN);
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn warnings_stand_beside_errors_in_the_order_of_the_file() {
    let body = "plugins:\n- type: slo-aware-profile-handler\n- {type: predicted-latency-scorer}\n\
                - type: queue-scorr\n- type: random-picker\n- type: weighted-random-picker\n\
                - {type: low-queue-filter, parameters: {thresholdQueue: x}}\n";
    let told = all(HEAD, body);
    let places: Vec<_> = told.iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
    let lines: Vec<u32> =
        places.iter().map(|place| place.split(':').next().unwrap().parse().unwrap()).collect();
    assert!(lines.is_sorted(), "{told:#?}");
    let has = |what: &str| told.iter().any(|line| line.contains(what));
    assert!(has("6:9: error: unknown plugin type `queue-scorr`"), "{told:#?}");
    assert!(has("5:10: warning: plugin `predicted-latency-scorer`: "), "{told:#?}");
}

#[test]
fn what_follows_from_another_error_is_not_told() {
    let profile = |names: &str| format!("\nschedulingProfiles:\n- name: a\n  plugins: [{names}]\n");
    let refer = |name: &str| format!("{{pluginRef: {name}}}");
    for (what, plugins, want) in [
        (
            "a type",
            "{type: queue-scorr}",
            "4:10: error: unknown plugin type `queue-scorr`, did you mean `queue-scorer`?",
        ),
        (
            "a bare word",
            "queue-scorer",
            "4:3: error: entry of `plugins`: expected a map, found the string `queue-scorer`; write `type: queue-scorer`",
        ),
        ("a key", "{typ: queue-scorer}", "4:4: error: unknown field `typ`, did you mean `type`?"),
        (
            "an old name",
            "{name: queue-scorer, type: queue-scorr}",
            "4:30: error: unknown plugin type `queue-scorr`, did you mean `queue-scorer`?",
        ),
    ] {
        let body = format!("plugins:\n- {plugins}{}", profile(&refer("queue-scorer")));
        assert_eq!(all(HEAD, &body), [want], "{what}");
    }
    // The handler that could not be read may be what refers to the decider, and the parameter what names the filter.
    let decider = "plugins:\n- {type: disagg-profile-handlr}\n- {type: always-disagg-pd-decider}\n- {type: queue-scorer}\n";
    let want =
        ["4:10: error: unknown plugin type `disagg-profile-handlr`, did you mean `disagg-profile-handler`?"];
    assert_eq!(all(HEAD, decider), want);
    let layer =
        "plugins: [{type: metrics-data-sourc}]\ndataLayer: {sources: [{pluginRef: metrics-data-source}]}\n";
    let want = ["3:18: error: unknown plugin type `metrics-data-sourc`, did you mean `metrics-data-source`?"];
    assert_eq!(all(HEAD, layer), want);
    let policy = "plugins: [{type: edf-ordering-polic, name: p}]\nfeatureGates: [flowControl]\nflowControl: {priorityBands: [{priority: 1, orderingPolicyRef: p}]}\n";
    let told = all(HEAD, policy);
    assert!(told[0].contains("unknown plugin type") && told[1].contains("no request waits yet"), "{told:?}");
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(all(HEAD, "plugins: 3\n"), ["3:10: error: `plugins`: expected a list, found 3"]);
}

#[test]
fn what_is_left_over_is_told_where_nothing_can_have_meant_it() {
    let body = "plugins: [{type: queue-scorer}, {type: kv-cache-utilization-scorer, parameters: {anticipate: 3}}]\n\
                schedulingProfiles: [{name: a, plugins: [{pluginRef: kv-cache-utilization-scorer}]}]\n";
    let left_over = "3:18: warning: plugin `queue-scorer` is in no scheduling profile";
    assert!(all(HEAD, body).iter().any(|line| line == left_over), "{:?}", all(HEAD, body));
    let meant = body.replace("pluginRef: kv-cache-utilization-scorer", "pluginRef: qeue");
    assert!(!all(HEAD, &meant).iter().any(|line| line == left_over), "{:?}", all(HEAD, &meant));
}

#[test]
fn names_are_listed_once() {
    let body = "plugins: [{type: queue-scorer}, {type: queue-scorer}, {type: random-picker}]\n\
                schedulingProfiles: [{name: a, plugins: [{pluginRef: unheard-of}]}]\n";
    let told = all(HEAD, body);
    let want = "no plugin is named `unheard-of`; `plugins` declares `queue-scorer`, `random-picker`";
    assert!(told.iter().any(|line| line.ends_with(want)), "{told:?}");
}

#[test]
fn a_wrong_item_of_a_list_is_told_in_its_place() {
    let body = "plugins:\n- type: label-selector-filter\n  parameters:\n    matchExpressions:\n    - key: a\n      operator: In\n      values:\n      - a\n      - 3\n      - ''\n      - [b]\n";
    let whose = "plugin `label-selector-filter`: `plugins[0].parameters.matchExpressions[0].values`";
    assert_eq!(
        all(LLM_D_HEAD, body)[..3],
        [
            format!("11:9: error: {whose}: item 2: expected a string (in quotes), found 3"),
            format!("12:9: error: {whose}: item 3: expected a string that is not empty, found the string ``"),
            format!("13:9: error: {whose}: item 4: expected a string, found a list"),
        ]
    );
}

#[test]
fn more_values_than_any_configuration_has_are_refused_early() {
    let entries = "- {name: a, type: queue-scorer}\n".repeat(70_000);
    let told = all(HEAD, &format!("plugins:\n{entries}"));
    assert!(told[0].contains("error: expected at most 200000 values"), "{told:?}");
    assert_eq!(told.len(), 1);
}

/// A handler as llm-d v0.2 wrote it: without a decider.
#[test]
fn an_older_handler_is_told_which_decider_its_threshold_means() {
    let with = |parameters: &str| {
        let body = format!(
            "plugins:\n- type: pd-profile-handler\n  parameters: {{{parameters}}}\n- {{type: queue-scorer}}\n\
                            schedulingProfiles: [{{name: decode}}, {{name: prefill}}]\n"
        );
        all(HEAD, &body).into_iter().filter(|line| line.contains("error")).collect::<Vec<_>>().join("\n")
    };
    let zero = with("threshold: 0, hashBlockSize: 5");
    assert!(
        zero.contains("declare an `always-disagg-pd-decider`, and name it in `deciderPluginName`"),
        "{zero}"
    );
    for other in ["threshold: 10", "hashBlockSize: 5", "threshold: x"] {
        let told = with(other);
        assert!(
            told.ends_with(
                "no plugin is named `prefix-based-pd-decider`, declare one of that type in `plugins`"
            ),
            "{told}"
        );
    }
    assert!(!zero.contains('\n') && !zero.contains("declare one of that type"), "{zero}");
}

#[test]
fn a_policy_without_parameters_refuses_every_key() {
    let body =
        "plugins: [{type: soft-reflective-ceiling-policy, parameters: {a: 1}}, {type: queue-scorer}]\n";
    let want = "error: plugin `soft-reflective-ceiling-policy`: unknown parameter `a`, it takes none";
    for head in [HEAD, LLM_D_HEAD] {
        assert!(all(head, body)[0].ends_with(want), "{:?}", all(head, body));
    }
}

#[test]
fn a_tree_knows_what_drains_by_its_parameters() {
    let tree = |leaf: &str| {
        let body = format!(
            "plugins:\n- {{name: leaf, {leaf}}}\n- {{type: decision-tree-filter, parameters: {{current: {{pluginRef: leaf}}}}}}\n"
        );
        all(LLM_D_HEAD, &body).iter().any(|line| line.contains("the tree may leave nobody"))
    };
    let busy = "conditions: [{metric: waiting-queue, maxValue: 1}]";
    let attribute = "attribute: a, algorithm: {type: range, range: {min: 1}}";
    for (leaf, want) in [
        (format!("type: utilization-filter, parameters: {{{busy}}}"), true),
        (format!("type: utilization-filter, parameters: {{{busy}, fallbackOnEmpty: true}}"), false),
        (format!("type: endpoint-attribute-filter, parameters: {{{attribute}}}"), true),
        (
            format!("type: endpoint-attribute-filter, parameters: {{{attribute}, fallbackOnEmpty: true}}"),
            false,
        ),
        ("type: context-length-aware, parameters: {enableFiltering: true}".to_owned(), true),
        ("type: context-length-aware".to_owned(), false),
    ] {
        assert_eq!(tree(&leaf), want, "{leaf}");
    }
}

//! Whatever is not known is told with what was probably meant.

use super::{HEAD, LLM_D_HEAD, told_by};

#[track_caller]
fn errors(head: &str, body: &str) -> String {
    told_by(&format!("{head}{body}"), epp_plugins::BUILT_IN).0.expect_err(body)
}

#[test]
fn near_misses_are_named_everywhere() {
    let tree = |level: &str| {
        format!(
            "plugins: [{{type: least-queue-filter}}, {{type: decision-tree-filter, parameters: {level}}}]"
        )
    };
    for (what, body, written, meant) in [
        ("plugin type", "plugins: [{type: queue-scorr}]".to_owned(), "queue-scorr", "queue-scorer"),
        ("old plugin type", "plugins: [{type: kv-cache-scorr}]".to_owned(), "kv-cache-scorr", "kv-cache-scorer"),
        (
            "pluginRef",
            "plugins: [{type: queue-scorer, name: queue}]\nschedulingProfiles: [{name: a, plugins: [{pluginRef: qeue}]}]"
                .to_owned(),
            "qeue",
            "queue",
        ),
        ("pluginRef in a tree", tree("{current: {pluginRef: least-qeue-filter}}"), "least-qeue-filter", "least-queue-filter"),
        (
            "parameter",
            "plugins: [{type: random-picker, parameters: {maxNumOfEndpoint: 1}}]".to_owned(),
            "maxNumOfEndpoint",
            "maxNumOfEndpoints",
        ),
        (
            "parameter in a tree",
            tree("{current: {pluginRef: least-queue-filter}, nextOnSucces: {pluginRef: least-queue-filter}}"),
            "nextOnSucces",
            "nextOnSuccess",
        ),
        (
            "nested parameter",
            tree("{current: {decisionTre: {current: {pluginRef: least-queue-filter}}}}"),
            "decisionTre",
            "decisionTree",
        ),
        ("top-level key", "plugin: []".to_owned(), "plugin", "plugins"),
        ("feature gate", "featureGates: [flowcontrol]".to_owned(), "flowcontrol", "flowControl"),
        ("key of a plugin", "plugins: [{typ: queue-scorer, type: queue-scorer}]".to_owned(), "typ", "type"),
        ("key of a profile", "schedulingProfiles: [{nam: a, name: a}]".to_owned(), "nam", "name"),
        (
            "key of a reference",
            "plugins: [{type: queue-scorer}]\n\
             schedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer, wieght: 1}]}]"
                .to_owned(),
            "wieght",
            "weight",
        ),
        ("key of the data layer", "dataLayer: {discvery: {}}".to_owned(), "discvery", "discovery"),
        ("key of discovery", "dataLayer: {discovery: {pluginref: a}}".to_owned(), "pluginref", "pluginRef"),
        ("key of endpoints", "dataLayer: {discovery: {endpoints: {plugnRef: a}}}".to_owned(), "plugnRef", "pluginRef"),
    ] {
        let told = errors(LLM_D_HEAD, &body);
        assert!(told.contains(&format!("`{written}`")), "{what}: {told}");
        assert!(told.contains(&format!(", did you mean `{meant}`?")), "{what}: {told}");
    }
}

#[test]
fn a_reference_to_a_type_that_is_not_declared_says_so() {
    let body = "plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: a, plugins: [{pluginRef: random-picker}]}]";
    let want = "no plugin is named `random-picker`, declare one of that type in `plugins`";
    assert_eq!(errors(HEAD, body), want);
}

#[test]
fn types_that_shed_are_refused_with_the_reason() {
    for name in ["has-capacity", "sheddable", "critical", "drop-request", "has-capacity-filter"] {
        let want = format!(
            "unknown plugin type `{name}`: shedding is done by admission, for objectives with a negative priority"
        );
        assert_eq!(errors(HEAD, &format!("plugins: [{{type: {name}}}]")), want);
    }
}

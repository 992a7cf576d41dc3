//! What counts as a change, and what does not.

use super::*;
use crate::config::build::load;
use epp_plugins::BUILT_IN;

const HEAD: &str = "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n";

fn compose(body: &str) -> Composition {
    let (composition, problems) = load(&format!("{HEAD}{body}"), BUILT_IN);
    composition.unwrap_or_else(|| panic!("{problems:?}\n{body}"))
}

/// The changes, then what a reload does.
fn told(before: &str, after: &str) -> (Vec<String>, Vec<String>) {
    let mut lines = diff(&compose(before), &compose(after)).lines();
    let n = lines.iter().position(String::is_empty).unwrap_or(lines.len());
    let reload = lines.split_off(n).into_iter().skip(2).collect();
    (lines, reload)
}

const TWO: &str = "\
plugins: [{type: queue-scorer}, {type: prefix-cache-scorer}]
schedulingProfiles: [{name: p, plugins: [{pluginRef: queue-scorer, weight: 2}, {pluginRef: prefix-cache-scorer}]}]
";

#[test]
fn spelling_order_and_defaults_make_no_difference() {
    for same in [
        "plugins: [{type: prefix-cache-scorer}, {type: queue-scorer}]\n\
         schedulingProfiles: [{name: p, plugins: [{pluginRef: prefix-cache-scorer}, {pluginRef: queue-scorer, weight: 2}]}]",
        "plugins: [{type: queue-scorer, parameters: {Anticipate: true}}, {type: prefix-cache-scorer, name: prefix-cache-scorer}, {type: max-score-picker}]\n\
         schedulingProfiles: [{name: p, plugins: [{pluginRef: max-score-picker}, {pluginRef: queue-scorer, weight: 2.0}, {pluginRef: prefix-cache-scorer, weight: 1}]}]",
        "plugins: [{type: queue-scorer}, {type: prefix-cache-scorer}]\n\
         schedulingProfiles: [{name: p, plugins: [{pluginRef: queue-scorer}, {pluginRef: prefix-cache-scorer}, {pluginRef: queue-scorer}]}]",
    ] {
        assert_eq!(told(TWO, same), (vec![], vec![]), "{same}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_change_is_told() {
    for (what, after, want) in [
        (
            "a weight",
            TWO.replace("weight: 2", "weight: 0.5"),
            vec!["~ profile `p`: weight of `queue-scorer`: 2 → 0.5"],
        ),
        (
            "a parameter",
            TWO.replace(
                "prefix-cache-scorer}]\nsched",
                "prefix-cache-scorer, parameters: {lruCapacityPerServer: 128}}]\nsched",
            ),
            vec!["~ plugin `prefix-cache-scorer`: lruCapacityPerServer: 31250 → 128 blocks"],
        ),
        (
            "another picker, and a new plugin",
            TWO.replace(
                "plugins: [{type: q",
                "plugins: [{type: random-picker, parameters: {maxNumOfEndpoints: 3}}, {type: q",
            ),
            vec![
                "- plugin `max-score-picker`",
                "+ plugin `random-picker`",
                "    maxNumOfEndpoints: 3",
                "~ profile `p`: picker: `max-score-picker` → `random-picker`",
            ],
        ),
        (
            "another profile",
            TWO.replace("name: p,", "name: q,"),
            vec![
                "- profile `p`",
                "+ profile `q`: filters none; scorers `queue-scorer` × 2, `prefix-cache-scorer` × 1; picker `max-score-picker`",
            ],
        ),
        (
            "parsers",
            format!("{TWO}parser: {{pluginRef: passthrough-parser}}"),
            vec![
                "- plugin `openai-parser`",
                "- plugin `anthropic-parser`",
                "- plugin `vllmhttp-parser`",
                "- plugin `generic-parser`",
                "+ plugin `passthrough-parser`",
                "~ parsers: `openai-parser`, `anthropic-parser`, `vllmhttp-parser`, `generic-parser` → `passthrough-parser`",
            ],
        ),
        (
            "a scorer less",
            TWO.replace(", {pluginRef: prefix-cache-scorer}", ""),
            vec!["- profile `p`: scorer `prefix-cache-scorer`"],
        ),
        (
            "the type behind a name",
            TWO.replace("{type: queue-scorer}", "{type: lora-affinity-scorer, name: queue-scorer}"),
            vec!["~ plugin `queue-scorer`: type: `queue-scorer` → `lora-affinity-scorer`"],
        ),
    ] {
        assert_eq!(told(TWO, &after).0, want, "{what}");
    }
    let filters = |order: &str| {
        format!(
            "plugins: [{{type: least-queue-filter, name: a}}, {{type: least-kv-cache-filter, name: b}}]\n\
             schedulingProfiles: [{{name: p, plugins: [{order}]}}]"
        )
    };
    let (before, after) =
        (filters("{pluginRef: a}, {pluginRef: b}"), filters("{pluginRef: b}, {pluginRef: a}"));
    assert_eq!(told(&before, &after).0, ["~ profile `p`: filters, in their order: `a`, `b` → `b`, `a`"]);
}

/// The rule is that of reloads: name, type, parameters, and none built anew among those that it refers to.
#[test]
fn what_a_reload_keeps_is_told() {
    let tree = |threshold: &str| {
        format!(
            "plugins: [{{type: low-queue-filter, parameters: {{threshold: {threshold}}}}}, {{type: prefix-cache-scorer}},\
             {{type: decision-tree-filter, parameters: {{current: {{pluginRef: low-queue-filter}}}}}}]"
        )
    };
    let (lines, reload) = told(&tree("1"), &tree("2"));
    assert_eq!(lines, ["~ plugin `low-queue-filter`: threshold: 1 → 2 requests"]);
    assert!(reload[0].starts_with("  go on with what they know: `prefix-cache-scorer`, "), "{reload:?}");
    assert_eq!(
        reload[1],
        "  start anew: `low-queue-filter` (its parameters change), `decision-tree-filter` (it refers to \
             `low-queue-filter`, anew or changed)"
    );

    let listed = "plugins: [{type: file-discovery, parameters: {path: a}}]\ndataLayer: {discovery: {pluginRef: file-discovery}}";
    let (lines, reload) = told("plugins: []", listed);
    assert_eq!(
        lines,
        [
            "+ plugin `file-discovery`",
            "    path: a",
            "~ list of endpoints: the command line → `file-discovery`"
        ]
    );
    assert_eq!(reload.last().unwrap(), "  takes a restart: where endpoints are listed");
    let (_, reload) = told(listed, &listed.replace("path: a", "path: b"));
    assert_eq!(reload.last().unwrap(), "  takes a restart: where endpoints are listed");
}

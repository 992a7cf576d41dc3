//! The rows on v0.5.1: decision trees, filters and names of that version, over the built-in types.

use epp_plugins::BUILT_IN;

use super::{HEAD, load, outline, told_by};

const TREE: &str = include_str!("../../../../tests/it/fixtures/config/v051-tree.yaml");
const SCORERS: &str = include_str!("../../../../tests/it/fixtures/config/v051-scorers.yaml");

/// A configuration: two filters, a scorer, and a tree of these parameters as the profile.
fn with_tree(parameters: &str) -> String {
    format!(
        "{HEAD}plugins:\n- type: least-queue-filter\n  name: a\n- type: low-queue-filter\n  name: low\n- type: queue-scorer\n\
         - type: decision-tree-filter\n  name: tree\n  parameters: {parameters}\n\
         schedulingProfiles: [{{name: p, plugins: [{{pluginRef: tree}}, {{pluginRef: queue-scorer}}]}}]\n"
    )
}

#[track_caller]
fn warnings(config: &str) -> String {
    let (outline, warnings) = told_by(config, BUILT_IN);
    outline.expect("it loads");
    warnings
}

#[test]
fn row_10_the_older_configurations_load() {
    let (composition, problems) = load(TREE, BUILT_IN);
    let composition = composition.expect("it loads");
    assert_eq!(problems, []);
    assert!(
        outline(&composition)
            .ends_with("default [low-latency-filter] [] random-picker\nsingle-profile-handler")
    );
    assert_eq!(composition.instances[4].references, [0, 1, 2, 3, 2, 1, 3]);
    let (composition, problems) = load(SCORERS, BUILT_IN);
    let composition = composition.expect("it loads");
    assert_eq!(problems, []);
    let outline = outline(&composition);
    assert!(outline.contains("kv-cache-scorer:kv-cache-utilization-scorer"), "{outline}");
    assert!(
        outline.contains("[queue-scorer*1 kv-cache-scorer*1 prefix-cache-scorer*1] max-score-picker"),
        "{outline}"
    );
}

#[test]
fn faulty_trees_are_refused_with_their_places() {
    let at = |path: &str| format!("plugin `tree`: `plugins[3].parameters.{path}`");
    let no_filter =
        |path: &str| format!("{}: `queue-scorer` is not a filter; list it in the profile", at(path));
    let deep = "{current: {pluginRef: a}, nextOnSuccess: {decisionTree: {nextOnFailure: {pluginRef: a}}}}";
    for (row, parameters, want) in [
        (
            "row 11",
            "{current: {pluginRef: a, decisionTree: {current: {pluginRef: a}}}}",
            format!("{}: expected either `pluginRef` or `decisionTree`, found both", at("current")),
        ),
        (
            "row 12",
            "{current: {}}",
            format!("{}: expected either `pluginRef` or `decisionTree`, found neither", at("current")),
        ),
        (
            "row 13",
            "{current: {pluginRef: xyz}}",
            format!(
                "{}: no plugin is named `xyz`; `plugins` declares `a`, `low`, `queue-scorer`, `tree`",
                at("current.pluginRef")
            ),
        ),
        ("row 14", "{current: {pluginRef: queue-scorer}}", no_filter("current.pluginRef")),
        (
            "row 14",
            "{current: {pluginRef: a}, nextOnSuccess: {pluginRef: queue-scorer}}",
            no_filter("nextOnSuccess.pluginRef"),
        ),
        (
            "row 14",
            "{current: {pluginRef: a}, nextOnFailure: {pluginRef: queue-scorer}}",
            no_filter("nextOnFailure.pluginRef"),
        ),
        (
            "row 14",
            "{current: {pluginRef: a}, nextOnSuccessOrFailure: {pluginRef: queue-scorer}}",
            no_filter("nextOnSuccessOrFailure.pluginRef"),
        ),
        ("row 15", "{NextOnSuccess: {pluginRef: a}}", format!("{} is required", at("current"))),
        ("no parameters", "", format!("{} is required", at("current"))),
        ("null", "{current: null}", format!("{} is required", at("current"))),
        (
            "no name",
            "{current: {pluginRef: 1}}",
            format!("{}: expected the name of a plugin, found 1", at("current.pluginRef")),
        ),
        (
            "no map",
            "{current: a}",
            format!("{}: expected a map, found the string `a`; write `{{pluginRef: a}}`", at("current")),
        ),
        ("deep", deep, format!("{} is required", at("nextOnSuccess.decisionTree.current"))),
    ] {
        assert_eq!(told_by(&with_tree(parameters), BUILT_IN).0, Err(want), "{row}");
    }
    let (_, problems) = load(&with_tree(&deep.replace(", nextOnSuccess", ",\n    nextOnSuccess")), BUILT_IN);
    let place =
        problems.iter().find(|problem| problem.is_error()).map(|problem| (problem.line, problem.column));
    assert_eq!(place, Some((12, 35)), "the level that lacks it");
}

#[test]
fn keys_are_read_without_regard_to_case() {
    let config =
        with_tree("{Current: {PLUGINREF: a}, NextOnSuccess: {decisiontree: {current: {pluginRef: a}}}}");
    let want = "plugin `low` is in no scheduling profile\n\
        plugin `tree`: `Current` is read as `current`\n\
        plugin `tree`: `PLUGINREF` is read as `pluginRef`\n\
        plugin `tree`: `NextOnSuccess` is read as `nextOnSuccess`\n\
        plugin `tree`: `decisiontree` is read as `decisionTree`";
    assert_eq!(warnings(&config), want, "row 15");
}

#[test]
fn references_may_point_forwards_but_not_in_circles() {
    let tree = |name: &str, to: &str| {
        format!(
            "- {{type: decision-tree-filter, name: {name}, parameters: {{current: {{pluginRef: {to}}}}}}}\n"
        )
    };
    let leaf = "- {type: least-queue-filter, name: leaf}\n";
    let profile = "schedulingProfiles: [{name: p, plugins: [{pluginRef: a}]}]\n";
    let load_all = |plugins: &[String]| {
        let config = format!("{HEAD}plugins:\n{}{leaf}{profile}", plugins.concat());
        (load(&config, BUILT_IN).0, told_by(&config, BUILT_IN))
    };
    let (composition, (_, warnings)) = load_all(&[tree("a", "b"), tree("b", "leaf")]);
    assert_eq!(
        (composition.unwrap().build_order, warnings.as_str()),
        (vec![2, 1, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11], "")
    );
    let circle = |names: &str| format!("plugins refer to one another in a circle: `{names}`");
    for (name, plugins, want) in [
        ("oneself", vec![tree("a", "a")], circle("a → a")),
        ("two", vec![tree("a", "b"), tree("b", "a")], circle("a → b → a")),
        ("behind", vec![tree("a", "b"), tree("b", "c"), tree("c", "b")], circle("b → c → b")),
        (
            "too many",
            (0..300)
                .map(|n| tree(&(if n == 0 { "a".into() } else { format!("t{n}") }), &format!("t{}", n + 1)))
                .chain([tree("t300", "leaf")])
                .collect(),
            "plugin `t45` refers to more than 256 plugins, with all that those refer to".to_owned(),
        ),
    ] {
        assert_eq!(load_all(&plugins).1.0, Err(want), "{name}");
    }
    // Each refers to the next three times over: what a decision would run doubles with every one.
    let thrice = |name: &str, to: &str| {
        let next = format!("nextOnSuccessOrFailure: {{pluginRef: {to}}}, nextOnFailure: {{pluginRef: {to}}}");
        tree(name, to).replace("}}}", &format!("}}, {next}}}}}"))
    };
    let name = |n: usize| if n == 0 { "a".to_owned() } else { format!("t{n}") };
    for refer in [&tree as &dyn Fn(&str, &str) -> String, &thrice] {
        let chain = (0..900).map(|n| refer(&name(n), &name(n + 1)));
        let told = load_all(&chain.chain([tree("t900", "leaf")]).collect::<Vec<_>>()).1.0;
        assert!(told.unwrap_err().contains("refers to more than 256 plugins"));
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let (open, close) = ("{current: {decisionTree: ".repeat(depth), "}}".repeat(depth));
        told_by(&with_tree(&format!("{open}{{current: {{pluginRef: a}}}}{close}")), BUILT_IN).0
    };
    assert!(nested(10).is_ok());
    assert_eq!(nested(20), Err("expected at most 32 levels of nesting".to_owned()));
    // Aliases nest deeper than the text.
    let levels = (1..40).map(|n| format!("    x{n}: &x{n} {{current: {{decisionTree: *x{}}}}}\n", n - 1));
    let levels: String = levels.collect();
    let parameters =
        format!("\n    x0: &x0 {{current: {{pluginRef: a}}}}\n{levels}    current: {{decisionTree: *x39}}");
    let want = "expected at most 32 levels of nesting";
    assert_eq!(told_by(&with_tree(&parameters), BUILT_IN).0, Err(want.to_owned()));
}

#[test]
fn thresholds_out_of_range_are_refused() {
    for (plugin, threshold, want) in [
        ("low-queue-filter", "-1", "an integer of at least 0, found -1"),
        ("low-queue-filter", "1.5", "an integer of at least 0, found 1.5"),
        ("lora-affinity-filter", "-0.1", "a number from 0 to 1, found -0.1"),
        ("lora-affinity-filter", "1.001", "a number from 0 to 1, found 1.001"),
        ("lora-affinity-filter", ".nan", "a number from 0 to 1, found NaN"),
        (
            "lora-affinity-filter",
            "'0.5'",
            "a number from 0 to 1, found the string `0.5`; write it without quotes",
        ),
    ] {
        let config =
            format!("{HEAD}plugins: [{{type: {plugin}, name: f, parameters: {{threshold: {threshold}}}}}]");
        let want = format!("plugin `f`: parameter `threshold`: expected {want}");
        assert_eq!(told_by(&config, BUILT_IN).0, Err(want), "{plugin} {threshold}");
    }
    for threshold in ["0", "1", "0.5"] {
        let config = format!(
            "{HEAD}plugins: [{{type: lora-affinity-filter, name: f, parameters: {{threshold: {threshold}}}}}]"
        );
        let (composition, _) = load(&config, BUILT_IN);
        let read = composition.unwrap().instances[0].parameters.float("threshold");
        assert_eq!(read.to_string(), threshold);
    }
}

#[test]
fn what_may_surprise_is_a_warning() {
    let tree = |parameters: &str| {
        with_tree(parameters)
            .replace("- type: low-queue-filter\n  name: low\n", "- {type: lora-affinity-filter, name: low}\n")
    };
    let lora = "when the servers report no room for LoRA adapters; wrap it in a `decision-tree-filter`, or use \
                `lora-affinity-scorer`";
    for (name, config, want) in [
        (
            "a filter that may leave nobody, in a profile",
            format!("{HEAD}plugins: [{{type: lora-affinity-filter}}]"),
            format!(
                "filter `lora-affinity-filter` in profile `default` may leave nobody, and requests are then refused: \
                 it does so {lora}"
            ),
        ),
        (
            "a tree that ends in one",
            tree("{current: {pluginRef: a}, nextOnSuccess: {pluginRef: low}}"),
            format!(
                "plugin `tree`: the tree may leave nobody, and requests are then refused: it ends in `low`, which does so {lora}"
            ),
        ),
        ("a tree that does not", tree("{current: {pluginRef: low}, nextOnSuccessOrFailure: {pluginRef: a}}"), String::new()),
        (
            "a branch too many",
            tree(
                "{current: {pluginRef: low}, nextOnSuccess: {pluginRef: a}, nextOnFailure: {pluginRef: a}, \
                 nextOnSuccessOrFailure: {pluginRef: a}}",
            ),
            "plugin `tree`: `nextOnSuccessOrFailure` is never used: the other two branches are both given".to_owned(),
        ),
        (
            "one scorer under two names",
            format!("{HEAD}plugins: [{{type: kv-cache-scorer}}, {{type: kv-cache-utilization-scorer}}]"),
            "`kv-cache-scorer` and `kv-cache-utilization-scorer` are two names of one type; in profile `default` it \
             counts twice"
                .to_owned(),
        ),
        (
            "the same, of which the profile has one",
            format!(
                "{HEAD}plugins: [{{type: kv-cache-scorer}}, {{type: kv-cache-utilization-scorer, name: b}}]\n\
                 schedulingProfiles: [{{name: p, plugins: [{{pluginRef: b}}]}}]"
            ),
            "plugin `kv-cache-scorer` is in no scheduling profile".to_owned(),
        ),
    ] {
        assert_eq!(warnings(&config), want, "{name}");
    }
}

#[test]
fn a_filter_within_a_tree_is_not_run_by_itself_where_no_profile_says_so() {
    let config = TREE.split("schedulingProfiles").next().unwrap();
    let (composition, problems) = load(config, BUILT_IN);
    assert_eq!(problems, []);
    assert!(outline(&composition.unwrap()).contains("default [low-latency-filter] [] random-picker"));
}

/// Rows that v0.5.1 refuses: what v1.0.1 has a default for is injected, the rest is refused as there.
#[test]
fn row_47_older_refusals() {
    let profile = |plugins: &str| format!("schedulingProfiles: [{{name: p, plugins: [{plugins}]}}]");
    for (name, body, ok) in [
        (
            "no weight",
            format!("plugins: [{{type: queue-scorer}}]\n{}", profile("{pluginRef: queue-scorer}")),
            true,
        ),
        (
            "no handler",
            format!("plugins: [{{type: random-picker}}]\n{}", profile("{pluginRef: random-picker}")),
            true,
        ),
        (
            "two pickers",
            format!(
                "plugins: [{{type: random-picker}}, {{type: max-score-picker}}]\n{}",
                profile("{pluginRef: random-picker}, {pluginRef: max-score-picker}")
            ),
            false,
        ),
        (
            "two handlers",
            "plugins: [{type: single-profile-handler}, {type: single-profile-handler, name: b}]".into(),
            false,
        ),
        ("bad YAML", "plugins: [".into(), false),
        ("a plugin twice", "plugins: [{type: queue-scorer}, {type: queue-scorer}]".into(), false),
        ("a profile twice", "plugins: []\nschedulingProfiles: [{name: p}, {name: p}]".into(), false),
        ("wrong type", "plugins: [{type: low-queue-filter, parameters: {threshold: a}}]".into(), false),
    ] {
        assert_eq!(told_by(&format!("{HEAD}{body}"), BUILT_IN).0.is_ok(), ok, "row 47: {name}");
    }
}

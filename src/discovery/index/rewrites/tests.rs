//! Rows 135 and 136 of the table of test vectors, and the rules for `InferenceModel`.

use proptest::prelude::*;

use super::*;

fn targets(targets: &[(&str, Option<u32>)]) -> Vec<RewriteTarget> {
    targets.iter().map(|&(model, weight)| RewriteTarget { model: model.into(), weight }).collect()
}

fn rule(matches: &[&str], target: &str) -> RewriteRule {
    RewriteRule {
        matches: matches.iter().map(|&model| model.into()).collect(),
        targets: targets(&[(target, None)]),
    }
}

fn rewrite(name: &str, created: i64, rules: Vec<RewriteRule>) -> ModelRewrite {
    ModelRewrite { name: name.into(), created, rules, ..ModelRewrite::default() }
}

fn model(name: &str, created: i64, criticality: Option<Criticality>, target: &str) -> InferenceModel {
    InferenceModel {
        name: name.into(),
        created,
        model_name: "m".into(),
        criticality,
        targets: targets(&[(target, Some(1))]),
        ..InferenceModel::default()
    }
}

#[test]
fn row_135_exact_beats_generic_and_the_oldest_counts() {
    let exact = |name, created, target| rewrite(name, created, vec![rule(&["m", "n"], target)]);
    let generic = |name, created, target| rewrite(name, created, vec![rule(&[], target)]);
    let two = rewrite("a", 1, vec![rule(&["m"], "first"), rule(&["m"], "second"), rule(&[], "rest")]);
    let nameless = rewrite("a", 1, vec![rule(&[""], "never")]);
    let nothing = rewrite("a", 1, vec![RewriteRule { matches: vec!["m".into()], targets: vec![] }]);
    for (name, rewrites, model, want) in [
        ("none", vec![], "m", None),
        ("exact", vec![exact("a", 1, "x")], "m", Some("x")),
        ("any of its models", vec![exact("a", 1, "x")], "n", Some("x")),
        ("another model", vec![exact("a", 1, "x")], "o", None),
        ("no part of a name", vec![exact("a", 1, "x")], "M", None),
        ("generic", vec![generic("a", 1, "x")], "o", Some("x")),
        ("exact beats an older generic", vec![generic("a", 1, "x"), exact("b", 2, "y")], "m", Some("y")),
        ("generic for the rest", vec![generic("a", 1, "x"), exact("b", 2, "y")], "o", Some("x")),
        ("oldest exact", vec![exact("a", 2, "x"), exact("b", 1, "y")], "m", Some("y")),
        ("oldest generic", vec![generic("a", 2, "x"), generic("b", 1, "y")], "m", Some("y")),
        ("equally old: by name", vec![exact("b", 1, "x"), exact("a", 1, "y")], "m", Some("y")),
        ("first rule of an object", vec![two.clone()], "m", Some("first")),
        ("last rule of an object", vec![two], "o", Some("rest")),
        ("a match without a model is not generic", vec![nameless.clone()], "o", None),
        ("nor does it match no model", vec![nameless], "", None),
        ("without targets it is not there", vec![nothing, exact("b", 2, "y")], "m", Some("y")),
    ] {
        let rewrites = Rewrites::new(&rewrites, []);
        assert_eq!(rewrites.target(model, |_| None, 0.5), want, "{name}");
    }
}

/// Beyond the Go EPP, whose matches know the model only.
#[test]
fn rules_may_ask_for_headers() {
    let with = |model: Option<&str>, headers: &[(&str, &str)], target: &str| RewriteRule {
        matches: vec![RewriteMatch {
            model: model.map(str::to_owned),
            headers: headers.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
        }],
        targets: targets(&[(target, None)]),
    };
    let rules = vec![
        rule(&["m"], "plain"),
        with(Some("m"), &[("tier", "gold")], "gold"),
        with(Some("m"), &[("tier", "gold"), ("region", "eu")], "gold-eu"),
        with(None, &[("tier", "gold")], "any-gold"),
        with(None, &[], "never"),
    ];
    let rewrites = Rewrites::new(&[rewrite("a", 1, rules)], []);
    for (name, model, headers, want) in [
        ("no header", "m", &[][..], Some("plain")),
        ("another value", "m", &[("tier", "Gold")], Some("plain")),
        ("one header", "m", &[("tier", "gold")], Some("gold")),
        ("more headers go first", "m", &[("tier", "gold"), ("region", "eu")], Some("gold-eu")),
        ("all of them count", "m", &[("region", "eu")], Some("plain")),
        ("generic", "n", &[("tier", "gold")], Some("any-gold")),
        ("a match of nothing matches nothing", "n", &[], None),
    ] {
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        assert_eq!(rewrites.target(model, header, 0.5), want, "{name}");
    }
    let older = rewrite("a", 1, vec![rule(&["m"], "old")]);
    let newer = rewrite("b", 2, vec![with(Some("m"), &[("tier", "gold")], "new")]);
    let rewrites = Rewrites::new(&[older, newer], []);
    assert_eq!(rewrites.target("m", |_| Some("gold"), 0.5), Some("new"), "headers go before age");
}

#[test]
fn row_136_targets_are_chosen_by_weight() {
    for (name, list, want) in [
        ("100", vec![("a", Some(100))], vec![("a", 1000)]),
        ("50 + 50", vec![("a", Some(50)), ("b", Some(50))], vec![("a", 500), ("b", 500)]),
        ("70 + 30", vec![("a", Some(70)), ("b", Some(30))], vec![("a", 700), ("b", 300)]),
        ("none + none", vec![("a", None), ("b", None)], vec![("a", 500), ("b", 500)]),
        ("none + 100", vec![("a", None), ("b", Some(100))], vec![("b", 1000)]),
        ("0 + 1", vec![("a", Some(0)), ("b", Some(1))], vec![("b", 1000)]),
        ("nameless", vec![("", Some(9)), ("b", Some(1))], vec![("b", 1000)]),
        ("largest", vec![("a", Some(u32::MAX)), ("b", Some(u32::MAX))], vec![("a", 500), ("b", 500)]),
        ("0 + 0", vec![("a", Some(0)), ("b", Some(0))], vec![]),
        ("nothing", vec![], vec![]),
    ] {
        let rules = vec![RewriteRule { matches: vec![], targets: targets(&list) }];
        let rewrites = Rewrites::new(&[rewrite("r", 1, rules)], []);
        let mut counts = BTreeMap::new();
        for i in 0..1000 {
            // Between the thousandths, so that rounding cannot tip the edges.
            if let Some(model) = rewrites.target("m", |_| None, (f64::from(i) + 0.5) / 1000.0) {
                *counts.entry(model).or_default() += 1;
            }
        }
        assert_eq!(counts, BTreeMap::from_iter(want), "{name}");
    }
}

#[test]
fn models_have_a_priority_and_targets_and_the_oldest_counts() {
    for (name, models, priority, target) in [
        ("critical", vec![model("a", 1, Some(Criticality::Critical), "x")], 1, Some("x")),
        ("standard", vec![model("a", 1, Some(Criticality::Standard), "x")], 0, Some("x")),
        ("unset", vec![model("a", 1, None, "x")], 0, Some("x")),
        ("sheddable", vec![model("a", 1, Some(Criticality::Sheddable), "x")], -1, Some("x")),
        ("as it is", vec![InferenceModel { targets: vec![], ..model("a", 1, None, "") }], 0, None),
        (
            "oldest",
            vec![model("a", 2, Some(Criticality::Critical), "x"), model("b", 1, None, "y")],
            0,
            Some("y"),
        ),
        (
            "equally old",
            vec![model("b", 1, Some(Criticality::Critical), "x"), model("a", 1, None, "y")],
            0,
            Some("y"),
        ),
    ] {
        assert_eq!(model_priorities(&models), BTreeMap::from([("m".into(), priority)]), "{name}");
        let rewrites = Rewrites::new([], &models);
        assert_eq!(rewrites.target("m", |_| None, 0.0), target, "{name}");
        assert_eq!(rewrites.target("other", |_| None, 0.0), None, "{name}");
    }
}

#[test]
fn a_rewrite_goes_before_a_model() {
    for matches in [&["m"][..], &[]] {
        let rewrites = [rewrite("r", 9, vec![rule(matches, "x")])];
        assert_eq!(
            Rewrites::new(&rewrites, &[model("a", 1, None, "y")]).target("m", |_| None, 0.0),
            Some("x")
        );
    }
}

proptest! {
    #[test]
    fn any_chance_chooses_a_target_with_a_weight(
        weights in prop::collection::vec(prop::option::of(any::<u32>()), 0..6),
        chance in prop_oneof![any::<f64>(), 0.0..1.0],
    ) {
        let list: Vec<_> = ["a", "b", "c", "d", "e", "f"].into_iter().zip(weights).collect();
        let rules = vec![RewriteRule { matches: vec![], targets: targets(&list) }];
        let rewrites = Rewrites::new(&[rewrite("r", 1, rules)], []);
        let weighted = list.iter().any(|(_, weight)| weight.is_some());
        let can = |weight: Option<u32>| if weighted { weight.is_some_and(|weight| weight > 0) } else { true };
        let choice = rewrites.target("m", |_| None, chance);
        prop_assert_eq!(choice.is_some(), list.iter().any(|&(_, weight)| can(weight)));
        if let Some(choice) = choice {
            prop_assert!(list.iter().any(|&(model, weight)| model == choice && can(weight)));
        }
    }
}

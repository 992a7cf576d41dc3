//! Trees of filters that keep what they are told; errors in their parameters are the loader's, see its tests.

use epp_framework::endpoint::Load;
use serde_json::json;

use super::*;
use crate::testing::{Pool, built_with, parsed};

/// Keeps the endpoints at these indices; fails the test if it is given others than `expects`.
struct Keep {
    expects: &'static [u32],
    keeps: &'static [u32],
}

impl Filter for Keep {
    fn filter(&self, _cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        let given: Vec<_> = candidates.iter().map(|candidate| candidate.index).collect();
        assert_eq!(given, self.expects);
        candidates.retain(|candidate| self.keeps.contains(&candidate.index));
    }
}

fn keep(expects: &'static [u32], keeps: &'static [u32]) -> Plugin {
    Plugin { filter: Some(Arc::new(Keep { expects, keeps })), ..Plugin::default() }
}

/// Who is left of four endpoints; `a` is given all and keeps two, `none` is given all and keeps nobody.
fn left(tree: &serde_json::Value) -> Vec<u32> {
    const ALL: &[u32] = &[0, 1, 2, 3];
    let filters = [
        ("a", keep(ALL, &[0, 1])),
        ("none", keep(ALL, &[])),
        ("all-to-3", keep(ALL, &[3])),
        ("a-to-1", keep(&[0, 1], &[1])),
        ("a-to-none", keep(&[0, 1], &[])),
        ("never", keep(&[9], &[])),
    ];
    let tree = built_with(&TYPE, &tree.to_string(), &filters);
    Pool::new([Load::default(); 4]).filter(&*tree.filter.expect("it is a filter"), 1)
}

fn filter(name: &str) -> serde_json::Value {
    json!({ "pluginRef": name })
}

fn tree(level: &serde_json::Value) -> serde_json::Value {
    json!({ "decisionTree": level })
}

#[test]
fn success_hands_on_what_is_left_and_failure_what_was_given() {
    let f = filter;
    for (name, level, want) in [
        ("current alone", json!({"current": f("a")}), &[0, 1][..]),
        ("current alone fails", json!({"current": f("none")}), &[]),
        (
            "success",
            json!({"current": f("a"), "nextOnSuccess": f("a-to-1"), "nextOnFailure": f("never")}),
            &[1],
        ),
        (
            "failure",
            json!({"current": f("none"), "nextOnSuccess": f("never"), "nextOnFailure": f("all-to-3")}),
            &[3],
        ),
        ("failure without a branch", json!({"current": f("none"), "nextOnSuccess": f("never")}), &[]),
        ("success without a branch", json!({"current": f("a"), "nextOnFailure": f("never")}), &[0, 1]),
        ("either, after success", json!({"current": f("a"), "nextOnSuccessOrFailure": f("a-to-1")}), &[1]),
        (
            "either, after failure",
            json!({"current": f("none"), "nextOnSuccessOrFailure": f("all-to-3")}),
            &[3],
        ),
        (
            "the specific branch of success wins",
            json!({"current": f("a"), "nextOnSuccess": f("a-to-1"), "nextOnSuccessOrFailure": f("never")}),
            &[1],
        ),
        (
            "the specific branch of failure wins",
            json!({"current": f("none"), "nextOnFailure": f("all-to-3"), "nextOnSuccessOrFailure": f("never")}),
            &[3],
        ),
        (
            "a branch that fails at last",
            json!({"current": f("a"), "nextOnSuccess": f("a-to-none"), "nextOnFailure": f("never")}),
            &[],
        ),
        (
            "an inner level falls back on its own input",
            json!({"current": f("a"), "nextOnSuccess": tree(&json!({
                "current": f("a-to-none"), "nextOnFailure": f("a-to-1"),
            }))}),
            &[1],
        ),
        (
            "a level as current, which fails",
            json!({
                "current": tree(&json!({"current": f("a"), "nextOnSuccess": f("a-to-none")})),
                "nextOnFailure": f("all-to-3"),
            }),
            &[3],
        ),
        (
            "a level as current, which leaves somebody",
            json!({"current": tree(&json!({"current": f("a")})), "nextOnSuccess": f("a-to-1")}),
            &[1],
        ),
    ] {
        assert_eq!(left(&level), want, "{name}");
    }
}

#[test]
fn nobody_to_begin_with_is_nobody_left() {
    let filters = [("any", keep(&[], &[]))];
    let level = json!({"current": filter("any"), "nextOnSuccessOrFailure": filter("any")});
    let tree = built_with(&TYPE, &level.to_string(), &filters).filter.expect("it is a filter");
    assert!(Pool::new([]).filter(&*tree, 1).is_empty());
}

#[test]
fn a_review_tells_of_useless_branches_and_of_trees_that_may_leave_nobody() {
    let f = filter;
    let drained = |leaf: &str| {
        let told = "the tree may leave nobody, and requests are then refused: it ends in";
        format!("{told} `{leaf}`, which does so sometimes")
    };
    let inner = json!({"current": f("drains"), "nextOnSuccess": f("keeps")});
    for (name, level, want) in [
        ("safe leaf", json!({"current": f("drains"), "nextOnSuccessOrFailure": f("keeps")}), vec![]),
        ("no branch", json!({"current": f("drains")}), vec![drained("drains")]),
        ("keeps alone", json!({"current": f("keeps")}), vec![]),
        (
            "failure is final",
            json!({"current": f("drains"), "nextOnSuccess": f("keeps")}),
            vec![drained("drains")],
        ),
        (
            "after success",
            json!({"current": f("keeps"), "nextOnSuccess": f("drains")}),
            vec![drained("drains")],
        ),
        (
            "failure is caught",
            json!({"current": f("drains"), "nextOnFailure": f("keeps")}),
            vec![],
        ),
        (
            "another tree",
            json!({"current": f("keeps"), "nextOnSuccess": f("inner")}),
            vec![drained("drains")],
        ),
        (
            "never used, within",
            json!({"current": tree(&json!({
                "current": f("keeps"),
                "nextOnSuccess": f("keeps"),
                "nextOnFailure": f("keeps"),
                "nextOnSuccessOrFailure": f("keeps"),
            }))}),
            vec![
                "`current.decisionTree.nextOnSuccessOrFailure` is never used: the other two branches are both given"
                    .to_owned(),
            ],
        ),
    ] {
        const KEEPS: &PluginType = &PluginType { name: "keeps-filter", ..PluginType::PLAIN };
        const DRAINS: &PluginType = &PluginType { name: "drains-filter", drains: "sometimes", ..PluginType::PLAIN };
        let (parameters, none) = (parsed(LEVEL, &level), Parameters::defaults(&[]));
        let inner = parsed(LEVEL, &inner);
        let find = |name: &str| match name {
            "keeps" => Some((KEEPS, &none)),
            "drains" => Some((DRAINS, &none)),
            "inner" => Some((&TYPE, &inner)),
            _ => None,
        };
        assert_eq!(review(&Review { parameters: &parameters, profiles: &["default"], find: &find }), want, "{name}");
    }
}

//! The configurations that v0.5.1 installs mean what they meant: rows of its compatibility table, 16 to 20.

use std::collections::BTreeSet;
use std::sync::Arc;

use epp::config::build;
use epp::pool::PoolState;
use epp::raw_request::Subset;
use epp::scheduling::NoDecision;
use epp_framework::endpoint::Cost;
use epp_framework::request::InferenceRequest;

use crate::support::hermetic::{Pod, pool, set_adapters};

const TREE: &str = include_str!("fixtures/config/v051-tree.yaml");
const SCORERS: &str = include_str!("fixtures/config/v051-scorers.yaml");

fn decide(pool: &PoolState, target_model: &str) -> Result<String, NoDecision> {
    let request = InferenceRequest { target_model: target_model.into(), ..InferenceRequest::default() };
    let placed = pool.decide(&pool.pipeline(), &request, &Subset::Any, Cost::default(), None);
    placed.map(|placed| placed.destination)
}

fn older(pods: &[Pod], config: &str) -> Arc<PoolState> {
    pool(pods, config, epp_plugins::BUILT_IN)
}

#[test]
fn both_configurations_load_without_a_word() {
    for config in [TREE, SCORERS] {
        let (composition, problems) = build::load(config, epp_plugins::BUILT_IN);
        assert!(composition.is_some());
        assert_eq!(problems, []);
    }
}

/// Row, pods, pods (from 1) that each configuration may pick for a request to `sql-lora-1fdg2`.
type Case<'a> = (&'a str, &'a [Pod], &'a [usize], &'a [usize]);

#[test]
fn rows_17_to_20_decisions() {
    let (foo, adapter) = ("foo,bar", "foo,sql-lora-1fdg2");
    let cases: [Case<'_>; 6] = [
        ("18", &[(3, 0.2, ""), (0, 0.1, ""), (10, 0.2, "")], &[2], &[2]),
        ("19", &[(0, 0.2, foo), (0, 0.1, adapter), (10, 0.2, foo)], &[2], &[2]),
        ("20", &[(10, 0.2, foo), (200, 0.2, adapter), (6, 0.2, foo)], &[3], &[3]),
        ("few wait: affinity first", &[(0, 0.1, foo), (128, 0.9, adapter)], &[2], &[1]),
        ("many wait: affinity last", &[(129, 0.1, foo), (200, 0.9, adapter)], &[1], &[1]),
        ("what is left is picked evenly", &[(0, 0.5, foo), (0, 0.5, foo), (9, 0.5, foo)], &[1, 2], &[1, 2]),
    ];
    for (row, pods, by_tree, by_scorers) in cases {
        for (config, want) in [(TREE, by_tree), (SCORERS, by_scorers)] {
            let pool = older(pods, config);
            let picked: BTreeSet<_> =
                (0..60).map(|_| decide(&pool, "sql-lora-1fdg2").expect("somebody")).collect();
            let want: BTreeSet<_> = want.iter().map(|pod| format!("192.168.1.{pod}:8000")).collect();
            assert_eq!(picked, want, "row {row}");
        }
    }
}

#[test]
fn row_17_affinity_before_queues() {
    let pods = [(0, 0.2, ""), (3, 0.1, ""), (10, 0.2, "")];
    let pool = older(&pods, TREE);
    for (endpoint, running) in pool.store.snapshot().endpoints.iter().zip(["foo,bar", "foo,critical", "foo"])
    {
        set_adapters(endpoint, running, 2);
    }
    let decisions = 1000;
    let affinity =
        (0..decisions).filter(|_| decide(&pool, "critical").expect("somebody") == "192.168.1.2:8000");
    // The third has room, and one request in a thousand goes there.
    assert!((decisions - 12..=decisions).contains(&affinity.count()), "row 17");
}

#[test]
fn row_16_no_pods_are_an_error() {
    for config in [TREE, SCORERS] {
        assert_eq!(decide(&older(&[], config), "critical"), Err(NoDecision::NoCandidates), "row 16");
    }
}

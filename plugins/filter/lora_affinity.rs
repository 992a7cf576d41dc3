//! `lora-affinity-filter`: keeps the endpoints that have the request's adapter, or else those with room for it.
//!
//! From v0.5.1. If there are both, those that have it are kept with a given probability, so that now and then another
//! endpoint loads a busy adapter. If there are neither, nobody is kept, which a decision tree counts as a failure.

use std::sync::Arc;

use epp_framework::lora::Adapter;
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::Candidates;
use rand::RngExt;
use rand::rngs::SmallRng;

/// `lora-affinity-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "lora-affinity-filter",
    summary: "Keeps the endpoints that have the request's LoRA adapter, or else those with room for it.",
    about: "Where there are both, the former are kept with probability `threshold`.",
    needs: &["vllm:lora_requests_info"],
    parameters: &[Parameter {
        name: "threshold",
        kind: ParameterKind::Float { default: 0.999, min: 0.0, max: 1.0 },
        unit: "",
        summary: "Where some have the adapter and others have room: probability that the former are kept.",
    }],
    kinds: &[Kind::Filter],
    build,
    drains: "when the servers report no room for LoRA adapters; wrap it in a `decision-tree-filter`, or use \
             `lora-affinity-scorer`",
    releases: releases::OLD,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let filter = LoraAffinityFilter { threshold: parameters.float("threshold") };
    Plugin { filter: Some(Arc::new(filter)), ..Plugin::default() }
}

struct LoraAffinityFilter {
    threshold: f64,
}

impl Filter for LoraAffinityFilter {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, rng: &mut SmallRng) {
        let adapter = Adapter::named(&cycle.request.target_model);
        candidates.keep_group(
            |candidate| {
                let lora = &candidate.facts.lora;
                if lora.runs(adapter) || lora.waits(adapter) {
                    return Some(true);
                }
                lora.has_room().then_some(false)
            },
            |n_have_it, n_have_room| match (n_have_it, n_have_room) {
                (0, _) => false,
                (_, 0) => true,
                _ => rng.random::<f64>() < self.threshold,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Adapters, Pool, built};

    #[test]
    fn endpoints_with_the_adapter_or_with_room_are_kept() {
        // Running, waiting, and how many fit.
        let cases: &[(&str, f64, &[Adapters<'_>], &[u32])] = &[
            ("row 8", 0.999, &[(&[], &[], 0), (&[], &[], 0)], &[]),
            ("row 9", 0.999, &[(&["b"], &["a"], 2), (&["b"], &["c"], 2)], &[0]),
            ("affinity", 1.0, &[(&["b"], &[], 2), (&["a", "c"], &[], 2), (&["a"], &[], 1)], &[1, 2]),
            ("never", 0.0, &[(&["b"], &[], 2), (&["a", "c"], &[], 2), (&[], &[], 1)], &[0, 2]),
            ("affinity alone", 0.0, &[(&["b", "c"], &[], 2), (&["a"], &[], 2)], &[1]),
            ("room alone", 1.0, &[(&["b"], &["c"], 2), (&["b"], &[], 2)], &[1]),
            ("nobody", 0.999, &[], &[]),
        ];
        for (name, threshold, adapters, want) in cases {
            for seed in 0..20 {
                let filter = LoraAffinityFilter { threshold: *threshold };
                assert_eq!(Pool::with_adapters(adapters).filter(&filter, seed), *want, "{name}");
            }
        }
    }

    #[test]
    fn row_7_affinity_wins_as_often_as_the_threshold_says() {
        let filter = built(&TYPE, r#"{"threshold": 0.75}"#).filter.unwrap();
        let pool = Pool::with_adapters(&[(&["a"], &[], 2), (&[], &[], 2)]);
        let mut affinity = 0;
        for seed in 0..10_000 {
            match pool.filter(&*filter, seed)[..] {
                [0] => affinity += 1,
                [1] => {}
                ref other => panic!("exactly one is kept, found {other:?}"),
            }
        }
        assert!((7000..=8000).contains(&affinity), "{affinity}");
    }
}

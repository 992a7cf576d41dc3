//! `lora-affinity-scorer`: prefers endpoints that run the request's LoRA adapter, then those with room for it.

use std::sync::Arc;

use epp_framework::lora::Adapter;
use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::snapshot::Candidates;

/// `lora-affinity-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "lora-affinity-scorer",
    summary: "Prefers endpoints that run the request's LoRA adapter (1), have room for it (0.8), or queue for it (0.6).",
    about: "Where the adapter runs the score is 1, where there is room for it 0.8, where requests wait for it 0.6, else 0.",
    needs: &["vllm:lora_requests_info"],
    kinds: &[Kind::Scorer],
    build,
    releases: releases::SINCE_V1_0_1,
    ..PluginType::PLAIN
};

fn build(_parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    Plugin { scorer: Some(Arc::new(LoraAffinityScorer)), ..Plugin::default() }
}

struct LoraAffinityScorer;

impl Scorer for LoraAffinityScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let adapter = Adapter::named(&cycle.request.target_model);
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            let lora = &candidate.facts.lora;
            *score = if lora.runs(adapter) {
                1.0
            } else if lora.has_room() {
                0.8
            } else if lora.waits(adapter) {
                0.6
            } else {
                0.0
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Adapters, Pool, assert_close};

    #[test]
    fn endpoints_score_by_what_they_have_of_the_adapter() {
        // Running, waiting, and how many fit.
        let cases: &[(&str, &[Adapters<'_>], &[f64])] = &[
            ("L1", &[(&["a"], &[], 5)], &[1.0]),
            ("L2", &[(&["b"], &["a"], 2)], &[0.6]),
            ("L3", &[(&["b"], &["c"], 2), (&[], &[], 0)], &[0.0, 0.0]),
            (
                "L4",
                &[
                    (&["a"], &[], 5),
                    (&["b"], &["a"], 5),
                    (&["b"], &[], 2),
                    (&["c"], &["a"], 2),
                    (&["d", "e"], &[], 2),
                ],
                &[1.0, 0.8, 0.8, 0.6, 0.0],
            ),
            ("L5", &[], &[]),
            ("repeated among the waiting", &[(&["b"], &["b"], 2)], &[0.8]),
        ];
        for (name, adapters, want) in cases {
            assert_close(&Pool::with_adapters(adapters).score(&LoraAffinityScorer), want, name);
        }
    }
}

//! `load-aware-scorer`: prefers endpoints with short queues, against a fixed threshold.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::snapshot::Candidates;

const THRESHOLD: &str = "threshold";
const DEFAULT_THRESHOLD: i64 = 128;

/// The score of an empty queue.
const BEST: f64 = 0.5;

/// `load-aware-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "load-aware-scorer",
    summary: "Prefers endpoints with few waiting requests, against a fixed threshold.",
    about: "The score is 0.5 * (1 - waiting / `threshold`), and 0 from there on. It is never above 0.5, so that beside \
            scorers of affinity, which give 1, an idle endpoint counts half. Unlike that of `queue-scorer` it does not \
            depend on the other candidates: small differences between short queues stay small.",
    needs: &["vllm:num_requests_waiting"],
    parameters: &[Parameter {
        name: THRESHOLD,
        kind: ParameterKind::Integer { default: DEFAULT_THRESHOLD, min: i64::MIN, max: i64::MAX },
        unit: "requests",
        summary: "From how many waiting requests on an endpoint scores 0; 0 or less means the default.",
    }],
    kinds: &[Kind::Scorer],
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let threshold = match parameters.integer(THRESHOLD) {
        ..=0 => DEFAULT_THRESHOLD,
        threshold => threshold,
    };
    Plugin { scorer: Some(Arc::new(LoadAwareScorer { threshold: threshold as f64 })), ..Plugin::default() }
}

struct LoadAwareScorer {
    /// In requests, above 0.
    threshold: f64,
}

impl Scorer for LoadAwareScorer {
    fn score(&self, _cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            *score = BEST * (1.0 - (f64::from(candidate.load.waiting) / self.threshold).min(1.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;

    use super::*;
    use crate::testing::{Pool, assert_close, built};

    #[test]
    fn queues_are_compared_with_the_threshold() {
        let cases: &[(&str, &str, &[u32], &[f64])] = &[
            ("LA1", r#"{"threshold": 10}"#, &[2, 0, 15], &[0.4, 0.5, 0.0]),
            ("LA2", r#"{"threshold": -1}"#, &[64], &[0.25]),
            ("LA3", r#"{"threshold": 10}"#, &[10], &[0.0]),
            ("the default", "{}", &[64, 128], &[0.25, 0.0]),
            ("nobody", "{}", &[], &[]),
        ];
        for (name, parameters, waiting, want) in cases {
            let pool = Pool::new(waiting.iter().map(|&waiting| Load { waiting, ..Load::default() }));
            let scorer = built(&TYPE, parameters).scorer.unwrap();
            assert_close(&pool.score(&*scorer), want, name);
        }
    }
}

//! `low-queue-filter`: keeps the endpoints whose queue is no longer than a threshold.
//!
//! From v0.5.1, where it opens the decision tree: few requests wait, so LoRA affinity may decide first.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::Candidates;
use rand::rngs::SmallRng;

/// `low-queue-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "low-queue-filter",
    summary: "Keeps the endpoints where at most a given number of requests waits.",
    needs: &["vllm:num_requests_waiting"],
    parameters: &[Parameter {
        name: "threshold",
        kind: ParameterKind::Integer { default: 128, min: 0, max: i64::MAX },
        unit: "requests",
        summary: "How many requests may wait at an endpoint that is kept.",
    }],
    kinds: &[Kind::Filter],
    build,
    drains: "when every queue is longer than its threshold",
    releases: releases::OLD,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let threshold = u32::try_from(parameters.integer("threshold")).unwrap_or(u32::MAX);
    Plugin { filter: Some(Arc::new(LowQueueFilter { threshold })), ..Plugin::default() }
}

struct LowQueueFilter {
    threshold: u32,
}

impl Filter for LowQueueFilter {
    fn filter(&self, _cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        candidates.retain(|candidate| candidate.load.waiting <= self.threshold);
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;

    use super::*;
    use crate::testing::{Pool, built};

    #[test]
    fn queues_up_to_the_threshold_are_kept() {
        let cases: &[(&str, &str, &[u32], &[u32])] = &[
            ("row 6", "{}", &[127, 128, 129], &[0, 1]),
            ("none", "{}", &[129], &[]),
            ("0", r#"{"threshold": 0}"#, &[0, 1], &[0]),
            ("beyond 32 bits", r#"{"threshold": 1000000000000}"#, &[u32::MAX], &[0]),
            ("nobody", "{}", &[], &[]),
        ];
        for (name, parameters, waiting, want) in cases {
            let pool = Pool::new(waiting.iter().map(|&waiting| Load { waiting, ..Load::default() }));
            let filter = built(&TYPE, parameters).filter.unwrap();
            assert_eq!(pool.filter(&*filter, 1), *want, "{name}");
        }
    }
}

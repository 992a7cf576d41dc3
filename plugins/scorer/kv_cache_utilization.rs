//! `kv-cache-utilization-scorer`: prefers endpoints whose KV cache is empty.
//!
//! The score is absolute: the fraction of blocks that are free. With `anticipate`, prompt tokens that we dispatched
//! since the last scrape count as used where the size of the cache is known. With nothing in flight the scores are
//! those of Gateway API Inference Extension v1.0.1. It does not clamp: the caller does.

use std::sync::Arc;

use epp_framework::endpoint::Load;
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::snapshot::Candidates;

/// `kv-cache-utilization-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "kv-cache-utilization-scorer",
    aliases: &["kv-cache-scorer"],
    summary: "Prefers endpoints whose KV cache is empty.",
    about: "The score is the fraction of the KV cache that is free.",
    needs: &["vllm:kv_cache_usage_perc"],
    parameters: &[Parameter {
        name: "anticipate",
        kind: ParameterKind::Boolean { default: true },
        unit: "",
        summary: "Also count prompt tokens that were dispatched since the last scrape and are not computed yet.",
    }],
    kinds: &[Kind::Scorer],
    build,
    releases: releases::ALL,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let scorer = KvCacheUtilizationScorer { anticipate: parameters.boolean("anticipate") };
    Plugin { scorer: Some(Arc::new(scorer)), ..Plugin::default() }
}

struct KvCacheUtilizationScorer {
    anticipate: bool,
}

impl KvCacheUtilizationScorer {
    fn used(&self, load: &Load) -> f64 {
        if !self.anticipate || load.kv_capacity_tokens == 0 || load.since_scrape.prompt_tokens == 0 {
            return load.kv_used;
        }
        load.kv_used + load.since_scrape.prompt_tokens as f64 / load.kv_capacity_tokens as f64
    }
}

impl Scorer for KvCacheUtilizationScorer {
    fn score(&self, _cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            *score = 1.0 - self.used(candidate.load);
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Unseen;

    use super::*;
    use crate::testing::{Pool, assert_close};

    #[test]
    fn the_emptiest_cache_scores_best() {
        let cases: &[(&str, &[f64], &[f64])] = &[
            ("K1", &[0.8, 0.5, 0.0], &[0.2, 0.5, 1.0]),
            ("K2", &[0.6, 0.6], &[0.4, 0.4]),
            ("K3", &[1.0, 0.5], &[0.0, 0.5]),
            ("K4", &[0.0, 0.0], &[1.0, 1.0]),
            ("K5: raw, the caller clamps", &[1.2], &[-0.2]),
        ];
        for (name, used, want) in cases {
            let pool = Pool::new(used.iter().map(|&kv_used| Load { kv_used, ..Load::default() }));
            for anticipate in [true, false] {
                assert_close(&pool.score(&KvCacheUtilizationScorer { anticipate }), want, name);
            }
        }
    }

    #[test]
    fn dispatched_prompts_count_as_used_where_the_size_is_known() {
        let since_scrape = Unseen { prompt_tokens: 250, ..Unseen::default() };
        let load =
            |kv_capacity_tokens| Load { kv_used: 0.5, kv_capacity_tokens, since_scrape, ..Load::default() };
        let pool = Pool::new([load(1000), load(0)]);
        for (anticipate, want) in [(true, [0.25, 0.5]), (false, [0.5, 0.5])] {
            assert_close(&pool.score(&KvCacheUtilizationScorer { anticipate }), &want, "");
        }
    }
}

//! `least-kv-cache-filter`: keeps the endpoints with the emptiest KV caches, those within the lowest of n equal steps.
//!
//! From v0.5.1. The steps divide the range of the candidates' use by their number.

use std::sync::Arc;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::Candidates;
use rand::rngs::SmallRng;

/// `least-kv-cache-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "least-kv-cache-filter",
    summary: "Keeps the endpoints with the emptiest KV caches: least + (most - least) / number of endpoints, or less.",
    about: "Kept is where at most least + (most − least) / n of the KV cache is used, n being the number of candidates.",
    needs: &["vllm:kv_cache_usage_perc"],
    kinds: &[Kind::Filter],
    build,
    releases: releases::OLD,
    ..PluginType::PLAIN
};

fn build(_parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    Plugin { filter: Some(Arc::new(LeastKvCacheFilter)), ..Plugin::default() }
}

struct LeastKvCacheFilter;

impl Filter for LeastKvCacheFilter {
    fn filter(&self, _cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        let used = || candidates.iter().map(|candidate| candidate.load.kv_used);
        let (least, most) = (used().fold(f64::INFINITY, f64::min), used().fold(f64::NEG_INFINITY, f64::max));
        let limit = least + (most - least) / candidates.len() as f64;
        candidates.retain(|candidate| candidate.load.kv_used <= limit);
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;

    use super::*;
    use crate::testing::Pool;

    #[test]
    fn the_emptiest_caches_are_kept() {
        let cases: &[(&str, &[f64], &[u32])] = &[
            ("row 3", &[], &[]),
            ("row 4", &[0.0, 0.3, 1.0], &[0, 1]),
            ("equal", &[0.7, 0.7], &[0, 1]),
            ("one", &[1.0], &[0]),
            ("the last", &[0.9, 0.2, 0.1], &[1, 2]),
        ];
        for (name, used, want) in cases {
            let pool = Pool::new(used.iter().map(|&kv_used| Load { kv_used, ..Load::default() }));
            assert_eq!(pool.filter(&LeastKvCacheFilter, 1), *want, "{name}");
        }
    }
}

//! `least-queue-filter`: keeps the endpoints with the shortest queues, those within the lowest of n equal steps.
//!
//! From v0.5.1. The steps divide the range of the candidates' queues by their number, in whole requests.

use std::sync::Arc;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::Candidates;
use rand::rngs::SmallRng;

/// `least-queue-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "least-queue-filter",
    summary: "Keeps the endpoints with the shortest queues: least + (most - least) / number of endpoints, or less.",
    about: "Kept is where at most least + (most − least) / n requests wait, n being the number of candidates, in whole \
            numbers.",
    needs: &["vllm:num_requests_waiting"],
    kinds: &[Kind::Filter],
    build,
    releases: releases::OLD,
    ..PluginType::PLAIN
};

fn build(_parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    Plugin { filter: Some(Arc::new(LeastQueueFilter)), ..Plugin::default() }
}

struct LeastQueueFilter;

impl Filter for LeastQueueFilter {
    fn filter(&self, _cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        let waiting = || candidates.iter().map(|candidate| candidate.load.waiting);
        let (Some(least), Some(most)) = (waiting().min(), waiting().max()) else { return };
        // More candidates than 2^32 do not fit into memory.
        let n = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
        let limit = least + (most - least) / n;
        candidates.retain(|candidate| candidate.load.waiting <= limit);
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;

    use super::*;
    use crate::testing::Pool;

    #[test]
    fn the_shortest_queues_are_kept() {
        let cases: &[(&str, &[u32], &[u32])] = &[
            ("row 1", &[], &[]),
            ("row 2", &[0, 3, 10], &[0, 1]),
            ("row 5", &[5, 5], &[0, 1]),
            ("whole requests", &[2, 3, 3], &[0]),
            ("one", &[7], &[0]),
            ("the largest", &[u32::MAX, u32::MAX - 1], &[1]),
        ];
        for (name, waiting, want) in cases {
            let pool = Pool::new(waiting.iter().map(|&waiting| Load { waiting, ..Load::default() }));
            assert_eq!(pool.filter(&LeastQueueFilter, 1), *want, "{name}");
        }
    }
}

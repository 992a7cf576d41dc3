//! `running-requests-size-scorer`: prefers the endpoint with the fewest requests running, relative to the others.
//!
//! With `anticipate`, what we dispatched since the last scrape counts as running, which is what the next scrape will
//! show unless the server queues it. With nothing in flight the scores are those of v1.5.

use std::sync::Arc;

use epp_framework::endpoint::Load;
use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::snapshot::Candidates;

use super::range::{ANTICIPATE, least_is_best};

/// `running-requests-size-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "running-requests-size-scorer",
    summary: "Prefers endpoints with few running requests, relative to the other candidates.",
    about: "The score is (most - own) / (most - least) over the requests that the candidates run: 1 for the fewest, 0 \
            for the most, and 1 for all where all run as many. One request more or less decides between two endpoints, \
            however busy both are. It suits servers that run whatever they get; where requests queue, \
            `queue-scorer` sees more.",
    needs: &["vllm:num_requests_running"],
    parameters: &[ANTICIPATE],
    kinds: &[Kind::Scorer],
    build,
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let scorer = RunningRequestsSizeScorer { anticipate: parameters.boolean(ANTICIPATE.name) };
    Plugin { scorer: Some(Arc::new(scorer)), ..Plugin::default() }
}

struct RunningRequestsSizeScorer {
    anticipate: bool,
}

impl RunningRequestsSizeScorer {
    fn running(&self, load: &Load) -> u32 {
        let anticipated = if self.anticipate { load.since_scrape.requests } else { 0 };
        load.running.saturating_add(anticipated)
    }
}

impl Scorer for RunningRequestsSizeScorer {
    fn score(&self, _cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        least_is_best(candidates, scores, |load| self.running(load));
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Unseen;

    use super::*;
    use crate::testing::{Pool, assert_close};

    /// Name, whether it anticipates, requests that run and were dispatched since, scores.
    type Case<'a> = (&'a str, bool, &'a [(u32, u32)], &'a [f64]);

    #[test]
    fn the_fewest_running_score_best() {
        let cases: &[Case<'_>] = &[
            ("R1: relative", true, &[(10, 0), (5, 0), (0, 0)], &[0.0, 0.5, 1.0]),
            ("R1: equal", true, &[(3, 0), (3, 0)], &[1.0, 1.0]),
            ("one", true, &[(9, 0)], &[1.0]),
            ("nobody", true, &[], &[]),
            ("dispatched ones will run", true, &[(2, 2), (4, 0), (0, 2)], &[0.0, 0.0, 1.0]),
            ("not anticipated", false, &[(2, 2), (4, 0), (0, 2)], &[0.5, 0.0, 1.0]),
            ("no overflow", true, &[(u32::MAX, 5), (0, 0)], &[0.0, 1.0]),
        ];
        for &(name, anticipate, loads, want) in cases {
            let load = |&(running, requests): &(u32, u32)| {
                let since_scrape = Unseen { requests, ..Unseen::default() };
                Load { running, since_scrape, ..Load::default() }
            };
            let pool = Pool::new(loads.iter().map(load));
            assert_close(&pool.score(&RunningRequestsSizeScorer { anticipate }), want, name);
        }
    }
}

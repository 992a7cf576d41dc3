//! `queue-scorer`: prefers the endpoint with the fewest requests waiting, relative to the other candidates.
//!
//! Between two scrapes the queue length is old news. With `anticipate`, what we dispatched since then counts too, but
//! lightly: the next requests usually start at once while seats are free, so one of them must not outweigh a cached
//! prefix, whereas a burst of eight more than elsewhere does. Among equals the least loaded wins strictly, so bursts
//! spread evenly. With nothing in flight the scores are those of Gateway API Inference Extension v1.0.1.

use std::sync::Arc;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::snapshot::Candidates;

use super::range::{ANTICIPATE, Range, least_is_best};

/// Dispatched requests more than elsewhere that outweigh everything the queue says.
const BURST: u32 = 8;

/// `queue-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "queue-scorer",
    summary: "Prefers endpoints with few waiting requests, relative to the other candidates.",
    about: "The shortest queue among the candidates scores 1, the longest 0. Of requests that `anticipate` counts, \
            eight outweigh everything else.",
    needs: &["vllm:num_requests_waiting"],
    parameters: &[ANTICIPATE],
    kinds: &[Kind::Scorer],
    build,
    releases: releases::ALL,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let scorer = QueueScorer { anticipate: parameters.boolean(ANTICIPATE.name) };
    Plugin { scorer: Some(Arc::new(scorer)), ..Plugin::default() }
}

struct QueueScorer {
    anticipate: bool,
}

impl Scorer for QueueScorer {
    fn score(&self, _cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        least_is_best(candidates, scores, |load| load.waiting);
        if !self.anticipate {
            return;
        }
        let dispatched = Range::of(candidates, |load| load.since_scrape.requests);
        if dispatched.width() > 0 {
            let burst = f64::from(dispatched.width().max(BURST));
            for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
                let more = candidate.load.since_scrape.requests - dispatched.min;
                if more > 0 {
                    *score = (*score - f64::from(more) / burst).max(0.0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::{Load, Unseen};

    use super::*;
    use crate::testing::{Pool, assert_close};

    fn load((waiting, dispatched): (u32, u32)) -> Load {
        let since_scrape = Unseen { requests: dispatched, ..Unseen::default() };
        Load { waiting, since_scrape, ..Load::default() }
    }

    #[test]
    fn the_shortest_queue_scores_best() {
        let cases: &[(&str, &[u32], &[f64])] = &[
            ("Q1, row 42", &[10, 5, 0], &[0.0, 0.5, 1.0]),
            ("Q2", &[5, 5], &[1.0, 1.0]),
            ("Q3", &[0, 0], &[1.0, 1.0]),
            ("Q4", &[7], &[1.0]),
            ("Q5", &[0, 1], &[1.0, 0.0]),
            ("Q6", &[0, 3, 4], &[1.0, 0.25, 0.0]),
            ("Q7", &[], &[]),
        ];
        for (name, waiting, want) in cases {
            let pool = Pool::new(waiting.iter().map(|&waiting| load((waiting, 0))));
            for anticipate in [true, false] {
                assert_close(&pool.score(&QueueScorer { anticipate }), want, name);
            }
        }
    }

    /// Name, waiting and dispatched requests of each endpoint, scores.
    type Case<'a> = (&'a str, &'a [(u32, u32)], &'a [f64]);

    #[test]
    fn requests_that_no_scrape_shows_yet_weigh_an_eighth() {
        let cases: &[Case<'_>] = &[
            ("one more", &[(0, 1), (0, 0)], &[0.875, 1.0]),
            ("all alike", &[(0, 5), (0, 5)], &[1.0, 1.0]),
            ("a burst", &[(0, 10), (0, 2), (0, 4)], &[0.0, 1.0, 0.75]),
            ("more than a burst", &[(0, 20), (0, 0), (0, 10)], &[0.0, 1.0, 0.5]),
            ("never below 0", &[(4, 8), (0, 0)], &[0.0, 1.0]),
            ("added to the queue", &[(1, 0), (0, 2), (2, 0)], &[0.5, 0.75, 0.0]),
        ];
        for (name, loads, want) in cases {
            let pool = Pool::new(loads.iter().map(|&given| load(given)));
            assert_close(&pool.score(&QueueScorer { anticipate: true }), want, name);
        }
        let pool = Pool::new([load((0, 9)), load((0, 0))]);
        assert_close(&pool.score(&QueueScorer { anticipate: false }), &[1.0, 1.0], "not anticipated");
    }
}

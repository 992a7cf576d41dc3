//! `prefix-cache-affinity-filter`: keeps the endpoints that hold most of the prompt, unless they are too busy.
//!
//! Never empties the candidates. The two releases that have it differ in defaults; here are those of llm-d.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Data, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::slot::RequestSlot;
use epp_framework::snapshot::{Candidate, Candidates};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::latency::LatencyPredictions;
use crate::prefix::PrefixMatches;
use crate::sources::{LATENCY_PREDICTIONS, PREFIX_MATCHES_PRODUCER, latency_predictions, prefix_matches};

const THRESHOLD: &str = "affinityThreshold";
const EXPLORATION: &str = "explorationProbability";
const MAX_PENALTY: &str = "maxTTFTPenaltyMs";
const SOURCE: &str = "ttftSource";
const BY_THROUGHPUT: &str = "prefillThroughput";
const BY_PREDICTOR: &str = "latencyPredictor";
const THROUGHPUT: &str = "peakPrefillThroughput";

/// `prefix-cache-affinity-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "prefix-cache-affinity-filter",
    summary: "Keeps the endpoints that hold most of the prompt, unless the others would answer much sooner.",
    about: "An endpoint is kept if it holds `affinityThreshold` of the prompt's blocks or more. All are kept if nobody \
            does, with probability `explorationProbability`, or if the soonest of those that would be kept begins its \
            answer more than `maxTTFTPenaltyMs` later than the soonest of the others. How soon that is, is estimated \
            from the prompt tokens in flight at `peakPrefillThroughput`, or predicted; where one side has no \
            prediction it is estimated for both. Scorers then choose among those that are kept, so that affinity does not \
            have to be weighed against load.",
    parameters: &[
        Parameter {
            name: THRESHOLD,
            kind: ParameterKind::Float { default: 0.8, min: 0.0, max: 1.0 },
            unit: "",
            summary: "Fraction of the prompt's blocks that an endpoint must hold to be kept.",
        },
        Parameter {
            name: EXPLORATION,
            kind: ParameterKind::Float { default: 0.0, min: 0.0, max: 1.0 },
            unit: "",
            summary: "Probability that all are kept, so that a prompt comes to other caches as well.",
        },
        Parameter {
            name: MAX_PENALTY,
            kind: ParameterKind::Float { default: 18_000.0, min: 0.0, max: f64::MAX },
            unit: "ms",
            summary: "How much later the first token may come for the sake of the cache; 0 is no limit.",
        },
        Parameter {
            name: SOURCE,
            kind: ParameterKind::Word { of: &[BY_THROUGHPUT, BY_PREDICTOR], default: Some(BY_THROUGHPUT) },
            unit: "",
            summary: "How the time to the first token is told.",
        },
        Parameter {
            name: THROUGHPUT,
            kind: ParameterKind::Float { default: 15_928.0, min: 1e-3, max: f64::MAX },
            unit: "tokens per second",
            summary: "Prompt tokens that a server computes per second at best.",
        },
        PREFIX_MATCHES_PRODUCER,
        Parameter {
            name: LATENCY_PREDICTIONS,
            kind: ParameterKind::Reference { to: Kind::Produces(Data::LatencyPrediction), default: None },
            unit: "",
            summary: "Who predicts latencies, if not `predicted-latency-producer`.",
        },
    ],
    kinds: &[Kind::Filter],
    build,
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let predicts = parameters.text(SOURCE) == BY_PREDICTOR;
    let filter = PrefixCacheAffinityFilter {
        threshold: parameters.float(THRESHOLD),
        exploration: parameters.float(EXPLORATION),
        max_penalty_ms: parameters.float(MAX_PENALTY),
        tokens_per_ms: parameters.float(THROUGHPUT) / 1000.0,
        predictions: predicts.then(|| latency_predictions(parameters, cx)),
        matches: prefix_matches(parameters, cx),
    };
    Plugin { filter: Some(Arc::new(filter)), ..Plugin::default() }
}

struct PrefixCacheAffinityFilter {
    threshold: f64,
    exploration: f64,
    /// 0 is no limit.
    max_penalty_ms: f64,
    tokens_per_ms: f64,
    /// Who knows better than the throughput.
    predictions: Option<RequestSlot<LatencyPredictions>>,
    matches: RequestSlot<PrefixMatches>,
}

impl PrefixCacheAffinityFilter {
    /// Whether those that `holds` are too busy.
    fn too_late(
        &self,
        cycle: &Cycle<'_>,
        candidates: &Candidates<'_>,
        holds: impl Fn(&Candidate<'_>) -> bool,
    ) -> bool {
        let predicted = self.predictions.and_then(|slot| slot.get(cycle.request));
        let predicted =
            |candidate: &Candidate<'_>| predicted?.of(candidate.id).map(|prediction| prediction.ttft_ms);
        let estimated = |candidate: &Candidate<'_>| {
            Some(candidate.load.in_flight.prompt_tokens as f64 / self.tokens_per_ms)
        };
        let penalty_ms = |ttft_ms: &dyn Fn(&Candidate<'_>) -> Option<f64>| {
            let soonest = |holding| {
                let group = candidates.iter().filter(|candidate| holds(candidate) == holding);
                group.filter_map(|candidate| ttft_ms(&candidate)).min_by(f64::total_cmp)
            };
            Some(soonest(true)? - soonest(false)?)
        };
        // The two are never compared with one another.
        let penalty_ms = penalty_ms(&predicted).or_else(|| penalty_ms(&estimated));
        self.max_penalty_ms > 0.0 && penalty_ms.is_some_and(|ms| ms > self.max_penalty_ms)
    }
}

impl Filter for PrefixCacheAffinityFilter {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, rng: &mut SmallRng) {
        let Some(found) = self.matches.get(cycle.request) else { return };
        let holds = |candidate: &Candidate<'_>| found.ratio(candidate.id) >= self.threshold;
        if self.exploration > 0.0 && rng.random::<f64>() < self.exploration {
            return;
        }
        if candidates.iter().any(|candidate| holds(&candidate)) && !self.too_late(cycle, candidates, holds) {
            candidates.retain(|candidate| holds(&candidate));
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::{Cost, EndpointId, Load};
    use epp_framework::slot::SlotNames;

    use super::*;
    use crate::latency::Prediction;
    use crate::testing::{Pool, built_in, matches};

    fn load(prompt_tokens: u64) -> Load {
        Load { in_flight: Cost { prompt_tokens, ..Cost::default() }, ..Load::default() }
    }

    #[test]
    fn endpoints_that_hold_most_of_the_prompt_are_kept_while_they_are_not_too_busy() {
        // A token per millisecond.
        let given = |more: &str| format!(r#"{{"peakPrefillThroughput": 1000{more}}}"#);
        let penalty = |ms: u32| given(&format!(r#", "maxTTFTPenaltyMs": {ms}"#));
        for (name, parameters, held, in_flight, want) in [
            ("those at the threshold", given(""), [8, 7, 10], [0, 0, 0], &[0, 2][..]),
            ("nobody holds enough", given(""), [7, 0, 0], [0, 0, 0], &[0, 1, 2]),
            ("all hold enough", given(""), [8, 9, 10], [9, 0, 0], &[0, 1, 2]),
            ("not late enough", penalty(100), [10, 0, 0], [150, 50, 70], &[0]),
            ("too late", penalty(100), [10, 0, 0], [151, 50, 70], &[0, 1, 2]),
            ("one is in time", penalty(100), [10, 10, 0], [1000, 100, 0], &[0, 1]),
            ("no limit", penalty(0), [10, 0, 0], [u64::MAX, 0, 0], &[0]),
            ("the default limit", given(""), [10, 0, 0], [18_001, 0, 0], &[0, 1, 2]),
            ("another threshold", given(r#", "affinityThreshold": 0.1"#), [1, 0, 0], [0, 0, 0], &[0]),
        ] {
            let slots = SlotNames::default();
            let mut pool = Pool::new(in_flight.into_iter().map(load));
            let filter = built_in(&slots, &TYPE, &parameters).filter.unwrap();
            assert_eq!(pool.filter(&*filter, 1), [0, 1, 2], "{name}: nothing is known");
            let slot = slots.request_slot(Data::PrefixMatches.default_producer());
            slot.put(&mut pool.request, matches(16, 10, &held));
            assert_eq!(pool.filter(&*filter, 1), want, "{name}");
        }
    }

    #[test]
    fn predictions_tell_who_is_too_late() {
        // Predictions in ms, and prompt tokens in flight at a token per millisecond.
        for (name, ttft, in_flight, want) in [
            ("in time", [Some(50.0), Some(1.0)], [0, 0], &[0][..]),
            ("in time, in spite of its load", [Some(50.0), Some(1.0)], [151, 0], &[0]),
            ("too late", [Some(150.0), Some(1.0)], [0, 0], &[0, 1]),
            ("unknown here", [None, Some(1.0)], [100, 0], &[0]),
            ("unknown here, and too late", [None, Some(1.0)], [151, 50], &[0, 1]),
            ("unknown there", [Some(150.0), None], [100, 0], &[0]),
            ("unknown there, and too late", [Some(50.0), None], [151, 50], &[0, 1]),
            ("nothing is known", [None, None], [150, 50], &[0]),
            ("nothing is known, and too late", [None, None], [151, 50], &[0, 1]),
        ] {
            let slots = SlotNames::default();
            let mut pool = Pool::new(in_flight.map(load));
            let parameters = r#"{"ttftSource": "latencyPredictor", "maxTTFTPenaltyMs": 100, "peakPrefillThroughput": 1000}"#;
            let filter = built_in(&slots, &TYPE, parameters).filter.unwrap();
            let slot = slots.request_slot(Data::PrefixMatches.default_producer());
            slot.put(&mut pool.request, matches(16, 10, &[10, 0]));
            let late: &[u32] = if in_flight[0] > in_flight[1] + 100 { &[0, 1] } else { &[0] };
            assert_eq!(pool.filter(&*filter, 1), late, "{name}: nobody predicts");
            let prediction = |(slot, ttft): (u32, Option<f64>)| {
                let prediction = Prediction {
                    ttft_ms: ttft.unwrap_or_default(),
                    valid: ttft.is_some(),
                    ..Prediction::default()
                };
                (EndpointId { slot, generation: 0 }, prediction)
            };
            let predictions: LatencyPredictions = (0..).zip(ttft).map(prediction).collect();
            let slot = slots.request_slot(Data::LatencyPrediction.default_producer());
            slot.put(&mut pool.request, predictions);
            assert_eq!(pool.filter(&*filter, 1), want, "{name}");
        }
    }

    #[test]
    fn now_and_then_all_are_kept() {
        let slots = SlotNames::default();
        let mut pool = Pool::new([Load::default(); 2]);
        let filter = built_in(&slots, &TYPE, r#"{"explorationProbability": 0.25}"#).filter.unwrap();
        let slot = slots.request_slot(Data::PrefixMatches.default_producer());
        slot.put(&mut pool.request, matches(16, 10, &[10, 0]));
        let n_all = (0..1000).filter(|&seed| pool.filter(&*filter, seed).len() == 2).count();
        assert!((200..300).contains(&n_all), "{n_all} of 1000");
    }
}

//! `latency-scorer`: prefers endpoints that would answer within the client's objectives, by predicted latencies.
//!
//! Where nothing is predicted it rates cache, queue and prefix instead: [`Composite`], which is also what is left of
//! `predicted-latency-scorer`.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::slot::RequestSlot;
use epp_framework::snapshot::{Candidate, Candidates};

use crate::latency::{LatencyPredictions, Prediction};
use crate::prefix::PrefixMatches;
use crate::sources::{
    LATENCY_PREDICTIONS_PRODUCER, PREFIX_MATCHES_PRODUCER, latency_predictions, prefix_matches,
};

const TTFT_WEIGHT: &str = "ttftWeight";
const TPOT_WEIGHT: &str = "tpotWeight";
const STRATEGY: &str = "headroomSelectionStrategy";
const LEAST: &str = "least";
const MOST: &str = "most";
const KV_WEIGHT: &str = "compositeKVWeight";
const QUEUE_WEIGHT: &str = "compositeQueueWeight";
const PREFIX_WEIGHT: &str = "compositePrefixWeight";

/// `latency-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "latency-scorer",
    summary: "Prefers endpoints that would answer within the client's latency objectives.",
    about: "Headroom is what the client allows less what is predicted, for the first token and for each further one. If \
            some endpoints have room in both, only they score: by default the one with the least room best, which keeps \
            others free, with `most` the one with the most. If none has, idle endpoints score, or else those that miss \
            the time per token only, or the first token only, or both, in this order, and the least miss is the best. \
            Both headrooms are brought to 0 to 1 over those that score, weighed and cut to hundredths: the best scores \
            1, the worst 0.01, the others 0. Where nothing is predicted the score is the weighted mean of the free \
            fraction of the KV cache, (longest queue - own) / longest queue, and the fraction of the prompt that is \
            cached.",
    needs: &["vllm:kv_cache_usage_perc", "vllm:num_requests_waiting", "latency predictions"],
    parameters: &[
        weight(TTFT_WEIGHT, 0.8, "Weight of the time to the first token."),
        weight(TPOT_WEIGHT, 0.2, "Weight of the time per further token."),
        Parameter {
            name: STRATEGY,
            kind: ParameterKind::Word { of: &[LEAST, MOST], default: Some(LEAST) },
            unit: "",
            summary: "Whether the least or the most headroom scores best, among those that have some.",
        },
        COMPOSITE_KV,
        COMPOSITE_QUEUE,
        COMPOSITE_PREFIX,
        LATENCY_PREDICTIONS_PRODUCER,
        PREFIX_MATCHES_PRODUCER,
    ],
    kinds: &[Kind::Scorer],
    build,
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

/// One of [`Composite`].
pub(super) const COMPOSITE_KV: Parameter =
    weight(KV_WEIGHT, 1.0, "Weight of the free KV cache, where nothing is predicted.");

/// One of [`Composite`].
pub(super) const COMPOSITE_QUEUE: Parameter =
    weight(QUEUE_WEIGHT, 1.0, "Weight of the queue, where nothing is predicted.");

/// One of [`Composite`].
pub(super) const COMPOSITE_PREFIX: Parameter =
    weight(PREFIX_WEIGHT, 1.0, "Weight of the cached prefix, where nothing is predicted.");

const fn weight(name: &'static str, default: f64, summary: &'static str) -> Parameter {
    Parameter { name, kind: ParameterKind::Float { default, min: 0.0, max: 1e12 }, unit: "", summary }
}

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let weights = [parameters.float(TTFT_WEIGHT), parameters.float(TPOT_WEIGHT)];
    let sum: f64 = weights.iter().sum();
    let scorer = LatencyScorer {
        weights: if sum > 0.0 { weights.map(|weight| weight / sum) } else { [1.0, 0.0] },
        most: parameters.text(STRATEGY) == MOST,
        predictions: latency_predictions(parameters, cx),
        composite: Composite::new(parameters, cx),
    };
    Plugin { scorer: Some(Arc::new(scorer)), ..Plugin::default() }
}

struct LatencyScorer {
    /// Of the first token and of further ones; their sum is 1.
    weights: [f64; 2],
    /// Whether the most headroom scores best.
    most: bool,
    predictions: RequestSlot<LatencyPredictions>,
    composite: Composite,
}

/// Groups of endpoints, the best first; only the best that is not empty scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Positive,
    Idle,
    MissesTpot,
    MissesTtft,
    MissesBoth,
}

impl Group {
    fn of(prediction: &Prediction) -> Self {
        match (prediction.ttft_headroom_ms < 0.0, prediction.tpot_headroom_ms < 0.0) {
            (false, false) => Self::Positive,
            _ if prediction.n_dispatched == 0 => Self::Idle,
            (false, true) => Self::MissesTpot,
            (true, false) => Self::MissesTtft,
            (true, true) => Self::MissesBoth,
        }
    }
}

/// Least and greatest of one headroom over a group, without its sign.
struct Spread {
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let none = Self { min: f64::INFINITY, max: 0.0 };
        values.fold(none, |spread, value| Self { min: spread.min.min(value), max: spread.max.max(value) })
    }

    /// Where `value` lies, 0–1; `None` if all are equal.
    fn place(&self, value: f64) -> Option<f64> {
        (self.max > self.min).then(|| (value - self.min) / (self.max - self.min))
    }
}

impl LatencyScorer {
    /// Headrooms without their signs.
    fn headrooms(prediction: &Prediction) -> [f64; 2] {
        [prediction.ttft_headroom_ms.abs(), prediction.tpot_headroom_ms.abs()]
    }

    fn rate(&self, prediction: &Prediction, spreads: &[Spread; 2], most: bool) -> f64 {
        let [ttft, tpot] = Self::headrooms(prediction);
        let combined = match (spreads[0].place(ttft), spreads[1].place(tpot)) {
            (Some(ttft), Some(tpot)) => self.weights[0] * ttft + self.weights[1] * tpot,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => 0.5,
        };
        let rated = if most { combined } else { 1.0 - combined };
        ((rated * 100.0).trunc() + 1.0) / 100.0
    }
}

impl Scorer for LatencyScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let found = self.predictions.get(cycle.request);
        let prediction = |candidate: Candidate<'_>| found.and_then(|found| found.of(candidate.id));
        let Some(best) = candidates.iter().filter_map(prediction).map(Group::of).min() else {
            self.composite.score(cycle, candidates, scores);
            return;
        };
        let group = || candidates.iter().filter_map(prediction).filter(|found| Group::of(found) == best);
        let spreads = [0, 1].map(|which| Spread::of(group().map(|found| Self::headrooms(found)[which])));
        let most = self.most && best == Group::Positive;
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            let found = prediction(candidate).filter(|found| Group::of(found) == best);
            *score = found.map_or(0.0, |found| self.rate(found, &spreads, most));
        }
    }
}

/// Rates free cache, queue and cached prefix, where nothing is predicted.
pub(super) struct Composite {
    /// Of cache, queue and prefix; their sum is 1.
    weights: [f64; 3],
    matches: RequestSlot<PrefixMatches>,
}

impl Composite {
    /// Builds one from the three weights and [`PREFIX_MATCHES_PRODUCER`].
    pub(super) fn new(parameters: &Parameters, cx: &BuildContext<'_>) -> Self {
        let weights = [KV_WEIGHT, QUEUE_WEIGHT, PREFIX_WEIGHT].map(|name| parameters.float(name));
        let sum: f64 = weights.iter().sum();
        let weights = if sum > 0.0 { weights.map(|weight| weight / sum) } else { [1.0, 0.0, 0.0] };
        Self { weights, matches: prefix_matches(parameters, cx) }
    }
}

impl Scorer for Composite {
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let found = self.matches.get(cycle.request);
        let longest = candidates.iter().map(|candidate| candidate.load.waiting).max().unwrap_or(0);
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            let queue = match longest {
                0 => 1.0,
                longest => f64::from(longest - candidate.load.waiting) / f64::from(longest),
            };
            let prefix = found.map_or(0.0, |found| found.ratio(candidate.id));
            let parts = [1.0 - candidate.load.kv_used, queue, prefix];
            *score = parts.iter().zip(&self.weights).map(|(part, weight)| part * weight).sum();
        }
    }
}

#[cfg(test)]
mod tests;

//! `slo-headroom-tier-filter`: keeps the endpoints that would meet the client's latency objectives, or the others.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::slot::RequestSlot;
use epp_framework::snapshot::Candidates;
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::latency::{LatencyPredictions, Prediction};
use crate::sources::{LATENCY_PREDICTIONS_PRODUCER, latency_predictions};

const EPSILON: &str = "epsilonExploreNeg";

/// `slo-headroom-tier-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "slo-headroom-tier-filter",
    summary: "Keeps the endpoints that would answer within the client's latency objectives, if there are any.",
    about: "Endpoints are in the upper tier if both the first token and each further one are predicted to come in time, \
            and otherwise, or without a prediction, in the lower one. If both tiers have endpoints the upper one is \
            kept, but the lower one with probability `epsilonExploreNeg`, so that predictions are tried there as well. \
            A tier that is alone is kept, so nobody is removed where nothing is predicted.",
    needs: &["latency predictions"],
    parameters: &[
        Parameter {
            name: EPSILON,
            kind: ParameterKind::Float { default: 0.01, min: 0.0, max: 1.0 },
            unit: "",
            summary: "Probability that the lower tier is kept although there is an upper one.",
        },
        LATENCY_PREDICTIONS_PRODUCER,
    ],
    kinds: &[Kind::Filter],
    build,
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let predictions = latency_predictions(parameters, cx);
    let filter = SloHeadroomTierFilter { epsilon: parameters.float(EPSILON), predictions };
    Plugin { filter: Some(Arc::new(filter)), ..Plugin::default() }
}

struct SloHeadroomTierFilter {
    epsilon: f64,
    predictions: RequestSlot<LatencyPredictions>,
}

impl Filter for SloHeadroomTierFilter {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, rng: &mut SmallRng) {
        let Some(found) = self.predictions.get(cycle.request) else { return };
        candidates.keep_group(
            |candidate| Some(found.of(candidate.id).is_some_and(Prediction::meets_objectives)),
            |n_upper, n_lower| match (n_upper, n_lower) {
                (0, _) => false,
                (_, 0) => true,
                _ => rng.random::<f64>() >= self.epsilon,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;
    use epp_framework::plugin::Data;
    use epp_framework::slot::SlotNames;

    use super::*;
    use crate::testing::{Pool, Predicted, built_in, predictions};

    fn left(parameters: &str, predicted: Option<&[Predicted]>, seed: u64) -> Vec<u32> {
        let slots = SlotNames::default();
        let mut pool = Pool::new([Load::default(); 3]);
        if let Some(predicted) = predicted {
            let slot = slots.request_slot(Data::LatencyPrediction.default_producer());
            slot.put(&mut pool.request, predictions(predicted));
        }
        pool.filter(&*built_in(&slots, &TYPE, parameters).filter.unwrap(), seed)
    }

    #[test]
    fn one_tier_is_kept() {
        let (good, bad) = (Some((0.0, 0.0, 1)), Some((1.0, -0.1, 0)));
        for (name, predicted, want) in [
            ("no predictions", None, &[0, 1, 2][..]),
            ("none that is valid", Some(&[None, None, None]), &[0, 1, 2]),
            ("both tiers", Some(&[good, bad, good]), &[0, 2]),
            ("the upper one alone", Some(&[good, good, good]), &[0, 1, 2]),
            ("the lower one alone", Some(&[bad, None, bad]), &[0, 1, 2]),
            ("unknown ones are in the lower", Some(&[None, good, bad]), &[1]),
        ] {
            let predicted = predicted.map(|predicted| &predicted[..]);
            assert_eq!(left(r#"{"epsilonExploreNeg": 0}"#, predicted, 1), want, "{name}");
        }
        let both = Some(&[good, bad, good][..]);
        assert_eq!(left(r#"{"epsilonExploreNeg": 1}"#, both, 1), [1]);
        let n_lower = (0..2000).filter(|&seed| left("{}", both, seed) == [1]).count();
        assert!((5..50).contains(&n_lower), "{n_lower} of 2000, expected about 20");
    }
}

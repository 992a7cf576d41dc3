//! `latency-slo-admitter`: denies sheddable requests that no endpoint would answer in time.

use std::sync::Arc;

use epp_framework::lifecycle::{Admitter, Denied};
use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::Cycle;
use epp_framework::slot::RequestSlot;
use epp_framework::snapshot::{Candidate, Candidates};
use rand::rngs::SmallRng;

use crate::latency::{LatencyPredictions, Prediction};
use crate::sources::{LATENCY_PREDICTIONS_PRODUCER, latency_predictions};

/// Below this share of its KV cache an endpoint counts as idle.
const IDLE_KV_USED: f64 = 0.02;

/// `latency-slo-admitter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "latency-slo-admitter",
    summary: "Denies sheddable requests that no endpoint would answer within the client's latency objectives.",
    about: "Sheddable are requests with a negative priority; others are always admitted. They are denied unless an \
            endpoint is predicted to meet both objectives, has no request of ours, or uses less than 2 % of its KV \
            cache. Where nothing is predicted nobody is denied.",
    needs: &["latency predictions", "vllm:kv_cache_usage_perc"],
    parameters: &[LATENCY_PREDICTIONS_PRODUCER],
    kinds: &[Kind::Admitter],
    build,
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let admitter = LatencySloAdmitter { predictions: latency_predictions(parameters, cx) };
    Plugin { admitter: Some(Arc::new(admitter)), ..Plugin::default() }
}

struct LatencySloAdmitter {
    predictions: RequestSlot<LatencyPredictions>,
}

impl Admitter for LatencySloAdmitter {
    fn admit(
        &self,
        cycle: &Cycle<'_>,
        candidates: &Candidates<'_>,
        _rng: &mut SmallRng,
    ) -> Result<(), Denied> {
        let Some(found) = self.predictions.get(cycle.request) else { return Ok(()) };
        let prediction = |candidate: &Candidate<'_>| found.of(candidate.id);
        if cycle.request.priority >= 0 || !candidates.iter().any(|candidate| prediction(&candidate).is_some())
        {
            return Ok(());
        }
        let takes_it = |candidate: Candidate<'_>| {
            prediction(&candidate).is_some_and(Prediction::meets_objectives)
                || candidate.load.in_flight.requests == 0
                || candidate.load.kv_used < IDLE_KV_USED
        };
        let denied = Denied { message: "no endpoint would answer within the latency objectives" };
        if candidates.iter().any(takes_it) { Ok(()) } else { Err(denied) }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::{Cost, Load};
    use epp_framework::plugin::Data;
    use epp_framework::slot::SlotNames;
    use rand::SeedableRng;

    use super::*;
    use crate::testing::{Pool, built_in, predictions};

    #[test]
    fn sheddable_requests_that_nobody_answers_in_time_are_denied() {
        let (good, bad) = (Some((0.0, 0.0, 1)), Some((10.0, -1.0, 1)));
        let busy = (5, 0.5);
        for (name, priority, predicted, loads, admitted) in [
            ("nobody in time", -1, [bad, bad], [busy, busy], false),
            ("not sheddable", 0, [bad, bad], [busy, busy], true),
            ("one in time", -1, [bad, good], [busy, busy], true),
            ("one without requests", -1, [bad, bad], [busy, (0, 0.5)], true),
            ("one with an empty cache", -1, [bad, bad], [busy, (5, 0.019)], true),
            ("2 % is not empty", -1, [bad, bad], [busy, (5, 0.02)], false),
            ("nothing is predicted", -1, [None, None], [busy, busy], true),
            ("one is not predicted", -1, [bad, None], [busy, busy], false),
        ] {
            let slots = SlotNames::default();
            let load = |(requests, kv_used): (u32, f64)| Load {
                in_flight: Cost { requests, ..Cost::default() },
                kv_used,
                ..Load::default()
            };
            let mut pool = Pool::new(loads.map(load));
            pool.request.priority = priority;
            let admitter = built_in(&slots, &TYPE, "{}").admitter.unwrap();
            let mut rng = SmallRng::seed_from_u64(1);
            assert!(pool.admit(&*admitter, &mut rng).is_ok(), "{name}: without a producer");
            let slot = slots.request_slot(Data::LatencyPrediction.default_producer());
            slot.put(&mut pool.request, predictions(&predicted));
            assert_eq!(pool.admit(&*admitter, &mut rng).is_ok(), admitted, "{name}");
            assert!(
                pool.only(&[]).admit(&*admitter, &mut rng).is_ok(),
                "{name}: an empty pool is told of elsewhere"
            );
        }
    }
}

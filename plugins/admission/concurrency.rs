//! `concurrency-detector`: how full the pool is, by what was dispatched and is not finished; a filter, too.

use std::sync::Arc;

use epp_framework::endpoint::Load;
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::saturation::SaturationDetector;
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::Candidates;
use epp_framework::time::Timestamp;
use rand::rngs::SmallRng;

use super::mean;
use crate::sources::IN_FLIGHT_LOAD_PRODUCER;

/// `concurrency-detector`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "concurrency-detector",
    summary: "Says how full the pool is, by requests or tokens that were dispatched and are not finished.",
    about: "The pool is as full as the sum over its endpoints of what is in flight, divided by the sum of their limits; \
            in mode `hybrid`, as full as the mean over its endpoints of requests or tokens, whichever is nearer to its \
            limit. Without endpoints it is full (1). In a profile it is a filter that keeps endpoints strictly below \
            the limit times (1 + headroom), and may leave nobody.",
    releases: releases::SINCE_V1_5,
    parameters: PARAMETERS,
    kinds: &[Kind::SaturationDetector, Kind::Filter],
    build,
    drains: "when every endpoint is at its limit",
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "maxConcurrency",
        kind: ParameterKind::Integer { default: 100, min: 1, max: u32::MAX as i64 },
        unit: "requests",
        summary: "Limit of an endpoint in requests.",
    },
    Parameter {
        name: "maxTokenConcurrency",
        kind: ParameterKind::Integer { default: 1_000_000, min: 1, max: i64::MAX },
        unit: "tokens",
        summary: "Limit of an endpoint in tokens.",
    },
    Parameter {
        name: "concurrencyMode",
        kind: ParameterKind::Word { of: &["requests", "tokens", "hybrid"], default: Some("requests") },
        unit: "",
        summary: "What is compared with its limit.",
    },
    Parameter {
        name: "headroom",
        kind: ParameterKind::Float { default: 0.0, min: 0.0, max: f64::MAX },
        unit: "fraction",
        summary: "How far above the limit the filter lets endpoints be.",
    },
    IN_FLIGHT_LOAD_PRODUCER,
];

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let detector = Arc::new(ConcurrencyDetector {
        mode: match parameters.text("concurrencyMode") {
            "tokens" => Mode::Tokens,
            "hybrid" => Mode::Hybrid,
            _ => Mode::Requests,
        },
        requests: parameters.integer("maxConcurrency") as f64,
        tokens: parameters.integer("maxTokenConcurrency") as f64,
        room: 1.0 + parameters.float("headroom"),
    });
    Plugin { saturation: Some(detector.clone()), filter: Some(detector), ..Plugin::default() }
}

#[derive(Clone, Copy)]
enum Mode {
    Requests,
    Tokens,
    Hybrid,
}

struct ConcurrencyDetector {
    mode: Mode,
    requests: f64,
    tokens: f64,
    /// Factor of the limits, for the filter.
    room: f64,
}

impl ConcurrencyDetector {
    /// How full one endpoint is; all have the same limit, so the mean over them is what their sums say.
    fn fullness(&self, load: &Load) -> f64 {
        let requests = f64::from(load.in_flight.requests) / self.requests;
        let tokens =
            load.in_flight.prompt_tokens.saturating_add(load.in_flight.output_tokens) as f64 / self.tokens;
        match self.mode {
            Mode::Requests => requests,
            Mode::Tokens => tokens,
            Mode::Hybrid => requests.max(tokens),
        }
    }
}

impl SaturationDetector for ConcurrencyDetector {
    fn saturation(&self, loads: &[Load], _now: Timestamp) -> f64 {
        mean(loads.iter().map(|load| self.fullness(load))).unwrap_or(1.0)
    }
}

impl Filter for ConcurrencyDetector {
    fn filter(&self, _cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        candidates.retain(|candidate| self.fullness(candidate.load) < self.room);
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Cost;

    use super::*;
    use crate::testing::{Pool, built};

    fn load(requests: u32, prompt_tokens: u64, output_tokens: u64) -> Load {
        let in_flight = Cost { requests, prompt_tokens, output_tokens };
        Load { in_flight, ..Load::default() }
    }

    #[test]
    fn a_pool_is_as_full_as_what_is_in_flight() {
        let tokens = r#"{"concurrencyMode": "tokens", "maxTokenConcurrency": 1000}"#;
        let hybrid = r#"{"concurrencyMode": "hybrid", "maxTokenConcurrency": 1000}"#;
        for (row, parameters, loads, want) in [
            ("U14", "{}", vec![load(50, 9, 9), load(100, 9, 9)], 0.75),
            ("tokens", tokens, vec![load(50, 200, 300), load(100, 0, 0)], 0.25),
            ("hybrid", hybrid, vec![load(50, 600, 300), load(70, 0, 0)], 0.8),
            ("nobody", "{}", vec![], 1.0),
        ] {
            let found = built(&TYPE, parameters).saturation.unwrap().saturation(&loads, Timestamp(0));
            assert!((found - want).abs() < 1e-9, "{row}: {found}");
        }
    }

    #[test]
    fn the_filter_keeps_those_strictly_below_the_limit() {
        let filter = built(&TYPE, r#"{"maxConcurrency": 10, "headroom": 0.5}"#).filter.unwrap();
        let pool = Pool::new([load(14, 0, 0), load(15, 0, 0), load(0, 0, 0)]);
        assert_eq!(pool.filter(&*filter, 1), [0, 2]);
        assert_eq!(Pool::new([load(15, 0, 0)]).filter(&*filter, 1), [] as [u32; 0]);
    }
}

//! `active-request-scorer`: prefers endpoints with few requests in flight, as we count them, no scrape.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Review, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::snapshot::Candidates;

use crate::sources::IN_FLIGHT_LOAD_PRODUCER;

const IDLE: &str = "idleThreshold";
const MAX_BUSY: &str = "maxBusyScore";
const DEFAULT_MAX_BUSY: f64 = 1.0;

/// `active-request-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "active-request-scorer",
    summary: "Prefers endpoints with few requests in flight.",
    about: "Requests are in flight from the decision until their answer has ended. An endpoint with `idleThreshold` of \
            them or fewer scores 1, others `maxBusyScore` * (most - own) / most, where most is what the busiest \
            candidate has. Counted is what this process has sent, so it is never late, and knows nothing of what other \
            replicas send.",
    parameters: &[
        Parameter {
            name: IDLE,
            kind: ParameterKind::Integer { default: 0, min: i64::MIN, max: i64::MAX },
            unit: "requests",
            summary: "Up to how many requests in flight an endpoint counts as idle; less than 0 means 0.",
        },
        Parameter {
            name: MAX_BUSY,
            kind: ParameterKind::Float { default: DEFAULT_MAX_BUSY, min: f64::MIN, max: f64::MAX },
            unit: "",
            summary: "Highest score of an endpoint that is not idle, 0 to 1; others mean 1.",
        },
        IN_FLIGHT_LOAD_PRODUCER,
        Parameter {
            name: "requestTimeout",
            kind: ParameterKind::Ignored { because: "requests count until they end" },
            unit: "",
            summary: "Once, when requests that never ended were forgotten.",
        },
    ],
    kinds: &[Kind::Scorer],
    build,
    review,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn review(cx: &Review<'_>) -> Vec<String> {
    let given = cx.parameters.float(MAX_BUSY);
    let told = format!("`{MAX_BUSY}` is {given}, which is not from 0 to 1, so {DEFAULT_MAX_BUSY} counts");
    if (0.0..=1.0).contains(&given) { Vec::new() } else { vec![told] }
}

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let max_busy = Some(parameters.float(MAX_BUSY)).filter(|score| (0.0..=1.0).contains(score));
    let scorer = ActiveRequestScorer {
        idle: u32::try_from(parameters.integer(IDLE).max(0)).unwrap_or(u32::MAX),
        max_busy: max_busy.unwrap_or(DEFAULT_MAX_BUSY),
    };
    Plugin { scorer: Some(Arc::new(scorer)), ..Plugin::default() }
}

struct ActiveRequestScorer {
    idle: u32,
    max_busy: f64,
}

impl Scorer for ActiveRequestScorer {
    fn score(&self, _cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let most = candidates.iter().map(|candidate| candidate.load.in_flight.requests).max().unwrap_or(0);
        if most <= self.idle {
            return scores.fill(1.0);
        }
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            let own = candidate.load.in_flight.requests;
            *score =
                if own <= self.idle { 1.0 } else { f64::from(most - own) / f64::from(most) * self.max_busy };
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::{Cost, Load};

    use super::*;
    use crate::testing::{Pool, assert_close, built, reviewed};

    #[test]
    fn few_requests_in_flight_score_best() {
        let cases: &[(&str, &str, &[u32], &[f64])] = &[
            ("AR1", "{}", &[0, 0, 0], &[1.0, 1.0, 1.0]),
            ("AR2", "{}", &[3, 0, 6], &[0.5, 1.0, 0.0]),
            ("AR3", "{}", &[4, 0, 1], &[0.0, 1.0, 0.75]),
            ("AR4", r#"{"idleThreshold": 0, "maxBusyScore": 0}"#, &[1, 0], &[0.0, 1.0]),
            ("AR5", r#"{"idleThreshold": 1, "maxBusyScore": 0.5}"#, &[1, 2, 4], &[1.0, 0.25, 0.0]),
            ("AR6", r#"{"maxBusyScore": 1.5}"#, &[3, 0, 6], &[0.5, 1.0, 0.0]),
            ("AR7", r#"{"requestTimeout": "invalid"}"#, &[3, 0, 6], &[0.5, 1.0, 0.0]),
            ("below 0 means 0", r#"{"idleThreshold": -3}"#, &[3, 0, 6], &[0.5, 1.0, 0.0]),
            ("nobody", "{}", &[], &[]),
        ];
        for (name, parameters, requests, want) in cases {
            let load =
                |&requests| Load { in_flight: Cost { requests, ..Cost::default() }, ..Load::default() };
            let pool = Pool::new(requests.iter().map(load));
            let scorer = built(&TYPE, parameters).scorer.unwrap();
            assert_close(&pool.score(&*scorer), want, name);
        }
    }

    #[test]
    fn ar6_a_score_that_does_not_count_is_told() {
        assert!(reviewed(&TYPE, r#"{"maxBusyScore": 1.5}"#).contains("so 1 counts"));
        assert_eq!(reviewed(&TYPE, r#"{"maxBusyScore": 0.5}"#), "");
    }
}

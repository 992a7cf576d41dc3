//! `utilization-filter`: keeps the endpoints that are loaded no more than a few limits allow.

use std::sync::Arc;

use epp_framework::endpoint::Load;
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Review, Stability, releases};
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::Candidates;
use rand::rngs::SmallRng;

use crate::sources::IN_FLIGHT_LOAD_PRODUCER;

const CONDITIONS: &str = "conditions";
const METRIC: &str = "metric";
const MAX_VALUE: &str = "maxValue";
const FALLBACK: &str = "fallbackOnEmpty";
const ACTIVE: &str = "active-requests";
const RUNNING: &str = "running-requests";
const WAITING: &str = "waiting-queue";
const KV_CACHE: &str = "kv-cache-utilization";

/// `utilization-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "utilization-filter",
    summary: "Keeps the endpoints that are loaded no more than the given limits.",
    about: "An endpoint is kept if every metric is at most its `maxValue`. `active-requests` are those in flight as we \
            count them; the others are those of the last scrape. If nobody is left the profile fails, unless \
            `fallbackOnEmpty` is set: then all are kept. Use it to keep a pool's endpoints from more than they can \
            take, with a picker or scorers among those that are left.",
    needs: &["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"],
    stability: Stability::Alpha,
    parameters: &[
        Parameter {
            name: CONDITIONS,
            kind: ParameterKind::List { fields: || CONDITION, required: true, check: check_condition },
            unit: "",
            summary: "The limits.",
        },
        Parameter {
            name: FALLBACK,
            kind: ParameterKind::Boolean { default: false },
            unit: "",
            summary: "Keep everybody if nobody is within the limits.",
        },
        IN_FLIGHT_LOAD_PRODUCER,
    ],
    kinds: &[Kind::Filter],
    build,
    review,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

const CONDITION: &[Parameter] = &[
    Parameter {
        name: METRIC,
        kind: ParameterKind::Word { of: &[ACTIVE, RUNNING, WAITING, KV_CACHE], default: None },
        unit: "",
        summary: "What is limited.",
    },
    Parameter {
        name: MAX_VALUE,
        kind: ParameterKind::OptionalFloat { min: 0.0, max: f64::MAX, required: true },
        unit: "requests, or a fraction of the KV cache",
        summary: "The limit; of `kv-cache-utilization` at most 1.",
    },
];

fn check_condition(condition: &Parameters) -> Option<String> {
    let too_much = condition.text(METRIC) == KV_CACHE && limit(condition) > 1.0;
    too_much.then(|| format!("`{MAX_VALUE}` of `{KV_CACHE}` is a fraction, at most 1"))
}

fn limit(condition: &Parameters) -> f64 {
    condition.optional_float(MAX_VALUE).unwrap_or(f64::MAX)
}

fn review(cx: &Review<'_>) -> Vec<String> {
    let told = "it leaves nobody when every endpoint is beyond a limit, and requests are then refused; with \
                `fallbackOnEmpty: true` all are kept then";
    if cx.parameters.boolean(FALLBACK) { Vec::new() } else { vec![told.to_owned()] }
}

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let conditions = parameters.list(CONDITIONS).unwrap_or_default();
    let condition = |condition: &Parameters| Condition {
        metric: match condition.text(METRIC) {
            ACTIVE => Metric::Active,
            RUNNING => Metric::Running,
            WAITING => Metric::Waiting,
            _ => Metric::KvUsed,
        },
        limit: limit(condition),
    };
    let filter = UtilizationFilter {
        conditions: conditions.iter().map(condition).collect(),
        fallback: parameters.boolean(FALLBACK),
    };
    Plugin { filter: Some(Arc::new(filter)), ..Plugin::default() }
}

enum Metric {
    Active,
    Running,
    Waiting,
    KvUsed,
}

struct Condition {
    metric: Metric,
    limit: f64,
}

impl Condition {
    /// Keeps those that are within the limit. Each metric has a loop of its own.
    fn retain(&self, candidates: &mut Candidates<'_>) {
        match self.metric {
            Metric::Active => self.retain_by(candidates, |load| f64::from(load.in_flight.requests)),
            Metric::Running => self.retain_by(candidates, |load| f64::from(load.running)),
            Metric::Waiting => self.retain_by(candidates, |load| f64::from(load.waiting)),
            Metric::KvUsed => self.retain_by(candidates, |load| load.kv_used),
        }
    }

    fn retain_by(&self, candidates: &mut Candidates<'_>, value: impl Fn(&Load) -> f64) {
        candidates.retain(|candidate| {
            // Compared so that a value that is no number counts as 0.
            let beyond = value(candidate.load) > self.limit;
            !beyond
        });
    }
}

struct UtilizationFilter {
    conditions: Vec<Condition>,
    fallback: bool,
}

impl Filter for UtilizationFilter {
    fn filter(&self, _cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        let retain = |candidates: &mut Candidates<'_>| {
            self.conditions.iter().for_each(|condition| condition.retain(candidates));
        };
        if self.fallback {
            candidates.attempt(retain);
        } else {
            retain(candidates);
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Cost;

    use super::*;
    use crate::testing::{Pool, built, parsed, reviewed};

    fn load(&(in_flight, running, waiting, kv_used): &(u32, u32, u32, f64)) -> Load {
        let in_flight = Cost { requests: in_flight, ..Cost::default() };
        Load { in_flight, running, waiting, kv_used, ..Load::default() }
    }

    #[test]
    fn endpoints_within_all_limits_are_kept() {
        let condition =
            |metric: &str, limit: f64| format!(r#"{{"metric": "{metric}", "maxValue": {limit}}}"#);
        let [active, running] = [condition(ACTIVE, 3.0), condition(RUNNING, 3.0)];
        let [waiting, kv_cache] = [condition(WAITING, 0.0), condition(KV_CACHE, 0.5)];
        // In flight, running, waiting, share of the KV cache.
        let loads = [(3, 4, 0, 0.5), (4, 3, 1, 0.51), (0, 0, 0, f64::NAN)];
        for (conditions, fallback, want) in [
            (active.clone(), false, &[0, 2][..]),
            (running.clone(), false, &[1, 2]),
            (waiting.clone(), false, &[0, 2]),
            (kv_cache.clone(), false, &[0, 2]),
            (format!("{active}, {running}"), false, &[2]),
            (format!("{active}, {running}"), true, &[2]),
        ] {
            let parameters = format!(r#"{{"conditions": [{conditions}], "fallbackOnEmpty": {fallback}}}"#);
            let filter = built(&TYPE, &parameters).filter.unwrap();
            assert_eq!(Pool::new(loads.iter().map(load)).filter(&*filter, 1), want, "{parameters}");
            let busy = Pool::new([load(&(9, 9, 9, 0.9)), load(&(8, 8, 8, 0.8))]);
            let left = if fallback { 2 } else { 0 };
            assert_eq!(busy.filter(&*filter, 1).len(), left, "all are busy: {parameters}");
        }
    }

    #[test]
    fn limits_of_the_cache_are_fractions() {
        for (metric, limit, wrong) in [(KV_CACHE, 1.0, false), (KV_CACHE, 1.1, true), (WAITING, 90.0, false)]
        {
            let given = serde_json::json!({ "metric": metric, "maxValue": limit });
            assert_eq!(check_condition(&parsed(CONDITION, &given)).is_some(), wrong, "{metric} {limit}");
        }
        assert!(reviewed(&TYPE, r#"{"conditions": []}"#).contains("leaves nobody"));
        assert_eq!(reviewed(&TYPE, r#"{"conditions": [], "fallbackOnEmpty": true}"#), "");
    }
}

//! `probabilistic-admitter`: the fuller the pool, the more requests of a negative priority are refused.

use std::sync::Arc;

use epp_framework::lifecycle::{Admitter, Denied};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::Cycle;
use epp_framework::snapshot::Candidates;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::{KV_CACHE, QUEUE_DEPTH, Thresholds, mean};

/// `probabilistic-admitter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "probabilistic-admitter",
    summary: "Refuses requests of a negative priority, the more likely the fuller the pool is.",
    about: "A request of a negative priority is refused with 429 with probability min(1, k · s^power), where s is the \
            mean over the endpoints of waiting/queueDepthThreshold or kvUsed/kvCacheUtilThreshold, whichever is more. \
            Endpoints never scraped count as full. Without endpoints, and for priorities of 0 and more, everybody \
            passes. It runs wherever it is declared; no profile lists it.",
    needs: &["vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"],
    releases: releases::LLM_D,
    parameters: PARAMETERS,
    kinds: &[Kind::Admitter],
    check,
    build,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[
    QUEUE_DEPTH,
    KV_CACHE,
    Parameter {
        name: "power",
        kind: ParameterKind::Float { default: 5.0, min: 0.0, max: 1e6 },
        unit: "",
        summary: "How sharply refusals set in; more than 0.",
    },
    Parameter {
        name: "k",
        kind: ParameterKind::Float { default: 300.0, min: 0.0, max: f64::MAX },
        unit: "",
        summary: "How early refusals set in; more than 0.",
    },
];

fn check(parameters: &Parameters) -> Vec<String> {
    let positive = ["kvCacheUtilThreshold", "power", "k"];
    let wrong = positive.into_iter().filter(|name| parameters.float(name) <= 0.0);
    wrong.map(|name| format!("`{name}`: expected more than 0")).collect()
}

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let admitter = ProbabilisticAdmitter {
        thresholds: Thresholds::read(parameters),
        power: parameters.float("power"),
        k: parameters.float("k"),
    };
    Plugin { admitter: Some(Arc::new(admitter)), ..Plugin::default() }
}

struct ProbabilisticAdmitter {
    thresholds: Thresholds,
    power: f64,
    k: f64,
}

impl ProbabilisticAdmitter {
    /// Chance of a refusal, 0–1.
    fn chance(&self, candidates: &Candidates<'_>) -> f64 {
        let saturation = mean(candidates.iter().map(|one| self.thresholds.fullness(one.load)));
        saturation.map_or(0.0, |saturation| (self.k * saturation.powf(self.power)).clamp(0.0, 1.0))
    }
}

impl Admitter for ProbabilisticAdmitter {
    fn admit(
        &self,
        cycle: &Cycle<'_>,
        candidates: &Candidates<'_>,
        rng: &mut SmallRng,
    ) -> Result<(), Denied> {
        let refuse = cycle.request.priority < 0 && rng.random_bool(self.chance(candidates));
        if refuse {
            return Err(Denied { message: "the pool is nearly saturated, sheddable request dropped" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::{Freshness, Load};
    use rand::SeedableRng;

    use super::*;
    use crate::testing::{Pool, built};

    /// Refused of 10,000, as a fraction.
    fn refused(priority: i32, loads: &[Load]) -> f64 {
        let admitter = built(&TYPE, "{}").admitter.unwrap();
        let mut pool = Pool::new(loads.iter().copied());
        pool.request.priority = priority;
        let mut rng = SmallRng::seed_from_u64(1);
        let refusals = (0..10_000).filter(|_| pool.admit(&*admitter, &mut rng).is_err()).count();
        refusals as f64 / 10_000.0
    }

    /// Rows PA1 to PA4.
    #[test]
    fn refusals_follow_the_saturation() {
        let kv = |saturation: f64| Load { kv_used: 0.8 * saturation, ..Load::default() };
        let never = Load { freshness: Freshness::NeverScraped, ..Load::default() };
        for (row, priority, loads, want) in [
            ("PA1", -1, vec![kv(0.15)], 0.0228),
            ("PA2", -1, vec![kv(0.2)], 0.096),
            ("PA2", -1, vec![kv(0.3)], 0.729),
            ("PA2", -1, vec![kv(0.4)], 1.0),
            ("PA3", 0, vec![kv(0.4)], 0.0),
            ("PA4", -1, vec![], 0.0),
            ("never scraped", -1, vec![never], 1.0),
        ] {
            let found = refused(priority, &loads);
            assert!((found - want).abs() < 0.015, "{row}: {found}, want {want}");
        }
    }
}

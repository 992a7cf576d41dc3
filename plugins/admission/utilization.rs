//! `utilization-detector`: how full the pool is, by queues and KV caches; as a filter it keeps those with room.

use std::sync::Arc;
use std::time::Duration;

use epp_framework::endpoint::{Freshness, Load};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::saturation::SaturationDetector;
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::{Candidate, Candidates};
use epp_framework::time::Timestamp;
use rand::rngs::SmallRng;

use super::{KV_CACHE, QUEUE_DEPTH, Thresholds, mean};

/// `utilization-detector`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "utilization-detector",
    summary: "Says how full the pool is, by waiting requests and the KV cache in use.",
    about: "Each endpoint is as full as waiting/queueDepthThreshold or kvUsed/kvCacheUtilThreshold, whichever is more; \
            one whose last scrape is too old counts as full (1). The pool is as full as the mean of its endpoints, and \
            full (1) without any. From 1 on, requests of a negative priority are refused with 429. In a profile it is \
            a filter that keeps fresh endpoints below both thresholds times (1 + headroom), or everybody if there is \
            none. A server without metrics is never full.",
    needs: &["vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"],
    releases: releases::SINCE_V1_5,
    parameters: PARAMETERS,
    kinds: &[Kind::SaturationDetector, Kind::Filter],
    check,
    build,
    review: |review| match review.parameters.float("headroom") {
        ..=1.0 => Vec::new(),
        headroom => vec![format!("headroom {headroom} is a fraction of the thresholds, not a percentage")],
    },
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[
    QUEUE_DEPTH,
    KV_CACHE,
    Parameter {
        name: "metricsStalenessThreshold",
        kind: ParameterKind::Span { default: Duration::from_millis(200), min: Duration::from_nanos(1) },
        unit: "",
        summary: "Age up to which a scrape counts.",
    },
    Parameter {
        name: "headroom",
        kind: ParameterKind::Float { default: 0.0, min: 0.0, max: f64::MAX },
        unit: "fraction",
        summary: "How far above the thresholds the filter lets endpoints be.",
    },
];

fn check(parameters: &Parameters) -> Vec<String> {
    match parameters.float("kvCacheUtilThreshold") {
        0.0 => vec!["`kvCacheUtilThreshold`: expected more than 0".to_owned()],
        _ => Vec::new(),
    }
}

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let detector = Arc::new(UtilizationDetector {
        thresholds: Thresholds::read(parameters),
        staleness: parameters.span("metricsStalenessThreshold"),
        room: 1.0 + parameters.float("headroom"),
    });
    Plugin { saturation: Some(detector.clone()), filter: Some(detector), ..Plugin::default() }
}

struct UtilizationDetector {
    thresholds: Thresholds,
    staleness: Duration,
    /// Factor of the thresholds, for the filter.
    room: f64,
}

impl UtilizationDetector {
    fn is_stale(&self, load: &Load, now: Timestamp) -> bool {
        load.freshness != Freshness::NoMetrics && load.age(now) > self.staleness
    }

    fn has_room(&self, load: &Load, now: Timestamp) -> bool {
        let Thresholds { waiting, kv_used } = self.thresholds;
        let below = f64::from(load.waiting) < waiting * self.room && load.kv_used < kv_used * self.room;
        !self.is_stale(load, now) && (below || load.freshness == Freshness::NoMetrics)
    }
}

impl SaturationDetector for UtilizationDetector {
    fn saturation(&self, loads: &[Load], now: Timestamp) -> f64 {
        let fullness =
            |load: &Load| if self.is_stale(load, now) { 1.0 } else { self.thresholds.fullness(load) };
        mean(loads.iter().map(fullness)).unwrap_or(1.0)
    }
}

impl Filter for UtilizationDetector {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        let rank = |candidate: Candidate<'_>| Some(self.has_room(candidate.load, cycle.now));
        candidates.keep_group(rank, |n_with_room, _| n_with_room > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pool, built};

    const NOW: Timestamp = Timestamp(2_000_000_000);

    fn load(waiting: u32, kv_used: f64) -> Load {
        Load { waiting, kv_used, scraped_at: NOW, ..Load::default() }
    }

    fn stale() -> Load {
        Load { scraped_at: Timestamp(1), ..Load::default() }
    }

    /// Rows U1 to U9.
    #[test]
    fn a_pool_is_as_full_as_its_endpoints_in_the_mean() {
        let plugin = built(&TYPE, r#"{"queueDepthThreshold": 5, "kvCacheUtilThreshold": 0.9}"#);
        let detector = plugin.saturation.unwrap();
        let never = Load { freshness: Freshness::NeverScraped, scraped_at: Timestamp(0), ..Load::default() };
        let without = Load { freshness: Freshness::NoMetrics, scraped_at: Timestamp(0), ..Load::default() };
        for (row, loads, want) in [
            ("U1", vec![], 1.0),
            ("U2", vec![load(2, 0.5)], 0.5556),
            ("U3", vec![stale()], 1.0),
            ("U3, never scraped", vec![never], 1.0),
            ("U4", vec![load(10, 0.1)], 2.0),
            ("U5", vec![load(1, 0.95)], 1.0556),
            ("U6", vec![load(1, 0.1), load(0, 0.2)], 0.2111),
            ("U7", vec![load(1, 0.1), stale()], 0.6),
            ("U8", vec![stale(), load(20, 0.0), load(0, 0.99)], (1.0 + 4.0 + 1.1) / 3.0),
            ("U9", vec![load(5, 0.0)], 1.0),
            ("no metrics", vec![without], 0.0),
        ] {
            let found = detector.saturation(&loads, NOW);
            assert!((found - want).abs() < 1e-4, "{row}: {found}, want {want}");
        }
    }

    #[test]
    fn u10_the_filter_keeps_those_with_room_or_everybody() {
        let plugin = built(&TYPE, r#"{"headroom": 0.2}"#);
        let filter = plugin.filter.unwrap();
        for (name, loads, want) in [
            ("with room", vec![load(5, 0.1), load(6, 0.1), load(7, 0.1), load(0, 0.97)], vec![0]),
            ("all stale", vec![stale(), stale()], vec![0, 1]),
            ("all full", vec![load(9, 0.1), load(9, 0.2)], vec![0, 1]),
        ] {
            let mut pool = Pool::new(loads);
            pool.now = NOW;
            assert_eq!(pool.filter(&*filter, 1), want, "{name}");
        }
    }
}

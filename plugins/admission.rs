//! How full the pool is, and who gets in.

pub(crate) mod concurrency;
pub(crate) mod latency_slo;
pub(crate) mod probabilistic;
pub(crate) mod utilization;

use epp_framework::endpoint::{Freshness, Load};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};

const QUEUE_DEPTH: Parameter = Parameter {
    name: "queueDepthThreshold",
    kind: ParameterKind::Integer { default: 5, min: 1, max: u32::MAX as i64 },
    unit: "requests",
    summary: "Waiting requests from which an endpoint is full.",
};

const KV_CACHE: Parameter = Parameter {
    name: "kvCacheUtilThreshold",
    kind: ParameterKind::Float { default: 0.8, min: 0.0, max: 1.0 },
    unit: "fraction",
    summary: "Use of the KV cache from which an endpoint is full; more than 0.",
};

/// When an endpoint counts as full.
#[derive(Clone, Copy, Debug)]
struct Thresholds {
    /// Waiting requests.
    waiting: f64,
    /// Fraction of the KV cache in use, 0–1.
    kv_used: f64,
}

impl Thresholds {
    /// Reads [`QUEUE_DEPTH`] and [`KV_CACHE`].
    fn read(parameters: &Parameters) -> Self {
        Self {
            waiting: parameters.integer(QUEUE_DEPTH.name) as f64,
            kv_used: parameters.float(KV_CACHE.name),
        }
    }

    /// How full an endpoint is, 1 is full: by its queue or its cache, whichever is fuller. One that nothing is known of
    /// is full; one whose server offers no metrics never is.
    fn fullness(self, load: &Load) -> f64 {
        match load.freshness {
            Freshness::NoMetrics => 0.0,
            Freshness::NeverScraped => 1.0,
            Freshness::Fresh | Freshness::Stale => {
                (f64::from(load.waiting) / self.waiting).max(load.kv_used / self.kv_used)
            }
        }
    }
}

/// The mean; `None` of nobody.
fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let n = values.len();
    if n == 0 { None } else { Some(values.sum::<f64>() / n as f64) }
}

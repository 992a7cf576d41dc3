//! How full the pool is, and who gets in.

pub(crate) mod concurrency;
pub(crate) mod latency_slo;
pub(crate) mod probabilistic;
pub(crate) mod utilization;

use epp_framework::endpoint::{Freshness, Load};

/// When an endpoint counts as full.
#[derive(Clone, Copy, Debug)]
struct Thresholds {
    /// Waiting requests.
    waiting: f64,
    /// Fraction of the KV cache in use, 0–1.
    kv_used: f64,
}

impl Thresholds {
    /// How full an endpoint is, 1 is full: by its queue or its cache, whichever is fuller. One that nothing is known of
    /// is full; one whose server offers no metrics never is.
    fn fullness(self, load: &Load) -> f64 {
        match load.freshness {
            Freshness::NoMetrics => 0.0,
            Freshness::NeverScraped => 1.0,
            Freshness::Fresh | Freshness::Stale(_) => {
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

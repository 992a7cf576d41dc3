//! How full a pool is: [`SaturationDetector`].

use crate::endpoint::Load;
use crate::time::Timestamp;

/// Says how full the pool is.
pub trait SaturationDetector: Send + Sync {
    /// 0 is idle, 1 and more is full. `loads` holds one load per endpoint.
    fn saturation(&self, loads: &[Load], now: Timestamp) -> f64;
}

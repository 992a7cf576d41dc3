//! The one place that turns the process's clock into [`Timestamp`]s for the pure parts.

use epp_framework::time::Timestamp;
use tokio::time::Instant;

/// A monotonic clock whose origin is the moment it was made. Follows tokio's paused time in tests.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts a clock at zero.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Time since the clock was started.
    pub fn now(self) -> Timestamp {
        Timestamp::after_origin(self.origin.elapsed())
    }
}

//! Time as an argument: nanoseconds since an origin that the caller chose (process start, or zero in a replay).

use std::time::Duration;

/// A point in time, in nanoseconds since the caller's origin. Never read from a clock in here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Makes the timestamp that lies `since_origin` after the origin; saturates after 584 years.
    #[inline]
    pub fn after_origin(since_origin: Duration) -> Self {
        Self(u64::try_from(since_origin.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The time that lies `time` after `self`; saturates.
    #[inline]
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(Self::after_origin(time).0))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

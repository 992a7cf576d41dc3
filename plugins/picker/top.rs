//! The best k of many, in one pass: [`Top`]. What all pickers share that may pick several endpoints.

use std::cmp::Ordering;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::scheduling::Picks;
use smallvec::SmallVec;

/// How many endpoints a picker picks.
pub(super) const MAX_ENDPOINTS: Parameter = Parameter {
    name: "maxNumOfEndpoints",
    kind: ParameterKind::Integer { default: 1, min: i64::MIN, max: i64::MAX },
    unit: "endpoints",
    summary: "How many endpoints to pick, best first; 0 or less means 1.",
};

/// The value of [`MAX_ENDPOINTS`], at least 1.
pub(super) fn max_endpoints(parameters: &Parameters) -> usize {
    match parameters.integer(MAX_ENDPOINTS.name) {
        ..=0 => 1,
        max => usize::try_from(max).unwrap_or(usize::MAX),
    }
}

/// The positions with the highest keys, best first; equal keys are ordered by a random number, as by a shuffle.
///
/// Allocates nothing for up to eight.
pub(super) struct Top {
    max: usize,
    entries: SmallVec<[(f64, u64, u32); 8]>,
}

impl Top {
    /// Keeps the best `max`, which is at least 1.
    pub(super) fn new(max: usize) -> Self {
        Self { max, entries: SmallVec::new() }
    }

    /// Offers a position; `chance` is a fresh random number.
    pub(super) fn offer(&mut self, key: f64, chance: u64, position: u32) {
        let before = |entry: &(f64, u64, u32)| compare(entry.0, key).then(entry.1.cmp(&chance)).is_gt();
        let at = self.entries.partition_point(before);
        if at < self.max {
            self.entries.truncate(self.max - 1);
            self.entries.insert(at, (key, chance, position));
        }
    }

    /// Pushes the positions onto `picks`.
    pub(super) fn into_picks(self, picks: &mut Picks) {
        picks.extend(self.entries.into_iter().map(|(_, _, position)| position));
    }
}

/// Orders keys; NaN counts as the lowest, so that no input breaks the order.
pub(super) fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

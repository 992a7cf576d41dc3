//! Least and greatest of what candidates have, for scorers that compare them with one another: [`Range`].

use epp_framework::parameters::{Parameter, ParameterKind};
use epp_framework::snapshot::{Candidate, Candidates};

/// Of scorers that compare numbers of requests.
pub(super) const ANTICIPATE: Parameter = Parameter {
    name: "anticipate",
    kind: ParameterKind::Boolean { default: true },
    unit: "",
    summary: "Also count requests that were dispatched since the last scrape and have not finished.",
};

/// Least and greatest value among the candidates.
pub(super) struct Range {
    /// The least.
    pub(super) min: u32,
    max: u32,
}

impl Range {
    /// The range of `value` among the candidates.
    pub(super) fn of(candidates: &Candidates<'_>, value: impl Fn(Candidate<'_>) -> u32) -> Self {
        let none = Self { min: u32::MAX, max: 0 };
        candidates
            .iter()
            .map(value)
            .fold(none, |range, value| Self { min: range.min.min(value), max: range.max.max(value) })
    }

    /// How far the greatest is from the least; 0 without candidates.
    pub(super) fn width(&self) -> u32 {
        self.max.saturating_sub(self.min)
    }

    /// 1 for the least value, 0 for the greatest, in proportion between them; 1 where all are equal.
    pub(super) fn least_is_best(&self, value: u32) -> f64 {
        match self.width() {
            0 => 1.0,
            width => f64::from(self.max - value) / f64::from(width),
        }
    }
}

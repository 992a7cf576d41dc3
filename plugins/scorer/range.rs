//! Least and greatest of what candidates have, for scorers that compare them with one another: [`Range`].

use epp_framework::endpoint::Load;
use epp_framework::parameters::{Parameter, ParameterKind};
use epp_framework::snapshot::Candidates;

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
    pub(super) fn of(candidates: &Candidates<'_>, value: impl Fn(&Load) -> u32) -> Self {
        let mut range = Self { min: u32::MAX, max: 0 };
        candidates.iter().for_each(|candidate| range.widen(value(candidate.load)));
        range
    }

    #[inline]
    fn widen(&mut self, value: u32) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// How far the greatest is from the least; 0 without candidates.
    pub(super) fn width(&self) -> u32 {
        self.max.saturating_sub(self.min)
    }
}

/// Fills `scores`: 1 for the least `value` among the candidates, 0 for the greatest, in proportion between them; 1 where
/// all are equal.
pub(super) fn least_is_best(candidates: &Candidates<'_>, scores: &mut [f64], value: impl Fn(&Load) -> u32) {
    let mut range = Range { min: u32::MAX, max: 0 };
    // The loads are read once; what is left is done with numbers that lie side by side.
    for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
        let value = value(candidate.load);
        range.widen(value);
        *score = f64::from(value);
    }
    if range.width() == 0 {
        return scores.fill(1.0);
    }
    let (max, width) = (f64::from(range.max), f64::from(range.width()));
    for score in scores {
        *score = (max - *score) / width;
    }
}

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
        let [range] = Self::of_each(candidates, |load| [value(load)]);
        range
    }

    /// The ranges of several values among the candidates.
    pub(super) fn of_each<const N: usize>(
        candidates: &Candidates<'_>,
        values: impl Fn(&Load) -> [u32; N],
    ) -> [Self; N] {
        let (mut min, mut max) = ([u32::MAX; N], [0; N]);
        for candidate in candidates.iter() {
            for (at, value) in values(candidate.load).into_iter().enumerate() {
                min[at] = value.min(min[at]);
                max[at] = value.max(max[at]);
            }
        }
        std::array::from_fn(|at| Self { min: min[at], max: max[at] })
    }

    /// How far the greatest is from the least; 0 without candidates.
    pub(super) fn width(&self) -> u32 {
        self.max.saturating_sub(self.min)
    }

    /// What each value scores: 1 for the least, 0 for the greatest, in proportion between them; 1 where all are equal.
    #[inline]
    pub(super) fn least_is_best(&self) -> LeastIsBest {
        let (max, width) = (self.max, f64::from(self.width()));
        let mut near = [1.0; N_NEAR];
        if width > 0.0 {
            for (below, score) in (0u32..=self.width()).zip(&mut near) {
                *score = f64::from(below) / width;
            }
        }
        LeastIsBest { max, width, near }
    }
}

/// Many candidates share few values, and divisions are dear: those of small differences are made once.
const N_NEAR: usize = 16;

/// See [`Range::least_is_best`].
pub(super) struct LeastIsBest {
    max: u32,
    width: f64,
    /// By how far a value is from the greatest.
    near: [f64; N_NEAR],
}

impl LeastIsBest {
    /// The score of a value that is in the range.
    #[inline]
    pub(super) fn of(&self, value: u32) -> f64 {
        let below = self.max - value;
        self.near.get(below as usize).copied().unwrap_or_else(|| f64::from(below) / self.width)
    }
}

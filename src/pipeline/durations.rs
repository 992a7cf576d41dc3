//! How long plugins take, for the metrics page: [`Durations`].
//!
//! Two looks at the clock and an observation for each plugin are work inside the critical section, so one request in
//! [`ONE_IN`] is timed, the first one included. Handles are resolved when the pipeline goes into service.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use prometheus::{Histogram, HistogramVec};

use crate::stopwatch::Step;

/// One request in so many is timed.
const ONE_IN: u32 = 16;

/// Extension point, type and name of a plugin.
pub(super) type Labels = [String; 3];

/// Where the times of a pipeline's plugins go; nowhere by default.
#[derive(Default)]
pub(super) struct Durations {
    /// Sorted: a look-up is inside the critical section.
    by_step: Vec<(Step, Histogram)>,
    series: HashSet<Labels>,
    requests: AtomicU32,
}

impl Durations {
    /// Resolves the series of each step in `family`.
    pub(super) fn resolve(family: &HistogramVec, steps: impl Iterator<Item = (Step, Labels)>) -> Self {
        let mut durations = Self::default();
        for (step, labels) in steps {
            durations.by_step.push((step, family.with_label_values(&labels)));
            durations.series.insert(labels);
        }
        durations.by_step.sort_unstable_by_key(|(step, _)| *step);
        durations
    }

    /// Removes from `family` what is in here and not in `after`, which took over.
    pub(super) fn retire(&self, after: &Self, family: &HistogramVec) {
        for labels in self.series.difference(&after.series) {
            // That it is there is known; a request that still runs observes what nobody will see.
            let _ = family.remove_label_values(labels);
        }
    }

    /// Whether the next request is to be timed.
    pub(super) fn next_is_timed(&self) -> bool {
        !self.by_step.is_empty() && self.requests.fetch_add(1, Relaxed).is_multiple_of(ONE_IN)
    }

    /// Observes a step.
    pub(super) fn observe(&self, step: Step, took: Duration) {
        if let Ok(at) = self.by_step.binary_search_by_key(&step, |(step, _)| *step) {
            self.by_step[at].1.observe(took.as_secs_f64());
        }
    }
}

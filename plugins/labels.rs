//! What a plugin makes of the labels of endpoints, remembered until they change: [`OfLabels`], and [`LabelFilter`] of it.
//!
//! Labels rarely change, and to look one up costs more than all else that a filter does with an endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use epp_framework::plugin::Plugin;
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::{Candidate, Candidates};
use parking_lot::Mutex;
use rand::rngs::SmallRng;

/// The labels of one endpoint.
pub(crate) type Labels = BTreeMap<String, String>;

/// What `make` makes of the labels of each endpoint. It holds as much as the pool had endpoints at most.
pub(crate) struct OfLabels<T, F> {
    make: F,
    /// By the position in the pool; of other labels than those that are there, it says nothing.
    made: Mutex<Vec<(Arc<Labels>, T)>>,
}

impl<T: Copy, F: Fn(&Labels) -> T> OfLabels<T, F> {
    /// Makes one that knows no endpoint.
    pub(crate) fn new(make: F) -> Self {
        Self { make, made: Mutex::default() }
    }

    /// Shows `each` of the candidates, in order, with what their labels amount to.
    pub(crate) fn each<'a>(&self, candidates: &'a Candidates<'_>, mut each: impl FnMut(Candidate<'a>, T)) {
        let mut made = self.made.lock();
        candidates.iter().for_each(|candidate| each(candidate, self.of(candidate, &mut made)));
    }

    /// Keeps the candidates for which `keep` holds of what their labels amount to.
    pub(crate) fn retain(&self, candidates: &mut Candidates<'_>, keep: impl Fn(T) -> bool) {
        let mut made = self.made.lock();
        candidates.retain(|candidate| keep(self.of(candidate, &mut made)));
    }

    #[inline]
    fn of(&self, candidate: Candidate<'_>, made: &mut Vec<(Arc<Labels>, T)>) -> T {
        let (at, labels) = (candidate.index as usize, &candidate.facts.labels);
        match made.get(at) {
            Some((known, value)) if Arc::ptr_eq(known, labels) => *value,
            _ => self.make(at, labels, made),
        }
    }

    #[cold]
    fn make(&self, at: usize, labels: &Arc<Labels>, made: &mut Vec<(Arc<Labels>, T)>) -> T {
        let value = (self.make)(labels);
        made.resize_with(made.len().max(at + 1), || (labels.clone(), value));
        made[at] = (labels.clone(), value);
        value
    }
}

/// Keeps the endpoints of whose labels a rule holds.
pub(crate) struct LabelFilter<F>(OfLabels<bool, F>);

impl<F: Fn(&Labels) -> bool + Send + Sync + 'static> LabelFilter<F> {
    /// The plugin that is this filter and nothing else.
    pub(crate) fn plugin(rule: F) -> Plugin {
        Plugin { filter: Some(Arc::new(Self(OfLabels::new(rule)))), ..Plugin::default() }
    }
}

impl<F: Fn(&Labels) -> bool + Send + Sync> Filter for LabelFilter<F> {
    fn filter(&self, _cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        self.0.retain(candidates, |holds| holds);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;
    use crate::testing::Pool;

    #[test]
    fn labels_are_read_once_until_they_change() {
        let mut pool = Pool::with_labels([Some(("a", "1")), None, Some(("a", "3"))]);
        let n_read = AtomicU32::new(0);
        let numbers = OfLabels::new(|labels: &Labels| {
            n_read.fetch_add(1, Relaxed);
            labels.get("a").and_then(|label| label.parse::<u32>().ok())
        });
        let found = |pool: &Pool| {
            let mut found = Vec::new();
            pool.with_candidates(|candidates| numbers.each(candidates, |_, number| found.push(number)));
            (found, n_read.load(Relaxed))
        };
        assert_eq!(found(&pool), (vec![Some(1), None, Some(3)], 3));
        assert_eq!(found(&pool), (vec![Some(1), None, Some(3)], 3), "nothing changed");
        pool.label(1, [("a", "2")]);
        assert_eq!(found(&pool), (vec![Some(1), Some(2), Some(3)], 4));
        // Fewer endpoints, at other positions.
        let fewer = Pool::with_labels([Some(("a", "3"))]);
        fewer.with_candidates(|candidates| numbers.each(candidates, |_, number| assert_eq!(number, Some(3))));
        assert_eq!(found(&pool), (vec![Some(1), Some(2), Some(3)], 6), "they are told apart");
    }
}

//! The pool at one moment, and the part of it that is still in the running.

use std::sync::Arc;

use crate::endpoint::{Endpoint, Load};

/// The endpoints of a pool at one moment; never changes, a new one is published instead.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Endpoints in a stable order. A position in here is an *index*; it is not the endpoint's slot.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// One endpoint that is still in the running.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Position in [`Snapshot::endpoints`].
    pub index: u32,
    /// The endpoint.
    pub endpoint: &'a Arc<Endpoint>,
    /// Its load, as sampled for this cycle.
    pub load: &'a Load,
}

/// The endpoints of a snapshot that are still in the running, in an order that filters may set.
#[derive(Debug)]
pub struct Candidates<'a> {
    pool: &'a Snapshot,
    loads: &'a [Load],
    /// The candidates are those from `start` on; below it lies what outer attempts will need again.
    live: &'a mut Vec<u32>,
    start: usize,
}

impl<'a> Candidates<'a> {
    /// Makes the candidates `live` (indices into `pool`); `loads` holds one load per endpoint of `pool`.
    pub fn new(pool: &'a Snapshot, loads: &'a [Load], live: &'a mut Vec<u32>) -> Self {
        debug_assert_eq!(pool.endpoints.len(), loads.len());
        Self { pool, loads, live, start: 0 }
    }

    /// Number of candidates.
    pub fn len(&self) -> usize {
        self.live.len() - self.start
    }

    /// Whether nobody is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The candidate at `position`, which must be below [`len`](Self::len).
    pub fn at(&self, position: usize) -> Candidate<'_> {
        candidate(self.pool, self.loads, self.live[self.start + position])
    }

    /// The candidates in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Candidate<'_>> {
        self.live[self.start..].iter().map(|&index| candidate(self.pool, self.loads, index))
    }

    /// Keeps the candidates for which `keep` holds, in order.
    pub fn retain(&mut self, mut keep: impl FnMut(Candidate<'_>) -> bool) {
        let mut kept = self.start;
        for at in self.start..self.live.len() {
            let index = self.live[at];
            if keep(candidate(self.pool, self.loads, index)) {
                self.live[kept] = index;
                kept += 1;
            }
        }
        self.live.truncate(kept);
    }

    /// Removes everybody.
    pub fn clear(&mut self) {
        self.live.truncate(self.start);
    }

    /// Keeps the candidates for which `rank` is `Some`, in two groups, and of those only the group that `choose` names
    /// once it knows the sizes of the first (`true`) and the second. In order; `rank` is asked once for each.
    pub fn keep_group(
        &mut self,
        mut rank: impl FnMut(Candidate<'_>) -> Option<bool>,
        choose: impl FnOnce(usize, usize) -> bool,
    ) {
        let (end, mut second) = (self.live.len(), self.start);
        for at in self.start..end {
            let index = self.live[at];
            match rank(candidate(self.pool, self.loads, index)) {
                Some(true) => self.live.push(index),
                Some(false) => {
                    self.live[second] = index;
                    second += 1;
                }
                None => {}
            }
        }
        if choose(self.live.len() - end, second - self.start) {
            self.live.drain(self.start..end);
        } else {
            self.live.truncate(second);
        }
    }

    /// Puts the candidate at `from` in the place of the one at `to`, which comes after it; order in between is kept.
    pub fn promote(&mut self, from: usize, to: usize) {
        self.live[self.start + to..=self.start + from].rotate_right(1);
    }

    /// Keeps the first `n` candidates.
    pub fn truncate(&mut self, n: usize) {
        self.live.truncate(self.start.saturating_add(n));
    }

    /// Lets `filter` try: if it leaves somebody, they are the candidates now; if not, all are as before, and the answer
    /// is `false`.
    pub fn attempt(&mut self, filter: impl FnOnce(&mut Candidates<'_>)) -> bool {
        let (start, end) = (self.start, self.live.len());
        self.live.extend_from_within(start..);
        filter(&mut Candidates { pool: self.pool, loads: self.loads, live: self.live, start: end });
        let left = self.live.len() > end;
        if left {
            self.live.drain(start..end);
        }
        left
    }
}

fn candidate<'a>(pool: &'a Snapshot, loads: &'a [Load], index: u32) -> Candidate<'a> {
    let at = index as usize;
    Candidate { index, endpoint: &pool.endpoints[at], load: &loads[at] }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::endpoint::{EndpointId, EndpointMeta};

    /// Runs `change` on six candidates, and returns the indices that are left.
    fn left(change: impl FnOnce(&mut Candidates<'_>)) -> Vec<u32> {
        let endpoint = |slot| {
            let meta = EndpointMeta {
                name: format!("pod-{slot}"),
                namespace: "default".into(),
                address: [10, 0, 0, 1].into(),
                port: 8000,
                labels: BTreeMap::new(),
            };
            Arc::new(Endpoint::new(EndpointId { slot, generation: 0 }, meta))
        };
        let pool = Snapshot { endpoints: (0..6).map(endpoint).collect() };
        let (loads, mut live) = ([Load::default(); 6], (0..6).collect());
        let mut candidates = Candidates::new(&pool, &loads, &mut live);
        change(&mut candidates);
        let left = candidates.iter().map(|candidate| candidate.index).collect();
        assert_eq!(live, left, "nothing is left beside the candidates");
        left
    }

    #[test]
    fn attempts_that_leave_nobody_change_nothing() {
        let even = |candidates: &mut Candidates<'_>| candidates.retain(|candidate| candidate.index % 2 == 0);
        for (name, nobody, want) in
            [("somebody", false, &[0, 2, 4][..]), ("nobody", true, &[0, 1, 2, 3, 4, 5])]
        {
            let left = left(|candidates| {
                let tried = candidates.attempt(|inner| {
                    even(inner);
                    assert!(
                        !inner.attempt(|innermost| innermost.truncate(0)),
                        "{name}: the inner one changes nothing"
                    );
                    assert_eq!((inner.len(), inner.at(1).index), (3, 2), "{name}");
                    if nobody {
                        inner.clear();
                    }
                });
                assert_eq!(tried, !nobody, "{name}");
            });
            assert_eq!(left, want, "{name}");
        }
    }

    #[test]
    fn one_of_two_groups_is_kept_in_order() {
        let rank = |candidate: Candidate<'_>| match candidate.index {
            0 => None,
            index => Some(index % 2 == 1),
        };
        for (first, want) in [(true, [1, 3, 5].as_slice()), (false, &[2, 4])] {
            let group = |candidates: &mut Candidates<'_>| {
                candidates.keep_group(rank, |n_first, n_second| {
                    assert_eq!((n_first, n_second), (3, 2));
                    first
                });
            };
            assert_eq!(left(group), want);
            assert_eq!(left(|candidates| assert!(candidates.attempt(group))), want, "within an attempt");
        }
    }

    #[test]
    fn candidates_can_be_put_first() {
        let left = left(|candidates| {
            candidates.promote(4, 0);
            candidates.promote(2, 1);
            candidates.truncate(4);
        });
        assert_eq!(left, [4, 1, 0, 2]);
    }
}

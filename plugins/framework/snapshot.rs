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
    live: &'a mut Vec<u32>,
}

impl<'a> Candidates<'a> {
    /// Makes the candidates `live` (indices into `pool`); `loads` holds one load per endpoint of `pool`.
    pub fn new(pool: &'a Snapshot, loads: &'a [Load], live: &'a mut Vec<u32>) -> Self {
        debug_assert_eq!(pool.endpoints.len(), loads.len());
        Self { pool, loads, live }
    }

    /// Number of candidates.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether nobody is left.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// The candidate at `position`, which must be below [`len`](Self::len).
    pub fn at(&self, position: usize) -> Candidate<'_> {
        candidate(self.pool, self.loads, self.live[position])
    }

    /// The candidates in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Candidate<'_>> {
        self.live.iter().map(|&index| candidate(self.pool, self.loads, index))
    }

    /// Keeps the candidates for which `keep` holds, in order.
    pub fn retain(&mut self, mut keep: impl FnMut(Candidate<'_>) -> bool) {
        let (pool, loads) = (self.pool, self.loads);
        self.live.retain(|&index| keep(candidate(pool, loads, index)));
    }
}

fn candidate<'a>(pool: &'a Snapshot, loads: &'a [Load], index: u32) -> Candidate<'a> {
    let at = index as usize;
    Candidate { index, endpoint: &pool.endpoints[at], load: &loads[at] }
}

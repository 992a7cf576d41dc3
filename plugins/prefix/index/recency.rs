//! The blocks of one endpoint in the order they were last used.
//!
//! An exact LRU of nodes linked by recency. Who has a node's number needs no search; for a block that endpoints share,
//! where one word cannot hold the number of each, [`Recency::find`] has it, from an open-addressed table of 32 bits of
//! the key and the node's number. Both grow by a quarter at most. Knows nothing of owners, and leaves it to the caller
//! to drop what is beyond the capacity.

/// No node.
const NONE: u32 = u32::MAX;

/// Cells in a cache line.
const CELLS_PER_LINE: usize = 8;

struct Node {
    key: u64,
    newer: u32,
    older: u32,
}

/// Keys by recency.
pub(super) struct Recency {
    n_keys: usize,
    nodes: Vec<Node>,
    newest: u32,
    oldest: u32,
    /// The first of the nodes without a key, linked by `newer`.
    spare: u32,
    n_shared: usize,
    /// Upper half: upper half of a shared key. Lower half: number of its node + 1, or 0 in an empty cell.
    shared: Box<[u64]>,
}

impl Recency {
    /// Makes an empty one.
    pub(super) fn new() -> Self {
        let shared = vec![0; CELLS_PER_LINE].into();
        Self { n_keys: 0, nodes: Vec::new(), newest: NONE, oldest: NONE, spare: NONE, n_shared: 0, shared }
    }

    /// The keys, oldest first.
    pub(super) fn keys(&self) -> impl Iterator<Item = u64> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            at = node.newer;
            Some(node.key)
        })
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.n_keys
    }

    /// Reads where a search for the shared `key` begins and makes nothing of it: see [`super::warm`].
    #[inline]
    pub(super) fn peek(&self, key: u64) -> u64 {
        self.shared[self.home(key)]
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + size_of_val(&*self.shared)
    }

    /// Adds `key`, which must not be there, as the newest. Returns its node.
    pub(super) fn push(&mut self, key: u64) -> u32 {
        let node = self.spare;
        let node = if let Some(spare) = self.nodes.get_mut(node as usize) {
            self.spare = spare.newer;
            spare.key = key;
            node
        } else {
            let n_nodes = self.nodes.len();
            if n_nodes == self.nodes.capacity() {
                self.nodes.reserve_exact((n_nodes / 8).max(8));
            }
            self.nodes.push(Node { key, newer: NONE, older: NONE });
            number(n_nodes)
        };
        self.n_keys += 1;
        self.link_newest(node);
        node
    }

    /// Makes the key of `node` the newest.
    #[inline]
    pub(super) fn renew(&mut self, node: u32) {
        if node != self.newest {
            self.unlink(node);
            self.link_newest(node);
        }
    }

    /// Drops the oldest key, of which must be known whether it is shared.
    pub(super) fn pop_oldest(&mut self, is_shared: bool) {
        let oldest = self.oldest;
        let Some(node) = self.nodes.get(oldest as usize) else { return };
        if is_shared {
            self.leave(node.key, oldest);
        }
        self.unlink(oldest);
        self.nodes[oldest as usize].newer = std::mem::replace(&mut self.spare, oldest);
        self.n_keys -= 1;
    }

    /// The node of the shared `key`.
    pub(super) fn find(&self, key: u64) -> Option<u32> {
        let mut at = self.home(key);
        loop {
            let cell = self.shared[at];
            let node = number_in(cell)?;
            if cell >> 32 == key >> 32 && self.nodes[node as usize].key == key {
                return Some(node);
            }
            at = self.after(at);
        }
    }

    /// Lets [`find`](Self::find) know `node`, the key of which was not shared before.
    pub(super) fn share(&mut self, node: u32) {
        self.n_shared += 1;
        let n_cells = self.shared.len();
        // At most three fifths of the cells are ever in use.
        if self.n_shared * 5 > n_cells * 3 {
            let grown = vec![0; n_cells + n_cells / 4 + 1].into();
            for cell in std::mem::replace(&mut self.shared, grown) {
                if cell != 0 {
                    self.enter(cell);
                }
            }
        }
        self.enter(self.nodes[node as usize].key >> 32 << 32 | u64::from(node + 1));
    }

    fn enter(&mut self, cell: u64) {
        let mut at = self.home(cell);
        while self.shared[at] != 0 {
            at = self.after(at);
        }
        self.shared[at] = cell;
    }

    fn unlink(&mut self, node: u32) {
        let Node { newer, older, .. } = self.nodes[node as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.nodes[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.nodes[older as usize].newer = newer,
        }
    }

    fn link_newest(&mut self, node: u32) {
        let older = std::mem::replace(&mut self.newest, node);
        match older {
            NONE => self.oldest = node,
            older => self.nodes[older as usize].newer = node,
        }
        self.nodes[node as usize].newer = NONE;
        self.nodes[node as usize].older = older;
    }

    /// Empties the cell of `node` and closes the gap, so that no probe ends early and no tombstone stays.
    fn leave(&mut self, key: u64, node: u32) {
        let mut hole = self.home(key);
        while number_in(self.shared[hole]) != Some(node) {
            hole = self.after(hole);
        }
        let mut at = hole;
        loop {
            at = self.after(at);
            let cell = self.shared[at];
            if cell == 0 {
                break;
            }
            if distance(self.home(cell), at, self.shared.len()) >= distance(hole, at, self.shared.len()) {
                self.shared[hole] = cell;
                hole = at;
            }
        }
        self.shared[hole] = 0;
        self.n_shared -= 1;
    }

    /// Where the probe for `key` begins; its lower half does not matter.
    fn home(&self, key: u64) -> usize {
        let place = (key >> 32) * self.shared.len() as u64;
        usize::try_from(place >> 32).expect("below the number of cells")
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.shared.len() { 0 } else { at + 1 }
    }
}

/// Steps from cell `from` to cell `to` in a ring of `n_cells`.
pub(super) fn distance(from: usize, to: usize, n_cells: usize) -> usize {
    if to >= from { to - from } else { to + n_cells - from }
}

fn number(node: usize) -> u32 {
    u32::try_from(node).expect("an endpoint keeps fewer than 2^29 blocks")
}

fn number_in(cell: u64) -> Option<u32> {
    u32::try_from(cell & 0xffff_ffff).expect("32 bits are kept").checked_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Keys collide in their upper halves, homes and all; every other one is shared.
        #[test]
        fn behaves_like_a_queue(capacity in 1usize..40, keys in prop::collection::vec((0u64..4, 0u64..24), 0..400)) {
            let mut recency = Recency::new();
            let mut queue = VecDeque::<(u64, u32)>::new();
            let is_shared = |key: u64| key >> 31 & 1 == 1;
            for (upper, lower) in keys {
                let key = upper << 62 | lower << 31;
                let known = queue.iter().position(|&(known, _)| known == key);
                let known = known.and_then(|at| queue.remove(at)).map(|(_, node)| node);
                prop_assert_eq!(recency.find(key), known.filter(|_| is_shared(key)));
                let node = known.unwrap_or_else(|| recency.push(key));
                if known.is_none() && is_shared(key) {
                    recency.share(node);
                }
                recency.renew(node);
                queue.push_back((key, node));
                if queue.len() > capacity {
                    let oldest = recency.keys().next();
                    recency.pop_oldest(oldest.is_some_and(is_shared));
                    prop_assert_eq!(oldest, queue.pop_front().map(|(key, _)| key));
                }
                prop_assert!(recency.keys().eq(queue.iter().map(|&(key, _)| key)));
                prop_assert_eq!(recency.len(), queue.len());
            }
            prop_assert!(recency.nodes.len() <= capacity + 1, "nodes are used again");
        }
    }

    #[test]
    fn what_is_empty_has_no_oldest() {
        let mut recency = Recency::new();
        recency.pop_oldest(false);
        assert_eq!((recency.len(), recency.keys().next(), recency.find(0)), (0, None, None));
    }
}

//! A map that forgets what was not used for longest: [`Recent`].
//!
//! An exact LRU of a fixed capacity: a hash map of numbered nodes that are linked by recency. It says nothing of time.
//! Its memory is asked for once, for all that it may hold, and touched as it fills: a map that grows, or that clears up
//! after what was removed, would now and then make a decision wait for all of its entries to be hashed anew.

use std::hash::{BuildHasher, Hash, RandomState};

/// No node.
const NONE: u32 = u32::MAX;

struct Node<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
    /// The next node whose key has the same hash, or that is spare.
    next: u32,
}

/// Values by key, up to a capacity, in the order in which they were last used.
pub(crate) struct Recent<K, V> {
    capacity: usize,
    hasher: RandomState,
    /// By hash of the key: the first node + 1, or 0, which memory is when it comes from the system.
    first: Vec<u32>,
    nodes: Vec<Node<K, V>>,
    /// The first node without a key.
    spare: u32,
    newest: u32,
    oldest: u32,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    /// Makes an empty one that holds up to `capacity` values, 1 to 2^31.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, 1 << 31);
        Self {
            capacity,
            hasher: RandomState::new(),
            first: vec![0; capacity.next_power_of_two()],
            nodes: Vec::with_capacity(capacity),
            spare: NONE,
            newest: NONE,
            oldest: NONE,
        }
    }

    /// The value of `key`, which this is no use of.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let node = self.find(key)?;
        Some(&mut self.nodes[node as usize].value)
    }

    /// Whether there is a value of `key`.
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.find(key).is_some()
    }

    /// Makes `value` that of `key`, and the most recent of all. Beyond the capacity the oldest goes.
    pub(crate) fn put(&mut self, key: K, value: V) {
        if let Some(node) = self.find(&key) {
            self.nodes[node as usize].value = value;
            self.unlink(node);
            self.link_newest(node);
            return;
        }
        if self.spare == NONE && self.nodes.len() == self.capacity {
            self.pop_oldest();
        }
        let bucket = self.bucket(&key);
        let next = self.first[bucket].wrapping_sub(1);
        let new = Node { key, value, newer: NONE, older: NONE, next };
        let node = self.spare;
        let node = if let Some(spare) = self.nodes.get_mut(node as usize) {
            self.spare = std::mem::replace(spare, new).next;
            node
        } else {
            self.nodes.push(new);
            u32::try_from(self.nodes.len() - 1).expect("the capacity is below")
        };
        self.first[bucket] = node + 1;
        self.link_newest(node);
    }

    /// Forgets `key`.
    pub(crate) fn remove(&mut self, key: &K) {
        let Some(node) = self.find(key) else { return };
        let next = self.nodes[node as usize].next;
        let bucket = self.bucket(key);
        let before = self.chain(bucket).find(|&at| self.nodes[at as usize].next == node);
        match before {
            Some(before) => self.nodes[before as usize].next = next,
            None => self.first[bucket] = next.wrapping_add(1),
        }
        self.unlink(node);
        self.nodes[node as usize].next = std::mem::replace(&mut self.spare, node);
    }

    /// Forgets the one that was not used for longest.
    pub(crate) fn pop_oldest(&mut self) {
        if let Some(node) = self.nodes.get(self.oldest as usize) {
            let key = node.key;
            self.remove(&key);
        }
    }

    /// Keys and values, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            at = node.newer;
            Some((&node.key, &node.value))
        })
    }

    fn find(&self, key: &K) -> Option<u32> {
        self.chain(self.bucket(key)).find(|&node| self.nodes[node as usize].key == *key)
    }

    fn bucket(&self, key: &K) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "of the hash any bits do")]
        let hash = self.hasher.hash_one(key) as usize;
        hash & (self.first.len() - 1)
    }

    /// The nodes of a bucket.
    fn chain(&self, bucket: usize) -> impl Iterator<Item = u32> {
        let mut at = self.first[bucket].wrapping_sub(1);
        std::iter::from_fn(move || {
            let node = at;
            at = self.nodes.get(node as usize)?.next;
            Some(node)
        })
    }

    fn unlink(&mut self, node: u32) {
        let Node { newer, older, .. } = self.nodes[node as usize];
        match self.nodes.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.nodes.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
    }

    fn link_newest(&mut self, node: u32) {
        let before = std::mem::replace(&mut self.newest, node);
        let linked = &mut self.nodes[node as usize];
        (linked.older, linked.newer) = (before, NONE);
        match self.nodes.get_mut(before as usize) {
            Some(before) => before.newer = node,
            None => self.oldest = node,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_list_in_the_order_of_use(
            capacity in 1usize..6,
            steps in prop::collection::vec((0u8..8, 0u32..4, any::<u16>()), 0..200),
        ) {
            let mut recent = Recent::new(capacity);
            let mut list: Vec<(u8, u16)> = Vec::new();
            for (key, step, value) in steps {
                let known = list.iter().position(|&(other, _)| other == key);
                match step {
                    0 => {
                        recent.remove(&key);
                        known.map(|at| list.remove(at));
                    }
                    1 => {
                        recent.pop_oldest();
                        if !list.is_empty() {
                            list.remove(0);
                        }
                    }
                    _ => {
                        recent.put(key, value);
                        match known {
                            Some(at) => drop(list.remove(at)),
                            None if list.len() == capacity => drop(list.remove(0)),
                            None => {}
                        }
                        list.push((key, value));
                    }
                }
                let found: Vec<_> = recent.iter().map(|(&key, &value)| (key, value)).collect();
                prop_assert_eq!(&found, &list);
                prop_assert_eq!(recent.contains(&key), list.iter().any(|&(other, _)| other == key));
                prop_assert_eq!(recent.get_mut(&key).copied(), list.iter().find(|entry| entry.0 == key).map(|entry| entry.1));
            }
            prop_assert!(recent.nodes.len() <= capacity, "nodes are used again");
        }
    }

    #[test]
    fn it_never_asks_for_memory_however_it_is_used() {
        let mut recent = Recent::new(5000);
        let used = allocation_counter::measure(|| {
            for key in 0..50_000_u64 {
                recent.put(key, key);
                if key % 7 == 0 {
                    recent.remove(&(key / 2));
                }
            }
        });
        assert_eq!((used.count_total, recent.iter().count()), (0, 5000), "{used:?}");
    }
}

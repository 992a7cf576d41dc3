//! KV blocks: who holds them, which key they carry, and in which order free ones are taken again.
//! Entry point: [`BlockPool`]. It knows nothing of requests or time.
//!
//! One doubly linked list holds every block without a user. Blocks are taken from its head. A released block goes to
//! the tail if it carries a key (it may still be hit) and to the head if it does not.

use smallvec::SmallVec;

use super::hash::MixedKeyMap;

pub(super) type BlockId = u32;

/// Block 0 is never used (vLLM's null block), so it can close the free list into a ring.
const NULL: BlockId = 0;

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    users: u32,
    key: Option<u64>,
    prev: BlockId,
    next: BlockId,
}

#[derive(Debug)]
pub(super) struct BlockPool {
    blocks: Vec<Block>,
    /// Several blocks may carry the same key; the oldest serves.
    by_key: MixedKeyMap<SmallVec<[BlockId; 2]>>,
    n_free: u32,
}

impl BlockPool {
    /// Makes a pool of `n_blocks`, the null block included.
    pub(super) fn new(n_blocks: u32) -> Self {
        let mut pool = Self {
            blocks: vec![Block::default(); n_blocks as usize],
            by_key: MixedKeyMap::default(),
            n_free: 0,
        };
        for id in 1..n_blocks {
            pool.link_before(NULL, id);
        }
        pool
    }

    pub(super) fn n_free(&self) -> u32 {
        self.n_free
    }

    /// Blocks with at least one user.
    pub(super) fn n_used(&self) -> u32 {
        u32::try_from(self.blocks.len()).expect("made from a u32") - 1 - self.n_free
    }

    /// The block that serves `key`, in use or idle.
    pub(super) fn find(&self, key: u64) -> Option<BlockId> {
        self.by_key.get(&key).and_then(|ids| ids.first().copied())
    }

    pub(super) fn is_idle(&self, id: BlockId) -> bool {
        self.blocks[id as usize].users == 0
    }

    /// Adds a user to a block that [`Self::find`] gave.
    pub(super) fn hold(&mut self, id: BlockId) {
        if self.is_idle(id) {
            self.unlink(id);
        }
        self.blocks[id as usize].users += 1;
    }

    /// Takes the free block that was idle longest; what it cached is lost.
    pub(super) fn take(&mut self) -> Option<BlockId> {
        let id = self.blocks[NULL as usize].next;
        if id == NULL {
            return None;
        }
        self.unlink(id);
        self.forget_key(id);
        self.blocks[id as usize].users = 1;
        Some(id)
    }

    /// Gives a full block its key, so that others find it.
    pub(super) fn set_key(&mut self, id: BlockId, key: u64) {
        self.blocks[id as usize].key = Some(key);
        self.by_key.entry(key).or_default().push(id);
    }

    /// Gives up one use of each block of a chain, its tail first.
    pub(super) fn release(&mut self, chain: &[BlockId]) {
        for &id in chain.iter().rev() {
            let block = &mut self.blocks[id as usize];
            block.users -= 1;
            if block.users > 0 {
                continue;
            }
            let before = if block.key.is_some() { NULL } else { self.blocks[NULL as usize].next };
            self.link_before(before, id);
        }
    }

    fn forget_key(&mut self, id: BlockId) {
        let Some(key) = self.blocks[id as usize].key.take() else { return };
        if let Some(ids) = self.by_key.get_mut(&key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }

    fn link_before(&mut self, next: BlockId, id: BlockId) {
        let prev = self.blocks[next as usize].prev;
        self.blocks[id as usize].prev = prev;
        self.blocks[id as usize].next = next;
        self.blocks[prev as usize].next = id;
        self.blocks[next as usize].prev = id;
        self.n_free += 1;
    }

    fn unlink(&mut self, id: BlockId) {
        let Block { prev, next, .. } = self.blocks[id as usize];
        self.blocks[prev as usize].next = next;
        self.blocks[next as usize].prev = prev;
        self.n_free -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_blocks_come_in_order_and_run_out() {
        let mut pool = BlockPool::new(4);
        assert_eq!([pool.take(), pool.take(), pool.take(), pool.take()], [Some(1), Some(2), Some(3), None]);
        assert_eq!((pool.n_used(), pool.n_free()), (3, 0));
    }

    #[test]
    fn a_chain_is_evicted_from_its_tail_and_keyless_blocks_first() {
        let mut pool = BlockPool::new(4);
        let chain: Vec<BlockId> = (0..3).filter_map(|_| pool.take()).collect();
        pool.set_key(chain[0], 10);
        pool.set_key(chain[1], 11);
        pool.release(&chain);
        assert_eq!([pool.take(), pool.take(), pool.take()], [Some(chain[2]), Some(chain[1]), Some(chain[0])]);
        assert_eq!(pool.find(10), None);
    }

    #[test]
    fn a_shared_block_stays_used_until_its_last_user_leaves() {
        let mut pool = BlockPool::new(3);
        let id = pool.take().unwrap();
        pool.set_key(id, 7);
        pool.hold(id);
        pool.release(&[id]);
        assert_eq!(pool.n_used(), 1);
        pool.release(&[id]);
        assert_eq!((pool.n_used(), pool.find(7)), (0, Some(id)));
    }

    #[test]
    fn a_hit_on_an_idle_block_saves_it_from_eviction() {
        let mut pool = BlockPool::new(3);
        let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
        pool.set_key(a, 1);
        pool.set_key(b, 2);
        pool.release(&[a]);
        pool.release(&[b]);
        pool.hold(a);
        assert_eq!(pool.take(), Some(b));
        assert_eq!((pool.find(1), pool.find(2), pool.take()), (Some(a), None, None));
    }

    #[test]
    fn of_two_blocks_with_one_key_the_second_serves_when_the_first_is_gone() {
        let mut pool = BlockPool::new(3);
        let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
        pool.set_key(a, 5);
        pool.set_key(b, 5);
        assert_eq!(pool.find(5), Some(a));
        pool.release(&[a]);
        assert_eq!(pool.take(), Some(a));
        assert_eq!(pool.find(5), Some(b));
    }
}

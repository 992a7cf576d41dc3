//! Which endpoints hold which prompt blocks, as far as we know: block hash → owners, for [`Index::matches`].
//!
//! Readers take no lock and allocate nothing per block: a block is one probe in a flat table of atomics. Writers go
//! one at a time. Each endpoint keeps its most recently used blocks up to a capacity, so memory is bounded by
//! endpoints × capacity, at some 45 bytes per block that one endpoint holds and 40 more per further owner.
//! What a hash stands for, and who tells that a block is held, is not known here.

mod owners;
mod recency;
mod shard;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

use arc_swap::ArcSwap;
use epp_framework::endpoint::EndpointId;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use owners::{Owners, SLOT_LIMIT};
use recency::Recency;
use shard::{Shard, Table};

/// The upper byte of a key chooses the shard. Many small ones, so that a writer that has to copy one is soon done.
const N_SHARDS: usize = 256;

/// Blocks whose memory is fetched together: see [`warm`].
const BATCH: usize = 32;

type Batch = SmallVec<[u64; BATCH]>;

/// Blocks that a purge drops before it lets another writer pass.
const PURGE_STEP: usize = 256;

/// The largest capacity per endpoint that [`Index::new`] takes.
pub const MAX_CAPACITY: u32 = 1 << 28;

/// Block hashes and who holds them.
pub struct Index {
    view: ArcSwap<View>,
    writer: Mutex<Writer>,
    capacity: usize,
    secret: (u64, u64),
}

/// What readers see. Replaced when a table was, or when there are more slots.
struct View {
    tables: Vec<Arc<Table>>,
    /// By slot: generation of the owner + 1, or 0 while it has none.
    generations: Vec<AtomicU64>,
}

struct Writer {
    shards: Vec<Shard>,
    slots: Vec<Slot>,
}

#[derive(Default)]
struct Slot {
    /// Generations below this left, and are not listened to.
    first_generation: u64,
    owner: Option<Owner>,
}

struct Owner {
    generation: u32,
    blocks: Recency,
}

/// How much of a prompt each endpoint holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches(Vec<Match>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Match {
    /// Generation + 1, or 0 where there is no endpoint.
    generation: u64,
    n_blocks: u32,
}

impl Matches {
    /// Number of leading blocks that `endpoint` holds; 0 for an endpoint the index does not know.
    #[inline]
    pub fn n_blocks(&self, endpoint: EndpointId) -> u32 {
        let found = self.0.get(endpoint.slot as usize);
        found
            .filter(|found| found.generation == u64::from(endpoint.generation) + 1)
            .map_or(0, |found| found.n_blocks)
    }
}

impl Index {
    /// Makes an empty index that remembers up to `capacity_per_endpoint` blocks of each endpoint, 1 to
    /// [`MAX_CAPACITY`].
    pub fn new(capacity_per_endpoint: u32) -> Self {
        // Sizes spread over one step of growth, so that few shards are copied during one insert.
        let min_cells = |shard| 64 + shard * 32 / N_SHARDS;
        let shards = (0..N_SHARDS).map(|shard| Shard::new(min_cells(shard))).collect();
        let writer = Writer { shards, slots: Vec::new() };
        // Clients choose what is hashed; a secret keeps them from choosing where it lies. It changes no answer.
        let random = RandomState::new();
        Self {
            view: ArcSwap::from_pointee(writer.view()),
            writer: Mutex::new(writer),
            capacity: capacity_per_endpoint.clamp(1, MAX_CAPACITY) as usize,
            secret: (random.hash_one(0), random.hash_one(1) | 1),
        }
    }

    /// Counts, for every endpoint, how many of `hashes` it holds without a gap from the first.
    pub fn matches(&self, hashes: &[u64]) -> Matches {
        let view = self.view.load();
        // Generations come first: a block may then be credited to an endpoint that left, never to its successor.
        let unmatched = |generation: &AtomicU64| Match { generation: generation.load(Acquire), n_blocks: 0 };
        let mut matches: Vec<_> = view.generations.iter().map(unmatched).collect();
        let n_words = matches.len().div_ceil(64);
        let mut live = SmallVec::<[u64; 16]>::from_elem(u64::MAX, n_words);
        let mut holders = SmallVec::<[u64; 16]>::from_elem(0, n_words);
        let mut last = None;
        for (n_blocks, &hash) in (0..).zip(hashes) {
            let at = n_blocks as usize;
            if at.is_multiple_of(BATCH) {
                let keys = hashes[at..].iter().take(BATCH).map(|&hash| self.key(hash));
                warm(keys.map(|key| view.tables[shard_of(key)].peek(key)));
            }
            let owners = self.read(&view, hash, &mut holders);
            if last == Some(owners) && owners.wide_id().is_none() {
                continue;
            }
            last = Some(owners);
            if owners.wide_id().is_none() {
                spread(owners, &mut holders);
            }
            if !drop_others(&mut live, &holders, |slot| set(&mut matches, slot, n_blocks)) {
                return Matches(matches);
            }
        }
        let n_blocks = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
        drop_others(&mut live, &SmallVec::<[u64; 16]>::from_elem(0, n_words), |slot| {
            set(&mut matches, slot, n_blocks);
        });
        Matches(matches)
    }

    /// Learns that `endpoint` holds the blocks `hashes`, a chain from its beginning, and makes them its most recent.
    ///
    /// The first block becomes the most recent of all: what is forgotten first is the end of a chain, never its
    /// beginning, without which the rest could not match. Slots from 65,534 on are not indexed.
    pub fn insert(&self, endpoint: EndpointId, hashes: &[u64]) {
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        if hashes.is_empty() || endpoint.slot >= SLOT_LIMIT {
            return;
        }
        let Some(mut replaced) = self.claim(writer, endpoint) else { return };
        for batch in hashes[..hashes.len().min(self.capacity)].rchunks(BATCH) {
            let keys: Batch = batch.iter().rev().map(|&hash| self.key(hash)).collect();
            writer.warm(&keys, endpoint.slot);
            for key in keys {
                replaced |= writer.touch(key, endpoint.slot);
            }
            // What is left is the same as if each new block had evicted an old one at once.
            writer.keep_newest(endpoint.slot, self.capacity);
        }
        if replaced {
            self.view.store(Arc::new(writer.view()));
        }
    }

    /// Forgets everything that `endpoint` holds, for good: what is said of it later is not listened to.
    pub fn purge(&self, endpoint: EndpointId) {
        if endpoint.slot >= SLOT_LIMIT {
            return;
        }
        let mut writer = self.writer.lock();
        let slot = writer.slot(endpoint.slot);
        slot.first_generation = slot.first_generation.max(u64::from(endpoint.generation) + 1);
        if slot.owner.as_ref().is_none_or(|owner| owner.generation > endpoint.generation) {
            return;
        }
        self.publish_generation(endpoint.slot, 0);
        // A successor may come while another writer passes; it then drops the rest.
        while let Some(owner) = writer.slot(endpoint.slot).owner.as_ref()
            && owner.generation <= endpoint.generation
        {
            let n_left = owner.blocks.len().saturating_sub(PURGE_STEP);
            writer.keep_newest(endpoint.slot, n_left);
            if n_left == 0 {
                writer.slot(endpoint.slot).owner = None;
            } else {
                MutexGuard::bump(&mut writer);
            }
        }
        let mut replaced = false;
        for shard in &mut writer.shards {
            replaced |= shard.shrink();
        }
        if replaced {
            self.view.store(Arc::new(writer.view()));
        }
    }

    /// Number of distinct blocks that somebody holds.
    pub fn n_blocks(&self) -> usize {
        self.writer.lock().shards.iter().map(Shard::n_blocks).sum()
    }

    /// Number of blocks, each once per endpoint that holds it.
    pub fn n_entries(&self) -> usize {
        let writer = self.writer.lock();
        writer.slots.iter().filter_map(|slot| slot.owner.as_ref()).map(|owner| owner.blocks.len()).sum()
    }

    /// Bytes on the heap, but for what the allocator adds.
    pub fn memory_bytes(&self) -> usize {
        let writer = self.writer.lock();
        let tables: usize =
            writer.shards.iter().map(|shard| shard.table.memory_bytes() + size_of::<Shard>()).sum();
        let recency = |slot: &Slot| slot.owner.as_ref().map_or(0, |owner| owner.blocks.memory_bytes());
        tables + writer.slots.iter().map(|slot| recency(slot) + size_of::<Slot>()).sum::<usize>()
    }

    /// The owners of one block, from the table or, if a writer keeps moving things, while it is held off.
    fn read(&self, view: &View, hash: u64, holders: &mut [u64]) -> Owners {
        let key = self.key(hash);
        let table = &view.tables[shard_of(key)];
        table.read(key, holders).unwrap_or_else(|| {
            let _quiet = self.writer.lock();
            table.read(key, holders).expect("tables move only under the writer's lock")
        })
    }

    /// Makes `endpoint` the owner of its slot. Returns whether a new view is due, or `None` if it left already.
    fn claim(&self, writer: &mut Writer, endpoint: EndpointId) -> Option<bool> {
        let slot = writer.slot(endpoint.slot);
        if u64::from(endpoint.generation) < slot.first_generation {
            return None;
        }
        if slot.owner.as_ref().is_some_and(|owner| owner.generation == endpoint.generation) {
            return Some(false);
        }
        slot.first_generation = u64::from(endpoint.generation);
        if slot.owner.is_some() {
            self.publish_generation(endpoint.slot, 0);
            writer.keep_newest(endpoint.slot, 0);
        }
        let new = Owner { generation: endpoint.generation, blocks: Recency::new() };
        writer.slot(endpoint.slot).owner = Some(new);
        Some(!self.publish_generation(endpoint.slot, u64::from(endpoint.generation) + 1))
    }

    /// Tells readers the generation of a slot. Returns false where only a new view can.
    fn publish_generation(&self, slot: u32, generation: u64) -> bool {
        let view = self.view.load();
        let known = view.generations.get(slot as usize);
        // Pairs with the load in `matches`: who sees the generation sees the blocks of the one before gone.
        known.inspect(|known| known.store(generation, Release)).is_some()
    }

    /// The key of a hash: one to one, but for 0, which marks empty cells.
    fn key(&self, hash: u64) -> u64 {
        (hash ^ self.secret.0).wrapping_mul(self.secret.1).max(1)
    }
}

impl Writer {
    fn slot(&mut self, slot: u32) -> &mut Slot {
        let slot = slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, Slot::default);
        }
        &mut self.slots[slot]
    }

    /// Makes `key` the most recent block of the endpoint at `slot`. Returns whether a table was replaced.
    fn touch(&mut self, key: u64, slot: u32) -> bool {
        let shard = &mut self.shards[shard_of(key)];
        let position = shard.table.position(key);
        let owners = position.map_or(Owners::NONE, |at| shard.table.owners(at));
        let known = match owners.sole_node() {
            Some((owner, node)) if owner == slot => Some(node),
            Some((owner, node)) => {
                blocks(&mut self.slots, owner).share(node);
                None
            }
            None if owners == Owners::NONE => None,
            None => blocks(&mut self.slots, slot).find(key),
        };
        let blocks = blocks(&mut self.slots, slot);
        if let Some(node) = known {
            blocks.renew(node);
            return false;
        }
        let node = blocks.push(key);
        if owners != Owners::NONE {
            blocks.share(node);
        }
        shard.add(position, key, slot, node)
    }

    /// Drops all but the most recent `n_kept` blocks of the endpoint at `slot`.
    fn keep_newest(&mut self, slot: u32, n_kept: usize) {
        let Self { shards, slots } = self;
        let blocks = blocks(slots, slot);
        while blocks.len() > n_kept {
            let dropped: Batch = blocks.keys().take((blocks.len() - n_kept).min(BATCH)).collect();
            warm(dropped.iter().map(|&key| shards[shard_of(key)].table.peek(key)));
            warm(dropped.iter().map(|&key| shards[shard_of(key)].table.peek_next(key)));
            for key in dropped {
                let owners = shards[shard_of(key)].remove(key, slot);
                blocks.pop_oldest(owners.sole_node().is_none());
            }
        }
    }

    /// Warms what making the endpoint at `slot` an owner of `keys` will touch.
    fn warm(&mut self, keys: &[u64], slot: u32) {
        let table = |key| &self.shards[shard_of(key)].table;
        warm(keys.iter().map(|&key| table(key).peek(key)));
        let blocks = blocks(&mut self.slots, slot);
        let shared = |key| table(key).seems_shared(key);
        warm(keys.iter().filter(|&&key| shared(key)).map(|&key| blocks.peek(key)));
    }

    /// What readers should see now. Old views keep the generations they had: their tables are as old.
    fn view(&self) -> View {
        let generation = |slot: &Slot| {
            let generation = slot.owner.as_ref().map(|owner| u64::from(owner.generation));
            generation.filter(|&known| known >= slot.first_generation).map_or(0, |known| known + 1)
        };
        View {
            tables: self.shards.iter().map(|shard| Arc::clone(&shard.table)).collect(),
            generations: self.slots.iter().map(|slot| AtomicU64::new(generation(slot))).collect(),
        }
    }
}

/// Has the memory behind `peeks` fetched all at once: one after the other, the probes that follow would wait for each
/// cache line in turn.
fn warm(peeks: impl Iterator<Item = u64>) {
    std::hint::black_box(peeks.fold(0, |sum, peek| sum ^ peek));
}

/// The blocks of the endpoint at `slot`, of which there must be one.
fn blocks(slots: &mut [Slot], slot: u32) -> &mut Recency {
    &mut slots[slot as usize].owner.as_mut().expect("who owns blocks is not forgotten before they are").blocks
}

fn shard_of(key: u64) -> usize {
    usize::from(key.to_be_bytes()[0])
}

/// Writes the slots of a word as bits, as far as `bits` reaches: slots beyond are newer than the view.
fn spread(owners: Owners, bits: &mut [u64]) {
    bits.fill(0);
    for slot in owners.slots() {
        if let Some(word) = bits.get_mut(slot as usize / 64) {
            *word |= 1 << (slot % 64);
        }
    }
}

/// Leaves in `live` only what is in `holders`, telling of each slot that drops out. Returns whether any is left.
fn drop_others(live: &mut [u64], holders: &[u64], mut dropped: impl FnMut(usize)) -> bool {
    let mut any = 0;
    for (at, (live, holders)) in live.iter_mut().zip(holders).enumerate() {
        let mut gone = *live & !holders;
        while gone != 0 {
            dropped(at * 64 + gone.trailing_zeros() as usize);
            gone &= gone - 1;
        }
        *live &= holders;
        any |= *live;
    }
    any != 0
}

fn set(matches: &mut [Match], slot: usize, n_blocks: u32) {
    if let Some(found) = matches.get_mut(slot) {
        found.n_blocks = n_blocks;
    }
}

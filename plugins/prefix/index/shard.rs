//! One shard of the index: a flat open-addressed table of atomics, and the writer's side of it.
//!
//! [`Table`] is what readers see: they probe it without a lock, under a sequence count that tells them when a writer
//! moved something under them. [`Shard`] is its one writer. When a table runs out of room it is copied into a larger
//! one and never written again, so a reader that still has the old one sees an old answer and nothing worse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence};

use super::owners::Owners;
use super::recency::distance;

/// A wide set becomes a plain word again at this many owners: below what fits, so that it does not flap.
const FEW_AGAIN: u32 = 3;

/// Attempts of a reader before it should ask for quiet.
const ATTEMPTS: u32 = 64;

/// Cells in a cache line.
const CELLS_PER_LINE: usize = 4;

/// One block: its key, 0 in an empty cell, and its owners.
#[derive(Default)]
struct Cell {
    key: AtomicU64,
    owners: AtomicU64,
}

/// A cache line of cells, in no order. A probe looks at whole lines, without a branch that depends on where in one the
/// key is, and ends at one with an empty cell: mostly the first.
#[derive(Default)]
#[repr(align(64))]
struct Line([Cell; CELLS_PER_LINE]);

impl Line {
    /// The first cell that holds `key`, or is empty if `key` is 0.
    #[inline]
    fn find(&self, key: u64) -> Option<usize> {
        let holds = |at: usize| u32::from(self.0[at].key.load(Acquire) == key) << at;
        let found = (0..CELLS_PER_LINE).fold(0, |found, at| found | holds(at));
        (found != 0).then_some(found.trailing_zeros() as usize)
    }
}

/// What readers see of a shard.
pub(super) struct Table {
    /// Odd while cells move or wide sets change hands.
    version: AtomicU64,
    lines: Box<[Line]>,
    /// Bitmaps by slot, `stride` words each.
    wide: Box<[AtomicU64]>,
    stride: usize,
}

impl Table {
    fn new(n_cells: usize, n_wide: usize, stride: usize) -> Self {
        Self {
            version: AtomicU64::new(0),
            lines: (0..n_cells.div_ceil(CELLS_PER_LINE)).map(|_| Line::default()).collect(),
            wide: (0..n_wide * stride).map(|_| AtomicU64::new(0)).collect(),
            stride,
        }
    }

    /// The owners of `key`; those of a wide set are also copied into `bits`, one bit per slot, as far as it reaches.
    /// `None` when writers did not leave the table alone for long enough.
    #[inline]
    pub(super) fn read(&self, key: u64, bits: &mut [u64]) -> Option<Owners> {
        for _ in 0..ATTEMPTS {
            // A sequence lock: pairs with the fence and the last store of `moving`.
            let version = self.version.load(Acquire);
            if version & 1 == 0 {
                let owners = self.position(key).map_or(Owners::NONE, |at| self.owners(at));
                if let Some(id) = owners.wide_id() {
                    self.copy_wide(id, bits);
                }
                fence(Acquire);
                if self.version.load(Relaxed) == version {
                    return Some(owners.without_node());
                }
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Reads where a probe for `key` begins and makes nothing of it: see [`super::warm`].
    #[inline]
    pub(super) fn peek(&self, key: u64) -> u64 {
        self.lines[self.home(key)].0[0].key.load(Relaxed)
    }

    /// Like [`peek`](Self::peek), for the next line, if the first is full.
    #[inline]
    pub(super) fn peek_next(&self, key: u64) -> u64 {
        let line = self.home(key);
        let is_full = self.lines[line].find(0).is_none();
        if is_full { self.lines[self.after(line)].0[0].key.load(Relaxed) } else { 0 }
    }

    /// Whether `key` has owners that share it, as far as the line tells where a probe for it begins.
    #[inline]
    pub(super) fn seems_shared(&self, key: u64) -> bool {
        let line = self.home(key);
        let at = self.lines[line].find(key);
        at.is_some_and(|at| self.owners(line * CELLS_PER_LINE + at).sole_node().is_none())
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.lines) + size_of_val(&*self.wide)
    }

    /// The owners in the cell `at`.
    #[inline]
    pub(super) fn owners(&self, at: usize) -> Owners {
        Owners(self.cell(at).owners.load(Acquire))
    }

    #[inline]
    fn cell(&self, at: usize) -> &Cell {
        &self.lines[at / CELLS_PER_LINE].0[at % CELLS_PER_LINE]
    }

    fn n_cells(&self) -> usize {
        self.lines.len() * CELLS_PER_LINE
    }

    fn copy_wide(&self, id: u32, bits: &mut [u64]) {
        bits.fill(0);
        for (to, from) in bits.iter_mut().zip(self.wide_words(id)) {
            *to = from.load(Relaxed);
        }
    }

    fn wide_words(&self, id: u32) -> &[AtomicU64] {
        &self.wide[id as usize * self.stride..][..self.stride]
    }

    /// The cell that holds `key`, or else the empty one where it belongs.
    #[inline]
    pub(super) fn position(&self, key: u64) -> Result<usize, usize> {
        let mut line = self.home(key);
        // Cells that move while they are read could hide the empty one: hence the bound.
        for _ in 0..self.lines.len() {
            if let Some(at) = self.lines[line].find(key) {
                return Ok(line * CELLS_PER_LINE + at);
            }
            if let Some(at) = self.lines[line].find(0) {
                return Err(line * CELLS_PER_LINE + at);
            }
            line = self.after(line);
        }
        Err(line * CELLS_PER_LINE)
    }

    /// Fills an empty cell. The key comes last: who sees it sees its owners.
    fn fill(&self, at: usize, key: u64, owners: Owners) {
        self.cell(at).owners.store(owners.0, Relaxed);
        self.cell(at).key.store(key, Release);
    }

    /// Runs `change` while readers wait.
    fn moving(&self, change: impl FnOnce()) {
        let version = self.version.load(Relaxed);
        self.version.store(version + 1, Relaxed);
        fence(Release);
        change();
        self.version.store(version + 2, Release);
    }

    /// Empties the cell `hole`. What lies behind only because its line was full moves up, so that no probe ends early
    /// and no tombstone stays.
    fn close(&self, mut hole: usize) {
        let full = hole / CELLS_PER_LINE;
        let (mut full, mut line) = (full, full);
        while self.lines[line].find(0).is_none() {
            line = self.after(line);
            let steps = distance(full, line, self.lines.len());
            let cells = line * CELLS_PER_LINE..(line + 1) * CELLS_PER_LINE;
            let displaced = |&at: &usize| {
                let key = self.cell(at).key.load(Relaxed);
                key != 0 && distance(self.home(key), line, self.lines.len()) >= steps
            };
            if let Some(at) = cells.clone().find(displaced) {
                self.fill(hole, self.cell(at).key.load(Relaxed), self.owners(at));
                (hole, full) = (at, line);
            }
        }
        self.cell(hole).key.store(0, Relaxed);
    }

    /// The line where the probe for `key` begins. The upper byte chose the shard and is the same for all keys in here.
    fn home(&self, key: u64) -> usize {
        let line = (u128::from(key << 8) * self.lines.len() as u128) >> 64;
        usize::try_from(line).expect("below the number of lines")
    }

    fn after(&self, line: usize) -> usize {
        if line + 1 == self.lines.len() { 0 } else { line + 1 }
    }
}

/// What a table has too little of.
enum Lack {
    Cells,
    Wide,
    /// Wide sets need this many words.
    Stride(usize),
}

/// The writer's side of a table.
pub(super) struct Shard {
    /// The table as it is now; whoever is told that it was replaced must publish it.
    pub(super) table: Arc<Table>,
    min_cells: usize,
    n_blocks: usize,
    /// Wide sets handed out so far; those in `free` may be handed out again.
    n_wide: u32,
    free: Vec<u32>,
}

impl Shard {
    /// Makes an empty one of `min_cells` cells. All its later sizes follow from this one, so shards that begin with
    /// different sizes do not all grow at the same time.
    pub(super) fn new(min_cells: usize) -> Self {
        let table = Arc::new(Table::new(min_cells, 0, 0));
        Self { table, min_cells, n_blocks: 0, n_wide: 0, free: Vec::new() }
    }

    /// Number of distinct blocks that somebody holds.
    pub(super) fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    /// Makes the endpoint at `slot`, which has the block in its node number `node`, an owner of `key`, of which the
    /// position is given. Returns whether the table was replaced.
    pub(super) fn add(&mut self, mut position: Result<usize, usize>, key: u64, slot: u32, node: u32) -> bool {
        let mut replaced = false;
        while let Err(lack) = self.try_add(position, key, slot, node) {
            self.make_room(&lack);
            position = self.table.position(key);
            replaced = true;
        }
        replaced
    }

    /// The endpoint at `slot` no longer owns `key`. Returns its owners before.
    pub(super) fn remove(&mut self, key: u64, slot: u32) -> Owners {
        let table = &self.table;
        let Ok(at) = table.position(key) else { return Owners::NONE };
        let owners = table.owners(at);
        if let Some(id) = owners.wide_id() {
            self.remove_from_wide(at, id, slot);
            return owners;
        }
        match owners.without(slot) {
            Owners::NONE => {
                table.moving(|| table.close(at));
                self.n_blocks -= 1;
            }
            left => table.cell(at).owners.store(left.0, Release),
        }
        owners
    }

    /// Gives back memory if most of it is unused. Returns whether the table was replaced.
    pub(super) fn shrink(&mut self) -> bool {
        let mut n_cells = self.min_cells;
        while n_cells < self.n_blocks * 2 {
            n_cells = grown(n_cells);
        }
        let shrinks = n_cells * 2 < self.table.n_cells();
        if shrinks {
            let n_wide = self.n_wide as usize - self.free.len();
            self.rebuild(n_cells, n_wide, self.table.stride);
        }
        shrinks
    }

    fn try_add(
        &mut self,
        position: Result<usize, usize>,
        key: u64,
        slot: u32,
        node: u32,
    ) -> Result<(), Lack> {
        let table = &self.table;
        let at = match position {
            Ok(at) => at,
            Err(_) if (self.n_blocks + 1) * 3 > table.n_cells() * 2 => return Err(Lack::Cells),
            Err(at) => {
                table.fill(at, key, Owners::sole(slot, node));
                self.n_blocks += 1;
                return Ok(());
            }
        };
        let owners = table.owners(at);
        if let Some(id) = owners.wide_id() {
            let n_words = n_words(slot);
            let word = table.wide_words(id).get(n_words - 1).ok_or(Lack::Stride(n_words))?;
            word.fetch_or(1 << (slot % 64), Release);
        } else {
            let with = match owners.with(slot) {
                Some(few) => few,
                None => self.widen(owners, slot)?,
            };
            self.table.cell(at).owners.store(with.0, Release);
        }
        Ok(())
    }

    /// Makes a wide set of `owners` and `slot`.
    fn widen(&mut self, owners: Owners, slot: u32) -> Result<Owners, Lack> {
        let n_words = owners.slots().map(n_words).max().map_or(0, |most| most.max(n_words(slot)));
        if n_words > self.table.stride {
            return Err(Lack::Stride(n_words));
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None if (self.n_wide as usize + 1) * self.table.stride > self.table.wide.len() => {
                return Err(Lack::Wide);
            }
            None => {
                self.n_wide += 1;
                self.n_wide - 1
            }
        };
        let words = self.table.wide_words(id);
        for word in words {
            word.store(0, Relaxed);
        }
        for slot in owners.slots().chain([slot]) {
            words[n_words_before(slot)].fetch_or(1 << (slot % 64), Relaxed);
        }
        Ok(Owners::wide(id))
    }

    fn remove_from_wide(&mut self, at: usize, id: u32, slot: u32) {
        let table = &self.table;
        let words = table.wide_words(id);
        let Some(word) = words.get(n_words_before(slot)) else { return };
        word.fetch_and(!(1 << (slot % 64)), Release);
        let n_owners: u32 = words.iter().map(|word| word.load(Relaxed).count_ones()).sum();
        if n_owners > FEW_AGAIN {
            return;
        }
        let few =
            slots(words).try_fold(Owners::NONE, Owners::with).expect("FEW_AGAIN owners fit into a word");
        // The set will have another owner of its own: readers that are in it must look again.
        table.moving(|| table.cell(at).owners.store(few.0, Relaxed));
        self.free.push(id);
    }

    fn make_room(&mut self, lack: &Lack) {
        let (n_cells, stride) = (self.table.n_cells(), self.table.stride);
        let n_wide = self.table.wide.len().checked_div(stride).unwrap_or(0);
        match *lack {
            Lack::Cells => self.rebuild(grown(n_cells), n_wide, stride),
            Lack::Wide => self.rebuild(n_cells, n_wide + n_wide / 2 + 4, stride),
            Lack::Stride(n_words) => self.rebuild(n_cells, n_wide, n_words.max(stride * 2)),
        }
    }

    /// Copies everything into a table of another size.
    fn rebuild(&mut self, n_cells: usize, n_wide: usize, stride: usize) {
        let (old, new) = (&self.table, Table::new(n_cells, n_wide, stride));
        self.n_wide = 0;
        self.free = Vec::new();
        for at in 0..old.n_cells() {
            let key = old.cell(at).key.load(Relaxed);
            if key == 0 {
                continue;
            }
            let mut owners = old.owners(at);
            if let Some(id) = owners.wide_id() {
                for (to, from) in new.wide_words(self.n_wide).iter().zip(old.wide_words(id)) {
                    to.store(from.load(Relaxed), Relaxed);
                }
                owners = Owners::wide(self.n_wide);
                self.n_wide += 1;
            }
            let at = new.position(key).expect_err("each key is in the old table once");
            new.fill(at, key, owners);
        }
        self.table = Arc::new(new);
    }
}

/// The next larger size of a table.
fn grown(n_cells: usize) -> usize {
    (n_cells + n_cells / 2).next_multiple_of(CELLS_PER_LINE)
}

fn n_words_before(slot: u32) -> usize {
    slot as usize / 64
}

/// Words that a bitmap needs to hold `slot`.
fn n_words(slot: u32) -> usize {
    n_words_before(slot) + 1
}

/// The slots in a bitmap, ascending.
fn slots(words: &[AtomicU64]) -> impl Iterator<Item = u32> {
    (0u32..).zip(words).flat_map(|(at, word)| {
        let word = word.load(Relaxed);
        (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn add(shard: &mut Shard, key: u64, slot: u32) {
        shard.add(shard.table.position(key), key, slot, 7);
    }

    fn owners(table: &Table, key: u64) -> BTreeSet<u32> {
        let mut bits = [0; 4];
        let owners = table.read(key, &mut bits).expect("nobody writes");
        match owners.wide_id() {
            Some(_) => slots(&bits.map(AtomicU64::new)).collect(),
            None => owners.slots().collect(),
        }
    }

    proptest! {
        /// Few homes for many keys, and slots on both sides of each word of a bitmap.
        #[test]
        fn holds_what_was_added_and_not_removed(
            steps in prop::collection::vec((any::<bool>(), 1u64..5, 0u64..24, 0usize..9), 0..600),
        ) {
            let mut shard = Shard::new(8);
            let mut model = BTreeMap::<u64, BTreeSet<u32>>::new();
            let key = |upper: u64, lower: u64| upper << 53 | lower << 10 | 1;
            for (adds, upper, lower, slot) in steps {
                let (key, slot) = (key(upper, lower), [0, 1, 2, 3, 5, 63, 64, 127, 200][slot]);
                if adds {
                    add(&mut shard, key, slot);
                    model.entry(key).or_default().insert(slot);
                } else {
                    shard.remove(key, slot);
                    model.entry(key).or_default().remove(&slot);
                }
                prop_assert_eq!(owners(&shard.table, key), model[&key].clone());
            }
            for shrink in [false, true] {
                if shrink {
                    shard.shrink();
                }
                for (&key, want) in &model {
                    prop_assert_eq!(&owners(&shard.table, key), want);
                }
                prop_assert_eq!(shard.n_blocks(), model.values().filter(|owners| !owners.is_empty()).count());
            }
        }
    }

    #[test]
    fn churn_does_not_grow_a_table() {
        let mut shard = Shard::new(8);
        let key = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut peak = 0;
        for n in 0..20_000 {
            for slot in 0..6 {
                add(&mut shard, key(n), slot);
                if n >= 100 {
                    shard.remove(key(n - 100), slot);
                }
            }
            if n == 1000 {
                peak = shard.table.memory_bytes();
            }
        }
        assert_eq!(shard.n_blocks(), 100);
        assert_eq!(shard.table.memory_bytes(), peak);
        for n in 19_900..20_000 {
            for slot in 0..6 {
                shard.remove(key(n), slot);
            }
        }
        assert!(shard.shrink());
        assert_eq!((shard.n_blocks(), shard.table.wide.len(), shard.table.n_cells()), (0, 0, 8));
    }
}

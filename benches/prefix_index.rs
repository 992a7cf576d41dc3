//! The prefix index at 100 endpoints and a million blocks: matching and learning a prompt of 1,600 blocks.
//!
//! `floor` is the bare walk through one flat table of as many cells, nothing counted: what memory alone costs. Each
//! iteration takes another chain, so that caches do not flatter.

use std::hint::black_box;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use divan::Bencher;
use divan::counter::ItemsCount;
use epp_framework::endpoint::EndpointId;
use epp_framework::prompt::Prompt;
use epp_plugins::prefix::block_hash;
use epp_plugins::prefix::index::Index;

const N_ENDPOINTS: u32 = 100;
const N_CHAINS: u64 = 625;
const N_BLOCKS: usize = 1600;
const CAPACITY: u32 = 31_250;

/// A power of two, half of it in use.
const N_FLOOR_CELLS: usize = 1 << 21;

/// A million blocks, each held by two endpoints, the first quarter of each chain by six.
static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let index = Index::new(CAPACITY);
    for chain in 0..N_CHAINS {
        let hashes = hashes(chain);
        (0..4).for_each(|n| index.insert(endpoint(chain * 13 + 10 + n), &hashes[..N_BLOCKS / 4]));
        (0..2).for_each(|n| index.insert(endpoint(chain + n * 7), &hashes));
    }
    index
});

/// Every endpoint at its capacity: each new block evicts an old one.
static FULL: LazyLock<Index> = LazyLock::new(|| {
    let index = Index::new(CAPACITY);
    for chain in 0..u64::from(N_ENDPOINTS) * 20 {
        index.insert(endpoint(chain), &hashes(chain));
    }
    index
});

static FLOOR: LazyLock<Vec<(u64, u64)>> = LazyLock::new(|| {
    let mut cells = vec![(0, 0); N_FLOOR_CELLS];
    for hash in (0..N_CHAINS).flat_map(hashes) {
        let at = floor_position(&cells, hash);
        cells[at] = (hash, hash);
    }
    cells
});

static NEXT: AtomicU64 = AtomicU64::new(0);

#[expect(clippy::print_stdout, reason = "the report is the purpose")]
fn main() {
    for (name, index) in [("two owners, some six", &*INDEX), ("one owner, all full", &*FULL)] {
        let (n_blocks, n_bytes) = (index.n_blocks(), index.memory_bytes());
        println!(
            "{name}: {n_blocks} blocks, {n_bytes} bytes, {:.1} per block",
            n_bytes as f64 / n_blocks as f64
        );
    }
    divan::main();
}

fn endpoint(n: u64) -> EndpointId {
    let slot = u32::try_from(n % u64::from(N_ENDPOINTS)).expect("below the number of endpoints");
    EndpointId { slot, generation: 0 }
}

fn hashes(chain: u64) -> Vec<u64> {
    let prompt: Vec<u8> =
        (0..N_BLOCKS as u64).flat_map(|block| (chain << 32 | block).to_le_bytes()).collect();
    block_hash::chain("model", None, &Prompt::text(prompt), 8, N_BLOCKS)
}

fn floor_position(cells: &[(u64, u64)], hash: u64) -> usize {
    let mut at = usize::try_from(hash >> 43).expect("21 bits are kept");
    while cells[at].0 != hash && cells[at].0 != 0 {
        at = (at + 1) % N_FLOOR_CELLS;
    }
    at
}

/// The hashes of a chain that was not touched for long.
fn another() -> (u64, Vec<u64>) {
    let chain = NEXT.fetch_add(1, Relaxed) * 37 % N_CHAINS;
    (chain, hashes(chain))
}

#[divan::bench]
fn floor(bencher: Bencher<'_, '_>) {
    let cells = &*FLOOR;
    bencher.counter(ItemsCount::new(N_BLOCKS)).with_inputs(another).bench_refs(|(_, hashes)| {
        hashes.iter().fold(0, |sum, &hash| sum ^ cells[floor_position(cells, hash)].1)
    });
}

#[divan::bench]
fn matches(bencher: Bencher<'_, '_>) {
    let index = &*INDEX;
    bencher
        .counter(ItemsCount::new(N_BLOCKS))
        .with_inputs(another)
        .bench_refs(|(_, hashes)| black_box(index.matches(hashes)));
}

/// Against the larger index, where each block has one owner.
#[divan::bench]
fn matches_one_owner(bencher: Bencher<'_, '_>) {
    let index = &*FULL;
    // The newest chains: those that every endpoint still holds.
    let held = || hashes(u64::from(N_ENDPOINTS) * 10 + NEXT.fetch_add(1, Relaxed) * 37 % 900);
    bencher
        .counter(ItemsCount::new(N_BLOCKS))
        .with_inputs(held)
        .bench_refs(|hashes| black_box(index.matches(hashes)));
}

#[divan::bench]
fn insert_known(bencher: Bencher<'_, '_>) {
    let index = &*INDEX;
    bencher
        .counter(ItemsCount::new(N_BLOCKS))
        .with_inputs(another)
        .bench_refs(|(chain, hashes)| index.insert(endpoint(*chain), hashes));
}

#[divan::bench]
fn insert_new(bencher: Bencher<'_, '_>) {
    // With room for all that is inserted here.
    let index = Index::new(CAPACITY * 8);
    for chain in 0..N_CHAINS {
        index.insert(endpoint(chain), &hashes(chain));
    }
    let fresh = || {
        let chain = NEXT.fetch_add(1, Relaxed) + 2_000_000;
        (chain, hashes(chain))
    };
    bencher
        .counter(ItemsCount::new(N_BLOCKS))
        .with_inputs(fresh)
        .bench_refs(|(chain, hashes)| index.insert(endpoint(*chain), hashes));
}

#[divan::bench]
fn insert_new_evicting(bencher: Bencher<'_, '_>) {
    let index = &*FULL;
    let fresh = || {
        let chain = NEXT.fetch_add(1, Relaxed) + 1_000_000;
        (chain, hashes(chain))
    };
    bencher
        .counter(ItemsCount::new(N_BLOCKS))
        .with_inputs(fresh)
        .bench_refs(|(chain, hashes)| index.insert(endpoint(*chain), hashes));
}

/// The hashing alone, for the prompt that these blocks stand for at the default block size: 100 KiB.
#[divan::bench]
fn hash_100_kib(bencher: Bencher<'_, '_>) {
    let prompt = Prompt::text(vec![b'a'; 64 * N_BLOCKS]);
    bencher
        .counter(ItemsCount::new(N_BLOCKS))
        .bench(|| block_hash::chain(black_box("model"), None, black_box(&prompt), 64, N_BLOCKS));
}

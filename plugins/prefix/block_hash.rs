//! Cuts a prompt into blocks and hashes each together with all before it: [`chain`].
//!
//! The hash is ours alone (XXH3 with the previous hash as seed); it need not equal any model server's, nor that of
//! another picker, because only our own decisions are looked up by it. It is the same in every process and build.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Hashes the full blocks of `prompt`, `block_size` bytes each (at least 1), up to `max_blocks` of them.
///
/// A hash stands for the model, the block and all blocks before it. A tail shorter than a block is dropped.
pub fn chain(model: &str, prompt: &[u8], block_size: usize, max_blocks: usize) -> Vec<u64> {
    let mut previous = xxh3_64(model.as_bytes());
    let blocks = prompt.chunks_exact(block_size).take(max_blocks);
    blocks
        .map(|block| {
            previous = xxh3_64_with_seed(block, previous);
            previous
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_blocks_up_to_the_maximum_are_hashed() {
        for (name, n_bytes, block_size, max_blocks, want) in [
            ("X1: a tail is dropped", 6, 4, 256, 1),
            ("X6: shorter than a block", 3, 4, 256, 0),
            ("X7: truncated", 300 * 4, 4, 256, 256),
            ("empty", 0, 64, 256, 0),
            ("exact", 128, 64, 256, 2),
        ] {
            assert_eq!(chain("m", &vec![b'a'; n_bytes], block_size, max_blocks).len(), want, "{name}");
        }
    }

    #[test]
    fn a_hash_stands_for_the_model_and_everything_before() {
        let base = chain("m", b"aaaabbbbcccc", 4, 9);
        for (name, model, prompt, n_equal) in [
            ("same", "m", "aaaabbbbcccc", 3),
            ("longer", "m", "aaaabbbbccccdddd", 3),
            ("last block differs", "m", "aaaabbbbcccd", 2),
            ("first block differs", "m", "baaabbbbcccc", 0),
            ("blocks swapped", "m", "bbbbaaaacccc", 0),
            ("another model", "n", "aaaabbbbcccc", 0),
        ] {
            let other = chain(model, prompt.as_bytes(), 4, 9);
            let equal: Vec<_> = base.iter().zip(&other).map(|(a, b)| a == b).collect();
            let want: Vec<_> = (0..equal.len()).map(|block| block < n_equal).collect();
            assert_eq!(equal, want, "{name}");
        }
    }
}

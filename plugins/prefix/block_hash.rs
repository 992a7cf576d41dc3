//! Cuts a prompt into blocks and hashes each together with all before it: [`chain`].
//!
//! The hash is ours alone (XXH3 with the previous hash as seed); it need not equal any model server's, nor that of
//! another picker, because only our own decisions are looked up by it. It is the same in every process and build.

use std::ops::ControlFlow;

use epp_framework::prompt::Prompt;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Hashes the full blocks of `prompt`, `block_size` bytes each (at least 1), up to `max_blocks` of them; what is behind
/// those is not read.
///
/// A hash stands for the model, the salt, the block and all blocks before it. A tail shorter than a block is dropped.
pub fn chain(
    model: &str,
    salt: Option<&str>,
    prompt: &Prompt,
    block_size: usize,
    max_blocks: usize,
) -> Vec<u64> {
    let model = xxh3_64(model.as_bytes());
    let mut previous = salt.map_or(model, |salt| xxh3_64_with_seed(salt.as_bytes(), model));
    let mut hashes = Vec::new();
    // The beginning of a block that lies in several runs.
    let mut begun: Vec<u8> = Vec::new();
    let mut block = |block: &[u8]| {
        previous = xxh3_64_with_seed(block, previous);
        hashes.push(previous);
        if hashes.len() < max_blocks { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    if max_blocks > 0 {
        prompt.read(|mut run| {
            if !begun.is_empty() {
                let (head, rest) = run.split_at(run.len().min(block_size - begun.len()));
                begun.extend_from_slice(head);
                run = rest;
                if begun.len() < block_size {
                    return ControlFlow::Continue(());
                }
                block(&begun)?;
                begun.clear();
            }
            let blocks = run.chunks_exact(block_size);
            begun.extend_from_slice(blocks.remainder());
            for whole in blocks {
                block(whole)?;
            }
            ControlFlow::Continue(())
        });
    }
    hashes
}

#[cfg(test)]
mod tests {
    use epp_framework::prompt::Piece;

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
            let prompt = Prompt::text(vec![b'a'; n_bytes]);
            assert_eq!(chain("m", None, &prompt, block_size, max_blocks).len(), want, "{name}");
        }
    }

    #[test]
    fn a_hash_stands_for_the_model_and_everything_before() {
        let chain = |model, salt, prompt: &'static str| chain(model, salt, &Prompt::text(prompt), 4, 9);
        let base = chain("m", None, "aaaabbbbcccc");
        for (name, model, salt, prompt, n_equal) in [
            ("same", "m", None, "aaaabbbbcccc", 3),
            ("longer", "m", None, "aaaabbbbccccdddd", 3),
            ("last block differs", "m", None, "aaaabbbbcccd", 2),
            ("first block differs", "m", None, "baaabbbbcccc", 0),
            ("blocks swapped", "m", None, "bbbbaaaacccc", 0),
            ("another model", "n", None, "aaaabbbbcccc", 0),
            ("another salt", "m", Some("s"), "aaaabbbbcccc", 0),
        ] {
            let other = chain(model, salt, prompt);
            let equal: Vec<_> = base.iter().zip(&other).map(|(a, b)| a == b).collect();
            let want: Vec<_> = (0..equal.len()).map(|block| block < n_equal).collect();
            assert_eq!(equal, want, "{name}");
        }
    }

    #[test]
    fn pieces_do_not_show_in_the_hashes() {
        let text: Vec<u8> = (0..1000u32).map(|n| n.to_le_bytes()[0]).collect();
        let whole = Prompt::text(text.clone());
        for (size, block_size, max_blocks) in
            [(1, 64, 256), (3, 64, 5), (64, 64, 256), (200, 7, 256), (65, 64, 0)]
        {
            let mut cut = Prompt::of(text.clone().into());
            (0..text.len()).step_by(size).for_each(|at| {
                let end = text.len().min(at + size);
                cut.push(Piece::Raw(at..end), end - at);
            });
            let hashes = chain("m", None, &cut, block_size, max_blocks);
            assert_eq!(hashes, chain("m", None, &whole, block_size, max_blocks), "{size}");
            assert_eq!(hashes.len(), (text.len() / block_size).min(max_blocks), "{size}");
        }
    }
}

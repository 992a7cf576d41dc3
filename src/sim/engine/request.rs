//! One request inside an engine: what is known of its tokens, what is computed, and which blocks it holds.
//! Prompts are reduced to block keys when they arrive, so a waiting request costs half a byte per token.

use super::blocks::{BlockId, BlockPool};
use super::hash::mix;
use super::{EngineRequest, RequestId};
use crate::sim::text::N_WORDS;

/// The answer to a prompt: a deterministic sequence, the same for the same prompt and seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    key: u64,
}

impl Output {
    /// The token at `index`, counted from the first token of the answer.
    pub fn token(self, index: u32) -> u32 {
        u32::try_from(mix(self.key, u64::from(index)) % u64::from(N_WORDS)).expect("below a u32")
    }
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) n_prompt: u32,
    pub(super) max_tokens: u32,
    pub(super) output: Output,
    pub(super) n_output: u32,
    /// Tokens whose keys and values stand in `blocks`.
    pub(super) n_computed: u32,
    pub(super) was_admitted: bool,
    pub(super) is_aborted: bool,
    blocks: Vec<BlockId>,
    /// Leading `blocks` that carry their key.
    n_keyed: usize,
    /// Keys of full blocks, as far as they were needed yet.
    keys: Vec<u64>,
    root: u64,
    /// The prompt's tokens after its last full block.
    prompt_tail: Vec<u32>,
    block_size: u32,
}

impl Request {
    pub(super) fn new(id: RequestId, asked: &EngineRequest, block_size: u32, seed: u64) -> Self {
        let root = mix(seed, asked.salt);
        let chunks = asked.prompt_tokens.chunks_exact(block_size as usize);
        let prompt_tail = chunks.remainder().to_vec();
        let mut last = root;
        let keys = chunks
            .map(|chunk| {
                last = block_key(last, chunk.iter().copied());
                last
            })
            .collect();
        let output = Output { key: block_key(last, prompt_tail.iter().copied()) };
        Self {
            id,
            n_prompt: u32::try_from(asked.prompt_tokens.len()).expect("checked against the context limit"),
            max_tokens: asked.max_tokens,
            output,
            n_output: 0,
            n_computed: 0,
            was_admitted: false,
            is_aborted: false,
            blocks: Vec::new(),
            n_keyed: 0,
            keys,
            root,
            prompt_tail,
            block_size,
        }
    }

    /// Prompt tokens and tokens sampled so far.
    pub(super) fn n_known(&self) -> u32 {
        self.n_prompt + self.n_output
    }

    pub(super) fn n_remaining(&self) -> u32 {
        self.max_tokens - self.n_output
    }

    /// Whether all that was asked for is there.
    pub(super) fn is_complete(&self) -> bool {
        self.n_remaining() == 0 && self.n_computed >= self.n_prompt
    }

    /// Whether the next step computes just the token sampled last.
    pub(super) fn is_decoding(&self) -> bool {
        self.n_output > 0 && self.n_computed + 1 == self.n_known()
    }

    /// Blocks missing before `n_tokens` can stand in blocks.
    pub(super) fn n_missing_blocks(&self, n_tokens: u32) -> u32 {
        n_tokens.div_ceil(self.block_size).saturating_sub(self.n_blocks())
    }

    fn n_blocks(&self) -> u32 {
        u32::try_from(self.blocks.len()).expect("bounded by the pool")
    }

    /// Finds the longest cached prefix. It leaves at least one known token to compute.
    pub(super) fn find_cached(&mut self, pool: &BlockPool) -> Vec<BlockId> {
        let n_most = (self.n_known() - 1) / self.block_size;
        (0..n_most as usize).map_while(|index| pool.find(self.key(index))).collect()
    }

    /// Makes cached blocks the beginning of this request's chain.
    pub(super) fn start_from(&mut self, cached: Vec<BlockId>, pool: &mut BlockPool) {
        for &id in &cached {
            pool.hold(id);
        }
        self.n_keyed = cached.len();
        self.blocks = cached;
        self.n_computed = self.n_blocks() * self.block_size;
    }

    /// Takes the blocks that `n_tokens` need and publishes those that are full then. Changes nothing if too few are free.
    pub(super) fn reserve(&mut self, n_tokens: u32, pool: &mut BlockPool) -> bool {
        let n_missing = self.n_missing_blocks(n_tokens);
        if n_missing > pool.n_free() {
            return false;
        }
        for _ in 0..n_missing {
            self.blocks.extend(pool.take());
        }
        for index in self.n_keyed..(n_tokens / self.block_size) as usize {
            pool.set_key(self.blocks[index], self.key(index));
            self.n_keyed = index + 1;
        }
        true
    }

    /// Gives all blocks back; what was computed must be computed (or found) again.
    pub(super) fn release(&mut self, pool: &mut BlockPool) {
        pool.release(&std::mem::take(&mut self.blocks));
        self.n_keyed = 0;
        self.n_computed = 0;
    }

    fn key(&mut self, index: usize) -> u64 {
        while self.keys.len() <= index {
            let parent = self.keys.last().copied().unwrap_or(self.root);
            let first =
                u32::try_from(self.keys.len()).expect("bounded by the context limit") * self.block_size;
            let tokens = (first..first + self.block_size).map(|position| self.token(position));
            let key = block_key(parent, tokens);
            self.keys.push(key);
        }
        self.keys[index]
    }

    /// The token at a position after the prompt's last full block.
    fn token(&self, position: u32) -> u32 {
        match position.checked_sub(self.n_prompt) {
            Some(index) => self.output.token(index),
            None => self.prompt_tail[(position % self.block_size) as usize],
        }
    }
}

fn block_key(parent: u64, tokens: impl Iterator<Item = u32>) -> u64 {
    tokens.fold(mix(parent, 1), |state, token| mix(state, u64::from(token)))
}

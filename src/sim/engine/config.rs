//! What an engine is like: sizes, limits and step costs, with presets of known models on known GPUs.
//! Entry point: [`EngineConfig`]. Nothing is read from files or flags here.

use thiserror::Error;

/// The sizes and speeds of one engine. Names are vLLM's where it has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Tokens per KV block, at least 1.
    pub block_size: u32,
    /// KV blocks, the unusable null block included; 2 to [`MAX_BLOCKS`].
    pub num_gpu_blocks: u32,
    /// Requests that may run at once, at least 1.
    pub max_num_seqs: u32,
    /// Tokens that one step may compute, at least 1.
    pub max_num_batched_tokens: u32,
    /// Prompt and output tokens that one request may have together.
    pub max_model_len: u32,
    /// Requests that may wait; more are refused. (vLLM's own queue is unbounded unless told otherwise.)
    pub max_waiting: u32,
    /// What a step costs.
    pub cost: StepCost,
}

/// The largest accepted `num_gpu_blocks`: it bounds what the block table takes in memory.
pub const MAX_BLOCKS: u32 = 1 << 24;

/// The time of one step as a sum of linear costs, all in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepCost {
    /// Every step. Taken as at least one microsecond.
    pub base_ns: u64,
    /// Each prompt token computed.
    pub prefill_ns_per_token: u64,
    /// Each sequence in the step.
    pub decode_ns_per_seq: u64,
    /// Each token of context that a decoding sequence reads.
    pub kv_ns_per_token: u64,
    /// The context at which attention doubles a prefill chunk's cost; 0 leaves the quadratic part out.
    pub attention_doubles_at: u64,
}

impl Default for EngineConfig {
    /// An 8B model on one H100.
    fn default() -> Self {
        PRESETS[DEFAULT_PRESET].engine()
    }
}

impl EngineConfig {
    /// Blocks that requests may use.
    pub fn usable_blocks(&self) -> u32 {
        self.num_gpu_blocks.saturating_sub(1)
    }

    /// The longest request, prompt and output together, that this engine can ever finish.
    pub fn longest_request(&self) -> u32 {
        self.max_model_len.min(self.usable_blocks().saturating_mul(self.block_size))
    }

    /// Checks the ranges that the fields name.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least_one = [
            ("block_size", self.block_size),
            ("max_num_seqs", self.max_num_seqs),
            ("max_num_batched_tokens", self.max_num_batched_tokens),
            ("max_model_len", self.max_model_len),
            ("max_waiting", self.max_waiting),
        ];
        for (field, value) in at_least_one {
            if value == 0 {
                return Err(ConfigError::Zero(field));
            }
        }
        if !(2..=MAX_BLOCKS).contains(&self.num_gpu_blocks) {
            return Err(ConfigError::Blocks(self.num_gpu_blocks));
        }
        Ok(())
    }
}

/// A configuration that no engine can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A size or limit that must be positive.
    #[error("engine setting `{0}` is 0, expected at least 1")]
    Zero(&'static str),
    /// Too few or too many blocks.
    #[error("engine setting `num_gpu_blocks` is {0}, expected 2 to {MAX_BLOCKS}")]
    Blocks(u32),
}

/// A named model on named hardware. Costs are fitted to public benchmarks: base within 15 %, prefill within 30 %.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// What a flag calls it: size of the model, number format if not bf16, GPU, tensor parallelism.
    pub name: &'static str,
    base_us: u64,
    prefill_us: u64,
    kv_ns: u64,
    attention_doubles_at: u64,
    n_blocks: u32,
}

const DEFAULT_PRESET: usize = 2;

/// The presets, smallest model first.
pub const PRESETS: [Preset; 10] = [
    preset("8b-a100-40", [13_400, 103, 120, 32_768], 8_100),
    preset("8b-a100", [10_300, 103, 92, 32_768], 25_800),
    preset("8b-h100", [6_500, 36, 56, 32_768], 25_800),
    preset("8b-h200", [4_700, 36, 39, 32_768], 52_500),
    preset("32b-a100-tp2", [21_800, 234, 92, 65_536], 17_800),
    preset("32b-h100-tp2", [13_900, 82, 56, 65_536], 17_800),
    preset("32b-h200", [17_600, 147, 78, 65_536], 14_400),
    preset("70b-a100-tp4", [23_600, 251, 57, 81_920], 26_700),
    preset("70b-h100-tp4", [15_100, 88, 35, 81_920], 26_700),
    preset("70b-h100-tp8", [8_500, 44, 17, 81_920], 80_000),
];

const fn preset(name: &'static str, costs: [u64; 4], n_blocks: u32) -> Preset {
    let [base_us, prefill_us, kv_ns, attention_doubles_at] = costs;
    Preset { name, base_us, prefill_us, kv_ns, attention_doubles_at, n_blocks }
}

impl Preset {
    /// The engine that this preset describes, with vLLM's default limits for such a GPU.
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            block_size: 16,
            num_gpu_blocks: self.n_blocks,
            max_num_seqs: 256,
            max_num_batched_tokens: 8192,
            max_model_len: 131_072,
            max_waiting: 4096,
            cost: StepCost {
                base_ns: self.base_us * 1000,
                prefill_ns_per_token: self.prefill_us * 1000,
                decode_ns_per_seq: 12_000,
                kv_ns_per_token: self.kv_ns,
                attention_doubles_at: self.attention_doubles_at,
            },
        }
    }
}

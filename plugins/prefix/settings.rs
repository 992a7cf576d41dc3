//! Parameters of approximate prefix matching, of every release that has it: [`Settings`].
//!
//! A token is taken for four bytes of prompt. `prefix-cache-scorer` takes all of these parameters, the producer those
//! of v1.5 and later.

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::prompt::BYTES_PER_TOKEN;

use super::index::MAX_CAPACITY;

/// Blocks per endpoint that are remembered when the configuration says nothing, or nothing above 0.
const DEFAULT_CAPACITY: u32 = 31_250;

/// Size of a block where nothing else is said, in bytes: 16 tokens.
const DEFAULT_BLOCK_BYTES: i64 = 64;

const MAX_BLOCK_BYTES: i64 = 1 << 20;

/// Tokens of a prompt that count where the configuration says nothing.
pub(crate) const DEFAULT_MAX_TOKENS: i64 = 131_072;

/// Blocks of a prompt that count in v1.0.1, whose files are told by [`HASH_BLOCK_SIZE`].
const FORMER_MAX_BLOCKS: usize = 256;

const BYTES: i64 = 4;
const _: () = assert!(BYTES_PER_TOKEN == 4, "the same");

/// Largest limit of a prompt that can be given.
const MAX_LIMIT: i64 = 1 << 32;

const HASH_BLOCK_SIZE_NAME: &str = "hashBlockSize";
const AUTO_TUNE_NAME: &str = "autoTune";
const BLOCK_TOKENS_NAME: &str = "blockSizeTokens";
const BLOCK_BYTES_NAME: &str = "blockSize";
const MAX_BLOCKS_NAME: &str = "maxPrefixBlocksToMatch";
const MAX_TOKENS_NAME: &str = "maxPrefixTokensToMatch";
const CAPACITY_NAME: &str = "lruCapacityPerServer";

/// Of v1.0.1.
pub(crate) const HASH_BLOCK_SIZE: Parameter = Parameter {
    name: HASH_BLOCK_SIZE_NAME,
    kind: ParameterKind::OptionalInteger { min: 1, max: MAX_BLOCK_BYTES },
    unit: "bytes of prompt",
    summary: "Size of the blocks that a prompt is cut into, where the other two sizes do not say; 64 unless said.",
};

/// Of v1.5.
pub(crate) const AUTO_TUNE: Parameter = Parameter {
    name: AUTO_TUNE_NAME,
    kind: ParameterKind::Boolean { default: true },
    unit: "",
    summary: "Accepted; sizes are those written here, or the defaults.",
};

/// Of v1.5.
pub(crate) const BLOCK_TOKENS: Parameter = Parameter {
    name: BLOCK_TOKENS_NAME,
    kind: ParameterKind::OptionalInteger { min: 0, max: MAX_BLOCK_BYTES / BYTES },
    unit: "tokens",
    summary: "Size of the blocks that a prompt is cut into, 16 unless said; a token is taken for four bytes.",
};

/// Of v1.5.
pub(crate) const BLOCK_BYTES: Parameter = Parameter {
    name: BLOCK_BYTES_NAME,
    kind: ParameterKind::OptionalInteger { min: 0, max: MAX_BLOCK_BYTES },
    unit: "bytes of prompt",
    summary: "Older than `blockSizeTokens`, and without effect beside it.",
};

/// Of all releases.
pub(crate) const MAX_BLOCKS: Parameter = Parameter {
    name: MAX_BLOCKS_NAME,
    kind: ParameterKind::OptionalInteger { min: 0, max: MAX_LIMIT },
    unit: "blocks",
    summary: "How many blocks of a prompt are matched at most, from its beginning; 0 is no limit.",
};

/// Of v1.5, with the default of one of its users.
pub(crate) const fn max_tokens(default: i64) -> Parameter {
    Parameter {
        name: MAX_TOKENS_NAME,
        kind: ParameterKind::Integer { default, min: 0, max: MAX_LIMIT },
        unit: "tokens",
        summary: "How many tokens of a prompt are matched at most; 0 is no limit. The smaller of both limits counts.",
    }
}

/// Of all releases.
pub(crate) const CAPACITY: Parameter = Parameter {
    name: CAPACITY_NAME,
    kind: ParameterKind::Integer {
        default: DEFAULT_CAPACITY as i64,
        min: i64::MIN,
        max: MAX_CAPACITY as i64,
    },
    unit: "blocks",
    summary: "How many blocks are remembered per endpoint; 0 or less means the default.",
};

/// How prompts are matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Size of a block in bytes, at least 1.
    pub(crate) block_bytes: usize,
    /// Blocks of a prompt that count.
    pub(crate) max_blocks: usize,
    /// Blocks remembered per endpoint.
    pub(crate) capacity: u32,
}

impl Default for Settings {
    /// Blocks of 16 tokens, and no limit of a prompt.
    fn default() -> Self {
        Self { block_bytes: size(DEFAULT_BLOCK_BYTES), max_blocks: usize::MAX, capacity: DEFAULT_CAPACITY }
    }
}

impl Settings {
    /// Reads the parameters of v1.5. Without any limit `max_blocks` of a prompt count.
    pub(crate) fn read(parameters: &Parameters, max_blocks: usize) -> Self {
        Self::of_size(parameters, DEFAULT_BLOCK_BYTES, max_blocks)
    }

    /// The same with [`HASH_BLOCK_SIZE`]. Without any limit as many blocks count as in v1.0.1 if that is given, else
    /// [`DEFAULT_MAX_TOKENS`].
    pub(crate) fn read_all(parameters: &Parameters) -> Self {
        let former = parameters.optional_integer(HASH_BLOCK_SIZE_NAME);
        let otherwise = former.unwrap_or(DEFAULT_BLOCK_BYTES);
        let by_tokens = || size(DEFAULT_MAX_TOKENS * BYTES / block_bytes(parameters, otherwise)).max(1);
        let max_blocks = former.map_or_else(by_tokens, |_| FORMER_MAX_BLOCKS);
        Self::of_size(parameters, otherwise, max_blocks)
    }

    fn of_size(parameters: &Parameters, otherwise: i64, max_blocks: usize) -> Self {
        let block_bytes = block_bytes(parameters, otherwise);
        let by_blocks = parameters.optional_integer(MAX_BLOCKS_NAME);
        let by_tokens = parameters.integer(MAX_TOKENS_NAME);
        let limits = [
            by_blocks.filter(|&blocks| blocks > 0),
            Some(by_tokens * BYTES / block_bytes).filter(|_| by_tokens > 0),
        ];
        let limit = limits.into_iter().flatten().min().map(size);
        let otherwise = if by_blocks.is_some() { usize::MAX } else { max_blocks };
        Self {
            block_bytes: size(block_bytes),
            max_blocks: limit.unwrap_or(otherwise),
            capacity: match parameters.integer(CAPACITY_NAME) {
                ..=0 => DEFAULT_CAPACITY,
                capacity => u32::try_from(capacity).unwrap_or(MAX_CAPACITY),
            },
        }
    }

    /// Tokens per block, rounded up.
    pub(crate) fn block_tokens(&self) -> u32 {
        u32::try_from(self.block_bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u32::MAX)
    }
}

/// Size of a block, `otherwise` where those of v1.5 do not say.
fn block_bytes(parameters: &Parameters, otherwise: i64) -> i64 {
    let given = |name| parameters.optional_integer(name).filter(|&size| size > 0);
    let in_tokens = given(BLOCK_TOKENS_NAME).map(|tokens| tokens * BYTES);
    in_tokens.or_else(|| given(BLOCK_BYTES_NAME)).unwrap_or(otherwise)
}

fn size(value: i64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// What is wrong with sizes that are each right by themselves.
pub(crate) fn check(parameters: &Parameters) -> Vec<String> {
    let nothing = parameters.optional_integer(BLOCK_TOKENS_NAME) == Some(0);
    if nothing && !parameters.boolean(AUTO_TUNE_NAME) {
        return vec![format!(
            "`{BLOCK_TOKENS_NAME}` is 0 and `{AUTO_TUNE_NAME}` is false, so blocks have no size"
        )];
    }
    Vec::new()
}

/// What may surprise in parameters that are read as `settings`.
pub(crate) fn review(parameters: &Parameters, settings: &Settings) -> Vec<String> {
    let given = |name| parameters.optional_integer(name).is_some_and(|size| size > 0);
    let mut told = Vec::new();
    if given(BLOCK_TOKENS_NAME) && given(BLOCK_BYTES_NAME) {
        told.push(format!("`{BLOCK_BYTES_NAME}` does nothing beside `{BLOCK_TOKENS_NAME}`"));
    }
    // Limits in blocks are at least one.
    if settings.max_blocks == 0 {
        told.push(format!(
            "no prompt is matched: `{MAX_TOKENS_NAME}` is {}, which is less than a block of {} bytes",
            parameters.integer(MAX_TOKENS_NAME),
            settings.block_bytes
        ));
    }
    told
}

/// The parameters of [`Settings::read_all`] that are not the defaults.
pub(crate) fn changed(parameters: &Parameters) -> Vec<&'static str> {
    let optional = [HASH_BLOCK_SIZE_NAME, BLOCK_TOKENS_NAME, BLOCK_BYTES_NAME, MAX_BLOCKS_NAME];
    let integers = [(MAX_TOKENS_NAME, 0), (CAPACITY_NAME, i64::from(DEFAULT_CAPACITY))];
    let given = optional.into_iter().filter(|name| parameters.has(name));
    let other = integers.into_iter().filter(|&(name, default)| parameters.integer(name) != default);
    let tuned = (!parameters.boolean(AUTO_TUNE_NAME)).then_some(AUTO_TUNE_NAME);
    given.chain(other.map(|(name, _)| name)).chain(tuned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefix::approximate::TYPE as PRODUCER;
    use crate::scorer::prefix_cache::TYPE as SCORER;
    use crate::testing::{parsed, reviewed};

    fn settings(parameters: &str) -> [(usize, usize, u32); 2] {
        let given = serde_json::from_str(parameters).unwrap();
        let scorer = Settings::read_all(&parsed(SCORER.parameters, &given));
        let producer = Settings::read(&parsed(PRODUCER.parameters, &given), 2048);
        [scorer, producer].map(|found| (found.block_bytes, found.max_blocks, found.capacity))
    }

    #[test]
    fn parameters_of_both_generations_are_read() {
        for (name, parameters, scorer, producer) in [
            ("defaults", "{}", (64, 8192), (64, 8192)),
            ("X17: a limit in tokens", r#"{"blockSizeTokens": 64}"#, (256, 2048), (256, 2048)),
            ("in bytes", r#"{"blockSize": 100}"#, (100, 5242), (100, 5242)),
            ("tokens win", r#"{"blockSize": 100, "blockSizeTokens": 1}"#, (4, 131_072), (4, 131_072)),
            ("0 says nothing", r#"{"blockSize": 0, "blockSizeTokens": 0}"#, (64, 8192), (64, 8192)),
            ("limit in blocks", r#"{"maxPrefixBlocksToMatch": 1024}"#, (64, 1024), (64, 1024)),
            (
                "the smaller limit",
                r#"{"maxPrefixBlocksToMatch": 1024, "maxPrefixTokensToMatch": 1600}"#,
                (64, 100),
                (64, 100),
            ),
            ("tokens alone", r#"{"maxPrefixTokensToMatch": 8000}"#, (64, 500), (64, 500)),
            ("no limit in tokens", r#"{"maxPrefixTokensToMatch": 0}"#, (64, 8192), (64, 2048)),
            (
                "no limit at all",
                r#"{"maxPrefixBlocksToMatch": 0, "maxPrefixTokensToMatch": 0}"#,
                (64, usize::MAX),
                (64, usize::MAX),
            ),
        ] {
            let found = settings(parameters).map(|(block_bytes, max_blocks, _)| (block_bytes, max_blocks));
            assert_eq!(found, [scorer, producer], "{name}");
        }
    }

    #[test]
    fn the_block_size_of_v1_0_1_brings_its_limit() {
        for (parameters, want) in [
            (r#"{"hashBlockSize": 64}"#, (64, 256)),
            (r#"{"hashBlockSize": 4}"#, (4, 256)),
            (r#"{"hashBlockSize": 4, "maxPrefixBlocksToMatch": 1024}"#, (4, 1024)),
            (r#"{"hashBlockSize": 4, "maxPrefixBlocksToMatch": 0}"#, (4, usize::MAX)),
            (r#"{"hashBlockSize": 4, "maxPrefixTokensToMatch": 8000}"#, (4, 8000)),
            (r#"{"blockSize": 1048576}"#, (1 << 20, 1)),
        ] {
            let given = serde_json::from_str(parameters).unwrap();
            let found = Settings::read_all(&parsed(SCORER.parameters, &given));
            assert_eq!((found.block_bytes, found.max_blocks), want, "{parameters}");
        }
    }

    #[test]
    fn a_limit_below_a_block_is_told() {
        for (parameters, wrong) in [
            (r#"{"maxPrefixTokensToMatch": 15}"#, true),
            (r#"{"maxPrefixTokensToMatch": 16}"#, false),
            (r#"{"maxPrefixTokensToMatch": 0}"#, false),
            (r#"{"maxPrefixTokensToMatch": 63, "blockSizeTokens": 64}"#, true),
            (r#"{"maxPrefixBlocksToMatch": 1, "maxPrefixTokensToMatch": 15}"#, true),
        ] {
            for plugin_type in [&SCORER, &PRODUCER] {
                let told = reviewed(plugin_type, parameters);
                assert_eq!(told.contains("no prompt is matched"), wrong, "{parameters}: {told}");
            }
        }
        let elsewhere =
            reviewed(&SCORER, r#"{"maxPrefixTokensToMatch": 15, "prefixMatchInfoProducerName": "p"}"#);
        assert!(!elsewhere.contains("no prompt is matched"), "{elsewhere}");
    }

    #[test]
    fn x18_a_capacity_of_zero_or_less_means_the_default() {
        for (given, want) in [(0, 31_250), (-5, 31_250), (7, 7)] {
            let found = settings(&format!(r#"{{"lruCapacityPerServer": {given}}}"#));
            assert_eq!(found.map(|(_, _, capacity)| capacity), [want; 2], "{given}");
        }
    }

    #[test]
    fn x15_blocks_without_a_size_are_refused() {
        for (parameters, wrong) in [
            (r#"{"autoTune": false, "blockSizeTokens": 0}"#, true),
            (r#"{"autoTune": false}"#, false),
            (r#"{"blockSizeTokens": 0}"#, false),
        ] {
            let given = serde_json::from_str(parameters).unwrap();
            for declared in [SCORER.parameters, PRODUCER.parameters] {
                assert_eq!(!check(&parsed(declared, &given)).is_empty(), wrong, "{parameters}");
            }
        }
    }
}

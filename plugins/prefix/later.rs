//! Types that learn from more than what was sent where: they load, and match approximately.
//!
//! `precise-prefix-cache-producer` is to read KV events, `token-producer` to tokenize, `burst-prefix-cache-producer` to
//! hold requests back, `p2p-source-producer` to name a peer. Each says in one warning that it does not.

use epp_framework::data::{Extractor, Payload};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Data, Kind, Plugin, PluginType, Stability, releases};
use epp_framework::prompt::BYTES_PER_TOKEN;

use super::approximate::ApproximatePrefix;
use super::settings::Settings;

/// What is said of matching that is meant to be precise.
pub(crate) const APPROXIMATELY: &str = "KV events are not read yet: prompts are matched by what was sent where, as `approx-prefix-cache-producer` does";

/// `precise-prefix-cache-producer`.
pub(crate) const PRECISE: PluginType = PluginType {
    name: "precise-prefix-cache-producer",
    summary: "Tells other plugins how much of the prompt each endpoint holds.",
    about: "KV events are not read yet. Until they are it matches prompts by what was sent where, in blocks of \
            `tokenProcessorConfig.blockSizeTokens`; the other parameters are accepted and do nothing.",
    parameters: PRECISE_PARAMETERS,
    // Files list it under a source of events, too, which it does not need.
    kinds: &[Kind::Produces(Data::PrefixMatches), Kind::Extractor(Payload::Events)],
    build: |parameters, cx| Plugin {
        extractor: Some(Extractor::Other),
        ..approximate(precise_settings(parameters), cx)
    },
    review: |_| vec![APPROXIMATELY.to_owned()],
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

/// Parameters of precise matching.
pub(crate) const PRECISE_PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "tokenProcessorConfig",
        kind: ParameterKind::Map { fields: || TOKEN_PROCESSOR, required: false, one_of: false },
        unit: "",
        summary: "How prompts are cut into blocks.",
    },
    unread("indexerConfig", "Where blocks are kept."),
    unread("kvEventsConfig", "Where events come from."),
    unread("speculativeIndexing", "Whether what was sent counts before an event confirms it; it does."),
    unread("speculativeTTL", "For how long it does."),
];

const TOKEN_PROCESSOR: &[Parameter] = &[
    Parameter {
        name: "blockSizeTokens",
        kind: BLOCK_SIZE,
        unit: "tokens",
        summary: "Size of a block; 16 unless said.",
    },
    Parameter {
        name: "blockSize",
        kind: BLOCK_SIZE,
        unit: "tokens",
        summary: "Older, and without effect beside it.",
    },
    unread("hashSeed", "Seed of the hashes."),
    unread("hashAlgorithm", "How blocks are hashed."),
];

const BLOCK_SIZE: ParameterKind = ParameterKind::OptionalInteger { min: 0, max: 1 << 16 };

const fn unread(name: &'static str, summary: &'static str) -> Parameter {
    // The plugin's own warning tells.
    Parameter { name, kind: ParameterKind::Ignored { because: "" }, unit: "", summary }
}

/// How prompts are matched under [`PRECISE_PARAMETERS`].
pub(crate) fn precise_settings(parameters: &Parameters) -> Settings {
    let processor = parameters.map("tokenProcessorConfig");
    let given = |name| processor?.optional_integer(name).filter(|&size| size > 0);
    let tokens = given("blockSizeTokens").or_else(|| given("blockSize")).unwrap_or(16);
    Settings { block_bytes: usize::try_from(tokens).unwrap_or(16) * BYTES_PER_TOKEN, ..Settings::default() }
}

fn approximate(settings: Settings, cx: &BuildContext<'_>) -> Plugin {
    ApproximatePrefix::new(settings, cx).plugin()
}

/// `burst-prefix-cache-producer`.
pub(crate) const BURST: PluginType = PluginType {
    name: "burst-prefix-cache-producer",
    summary: "Tells other plugins how much of the prompt each endpoint holds or is about to.",
    about: "Requests are not held back to be placed together: what was sent where counts from the decision on, before \
            any answer, so a burst with one beginning already goes to one place.",
    parameters: &[
        Parameter {
            name: "blockSizeTokens",
            kind: ParameterKind::Integer { default: 64, min: 1, max: 1 << 16 },
            unit: "tokens",
            summary: "Size of a block.",
        },
        unread("windowDurationMs", "For how long requests are held back; none is."),
        unread("maxPerReplica", "How many of a batch one endpoint may get."),
        unread("maxPrefixTokensToMatch", "How many tokens of a prompt are matched at most."),
        unread("minColocateBlocks", "From how many common blocks on requests belong together."),
        unread("maxBatchSize", "How many requests are placed together."),
        unread("balanceBy", "What is balanced."),
    ],
    kinds: &[Kind::Produces(Data::PrefixMatches)],
    build: |parameters, cx| {
        let tokens = usize::try_from(parameters.integer("blockSizeTokens")).unwrap_or(64);
        approximate(Settings { block_bytes: tokens * BYTES_PER_TOKEN, ..Settings::default() }, cx)
    },
    review: |_| vec!["no request is held back: prompts are matched by what was sent where".to_owned()],
    stability: Stability::Alpha,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

/// `p2p-source-producer`.
pub(crate) const PEER_SOURCE: PluginType = PluginType {
    name: "p2p-source-producer",
    summary: "Names a peer that holds more of the prompt than the endpoint that was picked.",
    about: "It loads, and names nobody yet: `x-kv-cache-source-host-port` is not set.",
    parameters: &[
        unread("prefixMatchInfoProducerName", "Who says how much of the prompt each endpoint holds."),
        unread("minCachedTokenDelta", "How many tokens more the peer must hold."),
        unread("prefillProfileName", "Profile whose pick gets the header."),
    ],
    review: |_| vec!["no peer is named yet, `x-kv-cache-source-host-port` is not set".to_owned()],
    stability: Stability::Alpha,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

/// `token-producer`.
pub(crate) const TOKENS: PluginType = PluginType {
    name: "token-producer",
    aliases: &["tokenizer"],
    summary: "Tells other plugins the tokens of the prompt.",
    about: "Tokens are estimated, four bytes each, whether it is declared or not; where a request has token ids they are \
            counted. A backend (`vllm`, `modelName`, `udsTokenizerConfig`) is accepted and not asked yet.",
    parameters: &[
        unread("estimate", "Estimates; what is done anyway."),
        unread("vllm", "A server that tokenizes."),
        unread("modelName", "Model whose tokenizer is used."),
        unread("udsTokenizerConfig", "A tokenizer beside the process."),
    ],
    kinds: &[Kind::Produces(Data::Tokens)],
    review: |_| vec!["no tokenizer is asked yet: tokens are estimated, four bytes each".to_owned()],
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

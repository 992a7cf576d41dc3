//! Which plugin types each release of the Go EPP registers, and the parameters that they read, as far as they differ
//! from ours.

use epp_framework::plugin::Release;

use Release::{LlmD, V1_0_1, V1_5};

const ALL: &[Release] = &[V1_0_1, V1_5, LlmD];
const SINCE_1_5: &[Release] = &[V1_5, LlmD];
const ONLY_1_5: &[Release] = &[V1_5];
const LLM_D: &[Release] = &[LlmD];

/// What a type may be to the loader.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Picks.
    Picker,
    /// Scores; may filter as well.
    Scorer,
    /// Filters, and does not score.
    Filter,
    /// Handles profiles.
    Handler,
    /// Reads requests.
    Parser,
    /// Nothing that a profile or the request handler refers to.
    Other,
}

/// A type as the Go EPP registers it.
pub(super) struct Registered {
    pub(super) name: &'static str,
    /// Those that register it, of v1.0.1 and later.
    pub(super) releases: &'static [Release],
    pub(super) role: Role,
    /// Whether llm-d takes it with `--allow-experimental-plugins` only.
    pub(super) is_alpha: bool,
}

impl Registered {
    /// Whether a release registers it.
    pub(super) fn is_in(&self, release: Release) -> bool {
        self.releases.contains(&release)
    }

    /// The type of this name, whatever the release.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        REGISTRY.iter().flat_map(|(_, types)| *types).find(|known| known.name == name)
    }
}

const fn row(name: &'static str, releases: &'static [Release], role: Role) -> Registered {
    Registered { name, releases, role, is_alpha: false }
}

const fn alpha(name: &'static str, role: Role) -> Registered {
    Registered { name, releases: LLM_D, role, is_alpha: true }
}

use Role::{Filter, Handler, Other, Parser, Picker, Scorer};

const REGISTRY: &[(&str, &[Registered])] = &[
    ("scorers", SCORERS),
    ("filters", FILTERS),
    ("pickers and handlers", PICKERS),
    ("parsers", PARSERS),
    ("data", DATA),
    ("flow control and admission", FLOW),
];

const SCORERS: &[Registered] = &[
    row("queue-scorer", ALL, Scorer),
    row("kv-cache-utilization-scorer", ALL, Scorer),
    row("prefix-cache-scorer", ALL, Scorer),
    row("lora-affinity-scorer", ALL, Scorer),
    row("running-requests-size-scorer", SINCE_1_5, Scorer),
    row("token-load-scorer", SINCE_1_5, Scorer),
    row("predicted-latency-scorer", ONLY_1_5, Scorer),
    row("latency-scorer", SINCE_1_5, Scorer),
    row("load-aware-scorer", LLM_D, Scorer),
    row("context-length-aware", LLM_D, Scorer),
    row("no-hit-lru-scorer", LLM_D, Scorer),
    row("active-request-scorer", LLM_D, Scorer),
    row("mm-embeddings-cache-scorer", LLM_D, Scorer),
    row("precise-prefix-cache-scorer", LLM_D, Scorer),
    alpha("session-affinity-scorer", Scorer),
    alpha("header-label-affinity-scorer", Scorer),
    alpha("endpoint-attribute-scorer", Scorer),
    alpha("topology-affinity-scorer", Scorer),
    alpha("multicluster-queue-scorer", Scorer),
    alpha("multicluster-kv-cache-utilization-scorer", Scorer),
    alpha("multicluster-prefix-cache-scorer", Scorer),
];

const FILTERS: &[Registered] = &[
    row("header-based-testing-filter", ALL, Filter),
    row("prefix-cache-affinity-filter", SINCE_1_5, Filter),
    row("slo-headroom-tier-filter", SINCE_1_5, Filter),
    row("label-selector-filter", LLM_D, Filter),
    row("by-label-selector", LLM_D, Filter),
    row("by-label", LLM_D, Filter),
    row("decode-filter", LLM_D, Filter),
    row("prefill-filter", LLM_D, Filter),
    row("encode-filter", LLM_D, Filter),
    alpha("session-affinity-filter", Filter),
    alpha("endpoint-attribute-filter", Filter),
    alpha("topology-affinity-filter", Filter),
    alpha("utilization-filter", Filter),
    alpha("multicluster-session-affinity-filter", Filter),
    // Saturation detectors filter as well.
    row("utilization-detector", SINCE_1_5, Filter),
    row("concurrency-detector", SINCE_1_5, Filter),
];

const PICKERS: &[Registered] = &[
    row("max-score-picker", ALL, Picker),
    row("random-picker", ALL, Picker),
    row("weighted-random-picker", ALL, Picker),
    row("single-profile-handler", ALL, Handler),
    row("disagg-profile-handler", LLM_D, Handler),
    row("data-parallel-profile-handler", LLM_D, Handler),
    row("pd-profile-handler", LLM_D, Handler),
    alpha("header-profile-handler", Handler),
];

const PARSERS: &[Registered] = &[
    row("openai-parser", SINCE_1_5, Parser),
    row("vllmgrpc-parser", SINCE_1_5, Parser),
    row("passthrough-parser", SINCE_1_5, Parser),
    row("anthropic-parser", LLM_D, Parser),
    row("vllmhttp-parser", LLM_D, Parser),
    row("sglanghttp-parser", LLM_D, Parser),
    row("vertexai-parser", LLM_D, Parser),
];

const DATA: &[Registered] = &[
    row("approx-prefix-cache-producer", SINCE_1_5, Other),
    row("inflight-load-producer", SINCE_1_5, Other),
    row("predicted-latency-producer", SINCE_1_5, Other),
    row("precise-prefix-cache-producer", LLM_D, Other),
    row("mm-embeddings-cache-producer", LLM_D, Other),
    row("session-id-producer", LLM_D, Other),
    row("token-producer", LLM_D, Other),
    row("tokenizer", LLM_D, Other),
    alpha("burst-prefix-cache-producer", Other),
    alpha("p2p-source-producer", Other),
    alpha("multicluster-approx-prefix-cache-producer", Other),
    row("metrics-data-source", SINCE_1_5, Other),
    row("core-metrics-extractor", SINCE_1_5, Other),
    row("k8s-notification-source", SINCE_1_5, Other),
    row("endpoint-notification-source", SINCE_1_5, Other),
    row("models-data-source", LLM_D, Other),
    row("models-data-extractor", LLM_D, Other),
    alpha("topology-extractor", Other),
    alpha("dcgm-data-source", Other),
    alpha("dcgm-extractor", Other),
    row("file-discovery", LLM_D, Other),
    alpha("multicluster-metrics-data-source", Other),
    alpha("multicluster-metrics-extractor", Other),
    alpha("multicluster-file-discovery", Other),
];

const FLOW: &[Registered] = &[
    row("latency-slo-admitter", SINCE_1_5, Other),
    row("probabilistic-admitter", LLM_D, Other),
    row("request-attribute-reporter", SINCE_1_5, Other),
    row("destination-endpoint-served-verifier", SINCE_1_5, Other),
    row("global-strict-fairness-policy", SINCE_1_5, Other),
    row("round-robin-fairness-policy", SINCE_1_5, Other),
    row("program-aware-fairness", LLM_D, Other),
    row("fcfs-ordering-policy", SINCE_1_5, Other),
    row("edf-ordering-policy", SINCE_1_5, Other),
    row("slo-deadline-ordering-policy", SINCE_1_5, Other),
    row("static-usage-limit-policy", SINCE_1_5, Other),
    alpha("priority-holdback-policy", Other),
    alpha("soft-reflective-ceiling-policy", Other),
    alpha("sheddable-eviction-filter", Other),
    alpha("priority-then-time-eviction-order-policy", Other),
    row("always-disagg-pd-decider", LLM_D, Other),
    row("prefix-based-pd-decider", LLM_D, Other),
    row("always-disagg-multimodal-decider", LLM_D, Other),
    row("disagg-headers-handler", LLM_D, Other),
    row("prefill-header-handler", LLM_D, Other),
    alpha("agent-identity", Other),
    alpha("disaggregatedset-rollout-screener", Other),
];

/// What a parameter must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Whole,
    Number,
    Switch,
    Text,
}

type Keys = &'static [(&'static str, Shape)];

/// What a type reads in each release, from v1.0.1 on; for those that read other parameters than ours do.
const READS: &[(&str, [Keys; 3])] = &[
    ("queue-scorer", [&[]; 3]),
    ("kv-cache-utilization-scorer", [&[]; 3]),
    ("openai-parser", [&[]; 3]),
    ("prefix-cache-scorer", [PREFIX_1_0, PREFIX_1_5, PREFIX_LLM_D]),
];

const PREFIX_1_0: Keys = &[
    ("hashBlockSize", Shape::Whole),
    ("maxPrefixBlocksToMatch", Shape::Whole),
    ("lruCapacityPerServer", Shape::Whole),
];

/// Those of the producer that v1.5 makes of them.
const PREFIX_1_5: Keys = &[
    ("autoTune", Shape::Switch),
    ("blockSizeTokens", Shape::Whole),
    ("blockSize", Shape::Whole),
    ("maxPrefixBlocksToMatch", Shape::Whole),
    ("maxPrefixTokensToMatch", Shape::Whole),
    ("lruCapacityPerServer", Shape::Whole),
];

const PREFIX_LLM_D: Keys = &[
    ("prefixMatchInfoProducerName", Shape::Text),
    ("matchLengthWeight", Shape::Number),
    ("matchLengthScaleTokens", Shape::Whole),
];

/// What a type reads in a release, if that differs from what ours declares.
pub(super) fn reads(name: &str, release: Release) -> Option<Keys> {
    let [oldest, middle, newest] = READS.iter().find(|(known, _)| *known == name)?.1;
    Some(match release {
        Release::V0_5_1 | V1_0_1 => oldest,
        V1_5 => middle,
        LlmD => newest,
    })
}

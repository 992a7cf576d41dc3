//! What `/metrics` shows: families, label handles resolved once, gauges read from the snapshot when asked.
//!
//! Names, labels and buckets are those of v1.0.1; our own carry the prefix `epp_`. Model names come from clients, so
//! their number is bounded: beyond [`MAX_MODELS`] pairs, longer than [`MAX_NAME_BYTES`], or with control
//! characters, they count as `other`.

pub mod page;
pub mod pool;
mod prefix;
pub mod process;
mod splits;

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use epp_framework::answer::Usage;
use epp_framework::lifecycle::PrefixHit;
use epp_framework::scheduling::Decision;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use prefix::PrefixMetrics;
use splits::SplitMetrics;

/// Pairs of model and target model with series of their own.
pub const MAX_MODELS: usize = 1000;

/// Longest model name with a series of its own, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

const LATENCY_SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0,
    3600.0,
];
const SECONDS_PER_TOKEN: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Of decisions and of plugins.
const SCHEDULING_SECONDS: &[f64] = &[0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1];
/// 32778 is upstream's; dashboards compare bucket by bucket.
const INPUT_TOKENS: &[f64] = &[
    1.0,
    8.0,
    16.0,
    32.0,
    64.0,
    128.0,
    256.0,
    512.0,
    1024.0,
    2048.0,
    4096.0,
    8192.0,
    16384.0,
    32778.0,
    65536.0,
    131_072.0,
    262_144.0,
    524_288.0,
    1_048_576.0,
];
const OUTPUT_TOKENS: &[f64] =
    &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0];
const RESPONSE_BYTES: &[f64] = &[
    1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32778.0,
    65536.0,
];

/// As llm-d's router has them.
const INTER_TOKEN_SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0];

const MODEL_LABELS: &[&str] = &["model_name", "target_model_name"];

/// How the answer to a routed request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Complete,
    /// The model server stopped before it had said that the model finished.
    Truncated,
    /// The model server answered with an error.
    Failed,
    /// The stream died: the client left, or the connection to the model server broke.
    Aborted,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Complete, Self::Truncated, Self::Failed, Self::Aborted];

    fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Truncated => "truncated",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }
}

/// The families of one pool.
pub struct Metrics {
    registry: Registry,
    models: DashMap<(String, String), Arc<ModelMetrics>>,
    families: ModelFamilies,
    scheduling: Histogram,
    prefix: PrefixMetrics,
    /// What plugins took, by extension point, type and name; a pipeline resolves its own series.
    pub plugins: HistogramVec,
    unread: IntCounterVec,
    /// Endpoints file reloads by result.
    pub endpoints_reloads: IntCounterVec,
    /// Numbers that no reporter could compute of an answer.
    pub cost_errors: IntCounter,
}

struct ModelFamilies {
    requests: IntCounterVec,
    errors: IntCounterVec,
    running: IntGaugeVec,
    duration: HistogramVec,
    request_bytes: HistogramVec,
    response_bytes: HistogramVec,
    input_tokens: HistogramVec,
    output_tokens: HistogramVec,
    cached_tokens: HistogramVec,
    seconds_per_token: HistogramVec,
    first_token: HistogramVec,
    inter_token: HistogramVec,
    answers: IntCounterVec,
    splits: SplitMetrics,
}

/// The series of one pair of model and target model.
pub struct ModelMetrics {
    requests: IntCounter,
    errors: IntCounterVec,
    labels: (String, String),
    running: IntGauge,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    input_tokens: Histogram,
    output_tokens: Histogram,
    cached_tokens: Histogram,
    seconds_per_token: Histogram,
    first_token: Histogram,
    inter_token: Histogram,
    /// In the order of [`Outcome::ALL`].
    answers: [IntCounter; Outcome::ALL.len()],
    splits: SplitMetrics,
}

impl Metrics {
    /// Registers every family in a registry of its own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let families = ModelFamilies::register(&registry);
        let scheduling = histogram(
            &registry,
            "inference_extension_scheduler_e2e_duration_seconds",
            "Time that one decision took, waiting for the pool's lock included.",
            SCHEDULING_SECONDS,
        );
        let plugins = HistogramOpts::new(
            "inference_extension_plugin_duration_seconds",
            "Time that a plugin took at an extension point, in a sample of the requests.",
        );
        let plugins = plugins.buckets(SCHEDULING_SECONDS.to_vec());
        let plugins = register(
            &registry,
            HistogramVec::new(plugins, &["extension_point", "plugin_type", "plugin_name"]),
        );
        let prefix = PrefixMetrics::register(&registry);
        let unread = counters(
            &registry,
            "epp_unread_bodies_total",
            "Bodies that passed unread, by direction and reason.",
            &["direction", "reason"],
        );
        // A series that begins with its first event hides that event from `increase`.
        for labels in [["request", "compressed"], ["response", "compressed"], ["response", "unreadable"]] {
            unread.with_label_values(&labels);
        }
        let result = &["result"];
        let endpoints_reloads =
            counters(&registry, "epp_endpoints_reload_total", "Reloads of the endpoints file.", result);
        for result in ["ok", "refused"] {
            endpoints_reloads.with_label_values(&[result]);
        }
        let cost_errors = IntCounter::new(
            "epp_request_cost_errors_total",
            "Numbers for the gateway that an expression could not compute of an answer.",
        );
        let cost_errors = register(&registry, cost_errors);
        let models = DashMap::new();
        Self {
            registry,
            models,
            families,
            scheduling,
            prefix,
            plugins,
            unread,
            endpoints_reloads,
            cost_errors,
        }
    }

    /// Counts a body that passed unread: a `request` or a `response`, `compressed` or `unreadable`.
    pub fn count_unread(&self, direction: &str, reason: &str) {
        self.unread.with_label_values(&[direction, reason]).inc();
    }

    /// The registry, for parts that bring their own families.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The page in the text format 0.0.4.
    pub fn render(&self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// The series of a pair of names, or of `other`.
    pub fn model(&self, model: &str, target: &str) -> Arc<ModelMetrics> {
        let other = || ("other".to_owned(), "other".to_owned());
        let own = has_series(model) && has_series(target);
        let mut key = if own { (model.to_owned(), target.to_owned()) } else { other() };
        if let Some(known) = self.models.get(&key) {
            return known.clone();
        }
        if self.models.len() >= MAX_MODELS {
            key = other();
        }
        let made = Arc::new(self.families.of(&key.0, &key.1));
        self.models.entry(key).or_insert(made).clone()
    }

    /// Observes how long a decision took.
    pub fn observe_scheduling(&self, took: Duration) {
        self.scheduling.observe(took.as_secs_f64());
    }

    /// Observes how much of a prompt the endpoint that it goes to holds.
    pub fn observe_prefix(&self, hit: PrefixHit) {
        self.prefix.hit_bytes.observe(hit.bytes as f64);
        if hit.of_bytes > 0 {
            self.prefix.hit_ratio.observe(hit.bytes as f64 / hit.of_bytes as f64);
        }
    }

    /// Says how many blocks the prefix indices hold.
    pub fn set_prefix_entries(&self, n: usize) {
        self.prefix.entries.set(i64::try_from(n).unwrap_or(i64::MAX));
    }
}

/// Whether a model of this name may have series of its own: what the page shows is short and printable.
fn has_series(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl ModelFamilies {
    #[expect(clippy::too_many_lines, reason = "a table of names, texts and buckets")]
    fn register(registry: &Registry) -> Self {
        let request_bytes: Vec<f64> = (6..=30).map(|power| f64::from(1u32 << power)).collect();
        Self {
            requests: counters(
                registry,
                "inference_model_request_total",
                "Requests, by model.",
                MODEL_LABELS,
            ),
            errors: counters(
                registry,
                "inference_model_request_error_total",
                "Refused or failed requests, by model and reason.",
                &["model_name", "target_model_name", "error_code"],
            ),
            running: {
                let opts = Opts::new("inference_model_running_requests", "Requests under way, by model.");
                register(registry, IntGaugeVec::new(opts, &["model_name"]))
            },
            duration: histograms(
                registry,
                "inference_model_request_duration_seconds",
                "Time from the request's headers to the end of its answer.",
                LATENCY_SECONDS,
            ),
            request_bytes: histograms(
                registry,
                "inference_model_request_sizes",
                "Size of request bodies, in bytes.",
                &request_bytes,
            ),
            response_bytes: histograms(
                registry,
                "inference_model_response_sizes",
                "Size of answers, in bytes.",
                RESPONSE_BYTES,
            ),
            input_tokens: histograms(
                registry,
                "inference_model_input_tokens",
                "Prompt tokens that model servers reported.",
                INPUT_TOKENS,
            ),
            output_tokens: histograms(
                registry,
                "inference_model_output_tokens",
                "Output tokens that model servers reported.",
                OUTPUT_TOKENS,
            ),
            cached_tokens: histograms(
                registry,
                "epp_cached_tokens",
                "Prompt tokens that model servers reported to have in their prefix cache.",
                INPUT_TOKENS,
            ),
            first_token: histograms(
                registry,
                "epp_time_to_first_token_seconds",
                "Time from the request's headers to the first output in its answer, of answers that are streamed.",
                LATENCY_SECONDS,
            ),
            inter_token: histograms(
                registry,
                "epp_inter_token_latency_seconds",
                "Time between outputs of a streamed answer, as they pass.",
                INTER_TOKEN_SECONDS,
            ),
            answers: counters(
                registry,
                "epp_answers_total",
                "Answers to routed requests, by how they ended.",
                &["model_name", "target_model_name", "outcome"],
            ),
            splits: SplitMetrics::register(registry),
            seconds_per_token: histograms(
                registry,
                "inference_model_normalized_time_per_output_token_seconds",
                "Duration of a request by the output tokens that the model server reported.",
                SECONDS_PER_TOKEN,
            ),
        }
    }

    fn of(&self, model: &str, target: &str) -> ModelMetrics {
        let pair = &[model, target];
        ModelMetrics {
            requests: self.requests.with_label_values(pair),
            errors: self.errors.clone(),
            labels: (model.to_owned(), target.to_owned()),
            running: self.running.with_label_values(&[model]),
            duration: self.duration.with_label_values(pair),
            request_bytes: self.request_bytes.with_label_values(pair),
            response_bytes: self.response_bytes.with_label_values(pair),
            input_tokens: self.input_tokens.with_label_values(pair),
            output_tokens: self.output_tokens.with_label_values(pair),
            cached_tokens: self.cached_tokens.with_label_values(pair),
            seconds_per_token: self.seconds_per_token.with_label_values(pair),
            first_token: self.first_token.with_label_values(pair),
            inter_token: self.inter_token.with_label_values(pair),
            answers: Outcome::ALL
                .map(|outcome| self.answers.with_label_values(&[model, target, outcome.label()])),
            splits: self.splits.clone(),
        }
    }
}

impl ModelMetrics {
    /// Counts a routed request, which now runs.
    pub fn count_request(&self, body_bytes: usize) {
        self.requests.inc();
        self.running.inc();
        self.request_bytes.observe(body_bytes as f64);
    }

    /// The request no longer runs.
    pub fn end_request(&self) {
        self.running.dec();
    }

    /// Counts a refusal; `code` is one of `Rejection`'s.
    pub fn count_error(&self, code: &'static str) {
        self.errors.with_label_values(&[&self.labels.0, &self.labels.1, code]).inc();
    }

    /// Observes reported tokens; zero is "not reported".
    pub fn observe_usage(&self, usage: &Usage) {
        for (histogram, tokens) in [
            (&self.input_tokens, usage.prompt_tokens),
            (&self.output_tokens, usage.completion_tokens),
            (&self.cached_tokens, usage.cached_tokens),
        ] {
            if let Some(tokens) = tokens.filter(|&tokens| tokens > 0) {
                histogram.observe(tokens as f64);
            }
        }
    }

    /// Observes how long the first output took.
    pub fn observe_first_token(&self, took: Duration) {
        self.first_token.observe(took.as_secs_f64());
    }

    /// Observes how long the next output took.
    pub fn observe_inter_token(&self, took: Duration) {
        self.inter_token.observe(took.as_secs_f64());
    }

    /// Counts an answer.
    pub fn count_answer(&self, outcome: Outcome) {
        self.answers[outcome as usize].inc();
    }

    /// Counts how the work of a request was split.
    pub fn count_split(&self, decision: &Decision) {
        self.splits.count(&self.labels.0, decision);
    }

    /// Observes a complete answer; zero `output_tokens` are "not reported".
    pub fn observe_response(&self, took: Duration, bytes: usize, output_tokens: u64) {
        self.duration.observe(took.as_secs_f64());
        self.response_bytes.observe(bytes as f64);
        if output_tokens > 0 {
            self.seconds_per_token.observe(took.as_secs_f64() / output_tokens as f64);
        }
    }
}

fn register<T: Collector + Clone + 'static>(registry: &Registry, family: prometheus::Result<T>) -> T {
    let family = family.expect("names and labels are constants");
    registry.register(Box::new(family.clone())).expect("each family is registered once");
    family
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
}

fn histograms(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(opts, MODEL_LABELS))
}

#[cfg(test)]
mod tests;

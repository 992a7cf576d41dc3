//! What `/metrics` shows: families, label handles resolved once, gauges read from the snapshot when asked.
//!
//! Names, labels and buckets are those of v1.0.1; our own carry the prefix `epp_`. Model names come from clients, so
//! their number is bounded: beyond [`MAX_MODELS`] pairs, longer than [`MAX_NAME_BYTES`], or with control
//! characters, they count as `other`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use epp_framework::endpoint::Freshness;
use epp_plugins::parser::usage::Usage;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use crate::clock::Clock;
use crate::datastore::Store;

/// Pairs of model and target model with series of their own.
pub const MAX_MODELS: usize = 1000;

/// Longest model name with a series of its own, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

const LATENCY_SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0,
    3600.0,
];
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

const MODEL_LABELS: &[&str] = &["model_name", "target_model_name"];

/// The families of one process.
pub struct Metrics {
    registry: Registry,
    models: DashMap<(String, String), Arc<ModelMetrics>>,
    families: ModelFamilies,
    scheduling: Histogram,
    /// ext_proc streams that are open.
    pub streams: IntGauge,
    /// Configuration reloads by result.
    pub config_reloads: IntCounterVec,
    /// Endpoints file reloads by result.
    pub endpoints_reloads: IntCounterVec,
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
}

impl Metrics {
    /// Registers every family in a registry of its own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let families = ModelFamilies::register(&registry);
        let scheduling = HistogramOpts::new(
            "inference_extension_scheduler_e2e_duration_seconds",
            "Time that one decision took, waiting for the pool's lock included.",
        );
        let scheduling =
            register(&registry, Histogram::with_opts(scheduling.buckets(SCHEDULING_SECONDS.to_vec())));
        let streams = register(&registry, IntGauge::new("epp_extproc_streams", "Open ext_proc streams."));
        let result = &["result"];
        let config_reloads =
            counters(&registry, "epp_config_reload_total", "Reloads of the configuration file.", result);
        let endpoints_reloads =
            counters(&registry, "epp_endpoints_reload_total", "Reloads of the endpoints file.", result);
        // A series that begins with its first event hides that event from `increase`.
        for reloads in [&config_reloads, &endpoints_reloads] {
            for result in ["ok", "refused"] {
                reloads.with_label_values(&[result]);
            }
        }
        let models = DashMap::new();
        Self { registry, models, families, scheduling, streams, config_reloads, endpoints_reloads }
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
                "Time from the request's body to the end of its answer.",
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
        for (histogram, tokens) in
            [(&self.input_tokens, usage.prompt_tokens), (&self.output_tokens, usage.completion_tokens)]
        {
            if tokens > 0 {
                histogram.observe(tokens as f64);
            }
        }
    }

    /// Observes a complete answer.
    pub fn observe_response(&self, took: Duration, bytes: usize) {
        self.duration.observe(took.as_secs_f64());
        self.response_bytes.observe(bytes as f64);
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

fn histograms(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(opts, MODEL_LABELS))
}

/// Gauges of one pool, read from its snapshot when they are asked for, so that they cannot drift.
pub struct PoolCollector {
    name: String,
    store: Arc<Store>,
    clock: Clock,
    staleness: Duration,
    /// Two pages at once would see each other's half-filled gauges.
    collecting: parking_lot::Mutex<()>,
    ready: IntGaugeVec,
    queue: GaugeVec,
    kv: GaugeVec,
    per_pod_queue: IntGaugeVec,
}

impl PoolCollector {
    /// Registers the gauges of the pool `name`.
    pub fn register(registry: &Registry, name: &str, store: Arc<Store>, clock: Clock, staleness: Duration) {
        let gauges = |name: &str, help: &str| {
            GaugeVec::new(Opts::new(name, help), &["name"]).expect("names and labels are constants")
        };
        let int_gauges = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels).expect("names and labels are constants")
        };
        let collector = Self {
            name: name.to_owned(),
            store,
            clock,
            staleness,
            collecting: parking_lot::Mutex::default(),
            ready: int_gauges("inference_pool_ready_pods", "Endpoints with a fresh scrape.", &["name"]),
            queue: gauges("inference_pool_average_queue_size", "Mean waiting requests over fresh endpoints."),
            kv: gauges(
                "inference_pool_average_kv_cache_utilization",
                "Mean KV use over fresh endpoints, 0-1.",
            ),
            per_pod_queue: int_gauges(
                "inference_pool_per_pod_queue_size",
                "Waiting requests, by endpoint.",
                &["name", "model_server_pod"],
            ),
        };
        registry.register(Box::new(collector)).expect("one collector per pool");
    }
}

impl Collector for PoolCollector {
    fn desc(&self) -> Vec<&Desc> {
        [self.ready.desc(), self.queue.desc(), self.kv.desc(), self.per_pod_queue.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _collecting = self.collecting.lock();
        let now = self.clock.now();
        let name = self.name.as_str();
        self.per_pod_queue.reset();
        let (mut fresh, mut queue, mut kv) = (0i64, 0u64, 0.0);
        let pool = self.store.snapshot();
        let mut names: HashMap<&str, u32> = HashMap::new();
        for endpoint in &pool.endpoints {
            *names.entry(endpoint.meta.name.as_str()).or_default() += 1;
        }
        for endpoint in &pool.endpoints {
            let load = endpoint.sample(now, self.staleness);
            if load.freshness == Freshness::Fresh {
                fresh += 1;
                queue += u64::from(load.waiting);
                kv += load.kv_used;
            }
            // A name that two namespaces share is told apart; the other names stay as v1.0.1 has them.
            let full = format!("{}/{}", endpoint.meta.namespace, endpoint.meta.name);
            let shared = names.get(endpoint.meta.name.as_str()).is_some_and(|&n| n > 1);
            let pod = if shared { full.as_str() } else { endpoint.meta.name.as_str() };
            self.per_pod_queue.with_label_values(&[name, pod]).set(load.waiting.into());
        }
        let mean = |sum: f64| if fresh == 0 { 0.0 } else { sum / fresh as f64 };
        let set = |gauges: &GaugeVec, value: f64| {
            let gauge: Gauge = gauges.with_label_values(&[name]);
            gauge.set(value);
        };
        self.ready.with_label_values(&[name]).set(fresh);
        set(&self.queue, mean(queue as f64));
        set(&self.kv, mean(kv));
        [self.ready.collect(), self.queue.collect(), self.kv.collect(), self.per_pod_queue.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_model_series_is_bounded() {
        let metrics = Metrics::new();
        metrics.model(&"x".repeat(MAX_NAME_BYTES + 1), "t").count_request(1);
        for n in 0..MAX_MODELS + 5 {
            metrics.model(&format!("m{n}"), "t").count_request(1);
        }
        assert!(metrics.models.len() <= MAX_MODELS + 1);
        let page = metrics.render();
        let other = r#"inference_model_request_total{model_name="other",target_model_name="other"} 7"#;
        assert!(
            page.contains(other),
            "{}",
            page.lines().find(|line| line.contains("other")).unwrap_or_default()
        );
        assert!(page.contains("# TYPE inference_model_request_total counter"));
        assert!(!page.contains("xxxx"));
    }

    #[test]
    fn results_of_reloads_are_zero_from_the_start() {
        let page = Metrics::new().render();
        for name in ["epp_config_reload_total", "epp_endpoints_reload_total"] {
            for result in ["ok", "refused"] {
                let line = format!("{name}{{result=\"{result}\"}} 0\n");
                assert!(page.contains(&line), "{line}{page}");
            }
        }
    }

    #[test]
    fn model_names_with_control_characters_have_no_series_of_their_own() {
        let metrics = Metrics::new();
        for (model, target) in
            [("a\0b", "t"), ("m", "\u{1b}[31m"), ("m", "c\nd"), ("\u{9b}", "t"), ("\u{7f}", "t")]
        {
            metrics.model(model, target).count_request(1);
        }
        metrics.model("zürich/模型", "t").count_request(1);
        let page = metrics.render();
        let unprintable = |c: char| c.is_control() && c != '\n';
        assert!(!page.contains(unprintable) && !page.contains("c\\nd"), "{page:?}");
        for (pair, n) in [(("other", "other"), 5), (("zürich/模型", "t"), 1)] {
            let line = format!(
                "inference_model_request_total{{model_name=\"{}\",target_model_name=\"{}\"}} {n}\n",
                pair.0, pair.1
            );
            assert!(page.contains(&line), "{line}");
        }
    }

    #[test]
    fn names_that_two_namespaces_share_are_told_apart() {
        let (store, mut writer) = crate::datastore::store();
        let upsert = |namespace: &str, name: &str| {
            crate::discovery::Change::Upsert(epp_framework::endpoint::EndpointMeta {
                name: name.into(),
                namespace: namespace.into(),
                address: "10.0.0.1".parse().unwrap(),
                port: 1,
                labels: std::collections::BTreeMap::new(),
            })
        };
        writer.apply(vec![upsert("x", "a"), upsert("y", "a"), upsert("y", "b")], |_| {});
        let metrics = Metrics::new();
        PoolCollector::register(metrics.registry(), "p", store, Clock::start(), Duration::from_secs(1));
        for pod in ["x/a", "y/a", "b"] {
            let line =
                format!("inference_pool_per_pod_queue_size{{model_server_pod=\"{pod}\",name=\"p\"}} 0\n");
            assert!(metrics.render().contains(&line), "{pod}");
        }
    }
}

//! The scheduler under some configuration, deciding on one request again and again: entry point [`Decisions`].
//!
//! Shared by the bench and the test that count allocations. No lock: it belongs to the pool around it.

use std::sync::Arc;
use std::time::Duration;

use epp::clock::Clock;
use epp::config::build;
use epp::metrics::Metrics;
use epp::pipeline::Pipeline;
use epp::raw_request::Subset;
use epp::recorder::Recorder;
use epp::scheduling::{Occasion, Scratch};
use epp::stopwatch::Stopwatch;
use epp_framework::attribute::{AttributeKey, AttributeValue};
use epp_framework::changes::ChangeBits;
use epp_framework::endpoint::{Cost, Endpoint, EndpointId, EndpointMeta, ScrapedLoad};
use epp_framework::lifecycle::Hook;
use epp_framework::lora::LoraAdapters;
use epp_framework::prompt::Prompt;
use epp_framework::request::InferenceRequest;
use epp_framework::slot::SlotNames;
use epp_framework::snapshot::Snapshot;
use epp_framework::time::Timestamp;
use rand::SeedableRng;
use rand::rngs::SmallRng;

const SEED_CONFIG: &str = include_str!("../../config/default-plugins.yaml");
const TREE_CONFIG: &str = include_str!("../it/fixtures/config/v051-tree.yaml");

/// Twelve plugins: the handler, two filters, eight scorers and the picker.
const TWELVE: &str = "
plugins:
- {type: single-profile-handler}
- {type: decode-filter}
- type: utilization-filter
  parameters: {conditions: [{metric: active-requests, maxValue: 100}], fallbackOnEmpty: true}
- {type: queue-scorer}
- {type: kv-cache-utilization-scorer}
- {type: prefix-cache-scorer}
- {type: lora-affinity-scorer}
- {type: running-requests-size-scorer}
- {type: active-request-scorer}
- {type: token-load-scorer}
- {type: session-affinity-scorer}
- {type: max-score-picker}
";

/// Model of the request, and adapter of some endpoints.
const ADAPTER: &str = "meta-llama/Llama-3.1-8B-Instruct";

const NOW: Timestamp = Timestamp(1);
const COST: Cost = Cost { requests: 1, prompt_tokens: 128, output_tokens: 64 };

/// A pool of fresh and idle endpoints, a request, and what a pool keeps between decisions.
pub(crate) struct Decisions {
    clock: Clock,
    pipeline: Pipeline,
    /// The request, which may be changed between decisions.
    pub(crate) request: InferenceRequest,
    pool: Arc<Snapshot>,
    scratch: Scratch,
    rng: SmallRng,
    recorder: Recorder,
}

impl Decisions {
    /// Decides on a prompt of eight blocks that was decided before.
    pub(crate) fn of_a_known_prompt(n_endpoints: u32) -> Self {
        let mut decisions = Self::without_a_prompt(n_endpoints);
        decisions.learn();
        decisions
    }

    /// Decides on a request that no cache can help.
    pub(crate) fn without_a_prompt(n_endpoints: u32) -> Self {
        Self::under(SEED_CONFIG, n_endpoints)
    }

    /// The same by the decision tree of v0.5.1; every second endpoint runs the adapter.
    pub(crate) fn by_a_tree(n_endpoints: u32) -> Self {
        Self::under(TREE_CONFIG, n_endpoints)
    }

    /// Decides on a known prompt with twelve plugins; every endpoint is as busy as none of its neighbours.
    pub(crate) fn by_twelve(n_endpoints: u32) -> Self {
        let mut decisions = Self::under(TWELVE, n_endpoints);
        for (at, endpoint) in (0u16..).zip(&decisions.pool.endpoints) {
            let busy = ScrapedLoad {
                waiting: Some(u32::from(at % 5)),
                running: Some(u32::from(at % 17)),
                kv_used: Some(f64::from(at % 23) / 23.0),
                ..ScrapedLoad::default()
            };
            endpoint.store_scrape(endpoint.begin_scrape(), &busy, NOW);
        }
        decisions.learn();
        decisions
    }

    /// The same under a configuration.
    pub(crate) fn under(config: &str, n_endpoints: u32) -> Self {
        let (composition, _) = build::load(config, epp_plugins::BUILT_IN);
        let composition = composition.expect("the configuration is valid");
        let request = InferenceRequest {
            request_id: "5b1c6b52-7c0e-4a53-9d0c-1f7f9c9b8a11".to_owned(),
            model: "meta-llama/Llama-3.1-8B-Instruct".to_owned(),
            target_model: ADAPTER.to_owned(),
            ..InferenceRequest::default()
        };
        let slots = SlotNames::default();
        let pipeline = Pipeline::build(&composition, &slots, None);
        let depth = slots.attribute("core-metrics-extractor", "depth");
        let bits: Vec<_> = (0..n_endpoints.div_ceil(ChangeBits::MEMBERS)).map(|_| Arc::default()).collect();
        let mut decisions = Self {
            clock: Clock::start(),
            pipeline: pipeline.observed_in(&Metrics::new().plugins),
            request,
            pool: Arc::new(Snapshot {
                endpoints: (0..n_endpoints).map(|slot| endpoint(slot, depth, &bits)).collect(),
            }),
            scratch: Scratch::default(),
            rng: SmallRng::seed_from_u64(5),
            recorder: Recorder::default(),
        };
        decisions.produce();
        decisions
    }

    /// Decides on a prompt for the first time.
    fn learn(&mut self) {
        self.request.prompt = Prompt::text("eight blocks of text ".repeat(25));
        self.produce();
        self.decide();
        self.produce();
    }

    fn produce(&mut self) {
        self.pipeline.produce(&Hook { now: NOW, pool: &self.pool }, &mut self.request, None);
    }

    /// Decides once, and gives the reservation back. As in a pool, the plugins of some decisions are timed.
    pub(crate) fn decide(&mut self) {
        let Self { clock, pipeline, request, pool, scratch, rng, recorder } = self;
        let stopwatch = Stopwatch { now: &|| clock.now(), took: &|step, took| pipeline.observe(step, took) };
        let watch = pipeline.next_is_timed().then_some(stopwatch);
        let staleness = Duration::from_secs(1);
        let subset = &Subset::Any;
        let occasion = Occasion { request, pool, subset, staleness, cost: COST, now: NOW, watch };
        let decided = pipeline.scheduler.decide(&occasion, scratch, rng, recorder);
        decided.expect("the pool has endpoints");
    }

    /// Decides `n` times.
    pub(crate) fn decide_often(&mut self, n: usize) {
        (0..n).for_each(|_| self.decide());
    }
}

/// As the datastore makes them.
fn endpoint(slot: u32, depth: AttributeKey, bits: &[Arc<ChangeBits>]) -> Arc<Endpoint> {
    let [_, _, high, low] = slot.to_be_bytes();
    let labels =
        [("app", "vllm"), ("llm-d.ai/role", "decode"), ("pod-template-hash", "6f9d8c7b5"), ("version", "2")];
    let meta = EndpointMeta {
        name: format!("pod-{slot}"),
        namespace: "default".into(),
        address: [10, 0, high, low].into(),
        port: 8000,
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    };
    let bits = bits[(slot / ChangeBits::MEMBERS) as usize].clone();
    let endpoint = Endpoint::sharing(EndpointId { slot, generation: 0 }, meta, bits);
    let idle = ScrapedLoad {
        waiting: Some(0),
        running: Some(0),
        kv_used: Some(0.0),
        block_size: Some(16),
        num_gpu_blocks: Some(10_000),
    };
    endpoint.store_scrape(endpoint.begin_scrape(), &idle, NOW);
    let running = if slot.is_multiple_of(2) { vec![ADAPTER.to_owned()] } else { Vec::new() };
    endpoint.store_lora(LoraAdapters::new(running, Vec::new(), 4));
    endpoint.store_attributes(&[(depth, Some(AttributeValue::Number(f64::from(slot % 7))))]);
    Arc::new(endpoint)
}

//! `epp`'s `ext_proc` service over a pool of given loads: no scraping, no discovery, no Envoy. Entry point
//! [`Hermetic::start`].
//!
//! The pool is the fixture of the functional specification: pod *i* is 192.168.1.(i+1):8000 and is never contacted.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, HttpTrailers, ProcessingRequest, ProcessingResponse, processing_request::Request,
};
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use epp::clock::Clock;
use epp::config::build;
use epp::datastore::{self, RequestRules};
use epp::director::{Director, Rules};
use epp::discovery::Change;
use epp::ext_proc::{Limits, Options, PickerServer, Shared};
use epp::metrics::Metrics;
use epp::metrics::page::page;
use epp::metrics::pool::PoolCollector;
use epp::metrics::process::ProcessMetrics;
use epp::pipeline::Pipeline;
use epp::pool::{PoolParts, PoolState};
use epp_framework::endpoint::{Endpoint, EndpointMeta, ScrapedLoad};
use epp_framework::lora::LoraAdapters;
use epp_framework::plugin::PluginType;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;

use crate::support::server_runtime;

/// The seeds' profile: three scorers, weight 1 each.
pub(crate) const SEED_CONFIG: &str = include_str!("../../../config/default-plugins.yaml");

/// The fixture's profile: the seeds' scorers and LoRA affinity, weight 1 each.
pub(crate) const FOUR_SCORERS: &str = include_str!("../fixtures/config/four-scorers.yaml");

/// A pod: waiting requests, KV use and running LoRA adapters (between commas), as its last scrape said. How many
/// adapters fit it did not say.
pub(crate) type Pod = (u32, f64, &'static str);

/// The service, running.
pub(crate) struct Hermetic {
    pub(crate) pool: Arc<PoolState>,
    pub(crate) client: ExternalProcessorClient<Channel>,
    process: ProcessMetrics,
    _cut: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

/// What the service is held to.
#[derive(Default)]
struct Setup {
    rules: Rules,
    limits: Limits,
    options: Options,
}

impl Hermetic {
    /// Starts the service over these pods, with the fixture's profile.
    pub(crate) async fn start(pods: &[Pod]) -> Self {
        Self::with_config(pods, FOUR_SCORERS, epp_plugins::BUILT_IN).await
    }

    /// The same with a configuration over a table of plugin types.
    pub(crate) async fn with_config(pods: &[Pod], config: &str, types: &'static [PluginType]) -> Self {
        Self::serve(pool(pods, config, types), Setup::default()).await
    }

    /// Starts it with the seeds' profile and other rules.
    pub(crate) async fn with_rules(pods: &[Pod], rules: Rules) -> Self {
        let setup = Setup { rules, ..Setup::default() };
        Self::serve(pool(pods, SEED_CONFIG, epp_plugins::BUILT_IN), setup).await
    }

    /// The same as [`start`](Self::start) with other limits.
    pub(crate) async fn with_limits(pods: &[Pod], limits: Limits) -> Self {
        let setup = Setup { limits, ..Setup::default() };
        Self::serve(pool(pods, FOUR_SCORERS, epp_plugins::BUILT_IN), setup).await
    }

    /// Starts it over another pool than the fixture's.
    pub(crate) async fn with_pool(pods: &[Pod], pool: PoolSetup<'_>, rules: Rules) -> Self {
        Self::serve(pool.build(pods), Setup { rules, ..Setup::default() }).await
    }

    /// Starts it with the seeds' profile and what is off unless asked for.
    pub(crate) async fn with_options(
        pods: &[Pod],
        emit_scores: bool,
        options: impl FnOnce(&prometheus::Registry) -> Options,
    ) -> Self {
        let pool = PoolSetup { emit_scores, ..PoolSetup::new(SEED_CONFIG) }.build(pods);
        let options = options(pool.metrics.registry());
        Self::serve(pool, Setup { options, ..Setup::default() }).await
    }

    async fn serve(pool: Arc<PoolState>, setup: Setup) -> Self {
        let cut = watch::Sender::new(false);
        let director = Arc::new(Director::new(pool.clone(), setup.rules));
        let process = ProcessMetrics::new();
        let shared = Shared::new(process.streams.clone(), cut.subscribe(), setup.limits, setup.options);
        let service = shared.picker(director).into_server();
        let runtime = server_runtime("hermetic");
        let address = serve(&runtime, service).await;
        let client = ExternalProcessorClient::connect(format!("http://{address}")).await.expect("it listens");
        Self { pool, client, process, _cut: cut, runtime: Some(runtime) }
    }

    /// Sends these messages on one stream, closes it, and returns the answers and how it ended.
    pub(crate) async fn exchange(
        &self,
        messages: Vec<ProcessingRequest>,
    ) -> (Vec<ProcessingResponse>, Result<(), tonic::Status>) {
        let mut client = self.client.clone().max_decoding_message_size(64 << 20);
        let mut answers = Vec::new();
        let mut stream = match client.process(tokio_stream::iter(messages)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (answers, Err(status)),
        };
        loop {
            match stream.message().await {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => return (answers, Ok(())),
                Err(status) => return (answers, Err(status)),
            }
        }
    }

    /// Sends these messages on a stream that stays open, and returns the first answer.
    pub(crate) async fn first_answer(&self, messages: Vec<ProcessingRequest>) -> ProcessingResponse {
        use tokio_stream::StreamExt;
        let open = tokio_stream::iter(messages).chain(tokio_stream::pending());
        let response = self.client.clone().process(open).await.expect("the stream is accepted");
        response.into_inner().message().await.expect("no error").expect("an answer")
    }

    /// The metrics page.
    pub(crate) fn metrics(&self) -> String {
        page([(self.process.registry().gather(), None), (self.pool.gather_metrics(), None)])
    }

    /// What is still held: running requests, open streams, requests and tokens in flight.
    pub(crate) fn held(&self) -> (u32, u64, i64) {
        let now = self.pool.clock.now();
        let loads = self.pool.store.snapshot();
        let loads = loads.endpoints.iter().map(|endpoint| endpoint.sample(now, Duration::MAX).in_flight);
        let (requests, tokens) = loads.fold((0, 0), |(requests, tokens), load| {
            (requests + load.requests, tokens + load.prompt_tokens + load.output_tokens)
        });
        (requests, tokens, self.process.streams.get())
    }
}

impl Drop for Hermetic {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A pool of these pods under a configuration over a table of plugin types; all of them are fresh.
pub(crate) fn pool(pods: &[Pod], config: &str, types: &'static [PluginType]) -> Arc<PoolState> {
    PoolSetup { types, ..PoolSetup::new(config) }.build(pods)
}

/// What a pool is made of beside its pods. Start from [`PoolSetup::new`] and override fields.
pub(crate) struct PoolSetup<'a> {
    /// The configuration.
    pub(crate) config: &'a str,
    /// The plugin types that it may name.
    pub(crate) types: &'static [PluginType],
    /// Whether scores are emitted.
    pub(crate) emit_scores: bool,
    /// The address of each pod.
    pub(crate) address: fn(usize) -> IpAddr,
    /// What is said of requests.
    pub(crate) said: RequestRules,
}

impl<'a> PoolSetup<'a> {
    /// The fixture's addresses and objectives under a configuration over the built-in types.
    pub(crate) fn new(config: &'a str) -> Self {
        let objectives =
            [("my-model", 2), ("sql-lora", 2), ("direct-model", 2), ("standard", 0), ("batch", -1)];
        let objectives = objectives.map(|(name, priority)| (name.to_owned(), priority)).into();
        Self {
            config,
            types: epp_plugins::BUILT_IN,
            emit_scores: false,
            address: |i| format!("192.168.1.{}", i + 1).parse().expect("an address"),
            said: RequestRules { objectives, ..RequestRules::default() },
        }
    }

    /// The pool of these pods; all of them are fresh.
    fn build(self, pods: &[Pod]) -> Arc<PoolState> {
        let clock = Clock::start();
        let staleness = Duration::from_secs(3600);
        let metrics = Arc::new(Metrics::new());
        let (store, mut writer) = datastore::store();
        let parts = PoolParts {
            name: "vllm-pool".into(),
            namespace: "default".into(),
            store: store.clone(),
            metrics: metrics.clone(),
            staleness,
            decision_timeout: Duration::from_secs(5),
            seed: 7,
            emit_scores: self.emit_scores,
        };
        let (composition, problems) = build::load(self.config, self.types);
        let composition = composition.unwrap_or_else(|| panic!("{problems:?}"));
        let pool = Arc::new(PoolState::new(parts, clock, |slots| Pipeline::build(&composition, slots, None)));
        PoolCollector::register(metrics.registry(), "vllm-pool", store.clone(), clock, staleness);
        writer.apply((0..pods.len()).map(|i| Change::Upsert(pod(i, (self.address)(i)))).collect(), |_| {});
        writer.update_rules(|rules| *rules = self.said);
        for (endpoint, &(waiting, kv_used, adapters)) in store.snapshot().endpoints.iter().zip(pods) {
            let load =
                ScrapedLoad { waiting: Some(waiting), kv_used: Some(kv_used), ..ScrapedLoad::default() };
            endpoint.store_scrape(endpoint.begin_scrape(), &load, clock.now());
            set_adapters(endpoint, adapters, 0);
        }
        pool
    }
}

/// Gives an endpoint these running LoRA adapters (between commas), of which `max` fit.
pub(crate) fn set_adapters(endpoint: &Endpoint, running: &str, max: u32) {
    let running = running.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    endpoint.store_lora(LoraAdapters::new(running, Vec::new(), max));
}

async fn serve(runtime: &Runtime, service: PickerServer) -> SocketAddr {
    let listen = async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        (listener.local_addr().expect("it is bound"), TcpIncoming::from(listener).with_nodelay(Some(true)))
    };
    let (address, incoming) = runtime.spawn(listen).await.expect("binding does not panic");
    let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
    drop(runtime.spawn(server));
    address
}

fn pod(i: usize, address: IpAddr) -> EndpointMeta {
    EndpointMeta {
        name: format!("pod-{i}"),
        namespace: "default".into(),
        address,
        port: 8000,
        labels: BTreeMap::new(),
    }
}

/// Request headers; values go into the field `value`, as the fixture has them.
pub(crate) fn request_headers(headers: &[(&str, &str)], end_of_stream: bool) -> ProcessingRequest {
    message(Request::RequestHeaders(http_headers(headers, end_of_stream)))
}

/// Response headers.
pub(crate) fn response_headers(headers: &[(&str, &str)]) -> ProcessingRequest {
    message(Request::ResponseHeaders(http_headers(headers, false)))
}

fn http_headers(headers: &[(&str, &str)], end_of_stream: bool) -> HttpHeaders {
    let header = |&(key, value): &(&str, &str)| HeaderValue {
        key: key.into(),
        value: value.into(),
        ..HeaderValue::default()
    };
    let headers = Some(HeaderMap { headers: headers.iter().map(header).collect() });
    HttpHeaders { headers, end_of_stream, ..HttpHeaders::default() }
}

/// A piece of the request's body.
pub(crate) fn request_body(body: impl AsRef<[u8]>, end_of_stream: bool) -> ProcessingRequest {
    message(Request::RequestBody(http_body(body.as_ref(), end_of_stream)))
}

/// A piece of the response's body.
pub(crate) fn response_body(body: impl AsRef<[u8]>, end_of_stream: bool) -> ProcessingRequest {
    message(Request::ResponseBody(http_body(body.as_ref(), end_of_stream)))
}

/// Trailers behind the request.
pub(crate) fn request_trailers() -> ProcessingRequest {
    message(Request::RequestTrailers(HttpTrailers::default()))
}

/// Trailers behind the response.
pub(crate) fn response_trailers() -> ProcessingRequest {
    message(Request::ResponseTrailers(HttpTrailers::default()))
}

fn http_body(body: &[u8], end_of_stream: bool) -> HttpBody {
    HttpBody { body: body.to_vec(), end_of_stream, ..HttpBody::default() }
}

fn message(request: Request) -> ProcessingRequest {
    ProcessingRequest { request: Some(request), ..ProcessingRequest::default() }
}

/// Puts a subset hint on a message.
pub(crate) fn with_subset(message: ProcessingRequest, subset: &[&str]) -> ProcessingRequest {
    let value = |text: &&str| Value { kind: Some(Kind::StringValue((*text).into())) };
    with_hint(message, Kind::ListValue(ListValue { values: subset.iter().map(value).collect() }))
}

/// Puts a hint of any shape on a message.
pub(crate) fn with_hint(message: ProcessingRequest, hint: Kind) -> ProcessingRequest {
    let key = "x-gateway-destination-endpoint-subset".to_owned();
    let fields = Struct { fields: [(key, Value { kind: Some(hint) })].into() };
    let filter_metadata = [("envoy.lb.subset_hint".to_owned(), fields)].into();
    ProcessingRequest {
        metadata_context: Some(Metadata { filter_metadata, ..Metadata::default() }),
        ..message
    }
}

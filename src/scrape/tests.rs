//! The scraper against servers that behave, misbehave and restart.

mod sources;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use epp_framework::data::{EngineExtractor, Extractor, PageSource};
use epp_framework::endpoint::{Endpoint, EndpointId, EndpointMeta, FixedMeta, Freshness, Load};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::engine::ENGINE_LABELS;
use super::fetch::Failure;
use super::test_server::{Reply, TestServer};
use super::*;

const PAGE: &str = include_str!("../../tests/it/fixtures/real_vllm/metrics-loaded.prom");
const LORA: &str = include_str!("../../tests/it/fixtures/real_vllm/metrics-lora-2.prom");
const FILTERED: &str = include_str!("../../tests/it/fixtures/real_vllm/metrics-filtered.prom");
const FOREVER: Duration = Duration::from_secs(3600);

pub(super) fn endpoint(slot: u32, address: SocketAddr) -> Arc<Endpoint> {
    let meta = EndpointMeta {
        name: format!("pod-{slot}"),
        namespace: "default".to_owned(),
        address: address.ip(),
        port: address.port(),
        labels: BTreeMap::new(),
    };
    Arc::new(Endpoint::new(EndpointId { slot, generation: 0 }, meta))
}

/// Quick, but without a timeout that a slow machine could meet.
fn settings() -> ScrapeSettings {
    let second = Duration::from_secs(1);
    ScrapeSettings { interval: second / 500, timeout: 20 * second, ..ScrapeSettings::default() }
}

/// A running scraper and its one endpoint.
struct Rig {
    endpoint: Arc<Endpoint>,
    clock: Clock,
    metrics: ScrapeMetrics,
    snapshots: watch::Sender<Arc<Snapshot>>,
    layers: watch::Sender<Arc<DataLayer>>,
    tasks: JoinSet<()>,
}

/// A source of endpoints' loads that says nothing of itself.
fn load_source(engine: EngineExtractor) -> Source {
    let extractors = vec![Extractor::Engine(engine)];
    let page = PageSource::default();
    Source { name: "metrics".to_owned(), type_name: "metrics-data-source", page, extractors }
}

/// A data layer without anything but sources.
fn layer(sources: Vec<Source>) -> DataLayer {
    DataLayer { sources, places: Vec::new() }
}

impl Rig {
    fn start(address: SocketAddr, settings: ScrapeSettings) -> Self {
        Self::with(address, settings, layer(vec![load_source(EngineExtractor::default())]))
    }

    fn with(address: SocketAddr, settings: ScrapeSettings, layer: DataLayer) -> Self {
        let metrics = ScrapeMetrics::register(&prometheus::Registry::new()).unwrap();
        let clock = Clock::start();
        let endpoint = endpoint(0, address);
        let snapshot = Arc::new(Snapshot { endpoints: vec![endpoint.clone()] });
        let (snapshots, receiver) = watch::channel(snapshot);
        let scraper = Scraper::build(settings, &layer, clock, metrics.clone()).unwrap();
        let (layers, newest) = watch::channel(Arc::new(layer));
        let mut tasks = JoinSet::new();
        tasks.spawn(scraper.run(receiver, newest));
        Self { endpoint, clock, metrics, snapshots, layers, tasks }
    }

    fn load(&self) -> Load {
        self.endpoint.sample(self.clock.now(), FOREVER)
    }

    fn fresh(&self) -> bool {
        self.load().freshness == Freshness::Fresh
    }

    fn stale(&self) -> bool {
        matches!(self.load().freshness, Freshness::Stale)
    }

    fn count(&self, outcome: Result<(), Failure>) -> u64 {
        self.metrics.of(outcome).get()
    }
}

/// Waits for a condition that must come true in the end.
#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let patience = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < patience, "never happened at {caller}: {what}");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

fn filtered(target: &str) -> bool {
    target.starts_with("/metrics/?name[]=vllm:num_requests_waiting&")
}

fn whole(target: &str) -> bool {
    target == "/metrics"
}

#[tokio::test]
async fn a_page_is_stored_and_asked_for_again() {
    let server = TestServer::start(|_| Reply::page(LORA)).await;
    let rig = Rig::start(server.address, settings());
    eventually("fresh", || rig.fresh()).await;
    let load = rig.load();
    assert_eq!((load.waiting, load.running, load.kv_capacity_tokens), (2, 4, 64 * 32));
    assert_eq!(rig.endpoint.lora().running(), ["ad-1", "ad-2"]);
    eventually("more scrapes", || rig.count(Ok(())) > 5).await;
    let seen = server.seen.lock();
    assert!(seen.connections < seen.heads.len(), "connections are kept");
    for head in &seen.heads {
        let head = head.to_lowercase();
        assert!(head.contains("accept-encoding: identity\r\n"), "gzip is never asked for: {head}");
        assert!(head.contains("accept: text/plain;version=0.0.4\r\n"), "{head}");
    }
}

#[tokio::test]
async fn servers_without_metrics_are_told_apart_from_dead_ones() {
    let cases = [
        ("html", Reply::page("<html><body>vllm:num_requests_waiting 1</body></html>")),
        ("json", Reply::page("[{\"vllm:num_requests_waiting\": 1}]")),
        ("empty", Reply::page("")),
        ("other families", Reply::page("# TYPE x gauge\nx 1\nvllm:num_requests_waiting_by_reason 1\n")),
        ("404", Reply::status("404 Not Found")),
        ("405", Reply::status("405 Method Not Allowed")),
        ("401", Reply::status("401 Unauthorized")),
        ("403", Reply::status("403 Forbidden")),
        ("304", Reply::Answer("304 Not Modified", "", String::new())),
    ];
    for (name, reply) in cases {
        let server = TestServer::start(move |_| reply.clone()).await;
        let rig = Rig::start(server.address, settings());
        eventually(name, || rig.load().freshness == Freshness::NoMetrics).await;
        assert!(rig.count(Err(Failure::NoFamily)) > 0 && rig.count(Ok(())) == 0, "{name}");
        assert_eq!(server.asked(filtered), 0, "{name}: no filter before a page");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = TestServer::start(|_| Reply::page(PAGE)).await;
    let location: &'static str = format!("location: http://{}/metrics\r\n", elsewhere.address).leak();
    let statuses = ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"];
    for status in statuses {
        let server = TestServer::start(move |_| Reply::Answer(status, location, String::new())).await;
        let rig = Rig::start(server.address, settings());
        eventually(status, || rig.count(Err(Failure::NoPage(0))) >= 3).await;
        assert_eq!(rig.load().freshness, Freshness::NoMetrics, "{status}");
    }
    assert_eq!(elsewhere.seen.lock().connections, 0);
}

#[tokio::test]
async fn values_stay_when_scrapes_begin_to_fail() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\nvllm:num_requests_waiting 9\n";
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1c\r\nvllm:num_requests_waiting 9\n\r\n";
    let cases = [
        ("500", Reply::status("500 Internal Server Error"), Failure::Status(500)),
        ("503", Reply::status("503 Service Unavailable"), Failure::Status(503)),
        ("shorter than announced", Reply::Raw(cut), Failure::Broken),
        ("chunks without an end", Reply::Raw(chunked), Failure::Broken),
        ("closed without an answer", Reply::Raw(""), Failure::Broken),
        ("no HTTP", Reply::Raw("SSH-2.0-x\r\n\r\n"), Failure::Broken),
        ("endless", Reply::Endless, Failure::TooLarge),
        (
            "announced as huge",
            Reply::Raw("HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n"),
            Failure::TooLarge,
        ),
        ("never answered", Reply::Hang, Failure::Timeout),
    ];
    for (name, reply, failure) in cases {
        let broken = Arc::new(AtomicBool::new(false));
        let switch = broken.clone();
        let server =
            TestServer::start(move |_| if switch.load(Relaxed) { reply.clone() } else { Reply::page(PAGE) })
                .await;
        let mut settings = ScrapeSettings { max_page_bytes: 100_000, ..settings() };
        if failure == Failure::Timeout {
            settings.timeout = Duration::from_millis(100);
        }
        let rig = Rig::start(server.address, settings);
        eventually(name, || rig.fresh() && rig.count(Ok(())) >= 3).await;
        broken.store(true, Relaxed);
        eventually(name, || rig.stale()).await;
        assert!(rig.count(Err(failure)) >= 3, "{name}: {:?}", rig.metrics);
        assert_eq!((rig.load().waiting, rig.load().running), (4, 2), "{name}");
        broken.store(false, Relaxed);
        eventually(name, || rig.fresh()).await;
    }
}

#[tokio::test]
async fn a_refused_connection_counts_at_once_and_a_restart_is_seen() {
    let honours = |target: &str| Reply::page(if filtered(target) { FILTERED } else { PAGE });
    let server = TestServer::start(move |target| honours(target)).await;
    let address = server.address;
    let rig = Rig::start(address, ScrapeSettings { failures_until_stale: 1_000_000, ..settings() });
    eventually("the filter is used", || server.asked(filtered) > 2 && rig.fresh()).await;
    drop(server);
    eventually("refused", || rig.stale() && rig.count(Err(Failure::Refused)) > 0).await;
    let mut listener = None;
    eventually("the port is free", || {
        listener = std::net::TcpListener::bind(address).ok();
        listener.is_some()
    })
    .await;
    let listener = listener.unwrap();
    listener.set_nonblocking(true).unwrap();
    let server = TestServer::serve(TcpListener::from_std(listener).unwrap(), move |target| honours(target));
    eventually("back", || rig.fresh()).await;
    eventually("the filter is tried anew", || server.asked(filtered) > 0).await;
    assert!(whole(server.seen.lock().heads[0].split(' ').nth(1).unwrap()), "the first page is the whole one");
}

#[tokio::test]
async fn a_heeded_filter_is_used_and_compared_now_and_then() {
    let honours = |target: &str| Reply::page(if filtered(target) { FILTERED } else { PAGE });
    let server = TestServer::start(honours).await;
    let rig = Rig::start(server.address, ScrapeSettings { filter_recheck: FOREVER, ..settings() });
    eventually("filtered", || server.asked(filtered) >= 10).await;
    assert_eq!(server.asked(whole), 1);
    assert_eq!(rig.load().waiting, 0, "what the filtered page says is stored");

    let server = TestServer::start(honours).await;
    let recheck = Duration::from_millis(20);
    let rig = Rig::start(server.address, ScrapeSettings { filter_recheck: recheck, ..settings() });
    eventually("compared again", || server.asked(whole) >= 3).await;
    eventually("filtered again", || server.asked(filtered) >= 3 && rig.fresh()).await;
}

#[tokio::test]
async fn a_filter_that_loses_families_is_dropped_for_good() {
    let partial = "vllm:num_requests_waiting 0\nvllm:num_requests_running 0\n";
    let cases = [
        ("empty", Reply::page("")),
        ("partial", Reply::page(partial)),
        ("404", Reply::status("404 Not Found")),
        ("307", Reply::status("307 Temporary Redirect")),
        ("500", Reply::status("500 Internal Server Error")),
    ];
    for (name, reply) in cases {
        let server =
            TestServer::start(move |target| if filtered(target) { reply.clone() } else { Reply::page(PAGE) })
                .await;
        let rig = Rig::start(server.address, settings());
        eventually(name, || server.asked(whole) >= 6).await;
        assert_eq!(server.asked(filtered), 1, "{name}");
        let load = rig.load();
        assert_eq!((load.freshness, load.waiting), (Freshness::Fresh, 4), "{name}");
        assert_eq!(rig.count(Err(Failure::NoFamily)) + rig.count(Err(Failure::Status(0))), 0, "{name}");
    }
}

#[tokio::test]
async fn a_filter_that_falls_silent_does_not_make_the_endpoint_idle_or_unknown() {
    let silent = Arc::new(AtomicBool::new(false));
    let switch = silent.clone();
    let server = TestServer::start(move |target| match (filtered(target), switch.load(Relaxed)) {
        (true, false) => Reply::page(FILTERED),
        (true, true) => Reply::page(""),
        (false, _) => Reply::page(PAGE),
    })
    .await;
    let rig = Rig::start(server.address, settings());
    eventually("filtered", || server.asked(filtered) >= 3).await;
    silent.store(true, Relaxed);
    eventually("the whole page", || rig.load().waiting == 4 && server.asked(whole) >= 5).await;
    assert!(rig.fresh());
    assert_eq!(rig.count(Err(Failure::NoFamily)), 0);
}

#[tokio::test]
async fn scrapes_of_one_endpoint_never_overlap() {
    let server = TestServer::start(|_| Reply::Slowly(Duration::from_millis(15), PAGE.to_owned())).await;
    let rig = Rig::start(server.address, settings());
    eventually("scrapes", || rig.count(Ok(())) >= 8).await;
    assert_eq!(server.seen.lock().most_under_way, 1);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_within_the_scrape() {
    let turn = AtomicU8::new(0);
    // Every third request meets a connection that the server gives up instead of answering.
    let server = TestServer::start(move |_| match turn.fetch_add(1, Relaxed) % 3 {
        2 => Reply::Raw(""),
        _ => Reply::page(PAGE),
    })
    .await;
    let rig = Rig::start(server.address, settings());
    eventually("scrapes", || rig.count(Ok(())) >= 6 && server.seen.lock().connections >= 3).await;
    assert_eq!(rig.count(Err(Failure::Broken)), 0);
}

#[tokio::test]
async fn scraping_follows_the_snapshots_and_ends_with_them() {
    let first = TestServer::start(|_| Reply::page(PAGE)).await;
    let second = TestServer::start(|_| Reply::page(PAGE)).await;
    let mut rig = Rig::start(first.address, settings());
    eventually("first", || rig.fresh()).await;
    let other = endpoint(1, second.address);
    rig.snapshots.send_replace(Arc::new(Snapshot { endpoints: vec![other.clone()] }));
    eventually("second", || other.freshness(rig.clock.now(), FOREVER) == Freshness::Fresh).await;
    // The first endpoint's task was stopped before the second's was started; only a request under way may still come.
    let asked = first.asked(whole) + first.asked(filtered);
    let before = second.asked(|_| true);
    eventually("ten more of the second", || second.asked(|_| true) >= before + 10).await;
    assert!(first.asked(|_| true) <= asked + 1);
    drop(rig.snapshots);
    rig.tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn broken_lines_are_counted() {
    let server =
        TestServer::start(|_| Reply::page("vllm:num_requests_waiting x\nvllm:num_requests_running 1\n"))
            .await;
    let rig = Rig::start(server.address, settings());
    eventually("fresh", || rig.fresh()).await;
    assert!(rig.metrics.skipped_lines.get() > 0);
    assert_eq!((rig.load().waiting, rig.load().running), (0, 1));
}

/// Gives the endpoint one label, or none.
fn relabel(endpoint: &Endpoint, label: Option<(&str, &str)>) {
    let FixedMeta { name, namespace, address, port } = endpoint.meta.clone();
    let labels = label.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    assert!(endpoint.update(&EndpointMeta { name, namespace, address, port, labels }));
}

/// The lines of `page` whose names the query of `target` asks for; all without one.
fn heed(page: &str, target: &str) -> Reply {
    let Some((_, query)) = target.split_once("?name[]=") else { return Reply::page(page) };
    let wanted: Vec<_> = query.split("&name[]=").collect();
    let name = |line: &str| line.split(['{', ' ']).next().is_some_and(|name| wanted.contains(&name));
    Reply::page(&page.lines().filter(|line| name(line)).flat_map(|line| [line, "\n"]).collect::<String>())
}

#[tokio::test]
async fn the_names_follow_the_label_from_scrape_to_scrape() {
    // A page that several engines could have written, so that the values tell who is believed.
    let page = "vllm:num_requests_waiting 4\nvllm:num_requests_running 2\nvllm:kv_cache_usage_perc 0.5\n\
                vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"10\"} 1\n\
                vllm:lora_requests_info{running_lora_adapters=\"a\",max_lora=\"1\"} 1\n\
                sglang:num_queue_reqs 7\nsglang:num_running_reqs 9\nsglang:token_usage 0.25\n\
                sglang:page_size 64\nsglang:num_pages 100\n\
                nv_inference_pending_request_count{model=\"m\"} 5\n";
    let server = TestServer::start(move |target| heed(page, target)).await;
    let rig = Rig::start(server.address, ScrapeSettings { filter_recheck: FOREVER, ..settings() });
    let [llm_d, gie] = ENGINE_LABELS;
    let vllm = "/metrics/?name[]=vllm:num_requests_waiting&";
    let sglang = "/metrics/?name[]=sglang:num_queue_reqs&";
    let triton = "/metrics/?name[]=nv_inference_pending_request_count";
    for (label, filtered, want, kv_used, capacity, adapters) in [
        (None, vllm, (4, 2), 0.5, 160, &["a"][..]),
        (Some((llm_d, "sglang")), sglang, (7, 9), 0.25, 6400, &[]),
        // Nothing of SGLang stays where Triton says nothing.
        (Some((gie, "triton")), triton, (5, 0), 0.0, 0, &[]),
        (Some((llm_d, "no such engine")), vllm, (4, 2), 0.5, 160, &["a"]),
        (Some((gie, "triton")), triton, (5, 0), 0.0, 0, &[]),
    ] {
        relabel(&rig.endpoint, label);
        let before = (server.asked(whole), server.asked(|target| target.starts_with(filtered)));
        eventually("the values", || {
            let load = rig.load();
            (load.waiting, load.running) == want
                && (load.kv_used, load.kv_capacity_tokens) == (kv_used, capacity)
                && rig.endpoint.lora().running() == adapters
        })
        .await;
        eventually("the filter", || server.asked(|target| target.starts_with(filtered)) > before.1 + 5).await;
        assert_eq!(server.asked(whole), before.0 + 1, "{label:?}: one comparison");
        assert!(rig.fresh(), "{label:?}");
    }
    assert_eq!(rig.count(Err(Failure::NoFamily)), 0);
}

#[tokio::test]
async fn an_endpoint_of_an_engine_without_its_page_has_no_metrics_until_it_is_labelled() {
    let server = TestServer::start(|_| Reply::page("sglang:num_queue_reqs 7\n")).await;
    let rig = Rig::start(server.address, settings());
    eventually("no metrics", || rig.load().freshness == Freshness::NoMetrics).await;
    relabel(&rig.endpoint, Some((ENGINE_LABELS[0], "sglang")));
    eventually("fresh", || rig.fresh() && rig.load().waiting == 7).await;
    relabel(&rig.endpoint, Some((ENGINE_LABELS[0], "vllm")));
    eventually("no metrics again", || rig.load().freshness == Freshness::NoMetrics).await;
    assert_eq!(rig.load().waiting, 0, "what another engine's names told no longer counts");
}

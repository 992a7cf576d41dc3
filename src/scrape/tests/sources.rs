//! Several sources of data: what they leave on endpoints, and what a new data layer changes.

use epp_framework::attribute::AttributeKey;
use epp_framework::data::{
    AttributeKeys, CustomMetric, EngineMetrics, GpuExtractor, HOST_ADDRESS, PlaceExtractor,
};
use epp_framework::metric_spec::MetricSpec;
use epp_framework::slot::SlotNames;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

const LOAD: &str = "vllm:num_requests_waiting 4\n";

/// A key, under which alone a value is left.
fn key(name: &str) -> AttributeKey {
    // Keys are positions, so every call sees the same ones.
    let names = SlotNames::default();
    let known = ["depth", "util", "memory", "models", "place"].map(|known| names.attribute("p", known));
    known[["depth", "util", "memory", "models", "place"].iter().position(|known| *known == name).unwrap()]
}

fn keys(name: &str) -> AttributeKeys {
    std::iter::once(key(name)).collect()
}

fn depth() -> CustomMetric {
    CustomMetric { keys: keys("depth"), spec: MetricSpec::of("depth") }
}

fn with_depth() -> Source {
    load_source(EngineExtractor { custom: vec![depth()], ..EngineExtractor::default() })
}

/// A source of something else, at the port that requests go to.
fn source(path: &str, extractor: Extractor) -> Source {
    let interval = Some(Duration::from_millis(2));
    let page = PageSource {
        tls: Some(false),
        skip_verify: Some(true),
        path: Some(path.to_owned()),
        on_host: false,
        port: Some(0),
        interval,
    };
    Source { name: path.to_owned(), type_name: "dcgm-data-source", page, extractors: vec![extractor] }
}

fn gpu() -> Source {
    let extractor = GpuExtractor { utilization: keys("util"), memory_used: keys("memory") };
    source("/gpu", Extractor::Gpu(extractor))
}

fn models() -> Source {
    source("/v1/models", Extractor::Models(keys("models")))
}

/// A server whose pages can be taken away: metrics, GPUs, models.
struct Served {
    server: TestServer,
    lost: Arc<AtomicU8>,
}

impl Served {
    async fn start() -> Self {
        let lost = Arc::new(AtomicU8::new(0));
        let of = lost.clone();
        let server = TestServer::start(move |target| {
            let lost = of.load(Relaxed);
            let page = format!("{LOAD}{}", if lost & 1 == 0 { "depth -2.5\n" } else { "" });
            match target {
                "/gpu" if lost & 2 == 0 => Reply::page("DCGM_FI_DEV_GPU_UTIL 40\n"),
                "/v1/models" if lost & 4 == 0 => Reply::page(r#"{"data":[{"id":"m"}]}"#),
                "/gpu" | "/v1/models" => Reply::status("404 Not Found"),
                _ => heed(&page, target),
            }
        })
        .await;
        Self { server, lost }
    }
}

impl Rig {
    fn number(&self, name: &str) -> Option<f64> {
        self.endpoint.attributes().number(key(name))
    }

    fn words(&self, name: &str) -> Option<Vec<String>> {
        self.endpoint.attributes().words(key(name)).map(<[String]>::to_vec)
    }

    fn has_none(&self) -> bool {
        self.endpoint.attributes().iter().next().is_none()
    }
}

#[tokio::test]
async fn every_source_leaves_what_it_knows_until_it_no_longer_says_so() {
    let served = Served::start().await;
    let layer = layer(vec![with_depth(), gpu(), models()]);
    let rig = Rig::with(served.server.address, settings(), layer);
    let names = || Some(vec!["m".to_owned()]);
    eventually("all attributes", || {
        (rig.number("depth"), rig.number("util"), rig.words("models")) == (Some(-2.5), Some(0.4), names())
    })
    .await;
    assert_eq!(rig.number("memory"), None, "the page does not say");
    assert!(rig.fresh() && rig.load().waiting == 4);
    for (lost, name) in [(1, "depth"), (2, "util"), (4, "models")] {
        served.lost.store(lost, Relaxed);
        let gone = || rig.endpoint.attributes().get(key(name)).is_none();
        eventually(name, || gone() && rig.endpoint.attributes().iter().count() == 2).await;
        assert!(rig.fresh(), "the load is told all the while");
        served.lost.store(0, Relaxed);
        eventually(name, || !gone()).await;
    }
    drop(served);
    eventually("a server that is gone says nothing", || rig.has_none() && rig.stale()).await;
}

#[tokio::test]
async fn custom_metrics_are_read_off_a_page_without_load() {
    let page = Arc::new(parking_lot::Mutex::new("depth -2.5\n".to_owned()));
    let shown = page.clone();
    let server = TestServer::start(move |target| heed(&shown.lock(), target)).await;
    let rig = Rig::with(server.address, settings(), layer(vec![with_depth()]));
    eventually("depth", || rig.number("depth") == Some(-2.5)).await;
    assert_eq!(rig.load().freshness, Freshness::NoMetrics, "nobody says how loaded it is");
    assert_eq!(rig.count(Ok(())), 0);
    "depth 3\n".clone_into(&mut page.lock());
    eventually("another depth", || rig.number("depth") == Some(3.0)).await;
    page.lock().clear();
    eventually("no depth", || rig.number("depth").is_none()).await;
    format!("{LOAD}depth 4\n").clone_into(&mut page.lock());
    eventually("load", || rig.fresh() && rig.number("depth") == Some(4.0)).await;
    "depth 5\n".clone_into(&mut page.lock());
    eventually("no load", || rig.load().freshness == Freshness::NoMetrics).await;
    assert_eq!((rig.load().waiting, rig.number("depth")), (0, Some(5.0)));
}

/// Whatever the whole page had when it was compared, the filtered one is asked for on.
#[tokio::test]
async fn a_custom_metric_that_comes_and_goes_does_not_cost_the_filter() {
    let turn = AtomicU8::new(0);
    let server = TestServer::start(move |target| {
        let depth = if turn.fetch_add(1, Relaxed).is_multiple_of(2) { "depth 1\n" } else { "" };
        heed(&format!("{LOAD}{depth}"), target)
    })
    .await;
    let settings = ScrapeSettings { filter_recheck: FOREVER, ..settings() };
    let rig = Rig::with(server.address, settings, layer(vec![with_depth()]));
    eventually("filtered", || server.asked(filtered) >= 10 || server.asked(whole) >= 10).await;
    assert_eq!(server.asked(whole), 1);
    assert!(rig.fresh());
}

#[tokio::test]
async fn sources_that_are_stopped_leave_nothing_any_more() {
    let served = Served::start().await;
    let endpoint = endpoint(0, served.server.address);
    let (_snapshots, receiver) = watch::channel(Arc::new(Snapshot { endpoints: vec![endpoint.clone()] }));
    let metrics = ScrapeMetrics::register(&prometheus::Registry::new()).unwrap();
    let common = Common { flags: settings(), clock: Clock::start(), metrics };
    let all = [with_depth(), gpu()];
    let mut sources = Sources::new(receiver);
    sources.start(prepare(all.iter(), &common).unwrap());
    let knows = |name| endpoint.attributes().get(key(name)).is_some();
    eventually("both", || knows("depth") && knows("util")).await;
    sources.stop_others(&layer(vec![with_depth()])).await;
    assert!(!knows("util"), "its last word is said");
    assert!(knows("depth"));
    sources.stop_others(&layer(Vec::new())).await;
    assert!(!knows("depth"));
    // Ours, and that of the snapshot.
    assert_eq!(Arc::strong_count(&endpoint), 2, "nobody polls it");
}

#[tokio::test]
async fn a_layer_that_cannot_be_polled_is_told_before_and_tried_once() {
    let broken = PageSource { path: Some("/m<x".to_owned()), ..PageSource::default() };
    let broken = Arc::new(layer(vec![Source { page: broken, ..with_depth() }]));
    let metrics = ScrapeMetrics::register(&prometheus::Registry::new()).unwrap();
    let running = layer(vec![gpu()]);
    let scraper = Scraper::build(settings(), &running, Clock::start(), metrics).unwrap();
    let check = scraper.layer_check();
    assert!(matches!(check.check(&broken, &running), Err(ScrapeError::Path(path)) if path == "/m<x"));
    assert!(check.check(&layer(vec![models(), gpu()]), &running).is_ok());

    let told = Arc::<AtomicU8>::default();
    let _logged = tracing::subscriber::set_default(tracing_subscriber::registry().with(Errors(told.clone())));
    let served = Served::start().await;
    let rig = Rig::with(served.server.address, settings(), running);
    rig.layers.send_replace(broken);
    eventually("refused", || told.load(Relaxed) > 0).await;
    for slot in 1..4 {
        let other = endpoint(slot, served.server.address);
        rig.snapshots
            .send_replace(Arc::new(Snapshot { endpoints: vec![rig.endpoint.clone(), other.clone()] }));
        eventually("the source before goes on", || other.attributes().number(key("util")).is_some()).await;
    }
    assert_eq!(told.load(Relaxed), 1);
}

/// Counts errors that are logged.
struct Errors(Arc<AtomicU8>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Errors {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::ERROR {
            self.0.fetch_add(1, Relaxed);
        }
    }
}

#[tokio::test]
async fn a_page_is_asked_for_in_its_own_form_and_counted_by_source() {
    let served = Served::start().await;
    let layer = layer(vec![load_source(EngineExtractor::default()), models()]);
    let rig = Rig::with(served.server.address, settings(), layer);
    let polls = rig.metrics.polls("dcgm-data-source");
    eventually("polls", || polls.of(Ok(())).get() > 2 && rig.count(Ok(())) > 2).await;
    for head in &served.server.seen.lock().heads {
        let json = head.to_lowercase().contains("accept: application/json\r\n");
        assert_eq!(json, head.starts_with("GET /v1/models "), "{head}");
    }
    served.lost.store(4, Relaxed);
    eventually("a page that is not there", || polls.of(Err(Failure::NoPage(404))).get() > 0).await;
    assert_eq!(rig.count(Err(Failure::NoPage(404))), 0, "the load is another source");
}

#[tokio::test]
async fn a_new_data_layer_changes_what_it_changes() {
    let served = Served::start().await;
    let rig = Rig::with(served.server.address, settings(), layer(vec![with_depth(), gpu()]));
    eventually("both", || rig.number("depth").is_some() && rig.number("util").is_some()).await;
    let connections = served.server.seen.lock().connections;
    assert_eq!(connections, 2);

    rig.layers.send_replace(Arc::new(layer(vec![with_depth(), models()])));
    eventually("another source", || rig.words("models").is_some() && rig.number("util").is_none()).await;
    assert_eq!(rig.number("depth"), Some(-2.5));
    assert_eq!(served.server.seen.lock().connections, 3, "the source that stays keeps its connection");

    rig.layers.send_replace(Arc::new(layer(vec![load_source(EngineExtractor::default()), models()])));
    eventually("no custom metric", || rig.number("depth").is_none() && rig.words("models").is_some()).await;
    let before = rig.count(Ok(()));
    eventually("the load is read on", || rig.fresh() && rig.count(Ok(())) > before + 3).await;

    rig.layers.send_replace(Arc::new(DataLayer::default()));
    eventually("nothing", || rig.has_none() && rig.load().freshness == Freshness::NoMetrics).await;
    assert_eq!(rig.load().waiting, 0, "nobody says that anything waits");
    let before = rig.count(Ok(()));

    let broken = PageSource { path: Some("/ ".to_owned()), ..PageSource::default() };
    let refused = layer(vec![Source { page: broken, ..with_depth() }]);
    rig.layers.send_replace(Arc::new(refused));
    rig.layers.send_replace(Arc::new(layer(vec![gpu()])));
    eventually("the one after a refused one", || rig.number("util").is_some()).await;
    assert!(rig.count(Ok(())) <= before + 1, "the load is no longer read");
    assert_eq!(rig.load().freshness, Freshness::NoMetrics);
}

#[tokio::test]
async fn a_page_may_be_on_the_host_of_the_endpoint() {
    let served = Served::start().await;
    let nobody = SocketAddr::new([127, 0, 0, 2].into(), served.server.address.port());
    for (label, on_host, want) in [
        (Some((HOST_ADDRESS, "127.0.0.1")), true, Some(0.4)),
        (Some((HOST_ADDRESS, "127.0.0.1")), false, None),
        (Some((HOST_ADDRESS, "no address")), true, None),
        (None, true, None),
    ] {
        let rig = Rig::with(nobody, settings(), DataLayer::default());
        relabel(&rig.endpoint, label);
        let mut source = gpu();
        source.page.on_host = on_host;
        rig.layers.send_replace(Arc::new(layer(vec![source])));
        let polls = rig.metrics.polls("dcgm-data-source");
        let outcome = if want.is_some() { Ok(()) } else { Err(Failure::Refused) };
        eventually("polls", || polls.of(outcome).get() > 2).await;
        assert_eq!(rig.number("util"), want, "{label:?} {on_host}");
    }
}

#[tokio::test]
async fn endpoints_without_a_source_of_load_count_as_without_metrics() {
    let served = Served::start().await;
    let rig = Rig::with(served.server.address, settings(), layer(vec![gpu()]));
    eventually("a GPU", || rig.number("util").is_some()).await;
    assert_eq!(rig.load().freshness, Freshness::NoMetrics);
    assert_eq!(served.server.asked(|target| target.starts_with("/metrics")), 0);
}

#[tokio::test]
async fn engines_are_read_as_the_extractor_says() {
    let page = "vllm:num_requests_waiting 4\nsglang:num_queue_reqs 7\nmine 9\nother 11\n";
    let server = TestServer::start(move |target| heed(page, target)).await;
    let spec = |name: &str| MetricSpecs { waiting: Some(MetricSpec::of(name)), ..MetricSpecs::default() };
    let engine = |name: &str, sample: &str| EngineMetrics {
        name: name.to_owned(),
        specs: spec(sample),
        custom: Vec::new(),
    };
    let named = |name: &str| Some(name.to_owned());
    let mine = engine("mine", "mine");
    let said = EngineExtractor { engines: vec![mine], ..EngineExtractor::default() };
    let labelled = |label: &'static str, name: &'static str| Some((label, name));
    let llm_d = ENGINE_LABELS[0];
    for (name, said, label, want) in [
        ("as ever", EngineExtractor::default(), None, 4),
        (
            "another default",
            EngineExtractor { default: named("sglang"), ..EngineExtractor::default() },
            None,
            7,
        ),
        ("an engine of its own, not named", said.clone(), None, 4),
        ("named", said.clone(), labelled(llm_d, "mine"), 9),
        ("by default", EngineExtractor { default: named("mine"), ..said.clone() }, None, 9),
        (
            "in the place of a known one, which is the default one",
            EngineExtractor { engines: vec![engine("vllm", "other")], ..EngineExtractor::default() },
            None,
            11,
        ),
        (
            "by another label",
            EngineExtractor { label: named("engine"), ..said.clone() },
            labelled("engine", "mine"),
            9,
        ),
        (
            "which takes llm-d's place",
            EngineExtractor { label: named("engine"), ..said },
            labelled(llm_d, "mine"),
            4,
        ),
    ] {
        let rig = Rig::with(server.address, settings(), layer(Vec::new()));
        relabel(&rig.endpoint, label);
        rig.layers.send_replace(Arc::new(layer(vec![load_source(said)])));
        eventually(name, || rig.fresh()).await;
        assert_eq!(rig.load().waiting, want, "{name}");
    }
}

#[tokio::test]
async fn places_follow_labels_and_the_data_layer() {
    let labels = ["host", "rack", "zone", "region"].map(str::to_owned);
    let places = vec![PlaceExtractor { labels, keys: keys("place") }];
    let layer = DataLayer { places, ..DataLayer::default() };
    let rig = Rig::with("127.0.0.1:1".parse().unwrap(), settings(), layer);
    let again = || rig.snapshots.send_modify(|_| {});
    assert_eq!(rig.words("place"), None);
    for (label, want) in [
        (Some(("zone", "a")), Some(["", "", "a", ""])),
        (Some(("host", "b")), Some(["b", "", "", ""])),
        (Some(("other", "c")), None),
        (Some(("rack", "d")), Some(["", "d", "", ""])),
    ] {
        relabel(&rig.endpoint, label);
        again();
        let want = want.map(|words| words.map(str::to_owned).to_vec());
        eventually("the place", || rig.words("place") == want).await;
    }
    rig.layers.send_replace(Arc::new(DataLayer::default()));
    eventually("no place", || rig.has_none()).await;
}

//! One source of data, made ready to be polled: [`Prepared::of`], then [`Prepared::run`].
//!
//! What a source does not say of itself is as the flags say. A page that tells endpoints' loads is polled by `poll`, what
//! else is taken out of a page by `attributes`.

use std::convert::Infallible;
use std::sync::Arc;

use epp_framework::data::Extractor;
use epp_framework::endpoint::Endpoint;
use epp_framework::snapshot::Snapshot;
use tokio::sync::{mpsc, watch};
use tracing::error;

use super::attributes::{AttributePoller, AttributeSource};
use super::fetch::{METRICS_TEXT, PageClient, PagePath};
use super::poll::{Poller, Surroundings};
use super::reading::{Readings, default_engine};
use super::tasks::EndpointTasks;
use super::{Scheme, ScrapeError, ScrapeMetrics, ScrapeSettings};
use crate::clock::Clock;
use crate::data_layer::Source;

/// What all sources share.
#[derive(Clone)]
pub(super) struct Common {
    /// What the flags say.
    pub(super) flags: ScrapeSettings,
    pub(super) clock: Clock,
    pub(super) metrics: ScrapeMetrics,
}

/// A source that can be polled.
pub(super) struct Prepared {
    load: Option<Arc<Surroundings>>,
    attributes: Option<Arc<AttributeSource>>,
    metrics: ScrapeMetrics,
    polling: mpsc::Receiver<Infallible>,
}

impl Prepared {
    /// Makes everything that may fail.
    pub(super) fn of(source: &Source, common: &Common) -> Result<Self, ScrapeError> {
        let settings = settings(&common.flags, source);
        let (held, polling) = mpsc::channel(1);
        let client = |max_bytes| PageClient::build(settings.scheme, settings.timeout, max_bytes);
        let load = match source.engine() {
            None => None,
            Some(engine) => Some(Arc::new(Surroundings {
                readings: Readings::build(&settings.path, &settings.specs, engine)?,
                client: client(settings.max_page_bytes)?,
                clock: common.clock,
                metrics: common.metrics.clone(),
                settings: settings.clone(),
                _polling: held.clone(),
            })),
        };
        let others = source.extractors.iter().filter(|extractor| !matches!(extractor, Extractor::Engine(_)));
        let extractors: Vec<_> = others.cloned().collect();
        let attributes = if extractors.is_empty() {
            None
        } else {
            let models = extractors.iter().all(|extractor| matches!(extractor, Extractor::Models(_)));
            let max_bytes = if models { MAX_MODELS_BYTES } else { settings.max_page_bytes };
            let max_bytes = max_bytes.min(settings.max_page_bytes);
            Some(Arc::new(AttributeSource {
                name: source.name.clone(),
                path: PagePath::build(&settings.path, "")?,
                accept: if models { "application/json" } else { METRICS_TEXT },
                on_host: source.page.on_host,
                client: client(max_bytes)?,
                extractors,
                outcomes: common.metrics.polls(source.type_name),
                settings,
                _polling: held,
            }))
        };
        Ok(Self { load, attributes, metrics: common.metrics.clone(), polling })
    }

    /// Polls the endpoints of the newest snapshot until the sender of `snapshots` is gone or the future is dropped. The
    /// receiver is closed once nothing polls them any more, which is after that.
    pub(super) fn run(
        self,
        snapshots: &watch::Receiver<Arc<Snapshot>>,
    ) -> (impl Future<Output = ()> + use<>, mpsc::Receiver<Infallible>) {
        let Self { load, attributes, metrics, polling } = self;
        let load = load.map(|around| {
            let tasks = EndpointTasks::new(move |endpoint| Poller::new(endpoint, around.clone()).run());
            follow(tasks, snapshots.clone(), metrics.clone())
        });
        let attributes = attributes.map(|source| {
            let tasks =
                EndpointTasks::new(move |endpoint| AttributePoller::new(endpoint, source.clone()).run());
            follow(tasks, snapshots.clone(), metrics.clone())
        });
        let work = async {
            tokio::join!(maybe(load), maybe(attributes));
        };
        (work, polling)
    }
}

async fn maybe(work: Option<impl Future<Output = ()>>) {
    if let Some(work) = work {
        work.await;
    }
}

async fn follow<S, F>(
    mut tasks: EndpointTasks<S>,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    metrics: ScrapeMetrics,
) where
    S: Fn(Arc<Endpoint>) -> F,
    F: Future<Output = Infallible> + Send + 'static,
{
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        tasks.reconcile(&snapshot.endpoints);
        // Both arms are cancel-safe: neither takes a change or an end without being selected.
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            endpoint = tasks.restart_panicked() => {
                metrics.task_restarts.inc();
                error!(?endpoint, "scrape task panicked and is started anew");
            }
        }
    }
}

/// Largest list of models that is read: all of its names are in memory before those beyond the bound are dropped.
const MAX_MODELS_BYTES: usize = 1 << 20;

/// How a source is polled: as it says itself, else as the flags say.
fn settings(flags: &ScrapeSettings, source: &Source) -> ScrapeSettings {
    let page = &source.page;
    let tls = page.tls.unwrap_or(flags.scheme != Scheme::Http);
    let verify = page.skip_verify.map_or(flags.verify, |skip| !skip);
    ScrapeSettings {
        interval: page.interval.unwrap_or(flags.interval),
        scheme: if tls { Scheme::Https { verify } } else { Scheme::Http },
        path: page.path.clone().unwrap_or_else(|| flags.path.clone()),
        port: page.port.or(flags.port).filter(|&port| port != 0),
        ..flags.clone()
    }
}

/// The flags that were set and do not count, because the source says otherwise.
pub(super) fn outdone_flags(flags: &ScrapeSettings, source: &Source) -> Vec<&'static str> {
    let (Some(engine), usual) = (source.engine(), ScrapeSettings::default()) else { return Vec::new() };
    let said = settings(flags, source);
    let is_https = |settings: &ScrapeSettings| settings.scheme != Scheme::Http;
    let outdone = |set: bool, differs: bool, flag| (set && differs).then_some(flag);
    let specs = default_engine(engine).is_some();
    [
        outdone(is_https(flags), !is_https(&said), "--model-server-metrics-scheme"),
        outdone(flags.path != usual.path, said.path != flags.path, "--model-server-metrics-path"),
        outdone(flags.port.is_some(), said.port != flags.port, "--model-server-metrics-port"),
        outdone(
            flags.verify,
            source.page.skip_verify == Some(true),
            "--model-server-metrics-https-insecure-skip-verify",
        ),
        outdone(flags.specs != usual.specs, specs, "--total-queued-requests-metric and others of metrics"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use epp_framework::data::{EngineExtractor, PageSource};

    use super::*;

    fn source(page: PageSource, engine: EngineExtractor) -> Source {
        let extractors = vec![Extractor::Engine(engine)];
        Source { name: "s".to_owned(), type_name: "metrics-data-source", page, extractors }
    }

    #[test]
    fn a_source_outdoes_flags_where_it_says_something() {
        let flags = ScrapeSettings {
            scheme: Scheme::Https { verify: true },
            verify: true,
            path: "/flag".to_owned(),
            port: Some(1),
            ..ScrapeSettings::default()
        };
        let same = settings(&flags, &source(PageSource::default(), EngineExtractor::default()));
        assert_eq!(same, flags);
        let page = PageSource {
            tls: Some(true),
            skip_verify: Some(true),
            path: Some("/own".to_owned()),
            on_host: false,
            port: Some(0),
            interval: Some(Duration::from_secs(1)),
        };
        let own = settings(&flags, &source(page, EngineExtractor::default()));
        assert_eq!(
            (own.scheme, own.path.as_str(), own.port),
            (Scheme::Https { verify: false }, "/own", None)
        );
        assert_eq!(own.interval, Duration::from_secs(1));
        assert_eq!(own.specs, flags.specs);
    }

    #[test]
    fn flags_that_do_not_count_are_told() {
        let usual = ScrapeSettings::default();
        let set = ScrapeSettings { path: "/flag".to_owned(), port: Some(1), ..usual.clone() };
        let specs = ScrapeSettings { specs: super::super::engine::ENGINES[1].specs(), ..usual.clone() };
        let path = |path: &str| PageSource { path: Some(path.to_owned()), ..PageSource::default() };
        let sglang = EngineExtractor { default: Some("sglang".to_owned()), ..EngineExtractor::default() };
        let none = EngineExtractor::default;
        for (name, flags, source, want) in [
            ("nothing is set", &usual, source(path("/own"), none()), &[][..]),
            ("nothing is said", &set, source(PageSource::default(), none()), &[]),
            ("the same is said", &set, source(path("/flag"), none()), &[]),
            ("another", &set, source(path("/own"), none()), &["--model-server-metrics-path"]),
            (
                "another port",
                &set,
                source(PageSource { port: Some(2), ..path("/flag") }, none()),
                &["--model-server-metrics-port"],
            ),
            (
                "another engine",
                &specs,
                source(PageSource::default(), sglang.clone()),
                &["--total-queued-requests-metric and others of metrics"],
            ),
            ("the usual engine", &usual, source(PageSource::default(), sglang), &[]),
        ] {
            assert_eq!(outdone_flags(flags, &source), want, "{name}");
        }
    }
}

//! Keeps what is known of every endpoint fresh: one polling task per source of data and endpoint of the snapshot.
//!
//! Entry point: [`Scraper::run`]. Tasks follow the snapshots, sources the configuration's data layer; a task that panics is
//! started anew. What one poll does is in `poll` and `attributes`, what a metrics page means in [`mapping`], by the names
//! that [`engine`] tells. Which endpoints exist, and how old is too old, is decided elsewhere.

mod attributes;
mod connection;
pub mod engine;
pub mod exposition;
mod fetch;
mod filter;
mod gpu;
pub mod mapping;
mod metrics;
mod models;
mod places;
mod poll;
mod reading;
mod source;
mod sources;
pub mod spec;
mod standing;
mod tasks;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use epp_framework::metric_spec::MetricSpecs;
use epp_framework::snapshot::Snapshot;
use tokio::sync::watch;
use tracing::{error, warn};

pub use self::metrics::ScrapeMetrics;
use self::source::{Common, Prepared};
use self::sources::Sources;
use crate::clock::Clock;
use crate::data_layer::{DataLayer, Source};

/// The protocol of metrics pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS.
    Https {
        /// Whether the certificate must be one that the system trusts, and name the endpoint's address.
        verify: bool,
    },
}

/// How endpoints are scraped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeSettings {
    /// From the beginning of one scrape of an endpoint to the beginning of the next.
    pub interval: Duration,
    /// For one page, from connecting to its last byte.
    pub timeout: Duration,
    /// Protocol of the page.
    pub scheme: Scheme,
    /// Whether certificates are verified where TLS is asked for elsewhere.
    pub verify: bool,
    /// Path of the page; begins with `/`.
    pub path: String,
    /// Port of the page; `None` is the port that traffic goes to.
    pub port: Option<u16>,
    /// What is read off the page of an endpoint whose labels name no engine of [`engine::ENGINES`].
    pub specs: MetricSpecs,
    /// Larger pages are not read.
    pub max_page_bytes: usize,
    /// Failed scrapes in a row that make an endpoint stale; a refused connection does so at once.
    pub failures_until_stale: u32,
    /// How often the page that is filtered by name is compared with the whole one.
    pub filter_recheck: Duration,
    /// Seed of the jitter that spreads the endpoints over an interval.
    pub seed: u64,
}

impl Default for ScrapeSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(1),
            scheme: Scheme::Http,
            verify: false,
            path: "/metrics".to_owned(),
            port: None,
            specs: engine::vllm(),
            max_page_bytes: 8 << 20,
            failures_until_stale: 3,
            filter_recheck: Duration::from_secs(60),
            seed: 0,
        }
    }
}

/// Why a scraper could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// The path is none.
    #[error(
        "--model-server-metrics-path, or `path` of a data source: expected a path as in a URL, beginning with `/`, found \
         `{0}`"
    )]
    Path(String),
    /// Certificates are to be verified, but against nothing.
    #[error(
        "--model-server-metrics-https-insecure-skip-verify=false, or `insecureSkipVerify: false` of a data source: \
         expected root certificates in the system's place \
         for them, or in the file that SSL_CERT_FILE names, found none"
    )]
    NoRoots,
}

/// Scrapes the endpoints of one pool.
pub struct Scraper {
    common: Common,
    layer: DataLayer,
    prepared: Vec<(Source, Prepared)>,
}

impl Scraper {
    /// Builds a scraper that begins with `layer`; `clock` must be the one that endpoints are sampled by.
    pub fn build(
        settings: ScrapeSettings,
        layer: &DataLayer,
        clock: Clock,
        metrics: ScrapeMetrics,
    ) -> Result<Self, ScrapeError> {
        let common = Common { flags: settings, clock, metrics };
        let prepared = prepare(layer.sources.iter(), &common)?;
        Ok(Self { layer: layer.clone(), prepared, common })
    }

    /// What tells of new data layers whether they can be polled, while the scraper runs.
    pub fn layer_check(&self) -> LayerCheck {
        LayerCheck { common: self.common.clone() }
    }

    /// Polls the endpoints of the newest snapshot, by the newest data layer, until the sender of either is gone or the
    /// future is dropped. Sources that a new data layer has as well are polled on.
    pub async fn run(
        self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        mut layers: watch::Receiver<Arc<DataLayer>>,
    ) {
        let Self { common, mut layer, prepared } = self;
        let mut refused = None;
        let mut sources = Sources::new(snapshots.clone());
        sources.start(prepared);
        loop {
            let newest = Arc::clone(&layers.borrow_and_update());
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            // A refused layer is not tried again with every snapshot.
            let tried = refused.as_ref().is_some_and(|refused| Arc::ptr_eq(refused, &newest));
            if *newest != layer && !tried {
                let missing = newest.sources.iter().filter(|source| !layer.sources.contains(source));
                match prepare(missing, &common) {
                    Ok(prepared) => {
                        sources.stop_others(&newest).await;
                        sources.start(prepared);
                        places::forget(&layer.places, &snapshot);
                        layer = DataLayer::clone(&newest);
                    }
                    Err(problem) => {
                        error!(%problem, "data layer refused; the one before goes on");
                        refused = Some(newest);
                    }
                }
            }
            places::tell(&layer.places, &snapshot);
            if layer.sources.iter().all(|source| source.engine().is_none()) {
                // Nobody will ever say how loaded they are.
                snapshot.endpoints.iter().for_each(|endpoint| endpoint.store_no_metrics());
            }
            let gone = tokio::select! {
                changed = snapshots.changed() => changed.is_err(),
                changed = layers.changed() => changed.is_err(),
            };
            if gone {
                return;
            }
        }
    }
}

/// Tells whether a data layer can be polled; see [`Scraper::layer_check`].
#[derive(Clone)]
pub struct LayerCheck {
    common: Common,
}

impl LayerCheck {
    /// Whether every source of `layer` that `running` does not have can be made ready.
    pub fn check(&self, layer: &DataLayer, running: &DataLayer) -> Result<(), ScrapeError> {
        let mut missing = layer.sources.iter().filter(|source| !running.sources.contains(source));
        missing.try_for_each(|source| Prepared::of(source, &self.common).map(drop))
    }
}

/// Makes sources ready, and says which flags they outdo.
fn prepare<'s>(
    sources: impl Iterator<Item = &'s Source>,
    common: &Common,
) -> Result<Vec<(Source, Prepared)>, ScrapeError> {
    let prepared: Vec<_> = sources
        .map(|source| Ok((source.clone(), Prepared::of(source, common)?)))
        .collect::<Result<_, ScrapeError>>()?;
    for (source, _) in &prepared {
        for flag in source::outdone_flags(&common.flags, source) {
            let plugin = source.name.as_str();
            warn!(flag, plugin, "the flag does not count, the configuration's data layer says otherwise");
        }
    }
    Ok(prepared)
}

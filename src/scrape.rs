//! Keeps the gauges of every endpoint fresh: one polling task per endpoint of the snapshot.
//!
//! Entry point: [`Scraper::run`]. Tasks follow the snapshots; one that panics is started anew. What one poll does is
//! in `poll`, what a page means in [`mapping`], by the names that [`engine`] tells. Which endpoints exist, and how old is
//! too old, is decided elsewhere.

mod connection;
pub mod engine;
pub mod exposition;
mod fetch;
mod filter;
pub mod mapping;
mod metrics;
mod poll;
mod reading;
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

use epp_framework::snapshot::Snapshot;
use tokio::sync::watch;
use tracing::error;

use self::engine::MetricSpecs;
use self::fetch::PageClient;
pub use self::metrics::ScrapeMetrics;
use self::poll::{Poller, Surroundings};
use self::reading::Readings;
use self::tasks::EndpointTasks;
use crate::clock::Clock;

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
            path: "/metrics".to_owned(),
            port: None,
            specs: MetricSpecs::default(),
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
    #[error("--model-server-metrics-path: expected a path as in a URL, beginning with `/`, found `{0}`")]
    Path(String),
    /// Certificates are to be verified, but against nothing.
    #[error(
        "--model-server-metrics-https-insecure-skip-verify=false: expected root certificates in the system's place \
         for them, or in the file that SSL_CERT_FILE names, found none"
    )]
    NoRoots,
}

/// Scrapes the endpoints of one pool.
pub struct Scraper {
    surroundings: Arc<Surroundings>,
}

impl Scraper {
    /// Builds a scraper; `clock` must be the one that endpoints are sampled by.
    pub fn build(
        settings: ScrapeSettings,
        clock: Clock,
        metrics: ScrapeMetrics,
    ) -> Result<Self, ScrapeError> {
        let readings = Readings::build(&settings)?;
        let client = PageClient::build(settings.scheme, settings.timeout, settings.max_page_bytes)?;
        let surroundings = Surroundings { settings, readings, client, clock, metrics };
        Ok(Self { surroundings: Arc::new(surroundings) })
    }

    /// Scrapes the endpoints of the newest snapshot until the sender of `snapshots` is gone or the future is dropped.
    pub async fn run(self, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
        let start = |endpoint| Poller::new(endpoint, Arc::clone(&self.surroundings)).run();
        let mut tasks = EndpointTasks::new(start);
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
                    self.surroundings.metrics.task_restarts.inc();
                    error!(?endpoint, "scrape task panicked and is started anew");
                }
            }
        }
    }
}

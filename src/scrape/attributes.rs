//! Polls one endpoint for ever for attributes: fetch a page, take out what it says, leave that on the endpoint, wait.
//!
//! Entry point: [`AttributePoller::run`]. It goes by the same rules as `poll`: one request at a time, a bounded page,
//! longer waits while nothing comes. What a page means is in `gpu` and `models`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use epp_framework::attribute::{AttributeValue, Told};
use epp_framework::data::{AttributeKeys, Extractor, HOST_ADDRESS};
use epp_framework::endpoint::Endpoint;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::fetch::{Failure, PageClient, PagePath, PageServer};
use super::metrics::Outcomes;
use super::poll::jitter;
use super::sources::Polling;
use super::standing::{Standing, State};
use super::{ScrapeSettings, gpu, models};

/// Within this time a new endpoint is polled.
const FIRST_POLL: Duration = Duration::from_secs(1);

/// What all such pollers of a source share.
pub(super) struct AttributeSource {
    pub(super) name: String,
    pub(super) settings: ScrapeSettings,
    pub(super) path: PagePath,
    pub(super) accept: &'static str,
    pub(super) on_host: bool,
    pub(super) client: PageClient,
    pub(super) extractors: Vec<Extractor>,
    pub(super) outcomes: Outcomes,
    pub(super) _polling: Polling,
}

impl AttributeSource {
    /// What the page says of every attribute, or that it says nothing.
    fn told(&self, page: &[u8], endpoint: &Endpoint) -> Result<Vec<Told>, Failure> {
        let mut told = Vec::new();
        let mut tell = |keys: &AttributeKeys, value: Option<AttributeValue>| {
            told.extend(keys.iter().map(|&key| (key, value.clone())));
        };
        for extractor in &self.extractors {
            match extractor {
                Extractor::Gpu(keys) => {
                    let found = gpu::read(page, endpoint);
                    tell(&keys.utilization, found.utilization.map(AttributeValue::Number));
                    tell(&keys.memory_used, found.memory_used.map(AttributeValue::Number));
                }
                Extractor::Models(keys) => {
                    tell(keys, models::read(page).map(|names| AttributeValue::Words(names.into())));
                }
                Extractor::Engine(_) | Extractor::Place(_) | Extractor::Other => {}
            }
        }
        if told.iter().all(|(_, value)| value.is_none()) { Err(Failure::NoFamily) } else { Ok(told) }
    }

    fn untold(&self) -> Vec<Told> {
        let keys = self.extractors.iter().flat_map(|extractor| match extractor {
            Extractor::Gpu(keys) => [&keys.utilization[..], &keys.memory_used].concat(),
            Extractor::Models(keys) => keys.to_vec(),
            Extractor::Engine(_) | Extractor::Place(_) | Extractor::Other => Vec::new(),
        });
        keys.map(|key| (key, None)).collect()
    }
}

/// Polls one endpoint.
pub(super) struct AttributePoller {
    endpoint: Arc<Endpoint>,
    source: Arc<AttributeSource>,
    server: PageServer,
    standing: Standing,
}

impl Drop for AttributePoller {
    fn drop(&mut self) {
        self.endpoint.store_attributes(&self.source.untold());
    }
}

impl AttributePoller {
    pub(super) fn new(endpoint: Arc<Endpoint>, source: Arc<AttributeSource>) -> Self {
        let settings = &source.settings;
        let host = || endpoint.labels().get(HOST_ADDRESS).and_then(|address| address.parse().ok());
        let ip = source.on_host.then(host).flatten().unwrap_or(endpoint.meta.address);
        let address = SocketAddr::new(ip, settings.port.unwrap_or(endpoint.meta.port));
        let standing = Standing::new(settings.failures_until_stale);
        Self { endpoint, server: PageServer::new(address, source.accept), standing, source }
    }

    /// Polls until dropped.
    pub(super) async fn run(mut self) -> Infallible {
        let interval = self.source.settings.interval;
        // Who is new should not wait long to be known, however seldom it is asked later.
        let spread = interval.min(FIRST_POLL);
        let mut due = Instant::now() + jitter(self.source.settings.seed, self.endpoint.id, spread);
        loop {
            sleep_until(due).await;
            let outcome = self.poll().await;
            self.source.outcomes.of(outcome).inc();
            if self.standing.on(outcome) {
                self.on_change(outcome.err());
            }
            due = (due + self.standing.delay(interval)).max(Instant::now());
        }
    }

    async fn poll(&mut self) -> Result<(), Failure> {
        self.source.client.get(&self.source.path.whole, &mut self.server).await?;
        let told = self.source.told(&self.server.page, &self.endpoint)?;
        self.endpoint.store_attributes(&told);
        Ok(())
    }

    fn on_change(&self, failure: Option<Failure>) {
        let (endpoint, source) = (&self.endpoint, self.source.name.as_str());
        let reason = failure.map(tracing::field::display);
        let state = match self.standing.state() {
            State::New => return,
            State::Ok => {
                info!(?endpoint, source, state = "ok", "data source state changed");
                return;
            }
            State::NoMetrics => "no data",
            State::Failing => "failing",
        };
        endpoint.store_attributes(&self.source.untold());
        warn!(?endpoint, source, state, reason, "data source state changed");
    }
}

//! Polls one endpoint for ever: fetch a page, read it, store what it says, wait.
//!
//! Entry point: [`Poller::run`]. A poller has at most one request under way. It logs changes of state and counts every
//! scrape; starting and stopping it is not its business.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use epp_framework::attribute::Told;
use epp_framework::endpoint::{Endpoint, EndpointId, ScrapeMark, ScrapedLoad};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::fetch::{Failure, METRICS_TEXT, PageClient, PageServer};
use super::filter::FilterProbe;
use super::mapping::{FamilySet, PageFindings};
use super::reading::{Reading, Readings};
use super::sources::Polling;
use super::standing::{Standing, State};
use super::{ScrapeMetrics, ScrapeSettings};
use crate::clock::Clock;

/// Endpoints are asked in this many groups per interval: one timer, and often one wake-up, does for a whole group.
const GROUPS: f64 = 10.0;

/// What all pollers of a source share.
pub(super) struct Surroundings {
    pub(super) settings: ScrapeSettings,
    pub(super) readings: Readings,
    pub(super) client: PageClient,
    pub(super) clock: Clock,
    pub(super) metrics: ScrapeMetrics,
    pub(super) _polling: Polling,
}

impl Drop for Poller {
    /// Whoever reads the page next, if anybody, says what it says.
    fn drop(&mut self) {
        self.endpoint.store_attributes(&self.around.readings.untold());
    }
}

/// Polls one endpoint.
pub(super) struct Poller {
    endpoint: Arc<Endpoint>,
    around: Arc<Surroundings>,
    server: PageServer,
    reading: Arc<Reading>,
    /// No page was read since its labels named another engine, or since the beginning.
    changed_engine: bool,
    /// The last engine of its labels that was not known, and was told of.
    unknown_engine: Option<String>,
    filter: FilterProbe,
    standing: Standing,
}

impl Poller {
    pub(super) fn new(endpoint: Arc<Endpoint>, around: Arc<Surroundings>) -> Self {
        let settings = &around.settings;
        let address = SocketAddr::new(endpoint.meta.address, settings.port.unwrap_or(endpoint.meta.port));
        let filter = FilterProbe::new(settings.filter_recheck);
        let standing = Standing::new(settings.failures_until_stale);
        let reading = Arc::clone(around.readings.of(&endpoint.labels()).0);
        Self {
            endpoint,
            server: PageServer::new(address, METRICS_TEXT),
            reading,
            // What another source told is not to stay, either.
            changed_engine: true,
            unknown_engine: None,
            filter,
            standing,
            around,
        }
    }

    /// Polls until dropped.
    pub(super) async fn run(mut self) -> Infallible {
        let interval = self.around.settings.interval;
        let mut due = Instant::now() + jitter(self.around.settings.seed, self.endpoint.id, interval);
        loop {
            sleep_until(due).await;
            let outcome = self.poll().await;
            self.settle(outcome);
            // Counted from when it was due: timers fire late, and the lateness must not add up.
            due = (due + self.standing.delay(interval)).max(Instant::now());
        }
    }

    /// Reads by what the labels name now.
    fn follow_labels(&mut self) {
        let labels = self.endpoint.labels();
        let (reading, unknown) = self.around.readings.of(&labels);
        if !Arc::ptr_eq(reading, &self.reading) {
            self.reading = Arc::clone(reading);
            self.changed_engine = true;
            // Another page is asked for now.
            self.filter.reset();
        }
        if let Some(engine) = unknown
            && self.unknown_engine.as_deref() != unknown
        {
            self.unknown_engine = Some(engine.to_owned());
            warn!(endpoint = ?self.endpoint, engine, "unknown engine; its page is read as the flags say");
        }
    }

    async fn poll(&mut self) -> Page {
        self.follow_labels();
        let clock = self.around.clock;
        if self.filter.wants_filtered(clock.now()) {
            let page = self.scrape(true).await;
            if self.filter.accepts_filtered(families(&page), clock.now()) {
                return page;
            }
        }
        let page = self.scrape(false).await;
        if let Ok(families) = families(&page) {
            self.filter.on_whole(families, clock.now());
        }
        page
    }

    async fn scrape(&mut self, filtered: bool) -> Page {
        let mark = self.endpoint.begin_scrape();
        let path = &self.reading.path;
        let target = if filtered { &path.filtered } else { &path.whole };
        self.around.client.get(target, &mut self.server).await?;
        let found = self.reading.mapping.read(&self.server.page);
        self.around.metrics.skipped_lines.inc_by(u64::from(found.skipped_lines));
        Ok((mark, found))
    }

    fn settle(&mut self, page: Page) {
        let outcome = families(&page).map(|_| ());
        let mut odd_page = None;
        if let Ok((mark, found)) = page {
            let told = self.around.readings.told(&self.reading, &found);
            match outcome {
                Ok(()) => self.store(mark, found, &told),
                Err(_) => odd_page = Some(told),
            }
        }
        self.around.metrics.of(outcome).inc();
        if self.standing.on(outcome) {
            self.on_change(outcome.err());
        }
        if let Some(told) = odd_page {
            // Custom metrics need no load beside them. One page with nothing at all is an accident, as for the load.
            let says_something = told.iter().any(|(_, value)| value.is_some());
            if says_something || self.standing.state() != State::Ok {
                self.endpoint.store_attributes(&told);
            }
        }
    }

    /// Leaves what a page tells on the endpoint.
    fn store(&mut self, mark: ScrapeMark, mut found: PageFindings, told: &[Told]) {
        if std::mem::take(&mut self.changed_engine) {
            // What the names of another engine told is not to stay.
            found.load = whole(found.load);
            found.lora.get_or_insert_default();
        }
        self.endpoint.store_attributes(told);
        self.endpoint.store_scrape(mark, &found.load, self.around.clock.now());
        if let Some(adapters) = found.lora {
            self.endpoint.store_lora(adapters);
        }
    }

    fn on_change(&mut self, failure: Option<Failure>) {
        let endpoint = &self.endpoint;
        let reason = failure.map(tracing::field::display);
        match self.standing.state() {
            State::New => {}
            State::Ok => info!(?endpoint, state = "ok", "scrape state changed"),
            State::NoMetrics => {
                endpoint.store_no_metrics();
                endpoint.store_attributes(&self.around.readings.untold());
                self.filter.reset();
                warn!(?endpoint, state = "no metrics", reason, "scrape state changed");
            }
            State::Failing => {
                endpoint.store_scrape_failing();
                endpoint.store_attributes(&self.around.readings.untold());
                self.filter.reset();
                warn!(?endpoint, state = "failing", reason, "scrape state changed");
            }
        }
    }
}

/// What came of one request: when it began, and what the page says, which may be nothing of load.
type Page = Result<(ScrapeMark, PageFindings), Failure>;

/// The families of load that the page has; a page without one is as good as none.
fn families(page: &Page) -> Result<FamilySet, Failure> {
    let (_, found) = page.as_ref().map_err(|&failure| failure)?;
    if found.families.is_empty() { Err(Failure::NoFamily) } else { Ok(found.families) }
}

/// The same, with zero where the page does not say.
fn whole(load: ScrapedLoad) -> ScrapedLoad {
    ScrapedLoad {
        waiting: load.waiting.or(Some(0)),
        running: load.running.or(Some(0)),
        kv_used: load.kv_used.or(Some(0.0)),
        block_size: load.block_size.or(Some(0)),
        num_gpu_blocks: load.num_gpu_blocks.or(Some(0)),
    }
}

/// A share of `interval` that depends on `seed` and `id` alone, so that endpoints are not all asked in one moment.
pub(super) fn jitter(seed: u64, id: EndpointId, interval: Duration) -> Duration {
    // SplitMix64: neighbouring ids must not get neighbouring shares.
    let mut mixed = seed ^ (u64::from(id.generation) << 32 | u64::from(id.slot));
    mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let share = (mixed >> 11) as f64 / (1u64 << 53) as f64;
    interval.mul_f64((share * GROUPS).floor() / GROUPS)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn jitter_spreads_endpoints_over_the_interval() {
        let interval = Duration::from_millis(100);
        let (mut tenths, mut shares) = ([0; 10], HashSet::new());
        for slot in 0..1000 {
            let share = jitter(7, EndpointId { slot, generation: 0 }, interval);
            assert!(share < interval);
            assert_eq!(share, jitter(7, EndpointId { slot, generation: 0 }, interval));
            tenths[usize::try_from(share.as_millis() / 10).unwrap()] += 1;
            shares.insert(share);
        }
        assert_eq!(shares.len(), 10, "one moment per group");
        assert!(tenths.iter().all(|&count| (50..200).contains(&count)), "{tenths:?}");
        let id = EndpointId { slot: 1, generation: 0 };
        assert_ne!(jitter(7, id, interval), jitter(8, id, interval));
        assert_ne!(jitter(7, id, interval), jitter(7, EndpointId { generation: 1, ..id }, interval));
    }
}

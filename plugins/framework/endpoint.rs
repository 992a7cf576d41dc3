//! One endpoint of a pool: who it is, what its last scrape said, and what we have sent it since.
//!
//! Written by that endpoint's scrape task (gauges) and by decisions and tickets (reservations); cycles see it through an
//! [`EndpointView`](crate::snapshot::EndpointView). The fields are relaxed atomics: they are samples of the past, so
//! tearing between fields is accepted.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::attribute::{Attributes, Told};
use crate::changes::ChangeBits;
use crate::lora::LoraAdapters;
use crate::time::Timestamp;

/// Identity of an endpoint inside one pool.
///
/// `slot` is dense and small, for bitmaps and scratch arrays; it is reused only after every index has purged it, and
/// then with another `generation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId {
    /// Dense index, counted from 0.
    pub slot: u32,
    /// How often the slot was given out before.
    pub generation: u32,
}

/// What discovery says of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointMeta {
    /// Name within its namespace: the pod, or the entry of the endpoints file.
    pub name: String,
    /// Namespace; `default` unless said.
    pub namespace: String,
    /// Address that traffic and scrapes go to.
    pub address: IpAddr,
    /// Port that traffic goes to, 1–65535.
    pub port: u16,
    /// Labels, for filters.
    pub labels: BTreeMap<String, String>,
}

/// The part of [`EndpointMeta`] that makes an endpoint what it is: with another, it is another endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedMeta {
    /// See [`EndpointMeta::name`].
    pub name: String,
    /// See [`EndpointMeta::namespace`].
    pub namespace: String,
    /// See [`EndpointMeta::address`].
    pub address: IpAddr,
    /// See [`EndpointMeta::port`].
    pub port: u16,
}

impl FixedMeta {
    /// `ip:port`, IPv6 in brackets: the value of `x-gateway-destination-endpoint`.
    pub fn destination(&self) -> String {
        SocketAddr::new(self.address, self.port).to_string()
    }
}

/// How far the last scrape can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Scraped successfully within the staleness threshold.
    Fresh,
    /// Scraped once, but longer ago, or failing now.
    Stale,
    /// Not scraped successfully yet.
    NeverScraped,
    /// The server answers, but offers no metrics; it is judged by what is in flight alone.
    NoMetrics,
}

/// Work, in the units that load is counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests.
    pub requests: u32,
    /// Prompt tokens, estimated where no tokenizer ran.
    pub prompt_tokens: u64,
    /// Output tokens, estimated.
    pub output_tokens: u64,
}

/// What was dispatched after the last scrape began, and is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Requests.
    pub requests: u32,
    /// Prompt tokens that no first token told to be computed.
    pub prompt_tokens: u64,
}

/// What one cycle sees of an endpoint; sampled once per cycle, so that all plugins see the same values.
///
/// In the order of how often plugins look: see [`EndpointView`](crate::snapshot::EndpointView).
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Load {
    /// Requests waiting, at the last scrape (`vllm:num_requests_waiting`).
    pub waiting: u32,
    /// Requests running, at the last scrape (`vllm:num_requests_running`).
    pub running: u32,
    /// Fraction of KV blocks in use, 0–1, at the last scrape (`vllm:kv_cache_usage_perc`).
    pub kv_used: f64,
    /// Dispatched by us since the last scrape began, and not finished: what that scrape cannot show.
    pub since_scrape: Unseen,
    /// Dispatched by us and not finished. Prompt tokens count until the first token of the answer.
    pub in_flight: Cost,
    /// KV cache size in tokens (`block_size` × `num_gpu_blocks` of `vllm:cache_config_info`); 0 when unknown.
    pub kv_capacity_tokens: u64,
    /// When the last successful scrape ended; 0 if there was none.
    pub scraped_at: Timestamp,
    /// Trust in the scraped fields.
    pub freshness: Freshness,
}

impl Load {
    /// Since the last successful scrape; as long as can be if there was none.
    #[inline]
    pub fn age(&self, now: Timestamp) -> Duration {
        if self.scraped_at == Timestamp(0) { Duration::MAX } else { now.since(self.scraped_at) }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self {
            waiting: 0,
            running: 0,
            kv_used: 0.0,
            kv_capacity_tokens: 0,
            since_scrape: Unseen::default(),
            in_flight: Cost::default(),
            freshness: Freshness::Fresh,
            scraped_at: Timestamp(1),
        }
    }
}

/// What a scrape found; `None` is "the page does not say", which leaves the last value standing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScrapedLoad {
    /// See [`Load::waiting`].
    pub waiting: Option<u32>,
    /// See [`Load::running`].
    pub running: Option<u32>,
    /// See [`Load::kv_used`].
    pub kv_used: Option<f64>,
    /// Tokens per KV block.
    pub block_size: Option<u32>,
    /// KV blocks of the GPU.
    pub num_gpu_blocks: Option<u32>,
}

/// Marks the moment a scrape began; hand it back with the result.
///
/// What was dispatched before the mark may show in the scraped page, what came after it cannot.
#[derive(Clone, Copy, Debug)]
pub struct ScrapeMark {
    requests: u32,
    prompt_tokens: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum ScrapeState {
    Never = 0,
    Ok = 1,
    Failing = 2,
    NoMetrics = 3,
}

/// The gauges of the last scrape, in a cache line of their own.
#[repr(align(64))]
struct Scraped {
    waiting: AtomicU32,
    running: AtomicU32,
    kv_used_bits: AtomicU64,
    kv_capacity_tokens: AtomicU64,
    at: AtomicU64,
    seen_requests: AtomicU32,
    seen_prompt_tokens: AtomicU64,
    state: AtomicU8,
}

/// What we dispatched, in a cache line of its own: scrapes and decisions do not slow each other.
#[repr(align(64))]
#[derive(Default)]
struct Dispatched {
    /// Counts changes: of the load in steps of 1, of the facts in steps of [`OF_FACTS`].
    changes: AtomicU64,
    requests: AtomicU32,
    prompt_tokens: AtomicU64,
    in_flight_requests: AtomicU32,
    in_flight_prompt_tokens: AtomicU64,
    in_flight_output_tokens: AtomicU64,
}

/// A change of the labels, adapters or attributes, as [`Endpoint::changes`] counts it.
const OF_FACTS: u64 = 1 << 32;
const OF_LOAD: u64 = 1;

/// One endpoint. Shared by `Arc`: requests in flight keep theirs after it left the pool.
pub struct Endpoint {
    /// Identity in its pool.
    pub id: EndpointId,
    /// What discovery says, less the labels, which may change: [`labels`](Self::labels).
    pub meta: FixedMeta,
    /// `ip:port`, made once.
    pub destination: String,
    scraped: Scraped,
    dispatched: Dispatched,
    /// Where each change is told.
    bits: Arc<ChangeBits>,
    lora: ArcSwap<LoraAdapters>,
    attributes: ArcSwap<Attributes>,
    labels: ArcSwap<BTreeMap<String, String>>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}@{}", self.meta.namespace, self.meta.name, self.destination)
    }
}

impl Endpoint {
    /// Makes an endpoint that was never scraped and holds no reservation.
    pub fn new(id: EndpointId, meta: EndpointMeta) -> Self {
        Self::sharing(id, meta, Arc::default())
    }

    /// The same, whose changes are told in `bits`, as those of the others of the 64 slots that its own is among.
    pub fn sharing(id: EndpointId, meta: EndpointMeta, bits: Arc<ChangeBits>) -> Self {
        let EndpointMeta { name, namespace, address, port, labels } = meta;
        let meta = FixedMeta { name, namespace, address, port };
        let scraped = Scraped {
            waiting: AtomicU32::new(0),
            running: AtomicU32::new(0),
            kv_used_bits: AtomicU64::new(0f64.to_bits()),
            kv_capacity_tokens: AtomicU64::new(0),
            at: AtomicU64::new(0),
            seen_requests: AtomicU32::new(0),
            seen_prompt_tokens: AtomicU64::new(0),
            state: AtomicU8::new(ScrapeState::Never as u8),
        };
        Self {
            id,
            destination: meta.destination(),
            meta,
            scraped,
            dispatched: Dispatched::default(),
            bits,
            lora: ArcSwap::default(),
            attributes: ArcSwap::default(),
            labels: ArcSwap::from_pointee(labels),
        }
    }

    /// Samples the load for one cycle. Scrapes older than `staleness` count as stale.
    pub fn sample(&self, now: Timestamp, staleness: Duration) -> Load {
        let in_flight = Cost {
            requests: self.dispatched.in_flight_requests.load(Relaxed),
            prompt_tokens: self.dispatched.in_flight_prompt_tokens.load(Relaxed),
            output_tokens: self.dispatched.in_flight_output_tokens.load(Relaxed),
        };
        // Counters of a long life wrap; the difference does not. What finished meanwhile no longer counts, hence `min`.
        let unseen = self.dispatched.requests.load(Relaxed);
        let unseen = unseen.wrapping_sub(self.scraped.seen_requests.load(Relaxed));
        let unseen_tokens = self.dispatched.prompt_tokens.load(Relaxed);
        let unseen_tokens = unseen_tokens.wrapping_sub(self.scraped.seen_prompt_tokens.load(Relaxed));
        Load {
            waiting: self.scraped.waiting.load(Relaxed),
            running: self.scraped.running.load(Relaxed),
            kv_used: f64::from_bits(self.scraped.kv_used_bits.load(Relaxed)),
            kv_capacity_tokens: self.scraped.kv_capacity_tokens.load(Relaxed),
            since_scrape: Unseen {
                requests: unseen.min(in_flight.requests),
                prompt_tokens: unseen_tokens.min(in_flight.prompt_tokens),
            },
            in_flight,
            freshness: self.freshness(now, staleness),
            scraped_at: Timestamp(self.scraped.at.load(Relaxed)),
        }
    }

    /// Counts what changed so far: the load, but for its freshness, in the lower half, and labels, adapters and attributes
    /// in the upper one. Read it before what it counts.
    #[inline]
    pub(crate) fn changes(&self) -> u64 {
        self.dispatched.changes.load(Acquire)
    }

    /// Counts a change that was made: whoever sees the count sees the change.
    fn changed(&self, what: u64) {
        self.dispatched.changes.fetch_add(what, Release);
        self.bits.set(self.id.slot);
    }

    /// Where its changes are told, and which bit is its own.
    pub fn change_bit(&self) -> (&Arc<ChangeBits>, u32) {
        (&self.bits, self.id.slot % ChangeBits::MEMBERS)
    }

    /// Trust in the scraped fields at `now`.
    pub fn freshness(&self, now: Timestamp, staleness: Duration) -> Freshness {
        let state = self.scraped.state.load(Relaxed);
        let at = self.scraped.at.load(Relaxed);
        let age = now.since(Timestamp(at));
        match state {
            s if s == ScrapeState::NoMetrics as u8 => Freshness::NoMetrics,
            s if s == ScrapeState::Ok as u8 && age <= staleness => Freshness::Fresh,
            s if s == ScrapeState::Never as u8 || at == 0 => Freshness::NeverScraped,
            _ => Freshness::Stale,
        }
    }

    /// Marks the beginning of a scrape.
    pub fn begin_scrape(&self) -> ScrapeMark {
        ScrapeMark {
            requests: self.dispatched.requests.load(Relaxed),
            prompt_tokens: self.dispatched.prompt_tokens.load(Relaxed),
        }
    }

    /// Stores what a scrape found. Fields that the page lacked keep their last value.
    pub fn store_scrape(&self, mark: ScrapeMark, found: &ScrapedLoad, now: Timestamp) {
        let scraped = &self.scraped;
        if let Some(waiting) = found.waiting {
            scraped.waiting.store(waiting, Relaxed);
        }
        if let Some(running) = found.running {
            scraped.running.store(running, Relaxed);
        }
        if let Some(kv_used) = found.kv_used {
            scraped.kv_used_bits.store(kv_used.to_bits(), Relaxed);
        }
        if let (Some(block_size), Some(blocks)) = (found.block_size, found.num_gpu_blocks) {
            scraped.kv_capacity_tokens.store(u64::from(block_size) * u64::from(blocks), Relaxed);
        }
        scraped.seen_requests.store(mark.requests, Relaxed);
        scraped.seen_prompt_tokens.store(mark.prompt_tokens, Relaxed);
        scraped.at.store(now.0.max(1), Relaxed);
        scraped.state.store(ScrapeState::Ok as u8, Relaxed);
        self.changed(OF_LOAD);
    }

    /// Notes that the server refuses connections or failed several scrapes in a row: it counts as stale at once.
    pub fn store_scrape_failing(&self) {
        self.scraped.state.store(ScrapeState::Failing as u8, Relaxed);
        self.changed(OF_LOAD);
    }

    /// Notes that the server answers but offers no metrics: what it said before no longer counts.
    pub fn store_no_metrics(&self) {
        self.scraped.waiting.store(0, Relaxed);
        self.scraped.running.store(0, Relaxed);
        self.scraped.kv_used_bits.store(0f64.to_bits(), Relaxed);
        self.scraped.state.store(ScrapeState::NoMetrics as u8, Relaxed);
        self.changed(OF_LOAD);
        self.store_lora(LoraAdapters::default());
    }

    /// LoRA adapters, as of the last scrape that had them; each is listed once.
    pub fn lora(&self) -> arc_swap::Guard<Arc<LoraAdapters>> {
        self.lora.load()
    }

    /// Replaces the LoRA adapters if they differ.
    pub fn store_lora(&self, adapters: LoraAdapters) {
        if **self.lora.load() != adapters {
            self.lora.store(Arc::new(adapters));
            self.changed(OF_FACTS);
        }
    }

    /// What sources of data say of it now; take them once per use.
    pub fn attributes(&self) -> arc_swap::Guard<Arc<Attributes>> {
        self.attributes.load()
    }

    /// Takes over what one source says now of the attributes that are its; those of others stay.
    pub fn store_attributes(&self, told: &[Told]) {
        if !self.attributes.load().say(told) {
            self.attributes.rcu(|before| before.with(told));
            self.changed(OF_FACTS);
        }
    }

    /// The labels now; take them once per use, a later call may see others.
    pub fn labels(&self) -> arc_swap::Guard<Arc<BTreeMap<String, String>>> {
        self.labels.load()
    }

    /// Takes over what discovery says now. If it is of another endpoint, nothing changes and the answer is no.
    pub fn update(&self, meta: &EndpointMeta) -> bool {
        let EndpointMeta { name, namespace, address, port, labels } = meta;
        let fixed = &self.meta;
        let same =
            (&fixed.name, &fixed.namespace, fixed.address, fixed.port) == (name, namespace, *address, *port);
        if same && **self.labels.load() != *labels {
            self.labels.store(Arc::new(labels.clone()));
            self.changed(OF_FACTS);
        }
        same
    }
}

/// The load that a decided request puts on its endpoint. Dropping it gives everything back.
#[derive(Debug)]
pub struct Reservation {
    endpoint: Arc<Endpoint>,
    cost: Cost,
    /// Whether the endpoint has no part in what comes after the first token.
    until_first_token: bool,
}

impl Reservation {
    /// Puts `cost` on the endpoint, visible to the next sample.
    pub fn new(endpoint: Arc<Endpoint>, cost: Cost) -> Self {
        let dispatched = &endpoint.dispatched;
        dispatched.in_flight_requests.fetch_add(cost.requests, Relaxed);
        dispatched.in_flight_prompt_tokens.fetch_add(cost.prompt_tokens, Relaxed);
        dispatched.in_flight_output_tokens.fetch_add(cost.output_tokens, Relaxed);
        dispatched.requests.fetch_add(cost.requests, Relaxed);
        dispatched.prompt_tokens.fetch_add(cost.prompt_tokens, Relaxed);
        endpoint.changed(OF_LOAD);
        Self { endpoint, cost, until_first_token: false }
    }

    /// The same for an endpoint that has done its part when the first token comes, such as one that computes the prompt
    /// for another.
    pub fn until_first_token(endpoint: Arc<Endpoint>, cost: Cost) -> Self {
        let mut reservation = Self::new(endpoint, cost);
        reservation.until_first_token = true;
        reservation
    }

    /// The endpoint that carries the load.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Gives the prompt part back, or all of it: the prompt is computed once the first token came. Idempotent.
    pub fn first_token(&mut self) {
        if self.until_first_token {
            self.release();
            return;
        }
        let tokens = std::mem::take(&mut self.cost.prompt_tokens);
        self.endpoint.dispatched.in_flight_prompt_tokens.fetch_sub(tokens, Relaxed);
        self.endpoint.changed(OF_LOAD);
    }

    fn release(&mut self) {
        let Cost { requests, prompt_tokens, output_tokens } = std::mem::take(&mut self.cost);
        let dispatched = &self.endpoint.dispatched;
        dispatched.in_flight_requests.fetch_sub(requests, Relaxed);
        dispatched.in_flight_prompt_tokens.fetch_sub(prompt_tokens, Relaxed);
        dispatched.in_flight_output_tokens.fetch_sub(output_tokens, Relaxed);
        self.endpoint.changed(OF_LOAD);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests;

//! Everything that belongs to one pool: store, pipeline, recorder, metric handles. Nothing in the core is global.
//!
//! The lock in here is the pool's one critical section: a decision takes the snapshot, samples, scores, reserves,
//! commits and records inside it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use epp_framework::endpoint::{Cost, EndpointId};
use epp_framework::lifecycle::{Denied, Placement};
use epp_framework::request::InferenceRequest;
use epp_framework::scheduling::{Cycle, Decision, Picks, ProfileRun, ProfileRuns};
use epp_framework::slot::SlotNames;
use epp_framework::snapshot::Snapshot;
use parking_lot::Mutex;
use prometheus::proto::MetricFamily;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use smallvec::SmallVec;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::data_layer::DataLayer;
use crate::datastore::Store;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::raw_request::Subset;
use crate::recorder::{DecisionRecord, Recorder};
use crate::scheduling::{self, NoDecision, Occasion, Reservations, Scheduler, Scratch, Views};
use crate::stopwatch::Stopwatch;

/// One pool.
pub struct PoolState {
    /// Name of the `InferencePool`.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its endpoints and objectives.
    pub store: Arc<Store>,
    /// Slots of its plugins, stable across reloads.
    pub slots: SlotNames,
    /// Metric handles.
    pub metrics: Arc<Metrics>,
    /// The clock of everything in the pool.
    pub clock: Clock,
    /// Age from which a scrape counts as stale.
    pub staleness: Duration,
    full_name: String,
    decision_timeout: Duration,
    pipeline: ArcSwap<Pipeline>,
    data_layer: watch::Sender<Arc<DataLayer>>,
    deciding: Mutex<Deciding>,
    /// Chance for admitters, which wait for no decision.
    admitting: Mutex<SmallRng>,
}

struct Deciding {
    scratch: Scratch,
    recorder: Recorder,
    /// Each decision draws its own generator from this one, which the run's seed started.
    rng: SmallRng,
}

/// What a pool is made of.
pub struct PoolParts {
    /// See [`PoolState::name`].
    pub name: String,
    /// See [`PoolState::namespace`].
    pub namespace: String,
    /// See [`PoolState::store`].
    pub store: Arc<Store>,
    /// See [`PoolState::metrics`].
    pub metrics: Arc<Metrics>,
    /// See [`PoolState::staleness`].
    pub staleness: Duration,
    /// Longest wait for the lock of the critical section.
    pub decision_timeout: Duration,
    /// Seed of all chance in the pool's decisions.
    pub seed: u64,
    /// Whether [`Placed::scores`] is filled.
    pub emit_scores: bool,
}

/// A placed request.
#[derive(Debug)]
pub struct Placed {
    /// `ip:port`, several joined by commas when the picker picked several.
    pub destination: String,
    /// Headers to set on the request; names in lower case.
    pub headers: SmallVec<[(&'static str, String); 2]>,
    /// The load it puts on its endpoints.
    pub reservations: Reservations,
    /// `ip:port` and score of every candidate that the primary profile scored, if the pool emits them.
    pub scores: Vec<(String, f64)>,
    /// Who was picked by which profile, if somebody wants to know when the answer comes.
    pub placement: Option<Placement>,
}

impl PoolState {
    /// Makes a pool; `build` makes its first pipeline over the pool's slots.
    pub fn new(parts: PoolParts, clock: Clock, build: impl FnOnce(&SlotNames) -> Pipeline) -> Self {
        let slots = SlotNames::default();
        let pipeline = ArcSwap::from_pointee(build(&slots).observed_in(&parts.metrics.plugins));
        let data_layer = watch::Sender::new(pipeline.load().data_layer.clone());
        let mut rng = SmallRng::seed_from_u64(parts.seed);
        let admitting = Mutex::new(SmallRng::seed_from_u64(rng.random()));
        Self {
            full_name: format!("{}/{}", parts.namespace, parts.name),
            name: parts.name,
            namespace: parts.namespace,
            store: parts.store,
            slots,
            metrics: parts.metrics,
            clock,
            staleness: parts.staleness,
            decision_timeout: parts.decision_timeout,
            pipeline,
            data_layer,
            deciding: Mutex::new(Deciding {
                scratch: Scratch::new(parts.emit_scores),
                recorder: Recorder::default(),
                rng,
            }),
            admitting,
        }
    }

    /// The pipeline that new requests begin with.
    pub fn pipeline(&self) -> Arc<Pipeline> {
        self.pipeline.load_full()
    }

    /// Lets new requests begin with another pipeline; those under way keep theirs.
    pub fn swap_pipeline(&self, pipeline: Pipeline) {
        let pipeline = Arc::new(pipeline.observed_in(&self.metrics.plugins));
        self.data_layer.send_replace(pipeline.data_layer.clone());
        self.pipeline.swap(pipeline.clone()).retire(&pipeline, &self.metrics.plugins);
    }

    /// Where data on endpoints comes from, as it changes.
    pub fn watch_data_layer(&self) -> watch::Receiver<Arc<DataLayer>> {
        self.data_layer.subscribe()
    }

    /// Decides where a request goes; see [`scheduling`].
    pub fn decide(
        &self,
        pipeline: &Pipeline,
        request: &InferenceRequest,
        subset: &Subset,
        cost: Cost,
        watch: Option<Stopwatch<'_>>,
    ) -> Result<Placed, NoDecision> {
        // Nothing else in a decision waits. A free lock is taken without a look at the clock.
        let mut deciding = self.deciding.try_lock_for(self.decision_timeout).ok_or(NoDecision::TooLate)?;
        // Taken inside the lock: an endpoint that was forgotten is in no snapshot that a decision still uses.
        let pool = self.store.snapshot();
        let Deciding { scratch, recorder, rng } = &mut *deciding;
        let mut rng = SmallRng::seed_from_u64(rng.random());
        let now = self.clock.now();
        let subset = &subset.resolve(&pool);
        let occasion = Occasion { request, pool: &pool, subset, staleness: self.staleness, cost, now, watch };
        let (decision, reservations) = pipeline.scheduler.decide(&occasion, scratch, &mut rng, recorder)?;
        let scores: Vec<_> = deciding.scratch.scores(decision.primary).collect();
        drop(deciding);
        let first = pool.endpoints[decision.targets[0] as usize].id;
        pipeline.prefix_hits(request, first).for_each(|hit| self.metrics.observe_prefix(hit));
        if pipeline.scheduler.handler.splits() {
            self.metrics.model(&request.model, &request.target_model).count_split(&decision);
        }
        let at = |index: u32| pool.endpoints[index as usize].destination.as_str();
        let scores = scores.into_iter().map(|(index, score)| (at(index).to_owned(), score)).collect();
        let destination = told(&pool, &decision);
        let placement = pipeline.responds().then(|| pipeline.scheduler.placement(&pool, &decision));
        Ok(Placed { destination, headers: decision.headers, reservations, scores, placement })
    }

    /// Asks the pipeline's admitters whether a request may be decided.
    pub fn admit(
        &self,
        pipeline: &Pipeline,
        request: &InferenceRequest,
        subset: &Subset,
    ) -> Result<(), Denied> {
        if !pipeline.admits() {
            return Ok(());
        }
        let pool = self.store.snapshot();
        let (subset, now) = (&subset.resolve(&pool), self.clock.now());
        let cost = Cost::default();
        let occasion =
            Occasion { request, pool: &pool, subset, staleness: self.staleness, cost, now, watch: None };
        pipeline.admit(&occasion, SmallRng::seed_from_u64(self.admitting.lock().random()))
    }

    /// What it tells of itself as metrics.
    pub fn gather_metrics(&self) -> Vec<MetricFamily> {
        self.metrics.set_prefix_entries(self.pipeline().n_prefix_entries());
        self.metrics.registry().gather()
    }

    /// Namespace and name, with `/` between them.
    pub fn full_name(&self) -> &str {
        &self.full_name
    }

    /// How long a request may wait for its decision.
    pub fn decision_timeout(&self) -> Duration {
        self.decision_timeout
    }

    /// Places a request without a body: on any endpoint that may serve, every one with the same chance, and with no load.
    ///
    /// The profile handler has its say as if the profile that it needs, or else the first one, had picked that endpoint,
    /// so that port and headers are those that the servers take. If it wants more than that, neither is changed.
    pub fn place_anywhere(&self, pipeline: &Pipeline, subset: &Subset) -> Result<Placed, NoDecision> {
        let (pool, now) = (self.store.snapshot(), self.clock.now());
        let (views, mut eligible) = (&Views::once(&pool, now, self.staleness), Vec::new());
        scheduling::eligible(views, &subset.resolve(&pool), &mut eligible);
        if eligible.is_empty() {
            return Err(NoDecision::NoCandidates);
        }
        let mut deciding = self.deciding.try_lock_for(self.decision_timeout).ok_or(NoDecision::TooLate)?;
        let picks = Picks::from_iter([eligible[deciding.rng.random_range(0..eligible.len())]]);
        drop(deciding);
        let Scheduler { handler, names: profiles, .. } = &pipeline.scheduler;
        let needed = (0..profiles.len()).find(|&profile| handler.needs(profiles, profile));
        let profile = needed.unwrap_or_default();
        let runs = ProfileRuns::from_iter([ProfileRun { profile, picks: Some(picks.clone()) }]);
        let request = &InferenceRequest::default();
        let cycle = Cycle { request, pool: views, profiles, runs: &runs, peer: None, now };
        let decision = handler.decide(&cycle).unwrap_or_else(|_| Decision::of(profile, picks));
        Ok(Placed {
            destination: told(&pool, &decision),
            headers: decision.headers,
            reservations: Reservations::new(),
            scores: Vec::new(),
            placement: None,
        })
    }

    /// Lets every plugin forget endpoints that left; call it after the snapshot without them was published.
    ///
    /// May take milliseconds per endpoint with a full index, so decisions do not wait for it: the lock is only a
    /// barrier, behind which no decision uses a snapshot that still holds them.
    pub fn forget(&self, endpoints: &[EndpointId]) {
        drop(self.deciding.lock());
        let pipeline = self.pipeline();
        for &endpoint in endpoints {
            pipeline.on_endpoint_removed(endpoint);
        }
    }

    /// The last decisions, newest first: at most `limit`, only those of `request_id` if it is given.
    pub fn last_decisions(&self, limit: usize, request_id: Option<&str>) -> Vec<DecisionRecord> {
        self.deciding.lock().recorder.last(limit, request_id)
    }
}

/// What the gateway is told of a decision's targets.
fn told(pool: &Snapshot, decision: &Decision) -> String {
    let targets = decision.targets.iter().map(|&index| &pool.endpoints[index as usize]);
    let told = targets.map(|endpoint| scheduling::told(endpoint, decision.port));
    told.collect::<SmallVec<[_; 4]>>().join(",")
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::config::{DEFAULT_CONFIG, build};

    /// A pool of what is in `store`, under the default configuration.
    pub(crate) fn pool(store: Arc<Store>, decision_timeout: Duration) -> PoolState {
        pool_under(DEFAULT_CONFIG, store, decision_timeout)
    }

    /// The same under this configuration.
    pub(crate) fn pool_under(config: &str, store: Arc<Store>, decision_timeout: Duration) -> PoolState {
        let parts = PoolParts {
            name: "p".into(),
            namespace: "default".into(),
            store,
            metrics: Arc::new(Metrics::new()),
            staleness: Duration::from_secs(2),
            decision_timeout,
            seed: 1,
            emit_scores: false,
        };
        let composition = build::load(config, epp_plugins::BUILT_IN).0.unwrap();
        PoolState::new(parts, Clock::start(), |slots| Pipeline::build(&composition, slots, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datastore;

    #[test]
    fn a_decision_that_cannot_begin_in_time_ends() {
        let (store, _writer) = datastore::store();
        let pool = testing::pool(store, Duration::from_millis(20));
        let decide = || {
            let (request, cost) = (InferenceRequest::default(), Cost::default());
            pool.decide(&pool.pipeline(), &request, &Subset::Any, cost, None).unwrap_err()
        };
        assert_eq!(decide(), NoDecision::NoCandidates);
        let held = pool.deciding.lock();
        assert_eq!(std::thread::scope(|scope| scope.spawn(decide).join().unwrap()), NoDecision::TooLate);
        drop(held);
        assert_eq!(decide(), NoDecision::NoCandidates);
    }
}

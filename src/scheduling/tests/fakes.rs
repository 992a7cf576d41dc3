//! A pool, and plugins that do as they are told. Entry point: [`Rig`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use epp_framework::endpoint::{Cost, Endpoint, EndpointId, EndpointMeta, Load, ScrapedLoad};
use epp_framework::parameters::{ParameterValue, Parameters};
use epp_framework::plugin::{BuildContext, Plugin};
use epp_framework::request::InferenceRequest;
use epp_framework::scheduling::{
    Commit, Cycle, Decision, Filter, Picker, ProfileHandler, Scorer, Unschedulable,
};
use epp_framework::slot::SlotNames;
use epp_framework::snapshot::{Candidates, Snapshot};
use epp_framework::time::Timestamp;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use smallvec::SmallVec;

use super::super::{NoDecision, Occasion, Profile, Reservations, Scheduler, Scratch};
use crate::raw_request::Subset;
use crate::recorder::{DecisionRecord, ProfileOutline, Recorder};
use crate::stopwatch::Stopwatch;

const NOW: Timestamp = Timestamp(1);
const STALENESS: Duration = Duration::from_secs(1);

/// Fresh endpoints, a request, and what a pool keeps between decisions.
pub(super) struct Rig {
    pool: Arc<Snapshot>,
    scratch: Scratch,
    rng: SmallRng,
    recorder: Recorder,
    pub(super) request: InferenceRequest,
    pub(super) subset: Subset,
    pub(super) cost: Cost,
}

impl Rig {
    /// A pool whose endpoints have their index for a slot.
    pub(super) fn new(n_endpoints: usize) -> Self {
        let endpoints: Vec<_> = (0..).take(n_endpoints).map(endpoint).collect();
        for endpoint in &endpoints {
            endpoint.store_scrape(endpoint.begin_scrape(), &ScrapedLoad::default(), NOW);
        }
        Self {
            pool: Arc::new(Snapshot { endpoints }),
            scratch: Scratch::default(),
            rng: SmallRng::seed_from_u64(3),
            recorder: Recorder::default(),
            request: InferenceRequest::default(),
            subset: Subset::Any,
            cost: Cost { requests: 1, prompt_tokens: 100, output_tokens: 10 },
        }
    }

    pub(super) fn decide(&mut self, scheduler: &Scheduler) -> Result<(Decision, Reservations), NoDecision> {
        self.decide_under(None, scheduler)
    }

    /// Decides with somebody who takes the time of the plugins.
    pub(super) fn decide_under(
        &mut self,
        watch: Option<Stopwatch<'_>>,
        scheduler: &Scheduler,
    ) -> Result<(Decision, Reservations), NoDecision> {
        let Self { pool, scratch, rng, recorder, request, subset, cost } = self;
        let occasion = Occasion { request, pool, subset, staleness: STALENESS, cost: *cost, now: NOW, watch };
        scheduler.decide(&occasion, scratch, rng, recorder)
    }

    /// Indices of those that admitters see.
    pub(super) fn shown(&self, scheduler: &Scheduler, subset: &Subset) -> Vec<u32> {
        let Self { pool, request, cost, .. } = self;
        let occasion =
            Occasion { request, pool, subset, staleness: STALENESS, cost: *cost, now: NOW, watch: None };
        scheduler.with_candidates(&occasion, |_, candidates| {
            candidates.iter().map(|candidate| candidate.index).collect()
        })
    }

    /// Makes endpoints stale: their scrapes fail.
    pub(super) fn fail(&self, indices: &[usize]) {
        for &index in indices {
            self.pool.endpoints[index].store_scrape_failing();
        }
    }

    /// The record of the last decision.
    pub(super) fn record(&self) -> DecisionRecord {
        self.recorder.last(1, None).remove(0)
    }

    pub(super) fn loads(&self) -> Vec<Load> {
        self.pool.endpoints.iter().map(|endpoint| endpoint.sample(NOW, STALENESS)).collect()
    }

    /// Requests in flight by endpoint.
    pub(super) fn in_flight(&self) -> Vec<u32> {
        self.loads().iter().map(|load| load.in_flight.requests).collect()
    }
}

/// 10.0.0.(slot + 1):8000, never scraped.
pub(super) fn endpoint(slot: u32) -> Arc<Endpoint> {
    let meta = EndpointMeta {
        name: format!("pod-{slot}"),
        namespace: "default".into(),
        address: [10, 0, 0, u8::try_from(slot + 1).expect("a small pool")].into(),
        port: 8000,
        labels: BTreeMap::new(),
    };
    Arc::new(Endpoint::new(EndpointId { slot, generation: 0 }, meta))
}

fn built_in(type_name: &str, parameters: &[(&str, ParameterValue)]) -> Plugin {
    let found = epp_plugins::BUILT_IN.iter().find(|built_in| built_in.name == type_name);
    let found = found.expect("it is built in");
    let mut set = Parameters::defaults(found.parameters);
    for (name, value) in parameters {
        set.set(name, value.clone());
    }
    (found.build)(&set, &BuildContext::new(type_name, &SlotNames::default()))
}

pub(super) fn max_score_picker(parameters: &[(&str, ParameterValue)]) -> Arc<dyn Picker> {
    built_in("max-score-picker", parameters).picker.expect("it is a picker")
}

/// These profiles, named `profile-0` and so on, under the built-in handler of a single one.
pub(super) fn scheduler(profiles: impl IntoIterator<Item = Profile>) -> Scheduler {
    let mut profiles: Vec<_> = profiles.into_iter().collect();
    for (n, profile) in profiles.iter_mut().enumerate() {
        Arc::get_mut(&mut profile.outline).expect("nobody else has it").name = format!("profile-{n}");
    }
    let handler = built_in("single-profile-handler", &[]).profile_handler.expect("it is a handler");
    let names = (0..profiles.len()).map(|n| format!("profile-{n}")).collect();
    Scheduler { names, profiles, handler, commits: Vec::new(), costs: crate::scheduling::Costs::default() }
}

/// A profile with weighted scorers, named `scorer-0` and so on, that picks the best endpoint.
pub(super) fn profile<const N: usize>(
    filters: [Arc<dyn Filter>; N],
    scorers: impl IntoIterator<Item = (f64, Arc<dyn Scorer>)>,
) -> Profile {
    let (weights, scorers): (Vec<_>, _) = scorers.into_iter().unzip();
    let named = |(n, weight)| (format!("scorer-{n}").into(), weight);
    let scorers_outline = weights.into_iter().enumerate().map(named).collect();
    Profile {
        outline: Arc::new(ProfileOutline { name: String::new(), scorers: scorers_outline }),
        filters: filters.into(),
        scorers,
        picker: max_score_picker(&[]),
    }
}

/// A scorer that writes these scores by index, and leaves the rest untouched.
pub(super) fn given(scores: &[Option<f64>]) -> Arc<dyn Scorer> {
    struct Given(Vec<Option<f64>>);

    impl Scorer for Given {
        fn score(&self, _cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
            for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
                if let Some(&Some(given)) = self.0.get(candidate.index as usize) {
                    *score = given;
                }
            }
        }
    }

    Arc::new(Given(scores.to_vec()))
}

/// Scores by index.
#[derive(Clone, Copy)]
pub(super) struct By(pub(super) fn(u32) -> f64);

impl Scorer for By {
    fn score(&self, _cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            *score = self.0(candidate.index);
        }
    }
}

/// Scores 1 where nothing is in flight.
pub(super) struct LeastInFlight;

impl Scorer for LeastInFlight {
    fn score(&self, _cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            *score = 1.0 / (1.0 + f64::from(candidate.load.in_flight.requests));
        }
    }
}

/// Keeps the endpoints at these indices.
pub(super) struct Keep(pub(super) &'static [u32]);

impl Filter for Keep {
    fn filter(&self, _cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        candidates.retain(|candidate| self.0.contains(&candidate.index));
    }
}

/// Counts how often it runs, whatever it runs as.
pub(super) struct Counted(pub(super) Arc<AtomicU32>);

impl Filter for Counted {
    fn filter(&self, _cycle: &Cycle<'_>, _candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Scorer for Counted {
    fn score(&self, _cycle: &Cycle<'_>, _candidates: &Candidates<'_>, _scores: &mut [f64]) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Commit for Counted {
    fn commit(&self, _cycle: &Cycle<'_>, _decision: &Decision) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Recalls request, number of profiles that ran, decision, and requests in flight on its target.
#[derive(Default)]
pub(super) struct Recalls(pub(super) Mutex<Vec<(String, usize, Decision, u32)>>);

impl Commit for Recalls {
    fn commit(&self, cycle: &Cycle<'_>, decision: &Decision) {
        let target = &cycle.pool[decision.targets[0] as usize].endpoint;
        let in_flight = target.sample(cycle.now, STALENESS).in_flight.requests;
        let id = cycle.request.request_id.clone();
        self.0.lock().push((id, cycle.runs.len(), decision.clone(), in_flight));
    }
}

/// Asks for one profile again and again, and decides as its last run picked.
pub(super) struct Asking {
    pub(super) for_profile: usize,
    pub(super) asked: AtomicU32,
}

impl ProfileHandler for Asking {
    fn next(&self, _cycle: &Cycle<'_>) -> SmallVec<[usize; 2]> {
        self.asked.fetch_add(1, Relaxed);
        SmallVec::from_slice(&[self.for_profile])
    }

    fn decide(&self, cycle: &Cycle<'_>) -> Result<Decision, Unschedulable> {
        let last = cycle.runs.last().ok_or(Unschedulable::NoProfileRun)?;
        let targets = last.picks.clone().ok_or(Unschedulable::NoProfileRun)?;
        Ok(Decision::of(last.profile, targets))
    }
}

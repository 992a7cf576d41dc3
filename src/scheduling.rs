//! One decision, whole: eligibility, profiles (filters → weighted scorers → picker), reservation, commit, record.
//!
//! The entry point is [`Scheduler::decide`]. It is synchronous and pure: time and chance are arguments, and the
//! caller's lock (see `pool`) makes it the one critical section of a pool, so that two concurrent decisions never see
//! the same empty endpoint. Once its scratch space is warm it allocates nothing, unless it splits a request.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use epp_framework::endpoint::{Cost, Endpoint, EndpointId, Reservation};
use epp_framework::lifecycle::{Estimator, Placement, PrefixReport};
use epp_framework::prompt::BYTES_PER_TOKEN;
use epp_framework::request::InferenceRequest;
use epp_framework::scheduling::{
    Commit, Companion, Cycle, Decision, Filter, Picker, Picks, ProfileHandler, ProfileRun, ProfileRuns, Role,
    Scorer, Unschedulable,
};
use epp_framework::snapshot::{Candidates, EndpointView, Snapshot};
use epp_framework::time::Timestamp;
use rand::rngs::SmallRng;
use smallvec::SmallVec;

use crate::raw_request::Subset;
use crate::recorder::{Eligibility, Entry, ProfileOutline, Recorder};
use crate::stopwatch::{Step, Stopwatch, timed};

mod sums;
mod views;

pub use views::Views;
use views::tier;

/// One scheduling profile, built.
pub struct Profile {
    /// Its name, and those of its scorers with their weights.
    pub outline: Arc<ProfileOutline>,
    /// Filters, in order.
    pub filters: Vec<Arc<dyn Filter>>,
    /// Scorers, in the order of the outline.
    pub scorers: Vec<Arc<dyn Scorer>>,
    /// The picker.
    pub picker: Arc<dyn Picker>,
}

/// The scheduling half of a configuration, built.
pub struct Scheduler {
    /// Names of the profiles, in configuration order.
    pub names: Vec<String>,
    /// The profiles, same order.
    pub profiles: Vec<Profile>,
    /// Says which profiles run.
    pub handler: Arc<dyn ProfileHandler>,
    /// Learn from each decision.
    pub commits: Vec<Arc<dyn Commit>>,
    /// Say what a request costs.
    pub costs: Costs,
}

/// What a request costs the endpoint that serves it.
#[derive(Default)]
pub struct Costs {
    /// Know what an endpoint need not compute again.
    pub prefix_reports: Vec<Arc<dyn PrefixReport>>,
    /// Has the last word, if it is there.
    pub estimator: Option<Arc<dyn Estimator>>,
}

impl Costs {
    /// The cost at `endpoint` of a request that costs `whole` where nothing of its prompt is cached.
    fn at(&self, request: &InferenceRequest, endpoint: EndpointId, whole: Cost) -> Cost {
        let held = self.prefix_reports.iter().filter_map(|report| report.hit(request, endpoint));
        let held = held.map(|hit| (hit.bytes / BYTES_PER_TOKEN) as u64).max().unwrap_or(0);
        let cost = Cost { prompt_tokens: whole.prompt_tokens.saturating_sub(held), ..whole };
        self.estimator.as_ref().map_or(cost, |estimator| estimator.estimate(request, cost))
    }
}

/// What is to be decided.
#[derive(Clone, Copy)]
pub struct Occasion<'a> {
    /// The request, with what the producers left on it.
    pub request: &'a InferenceRequest,
    /// The pool.
    pub pool: &'a Arc<Snapshot>,
    /// Endpoints that the gateway allows, resolved for `pool`.
    pub subset: &'a Subset,
    /// Age from which a scrape counts as stale.
    pub staleness: Duration,
    /// What the request costs where nothing of its prompt is cached.
    pub cost: Cost,
    /// When.
    pub now: Timestamp,
    /// Takes the time of its plugins.
    pub watch: Option<Stopwatch<'a>>,
}

/// The profile that runs, and who takes the time of its plugins.
#[derive(Clone, Copy)]
struct Turn<'a> {
    profile: usize,
    watch: Option<Stopwatch<'a>>,
}

/// What every decision of a pool reuses; guarded by the pool's lock.
#[derive(Default)]
pub struct Scratch {
    /// The pool as the last decision saw it.
    views: Views,
    eligible: Vec<u32>,
    live: Vec<u32>,
    scores: Vec<f64>,
    totals: Vec<f64>,
    found: Vec<u32>,
    keys: Vec<u64>,
    best: Vec<u32>,
    keep_scores: bool,
    /// Profile, index into the snapshot, and weighted sum of each scored candidate; empty unless they are to be kept.
    kept: Vec<(usize, u32, f64)>,
}

impl Scratch {
    /// Makes one that keeps every score of the last decision, if `keep_scores` is set.
    pub fn new(keep_scores: bool) -> Self {
        Self { keep_scores, ..Self::default() }
    }

    /// The candidates that profile `primary` scored in the last decision, as indices into its snapshot, and their
    /// weighted sums; none if it has no scorer, or if none are kept.
    pub fn scores(&self, primary: usize) -> impl Iterator<Item = (u32, f64)> {
        self.kept.iter().filter(move |kept| kept.0 == primary).map(|&(_, index, total)| (index, total))
    }
}

/// Load held by a decided request, one per target that carries it.
pub type Reservations = SmallVec<[Reservation; 2]>;

/// Why there is no decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoDecision {
    /// Others held the pool for too long.
    TooLate,
    /// The pool is empty, or the subset allows none of it.
    NoCandidates,
    /// There were candidates, but nobody was picked.
    Unschedulable(Unschedulable),
}

/// Selects who may be chosen, before any profile: allowed by the subset, and of the best freshness there is.
///
/// Fresh endpoints (and those whose servers offer no metrics) come first; if there are none, stale ones; if there are
/// none, those never scraped. `subset` is resolved for this pool.
pub fn eligible(pool: &Views, subset: &Subset, eligible: &mut Vec<u32>) -> Eligibility {
    // As it nearly always is.
    if pool.all_fresh() && matches!(subset, Subset::Any) {
        eligible.clear();
        eligible.extend(0..u32::try_from(pool.len()).unwrap_or(u32::MAX));
        return Eligibility::Fresh;
    }
    for best in Eligibility::ALL {
        fill(best, pool, subset, eligible);
        if !eligible.is_empty() {
            return best;
        }
    }
    Eligibility::Fresh
}

/// What the gateway is told of an endpoint: its destination, or a port in place of its own.
pub fn told(endpoint: &Endpoint, port: Option<u16>) -> Cow<'_, str> {
    match port {
        Some(port) => SocketAddr::new(endpoint.meta.address, port).to_string().into(),
        None => Cow::Borrowed(endpoint.destination.as_str()),
    }
}

/// Selects those of one tier.
fn fill(which: Eligibility, pool: &[EndpointView], subset: &Subset, eligible: &mut Vec<u32>) {
    eligible.clear();
    let of_tier = (0..).zip(pool).filter(|(_, view)| tier(&view.load) == which);
    match subset {
        Subset::Any => eligible.extend(of_tier.map(|(index, _)| index)),
        only @ Subset::Only(_) => {
            let allowed = of_tier.filter(|(_, view)| only.allows(&view.endpoint.meta));
            eligible.extend(allowed.map(|(index, _)| index));
        }
    }
}

impl Scheduler {
    /// Decides where a request goes, reserves its cost there, lets the commits learn, and records it all.
    pub fn decide(
        &self,
        occasion: &Occasion<'_>,
        scratch: &mut Scratch,
        rng: &mut SmallRng,
        recorder: &mut Recorder,
    ) -> Result<(Decision, Reservations), NoDecision> {
        let &Occasion { request, pool, now, .. } = occasion;
        scratch.kept.clear();
        // The views leave the scratch while the cycle borrows them; a swap, not an allocation.
        let mut views = std::mem::take(&mut scratch.views);
        let pool_now = views.look(pool, now, occasion.staleness);
        let record = recorder.begin(request, pool, now);
        record.eligibility = eligible(pool_now, occasion.subset, &mut scratch.eligible);
        record.n_eligible = scratch.eligible.len();
        let result = if scratch.eligible.is_empty() {
            Err(NoDecision::NoCandidates)
        } else {
            self.run(occasion, pool_now, scratch, rng, record).map_err(NoDecision::Unschedulable)
        };
        scratch.views = views;
        result
    }

    fn run(
        &self,
        occasion: &Occasion<'_>,
        views: &[EndpointView],
        scratch: &mut Scratch,
        rng: &mut SmallRng,
        record: &mut Entry,
    ) -> Result<(Decision, Reservations), Unschedulable> {
        let &Occasion { request, now, watch, .. } = occasion;
        let profiles = self.names.as_slice();
        let mut runs = ProfileRuns::new();
        // A handler that never stops asking is cut off: no profile needs to run more than once.
        while runs.len() < self.profiles.len() {
            let cycle = Cycle { request, pool: views, profiles, runs: &runs, peer: None, now };
            let next = timed(watch, Step::PickProfiles, || self.handler.next(&cycle));
            if next.is_empty() {
                break;
            }
            for profile in next {
                let mut cycle = Cycle { request, pool: views, profiles, runs: &runs, peer: None, now };
                cycle.peer = self.handler.peer(&cycle, profile);
                let turn = Turn { profile, watch };
                let mut picks = self.run_profile(turn, &cycle, scratch, rng, record);
                if picks.is_none() && self.handler.needs(&self.names, profile) {
                    picks = self.run_on_others((turn, occasion.subset), &cycle, scratch, rng, record);
                }
                if scratch.keep_scores && picks.is_some() && !self.profiles[profile].scorers.is_empty() {
                    keep_scores(profile, scratch);
                }
                runs.push(ProfileRun { profile, picks });
            }
        }
        let cycle = Cycle { request, pool: views, profiles, runs: &runs, peer: None, now };
        let decision = timed(watch, Step::ProcessResults, || self.handler.decide(&cycle))?;
        record.picked.extend_from_slice(&decision.targets);
        for Companion { role, targets, .. } in &decision.companions {
            record.companions.extend(targets.iter().map(|&index| (*role, index)));
        }
        let reservations = self.reserve(occasion, &decision);
        for (at, commit) in self.commits.iter().enumerate() {
            timed(watch, Step::Commit(at), || commit.commit(&cycle, &decision));
        }
        Ok((decision, reservations))
    }

    /// Shows all that the subset allows, whatever is known of them, before any profile and outside of the critical
    /// section.
    pub fn with_candidates<T>(
        &self,
        occasion: &Occasion<'_>,
        show: impl FnOnce(&Cycle<'_>, &Candidates<'_>) -> T,
    ) -> T {
        let &Occasion { request, now, .. } = occasion;
        let views = &Views::once(occasion.pool, now, occasion.staleness);
        let allowed = |&index: &u32| occasion.subset.allows(&views[index as usize].endpoint.meta);
        let mut live = (0..).take(views.len()).filter(allowed).collect();
        let runs = ProfileRuns::new();
        let profiles = &self.names;
        let cycle = Cycle { request, pool: views, profiles, runs: &runs, peer: None, now };
        show(&cycle, &Candidates::new(views, &mut live))
    }

    /// Puts a request's load on those who do its work: whoever computes the prompt carries that, until the first token
    /// comes.
    fn reserve(&self, occasion: &Occasion<'_>, decision: &Decision) -> Reservations {
        let &Occasion { request, pool, cost: whole, .. } = occasion;
        let endpoint = |index: u32| pool.endpoints[index as usize].clone();
        let target = endpoint(decision.targets[0]);
        let mut cost = self.costs.at(request, target.id, whole);
        if decision.companion(Role::Prefill).is_some() {
            cost.prompt_tokens = 0;
        }
        let mut reservations = Reservations::new();
        reservations.push(Reservation::new(target, cost));
        for Companion { role, targets, .. } in &decision.companions {
            // Of those that may prefill, the others are not told of.
            let targets = if *role == Role::Prefill { &targets[..1] } else { &targets[..] };
            for &index in targets {
                let endpoint = endpoint(index);
                let prompt_tokens = match role {
                    Role::Prefill => self.costs.at(request, endpoint.id, whole).prompt_tokens,
                    Role::Encode => 0,
                };
                let cost = Cost { prompt_tokens, output_tokens: 0, ..whole };
                reservations.push(Reservation::until_first_token(endpoint, cost));
            }
        }
        reservations
    }

    /// Who was picked by the profiles of a decision.
    pub fn placement(&self, pool: &Snapshot, decision: &Decision) -> Placement {
        let own = [(decision.primary, decision.targets[0])];
        let others = decision.companions.iter().map(|other| (other.profile, other.targets[0]));
        let named = |(profile, index): (usize, u32)| {
            (self.names[profile].clone(), pool.endpoints[index as usize].clone())
        };
        let targets = decision.targets.iter().map(|&index| {
            let endpoint = &pool.endpoints[index as usize];
            (told(endpoint, decision.port).into_owned(), endpoint.clone())
        });
        Placement {
            primary: self.names[decision.primary].clone(),
            picks: own.into_iter().chain(others).map(named).collect(),
            targets: targets.collect(),
        }
    }

    /// Runs a profile that nobody is left of on endpoints that are trusted less: those of one kind may all be stale
    /// while others are fresh.
    fn run_on_others(
        &self,
        (turn, subset): (Turn<'_>, &Subset),
        cycle: &Cycle<'_>,
        scratch: &mut Scratch,
        rng: &mut SmallRng,
        record: &mut Entry,
    ) -> Option<Picks> {
        let best = record.eligibility;
        let mut picks = None;
        for tier in Eligibility::ALL.into_iter().skip_while(|tier| *tier != best).skip(1) {
            fill(tier, cycle.pool, subset, &mut scratch.eligible);
            if picks.is_none() && !scratch.eligible.is_empty() {
                picks = self.run_profile(turn, cycle, scratch, rng, record);
            }
        }
        fill(best, cycle.pool, subset, &mut scratch.eligible);
        picks
    }

    /// Runs one profile; `None` when its filters leave nobody.
    fn run_profile(
        &self,
        turn: Turn<'_>,
        cycle: &Cycle<'_>,
        scratch: &mut Scratch,
        rng: &mut SmallRng,
        record: &mut Entry,
    ) -> Option<Picks> {
        let Turn { profile: number, watch } = turn;
        let profile = &self.profiles[number];
        let record = record.add_profile(&profile.outline);
        scratch.live.clone_from(&scratch.eligible);
        let mut candidates = Candidates::new(cycle.pool, &mut scratch.live);
        for (at, filter) in profile.filters.iter().enumerate() {
            let step = Step::Filter { profile: number, at };
            timed(watch, step, || filter.filter(cycle, &mut candidates, rng));
            if candidates.is_empty() {
                record.dropped = scratch.eligible.len();
                return None;
            }
        }
        let n = candidates.len();
        record.dropped = scratch.eligible.len() - n;
        let Scratch { scores, totals, found, keys, best, .. } = scratch;
        profile.score(turn, cycle, &candidates, (scores, totals));
        let mut picks = Picks::new();
        timed(watch, Step::Pick { profile: number }, || {
            profile.picker.pick(cycle, &candidates, totals, rng, &mut picks);
        });
        sums::find_best(totals, &picks, (found, keys), best);
        record.keep(best, &candidates, (scores, totals), &picks);
        for position in &mut picks {
            *position = candidates.at(*position as usize).index;
        }
        (!picks.is_empty()).then_some(picks)
    }
}

impl Profile {
    /// Fills `scores` (one run of n per scorer) and `totals` (weighted sums of what they count as).
    fn score(
        &self,
        Turn { profile, watch }: Turn<'_>,
        cycle: &Cycle<'_>,
        candidates: &Candidates<'_>,
        (scores, totals): (&mut Vec<f64>, &mut Vec<f64>),
    ) {
        let n = candidates.len();
        scores.clear();
        scores.resize(n * self.scorers.len(), 0.0);
        // What is in them is written over.
        totals.resize(n, 0.0);
        for ((at, scorer), scores) in self.scorers.iter().enumerate().zip(scores.chunks_exact_mut(n)) {
            timed(watch, Step::Score { profile, at }, || scorer.score(cycle, candidates, scores));
        }
        sums::add_up(scores, &self.outline.scorers, totals);
    }
}

/// Keeps the sums of the profile that just ran: its candidates are those still live, in order.
fn keep_scores(profile: usize, scratch: &mut Scratch) {
    let Scratch { live, totals, kept, .. } = scratch;
    kept.extend(live.iter().zip(totals).map(|(&index, total)| (profile, index, *total)));
}

#[cfg(test)]
mod tests;

//! The last decisions of a pool: a ring whose records are reused, so that recording allocates nothing once warm.
//!
//! Written by the scheduler inside the decision, read by the debug page. No byte of a prompt is ever in here; of the
//! request it holds its id and model names, cut to [`MAX_TEXT_BYTES`].

use std::sync::Arc;

use epp_framework::endpoint::{Endpoint, Freshness, Load};
use epp_framework::request::InferenceRequest;
use epp_framework::scheduling::Role;
use epp_framework::snapshot::{Candidate, Candidates, Snapshot};
use epp_framework::time::Timestamp;
use smallvec::SmallVec;

/// Decisions kept.
pub const CAPACITY: usize = 256;

/// Candidates kept per profile, best first.
pub const MAX_CANDIDATES: usize = 16;

/// Longest text kept of what a client chose, in bytes.
pub const MAX_TEXT_BYTES: usize = 128;

/// Which endpoints a decision chose among.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Eligibility {
    /// Those with a fresh scrape, or without metrics.
    #[default]
    Fresh,
    /// None was fresh: those whose last scrape is old or failed.
    Stale,
    /// None was ever scraped: all of them.
    NeverScraped,
}

impl Eligibility {
    /// Every tier, best first.
    pub const ALL: [Self; 3] = [Self::Fresh, Self::Stale, Self::NeverScraped];
}

/// What a profile is called, and its scorers, for every record of it.
#[derive(Debug, Default)]
pub struct ProfileOutline {
    /// Its name.
    pub name: String,
    /// Name and weight of each scorer.
    pub scorers: Vec<(Arc<str>, f64)>,
}

/// One candidate of a recorded profile.
#[derive(Clone, Debug)]
pub struct CandidateRecord {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its load as the decision saw it.
    pub load: LoadRecord,
    /// One score per scorer of the profile, clamped to \[0, 1\], before weighting.
    pub scores: Vec<f64>,
    /// Weighted sum.
    pub total: f64,
    /// Whether the picker chose it.
    pub picked: bool,
}

/// The part of a load that is kept; see [`Load`].
#[derive(Clone, Copy, Debug)]
pub struct LoadRecord {
    /// Requests waiting, at the last scrape.
    pub waiting: u32,
    /// Requests running, at the last scrape.
    pub running: u32,
    /// Fraction of KV blocks in use, at the last scrape.
    pub kv_used: f64,
    /// Requests dispatched by us and not finished.
    pub in_flight: u32,
    /// Of them, those since the last scrape began.
    pub since_scrape: u32,
    /// Trust in the scraped fields.
    pub freshness: Freshness,
}

impl LoadRecord {
    fn of(load: &Load) -> Self {
        let &Load { waiting, running, kv_used, freshness, .. } = load;
        let (in_flight, since_scrape) = (load.in_flight.requests, load.since_scrape.requests);
        Self { waiting, running, kv_used, in_flight, since_scrape, freshness }
    }
}

/// One profile of a recorded decision.
#[derive(Clone, Debug)]
pub struct ProfileRecord {
    /// Its name and scorers.
    pub outline: Arc<ProfileOutline>,
    /// Candidates that the filters removed.
    pub dropped: usize,
    /// The best candidates, at most [`MAX_CANDIDATES`], and those picked; best first.
    pub candidates: Vec<CandidateRecord>,
}

/// One decision, as readers see it.
#[derive(Clone, Debug)]
pub struct DecisionRecord {
    /// Counted from 1.
    pub sequence: u64,
    /// When it was made.
    pub at: Timestamp,
    /// `x-request-id`.
    pub request_id: String,
    /// Model that the client asked for.
    pub model: String,
    /// Model that the server is asked for.
    pub target_model: String,
    /// Priority of the request.
    pub priority: i32,
    /// Which endpoints were eligible.
    pub eligibility: Eligibility,
    /// Endpoints in the pool.
    pub n_endpoints: usize,
    /// Endpoints that were eligible and allowed.
    pub n_eligible: usize,
    /// The profiles that ran, in the order they ran.
    pub profiles: Vec<ProfileRecord>,
    /// Destinations, best first; empty when the request could not be scheduled.
    pub picked: Vec<Arc<Endpoint>>,
    /// Endpoints that do a part of the work for the picked one.
    pub companions: Vec<(Role, Arc<Endpoint>)>,
}

/// One decision, as it is written: endpoints are indices into `pool`, and nothing is in order yet.
#[derive(Debug, Default)]
pub struct Entry {
    sequence: u64,
    at: Timestamp,
    request_id: String,
    model: String,
    target_model: String,
    priority: i32,
    pool: Arc<Snapshot>,
    /// See [`DecisionRecord::eligibility`].
    pub eligibility: Eligibility,
    /// See [`DecisionRecord::n_eligible`].
    pub n_eligible: usize,
    /// See [`DecisionRecord::picked`].
    pub picked: SmallVec<[u32; 4]>,
    /// See [`DecisionRecord::companions`].
    pub companions: SmallVec<[(Role, u32); 2]>,
    /// The profiles that ran; those beyond `n_profiles` are leftovers.
    profiles: Vec<ProfileEntry>,
    n_profiles: usize,
}

/// One profile of an [`Entry`].
#[derive(Debug, Default)]
pub struct ProfileEntry {
    outline: Arc<ProfileOutline>,
    /// See [`ProfileRecord::dropped`].
    pub dropped: usize,
    candidates: Vec<CandidateEntry>,
    /// Those of the first scorer, then those of the next.
    scores: Vec<f64>,
}

#[derive(Debug)]
struct CandidateEntry {
    index: u32,
    picked: bool,
    total: f64,
    load: LoadRecord,
}

impl Entry {
    /// Adds a profile.
    pub fn add_profile(&mut self, outline: &Arc<ProfileOutline>) -> &mut ProfileEntry {
        if self.n_profiles == self.profiles.len() {
            self.profiles.push(ProfileEntry::default());
        }
        let profile = &mut self.profiles[self.n_profiles];
        self.n_profiles += 1;
        profile.outline.clone_from(outline);
        profile.candidates.clear();
        profile.scores.clear();
        profile.dropped = 0;
        profile
    }

    fn read(&self) -> DecisionRecord {
        let endpoint = |index: u32| self.pool.endpoints[index as usize].clone();
        DecisionRecord {
            sequence: self.sequence,
            at: self.at,
            request_id: self.request_id.clone(),
            model: self.model.clone(),
            target_model: self.target_model.clone(),
            priority: self.priority,
            eligibility: self.eligibility,
            n_endpoints: self.pool.endpoints.len(),
            n_eligible: self.n_eligible,
            profiles: self.profiles[..self.n_profiles].iter().map(|profile| profile.read(endpoint)).collect(),
            picked: self.picked.iter().map(|&index| endpoint(index)).collect(),
            companions: self.companions.iter().map(|&(role, index)| (role, endpoint(index))).collect(),
        }
    }
}

impl ProfileEntry {
    /// Keeps the candidates at these positions. `scores` holds one run of as many as there are candidates per scorer, as given,
    /// `totals` their weighted sums.
    pub fn keep(
        &mut self,
        kept: &[u32],
        candidates: &Candidates<'_>,
        (scores, totals): (&[f64], &[f64]),
        picks: &[u32],
    ) {
        // At once what the longest needs: whether a pick is one of the best must not decide over the memory.
        self.candidates.reserve(MAX_CANDIDATES + picks.len());
        self.scores.reserve((MAX_CANDIDATES + picks.len()) * self.outline.scorers.len());
        self.candidates.extend(kept.iter().map(|&position| {
            let Candidate { index, load, .. } = candidates.at(position as usize);
            let total = totals[position as usize];
            CandidateEntry { index, picked: picks.contains(&position), total, load: LoadRecord::of(load) }
        }));
        for scores in scores.chunks_exact(candidates.len()) {
            self.scores.extend(kept.iter().map(|&position| scores[position as usize]));
        }
    }

    fn read(&self, endpoint: impl Fn(u32) -> Arc<Endpoint>) -> ProfileRecord {
        let n = self.candidates.len();
        let read = |(at, candidate): (usize, &CandidateEntry)| CandidateRecord {
            endpoint: endpoint(candidate.index),
            load: candidate.load,
            scores: self.scores.iter().skip(at).step_by(n).map(|&score| clamped(score)).collect(),
            total: candidate.total,
            picked: candidate.picked,
        };
        let mut candidates: Vec<_> = self.candidates.iter().enumerate().map(read).collect();
        candidates.sort_by(|a, b| b.total.total_cmp(&a.total));
        ProfileRecord { outline: self.outline.clone(), dropped: self.dropped, candidates }
    }
}

/// What a score counts as: 0 to 1, and 0 for NaN.
#[inline]
pub fn clamped(score: f64) -> f64 {
    // NaN is not greater than 0.
    let score = if score > 0.0 { score } else { 0.0 };
    if score < 1.0 { score } else { 1.0 }
}

/// The ring. It keeps the pools of its decisions.
#[derive(Debug)]
pub struct Recorder {
    ring: Vec<Entry>,
    next: usize,
    sequence: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { ring: Vec::with_capacity(CAPACITY), next: 0, sequence: 0 }
    }
}

impl Recorder {
    /// Begins a record; the oldest one gives its memory.
    pub fn begin(&mut self, request: &InferenceRequest, pool: &Arc<Snapshot>, at: Timestamp) -> &mut Entry {
        if self.ring.len() < CAPACITY {
            self.ring.push(Entry::default());
        }
        let entry = &mut self.ring[self.next];
        self.next = (self.next + 1) % CAPACITY;
        self.sequence += 1;
        entry.sequence = self.sequence;
        entry.at = at;
        set_text(&mut entry.request_id, &request.request_id);
        set_text(&mut entry.model, &request.model);
        set_text(&mut entry.target_model, &request.target_model);
        entry.priority = request.priority;
        entry.pool.clone_from(pool);
        entry.picked.clear();
        entry.companions.clear();
        entry.n_profiles = 0;
        entry
    }

    /// The last decisions, newest first: at most `limit`, only those of `request_id` if it is given.
    pub fn last(&self, limit: usize, request_id: Option<&str>) -> Vec<DecisionRecord> {
        let newest_first =
            (1..=self.ring.len()).map(|back| &self.ring[(self.next + CAPACITY - back) % CAPACITY]);
        newest_first
            .filter(|entry| request_id.is_none_or(|id| entry.request_id == id))
            .take(limit)
            .map(Entry::read)
            .collect()
    }
}

fn set_text(place: &mut String, text: &str) {
    place.clear();
    // At once what the longest text needs, so that no later one needs more.
    place.reserve(MAX_TEXT_BYTES);
    let fits = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    place.push_str(&text[..fits.unwrap_or(0)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_and_cuts_long_text() {
        let mut recorder = Recorder::default();
        for n in 0..CAPACITY + 3 {
            let request =
                InferenceRequest { request_id: format!("{n}é").repeat(60), ..InferenceRequest::default() };
            recorder.begin(&request, &Arc::default(), Timestamp(0)).add_profile(&Arc::default());
        }
        let last = recorder.last(CAPACITY + 10, None);
        assert_eq!(last.len(), CAPACITY);
        assert_eq!((last[0].sequence, last[CAPACITY - 1].sequence), (259, 4));
        assert!(last[0].request_id.starts_with("258") && last[0].request_id.len() <= MAX_TEXT_BYTES);
        assert_eq!(last[0].profiles.len(), 1);
        assert_eq!(recorder.last(2, None).len(), 2);
        let id = last[7].request_id.clone();
        assert_eq!(
            recorder.last(9, Some(&id)).iter().map(|r| r.sequence).collect::<Vec<_>>(),
            [last[7].sequence]
        );
    }
}

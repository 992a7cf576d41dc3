//! The last decisions of a pool: a ring whose records are reused, so that recording allocates nothing once warm.
//!
//! Written by the scheduler inside the decision, read by the debug page. No byte of a prompt is ever in here; of the
//! request it holds its id and model names, cut to [`MAX_TEXT_BYTES`].

use std::sync::Arc;

use epp_framework::endpoint::{Endpoint, Load};
use epp_framework::scheduling::Role;
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

/// One candidate of a recorded profile.
#[derive(Clone, Debug)]
pub struct CandidateRecord {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its load as the decision saw it.
    pub load: Load,
    /// One score per scorer of the profile, clamped to \[0, 1\], before weighting.
    pub scores: SmallVec<[f64; 8]>,
    /// Weighted sum.
    pub total: f64,
    /// Whether the picker chose it.
    pub picked: bool,
}

/// One profile of a recorded decision.
#[derive(Clone, Debug, Default)]
pub struct ProfileRecord {
    /// Name of the profile.
    pub name: String,
    /// Name and weight of each scorer.
    pub scorers: Vec<(Arc<str>, f64)>,
    /// Candidates that the filters removed.
    pub dropped: usize,
    /// The best candidates, at most [`MAX_CANDIDATES`], and those picked.
    pub candidates: Vec<CandidateRecord>,
}

/// One decision.
#[derive(Clone, Debug, Default)]
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
    /// The profiles that ran; entries beyond `n_profiles` are leftovers.
    profiles: Vec<ProfileRecord>,
    n_profiles: usize,
    /// Destinations, best first; empty when the request could not be scheduled.
    pub picked: SmallVec<[Arc<Endpoint>; 2]>,
    /// Endpoints that do a part of the work for the picked one.
    pub companions: SmallVec<[(Role, Arc<Endpoint>); 2]>,
}

impl DecisionRecord {
    /// The profiles that ran, in the order they ran.
    pub fn profiles(&self) -> &[ProfileRecord] {
        &self.profiles[..self.n_profiles]
    }

    /// Adds a profile, reusing the memory of an older one.
    pub fn add_profile(&mut self, name: &str) -> &mut ProfileRecord {
        if self.n_profiles == self.profiles.len() {
            self.profiles.push(ProfileRecord::default());
        }
        let profile = &mut self.profiles[self.n_profiles];
        self.n_profiles += 1;
        set_text(&mut profile.name, name);
        profile.scorers.clear();
        profile.candidates.clear();
        profile.dropped = 0;
        profile
    }
}

/// The ring.
#[derive(Debug)]
pub struct Recorder {
    ring: Vec<DecisionRecord>,
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
    pub fn begin(&mut self, request: &epp_framework::request::InferenceRequest) -> &mut DecisionRecord {
        if self.ring.len() < CAPACITY {
            self.ring.push(DecisionRecord::default());
        }
        let record = &mut self.ring[self.next];
        self.next = (self.next + 1) % CAPACITY;
        self.sequence += 1;
        record.sequence = self.sequence;
        set_text(&mut record.request_id, &request.request_id);
        set_text(&mut record.model, &request.model);
        set_text(&mut record.target_model, &request.target_model);
        record.priority = request.priority;
        record.picked.clear();
        record.companions.clear();
        record.n_profiles = 0;
        record
    }

    /// The last decisions, newest first: at most `limit`, only those of `request_id` if it is given.
    pub fn last(&self, limit: usize, request_id: Option<&str>) -> Vec<DecisionRecord> {
        let newest_first =
            (1..=self.ring.len()).map(|back| &self.ring[(self.next + CAPACITY - back) % CAPACITY]);
        newest_first
            .filter(|record| request_id.is_none_or(|id| record.request_id == id))
            .take(limit)
            .cloned()
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
    use epp_framework::request::InferenceRequest;

    #[test]
    fn the_ring_keeps_the_newest_and_cuts_long_text() {
        let mut recorder = Recorder::default();
        for n in 0..CAPACITY + 3 {
            let request =
                InferenceRequest { request_id: format!("{n}é").repeat(60), ..InferenceRequest::default() };
            recorder.begin(&request).add_profile("default");
        }
        let last = recorder.last(CAPACITY + 10, None);
        assert_eq!(last.len(), CAPACITY);
        assert_eq!((last[0].sequence, last[CAPACITY - 1].sequence), (259, 4));
        assert!(last[0].request_id.starts_with("258") && last[0].request_id.len() <= MAX_TEXT_BYTES);
        assert_eq!(last[0].profiles().len(), 1);
        assert_eq!(recorder.last(2, None).len(), 2);
        let id = last[7].request_id.clone();
        assert_eq!(
            recorder.last(9, Some(&id)).iter().map(|r| r.sequence).collect::<Vec<_>>(),
            [last[7].sequence]
        );
    }
}

//! One candidate of an election, as a state machine over what it knows of the lease: [`Elector`]. Pure.
//!
//! The caller asks for the next step ([`Elector::next`]), does it, and tells what came of it ([`Elector::heard`]).
//!
//! *No two clocks are compared.* A lease is free when this candidate has not seen its record change for as long as the
//! record says; the times in a record are for people. A leader's term is counted from before the request was sent that
//! renewed it, and ends 5 s before anybody else may think the lease free. So no two lead at a time, as long as no clock
//! runs half as fast again as another one.
//!
//! *The API decides races.* What is written replaces what was read and nothing newer, so of two that find the lease free
//! one fails. Whoever does not know whether a request got through reads before writing again.

use std::time::Duration;

use epp_framework::time::Timestamp;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// How long others are to believe a record that does not change, in seconds.
pub const LEASE_S: i32 = 15;

/// How long a leader leads after it sent a request that got through.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// From one attempt to the next. Those who do not lead add up to [`JITTER`] of it, lest they meet again and again.
pub const RETRY: Duration = Duration::from_secs(2);

/// Largest random part of [`RETRY`] that is added to it.
pub const JITTER: f64 = 0.5;

/// How long one request may take: a leader whose requests get lost can try three times within its term.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing until then; nothing is to be told either.
    Wait(Timestamp),
    /// Read the lease.
    Read,
    /// Create the lease.
    Create(LeaseSpec),
    /// Write this over the lease as it was read or written last, and over nothing newer.
    Write(LeaseSpec),
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The lease, if there is one.
    Read(Option<LeaseSpec>),
    /// The lease as it is now that it was created or written.
    Written(LeaseSpec),
    /// The lease is not what it was any more, or is there already.
    Conflict,
    /// It cannot be known what came of it, or it was refused.
    Failed,
}

/// One candidate.
#[derive(Debug)]
pub struct Elector {
    identity: String,
    stage: Stage,
    /// When the current attempt began.
    began: Timestamp,
    /// The record that was seen last, and since when it has been as it is.
    seen: Option<(LeaseSpec, Timestamp)>,
    /// Whether the record is surely still that one, unless somebody else wrote.
    fresh: bool,
    /// The end of a term that was not lost before.
    term: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Rest {
        until: Timestamp,
    },
    Read,
    Create,
    /// Write over what was read just now.
    Claim,
    /// Write over what this candidate wrote before.
    Renew,
}

impl Elector {
    /// Makes a candidate of that name, which must be nobody else's, ever.
    pub fn new(identity: String) -> Self {
        let origin = Timestamp::default();
        let stage = Stage::Rest { until: origin };
        Self { identity, stage, began: origin, seen: None, fresh: false, term: None }
    }

    /// Who it is.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether it leads now.
    pub fn leads(&self, now: Timestamp) -> bool {
        self.term.is_some_and(|end| now < end)
    }

    /// Who else holds the lease, as far as this candidate has seen.
    pub fn other_holder(&self) -> Option<&str> {
        let (spec, _) = self.seen.as_ref()?;
        spec.holder_identity.as_deref().filter(|holder| !holder.is_empty() && *holder != self.identity)
    }

    /// Says what to do at `now`; `wall` is what the record should say of it.
    pub fn next(&mut self, now: Timestamp, wall: &MicroTime) -> Step {
        if let Stage::Rest { until } = self.stage {
            if now < until {
                let end = self.term.filter(|&end| now < end);
                return Step::Wait(end.map_or(until, |end| until.min(end)));
            }
            self.began = now;
            self.stage = if self.fresh && self.leads(now) { Stage::Renew } else { Stage::Read };
        }
        match self.stage {
            Stage::Rest { .. } | Stage::Read => Step::Read,
            Stage::Create => Step::Create(self.claim(None, wall)),
            Stage::Claim | Stage::Renew => {
                Step::Write(self.claim(self.seen.as_ref().map(|(spec, _)| spec), wall))
            }
        }
    }

    /// Says until when an answer to a request is worth waiting for that is sent at `now`.
    pub fn patience(&self, now: Timestamp) -> Timestamp {
        let timeout = later(now, REQUEST_TIMEOUT);
        self.term.filter(|&end| now < end).map_or(timeout, |end| timeout.min(end))
    }

    /// Takes in what came of a step that was begun at `sent`; `chance` is random, from 0 to 1.
    pub fn heard(&mut self, answer: Answer, sent: Timestamp, now: Timestamp, chance: f64) {
        self.fresh = false;
        match answer {
            Answer::Read(spec) => {
                let claim = if spec.is_some() { Stage::Claim } else { Stage::Create };
                if let Some(spec) = spec {
                    self.see(spec, now);
                }
                // One that was deleted does not free its holder from leading, so it counts for its time as well.
                self.stage =
                    if self.free_at().is_none_or(|at| at <= now) { claim } else { self.rest(now, chance) };
            }
            Answer::Written(spec) => {
                self.see(spec, now);
                self.fresh = true;
                self.term = Some(later(sent, RENEW_DEADLINE));
                self.stage = self.rest(now, chance);
            }
            Answer::Conflict if self.stage == Stage::Renew => self.stage = Stage::Read,
            Answer::Conflict | Answer::Failed => self.stage = self.rest(now, chance),
        }
    }

    /// Ends the term. Do not go on with this candidate.
    pub fn resign(&mut self) {
        self.term = None;
    }

    /// What to write over `spec` so that others need not wait, if it says that this candidate holds the lease.
    pub fn released(&self, spec: &LeaseSpec, wall: &MicroTime) -> Option<LeaseSpec> {
        self.holds(spec).then(|| LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(wall.clone()),
            renew_time: Some(wall.clone()),
            ..spec.clone()
        })
    }

    fn holds(&self, spec: &LeaseSpec) -> bool {
        spec.holder_identity.as_deref() == Some(&self.identity)
    }

    fn see(&mut self, spec: LeaseSpec, now: Timestamp) {
        if !self.holds(&spec) {
            self.term = None;
        }
        if self.seen.as_ref().is_none_or(|(before, _)| *before != spec) {
            self.seen = Some((spec, now));
        }
    }

    /// When the lease is free, if somebody else has it.
    fn free_at(&self) -> Option<Timestamp> {
        self.other_holder()?;
        let (spec, since) = self.seen.as_ref()?;
        let seconds = spec.lease_duration_seconds.filter(|&seconds| seconds > 0).unwrap_or(LEASE_S);
        Some(later(*since, Duration::from_secs(seconds.unsigned_abs().into())))
    }

    /// The record that makes this candidate the holder, over what there is.
    fn claim(&self, over: Option<&LeaseSpec>, wall: &MicroTime) -> LeaseSpec {
        let transitions = over.map(|spec| spec.lease_transitions.unwrap_or_default());
        let (acquired, transitions) = match over {
            Some(spec) if self.holds(spec) => (spec.acquire_time.clone(), transitions),
            _ => (None, transitions.map(|before| before.saturating_add(1))),
        };
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LEASE_S),
            acquire_time: Some(acquired.unwrap_or_else(|| wall.clone())),
            renew_time: Some(wall.clone()),
            lease_transitions: Some(transitions.unwrap_or_default()),
            ..over.cloned().unwrap_or_default()
        }
    }

    /// Until the next attempt; not longer than until the lease of somebody else is free.
    fn rest(&self, now: Timestamp, chance: f64) -> Stage {
        let jitter = if self.leads(now) { Duration::ZERO } else { RETRY.mul_f64(JITTER * chance) };
        let until = later(self.began, RETRY + jitter).max(now);
        let free_at = self.free_at().filter(|&at| now < at);
        Stage::Rest { until: free_at.map_or(until, |at| until.min(at)) }
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp::after_origin(Duration::from_nanos(at.0).saturating_add(by))
}

#[cfg(test)]
mod tests;

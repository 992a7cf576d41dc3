//! Sessions and the endpoints they are bound to: [`Bindings`].
//!
//! Ids are kept as keyed hashes, so that their length does not matter and nobody can choose to share another's entry.
//! Of a decision the lock is held for a look-up each time; memory that sessions give back is taken back in small steps.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use epp_framework::endpoint::EndpointId;
use epp_framework::time::Timestamp;
use parking_lot::Mutex;

use crate::recent::Recent;

/// Sessions that are dropped in one step at most.
const SWEEP_STEP: usize = 256;

/// Which session went where. Forgets what had no request for a while, and beyond a capacity what had none for longest.
pub(super) struct Bindings {
    state: Mutex<State>,
    ttl: Duration,
    sweep: Duration,
    secret: RandomState,
}

struct State {
    sessions: Recent<u64, Binding>,
    swept: Timestamp,
}

struct Binding {
    endpoint: EndpointId,
    /// When it was last used.
    at: Timestamp,
    /// The last cycle in which the endpoint was among the candidates.
    present: Option<Timestamp>,
}

impl Bindings {
    /// Makes none, with times in seconds.
    pub(super) fn new(capacity: usize, ttl: u64, sweep: u64) -> Self {
        let state = State { sessions: Recent::new(capacity), swept: Timestamp::default() };
        Self {
            state: Mutex::new(state),
            ttl: Duration::from_secs(ttl),
            sweep: Duration::from_secs(sweep),
            secret: RandomState::new(),
        }
    }

    /// What a session is known by.
    pub(super) fn key(&self, session: &str) -> u64 {
        self.secret.hash_one(session)
    }

    /// Where the session goes.
    pub(super) fn endpoint_of(&self, session: u64, now: Timestamp) -> Option<EndpointId> {
        let mut state = self.state.lock();
        let binding = state.sessions.get_mut(&session)?;
        (now.since(binding.at) <= self.ttl).then_some(binding.endpoint)
    }

    /// Notes that the session's endpoint is a candidate in the cycle of `now`.
    pub(super) fn note_present(&self, session: u64, now: Timestamp) {
        if let Some(binding) = self.state.lock().sessions.get_mut(&session) {
            binding.present = Some(now);
        }
    }

    /// Learns that the session goes to `target` in the cycle of `now`: one that is bound elsewhere stays there, unless
    /// that endpoint was no candidate.
    pub(super) fn learn(&self, session: u64, target: EndpointId, now: Timestamp) {
        let mut state = self.state.lock();
        let stays = state.sessions.get_mut(&session).is_some_and(|binding| {
            let expired = now.since(binding.at) > self.ttl;
            binding.endpoint != target && binding.present == Some(now) && !expired
        });
        if !stays {
            state.sessions.put(session, Binding { endpoint: target, at: now, present: None });
        }
        if now.since(state.swept) >= self.sweep {
            self.sweep(&mut state, now);
        }
    }

    fn sweep(&self, state: &mut State, now: Timestamp) {
        for _ in 0..SWEEP_STEP {
            let oldest = state.sessions.iter().next();
            if oldest.is_none_or(|(_, binding)| now.since(binding.at) <= self.ttl) {
                state.swept = now;
                return;
            }
            state.sessions.pop_oldest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: EndpointId = EndpointId { slot: 0, generation: 0 };
    const B: EndpointId = EndpointId { slot: 1, generation: 0 };

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1_000_000_000)
    }

    #[test]
    fn sessions_migrate_only_from_endpoints_that_are_no_candidates() {
        let bindings = Bindings::new(10, 300, 10);
        bindings.learn(1, A, at(0));
        bindings.note_present(1, at(1));
        bindings.learn(1, B, at(1));
        assert_eq!(bindings.endpoint_of(1, at(1)), Some(A), "it was there, but not picked");
        bindings.learn(1, B, at(2));
        assert_eq!(bindings.endpoint_of(1, at(2)), Some(B), "it was not there");
    }

    #[test]
    fn sessions_without_requests_are_forgotten() {
        let bindings = Bindings::new(10, 300, 10);
        bindings.learn(1, A, at(0));
        assert_eq!(bindings.endpoint_of(1, at(300)), Some(A));
        assert_eq!(bindings.endpoint_of(1, at(301)), None);
        bindings.learn(1, A, at(200));
        assert_eq!(bindings.endpoint_of(1, at(500)), Some(A), "each use counts");
        bindings.note_present(1, at(501));
        bindings.learn(1, B, at(501));
        assert_eq!(bindings.endpoint_of(1, at(501)), Some(B), "bound anew");
    }

    #[test]
    fn memory_is_given_back_in_steps_and_bounded() {
        let bindings = Bindings::new(1000, 300, 10);
        let n_sessions = || bindings.state.lock().sessions.iter().count();
        (0..2000).for_each(|session| bindings.learn(session, A, at(1)));
        assert_eq!((n_sessions(), bindings.endpoint_of(0, at(1))), (1000, None), "the oldest are forgotten");
        bindings.learn(9999, A, at(302));
        assert_eq!(n_sessions(), 1000 - SWEEP_STEP);
        (0..3).for_each(|_| bindings.learn(9999, A, at(303)));
        assert_eq!(n_sessions(), 1);
        bindings.learn(1, A, at(303));
        bindings.learn(2, B, at(603));
        bindings.learn(2, B, at(604));
        assert_eq!(n_sessions(), 3, "swept less than 10 s ago");
        bindings.learn(2, B, at(613));
        assert_eq!(n_sessions(), 1);
    }
}

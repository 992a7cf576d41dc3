//! What the Kubernetes API said of callers, for as long as it counts: [`ReviewCache`]. Time is an argument.
//!
//! Keys are digests of tokens and of questions. What strangers can make us keep has room of its own, so that nothing they
//! send takes the place of a caller who is known.

use std::collections::HashMap;
use std::time::Duration;

use epp_framework::time::Timestamp;

use crate::admin::digest::Digest;

/// How long it counts whose a token is, or that it is nobody's.
const TOKEN: Duration = Duration::from_secs(60);

/// How long it counts that a caller may do something.
const ALLOWED: Duration = Duration::from_secs(5 * 60);

/// How long it counts that a caller may not do something.
const DENIED: Duration = Duration::from_secs(30);

/// Entries of each kind. A pool has a handful of readers.
const MOST: usize = 256;

/// The verdicts that still count. `C` is what is known of a caller.
pub struct ReviewCache<C> {
    known: Kept<C>,
    unknown: Kept<()>,
    allowed: Kept<()>,
    denied: Kept<()>,
}

impl<C> Default for ReviewCache<C> {
    fn default() -> Self {
        Self {
            known: Kept::new(TOKEN),
            unknown: Kept::new(TOKEN),
            allowed: Kept::new(ALLOWED),
            denied: Kept::new(DENIED),
        }
    }
}

impl<C: Clone> ReviewCache<C> {
    /// Whose token this is, `Some(None)` if it is nobody's.
    pub fn caller(&self, token: &Digest, now: Timestamp) -> Option<Option<C>> {
        let known = self.known.get(token, now).map(|caller| Some(caller.clone()));
        known.or_else(|| self.unknown.get(token, now).map(|()| None))
    }

    /// Notes whose token this is.
    pub fn note_caller(&mut self, token: Digest, caller: Option<C>, now: Timestamp) {
        match caller {
            Some(caller) => self.known.note(token, caller, now),
            None => self.unknown.note(token, (), now),
        }
    }

    /// Whether the answer to this question was yes.
    pub fn allowed(&self, question: &Digest, now: Timestamp) -> Option<bool> {
        let allowed = self.allowed.get(question, now).map(|()| true);
        allowed.or_else(|| self.denied.get(question, now).map(|()| false))
    }

    /// Notes the answer to this question.
    pub fn note_allowed(&mut self, question: Digest, allowed: bool, now: Timestamp) {
        if allowed {
            self.allowed.note(question, (), now);
        } else {
            self.denied.note(question, (), now);
        }
    }
}

/// Values that count for a time, at most [`MOST`].
struct Kept<V> {
    life: Duration,
    /// With the time when each was noted.
    values: HashMap<Digest, (V, Timestamp)>,
}

impl<V> Kept<V> {
    fn new(life: Duration) -> Self {
        Self { life, values: HashMap::new() }
    }

    fn get(&self, key: &Digest, now: Timestamp) -> Option<&V> {
        self.values.get(key).filter(|(_, noted)| now.since(*noted) < self.life).map(|(value, _)| value)
    }

    fn note(&mut self, key: Digest, value: V, now: Timestamp) {
        if self.is_full_for(&key) {
            self.values.retain(|_, (_, noted)| now.since(*noted) < self.life);
        }
        if self.is_full_for(&key) {
            let oldest = self.values.iter().min_by_key(|(_, (_, noted))| *noted).map(|(key, _)| *key);
            oldest.map(|oldest| self.values.remove(&oldest));
        }
        self.values.insert(key, (value, now));
    }

    fn is_full_for(&self, key: &Digest) -> bool {
        self.values.len() >= MOST && !self.values.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::digest::Digester;

    fn at_ms(ms: u64) -> Timestamp {
        Timestamp::after_origin(Duration::from_millis(ms))
    }

    #[test]
    fn verdicts_count_for_their_time() {
        let digester = Digester::new().unwrap();
        let (known, unknown, allowed, denied) =
            (digester.digest(b"k"), digester.digest(b"u"), digester.digest(b"a"), digester.digest(b"d"));
        let mut cache = ReviewCache::default();
        cache.note_caller(known, Some("prometheus"), at_ms(1000));
        cache.note_caller(unknown, None, at_ms(1000));
        cache.note_allowed(allowed, true, at_ms(1000));
        cache.note_allowed(denied, false, at_ms(1000));
        for (after_ms, caller, stranger, may, may_not) in [
            (0, Some(Some("prometheus")), Some(None), Some(true), Some(false)),
            (29_999, Some(Some("prometheus")), Some(None), Some(true), Some(false)),
            (30_000, Some(Some("prometheus")), Some(None), Some(true), None),
            (59_999, Some(Some("prometheus")), Some(None), Some(true), None),
            (60_000, None, None, Some(true), None),
            (299_999, None, None, Some(true), None),
            (300_000, None, None, None, None),
        ] {
            let now = at_ms(1000 + after_ms);
            assert_eq!(cache.caller(&known, now), caller, "{after_ms}");
            assert_eq!(cache.caller(&unknown, now), stranger, "{after_ms}");
            assert_eq!(cache.allowed(&allowed, now), may, "{after_ms}");
            assert_eq!(cache.allowed(&denied, now), may_not, "{after_ms}");
        }
        assert_eq!(cache.caller(&allowed, at_ms(1000)), None, "tokens and questions are not mixed up");
    }

    #[test]
    fn a_newer_verdict_counts() {
        let digest = Digester::new().unwrap().digest(b"t");
        let mut cache = ReviewCache::default();
        cache.note_caller(digest, Some(1), at_ms(0));
        cache.note_caller(digest, None, at_ms(60_000));
        assert_eq!(cache.caller(&digest, at_ms(60_000)), Some(None), "revoked");
        cache.note_allowed(digest, false, at_ms(0));
        cache.note_allowed(digest, true, at_ms(30_000));
        assert_eq!(cache.allowed(&digest, at_ms(30_000)), Some(true), "granted");
    }

    #[test]
    fn strangers_take_no_callers_place_and_the_number_is_bounded() {
        let digester = Digester::new().unwrap();
        let mut cache = ReviewCache::default();
        let prometheus = digester.digest(b"prometheus");
        cache.note_caller(prometheus, Some(()), at_ms(0));
        for n in 0..10_000_u32 {
            cache.note_caller(digester.digest(&n.to_be_bytes()), None, at_ms(1));
            cache.note_allowed(digester.digest(&n.to_be_bytes()), false, at_ms(u64::from(n) / 100));
        }
        assert_eq!((cache.unknown.values.len(), cache.denied.values.len()), (MOST, MOST));
        assert_eq!(cache.caller(&prometheus, at_ms(2)), Some(Some(())));
        let last = digester.digest(&9_999_u32.to_be_bytes());
        assert_eq!(cache.allowed(&last, at_ms(100)), Some(false), "the newest are kept");
        // All of them have ended: the next one finds room without taking a place.
        cache.note_allowed(digester.digest(b"later"), false, at_ms(60_000));
        assert_eq!(cache.denied.values.len(), 1);
    }
}

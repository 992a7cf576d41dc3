//! Budgets for periods: [`Limiter::charge`], without clock and I/O.
//!
//! As in Envoy's reference service, periods begin at whole multiples of their unit since 1970, a call that goes over is
//! counted all the same, and every descriptor of a call is charged whether or not another one refuses it.

mod tree;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use self::tree::Tree;
use crate::standalone::topology::RateUnit;

/// A budget, and which descriptors it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The domain whose calls it is for; `None` for all, which share it.
    pub domain: Option<String>,
    /// The keys and values of its descriptors, all of them and in this order.
    pub entries: Vec<(String, Value)>,
    /// The budget.
    pub requests: u32,
    /// For how long it is.
    pub unit: RateUnit,
    /// Whether it only counts.
    pub is_shadow: bool,
    /// The policy that has it, for metrics.
    pub policy: String,
    /// Which of the policy's rules it is, for metrics.
    pub rule: usize,
}

/// The value of a descriptor's entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// This one.
    Is(String),
    /// Any; each has a budget of its own.
    Any,
}

/// What a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    /// This much; 0 looks whether anything is left.
    Take(u64),
    /// Nothing, and it gives this much back.
    Return(u64),
}

/// How a budget stands after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// At most four fifths are used.
    Within,
    /// More than that.
    Near,
    /// What was asked for is not there.
    Over,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which limit it was, by its place among them.
    pub limit: usize,
    /// How its budget stands.
    pub standing: Standing,
    /// What is left of it.
    pub remaining: u32,
    /// When it begins anew, in whole seconds from now.
    pub reset: Duration,
    /// Whether it was counted.
    pub is_counted: bool,
}

/// What is used of a budget.
#[derive(Debug)]
struct Counter {
    used: u64,
    /// The period that it is for, in seconds since 1970.
    period: Range<u64>,
}

/// All budgets, and what is left of them.
///
/// Clients choose values, and so could ask for any number of counters. There are at most so many; expired ones make
/// room. Without room a value that is new is not counted: it passes, unless it asks for more than a whole budget. To
/// refuse it would let one client with many values lock everybody out, and to forget a counter would give that client
/// its own budget back. Limits without [`Value::Any`] are always counted: they are as many as the manifests say.
#[derive(Debug)]
pub struct Limiter {
    limits: Arc<[Limit]>,
    /// What counters know each limit by: equal before and after a change of limits where its descriptor and unit are.
    ids: Vec<u64>,
    next_id: u64,
    tree: Tree,
    /// By limit and values, of which only a keyed hash is kept: they may be long.
    counters: HashMap<(u64, u64), Counter>,
    max_counters: usize,
    /// No counter ends before this, in seconds since 1970.
    next_end: u64,
    /// The last time that was told.
    last_now: u64,
    key: RandomState,
}

impl Limiter {
    /// Makes a limiter without limits, which keeps at most so many counters of values that clients choose.
    pub fn new(max_counters: usize, key: RandomState) -> Self {
        Self {
            limits: Arc::default(),
            ids: Vec::new(),
            next_id: 0,
            tree: Tree::default(),
            counters: HashMap::new(),
            max_counters,
            next_end: u64::MAX,
            last_now: 0,
            key,
        }
    }

    /// The limits.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// How many counters there are, expired ones among them.
    pub fn n_counters(&self) -> usize {
        self.counters.len()
    }

    /// Replaces the limits; of those with the same descriptor the first one counts.
    pub fn set(&mut self, limits: Arc<[Limit]>) {
        let old: HashMap<_, _> = self.limits.iter().map(identity).zip(self.ids.iter().copied()).collect();
        let (mut ids, mut tree) = (Vec::with_capacity(limits.len()), Tree::default());
        for (at, limit) in limits.iter().enumerate() {
            ids.push(old.get(&identity(limit)).copied().unwrap_or(self.next_id));
            self.next_id += 1;
            tree.insert(limit.domain.as_deref(), &limit.entries, at);
        }
        let kept: HashSet<_> = ids.iter().copied().collect();
        self.counters.retain(|(id, _), _| kept.contains(id));
        (self.limits, self.ids, self.tree) = (limits, ids, tree);
    }

    /// Takes `hits` from the budget of a descriptor at `now`, the time since 1970; `None` if it has no limit.
    pub fn charge(
        &mut self,
        domain: &str,
        descriptor: &[(&str, &str)],
        hits: Hits,
        now: Duration,
    ) -> Option<Verdict> {
        let at = self.tree.find(domain, descriptor)?;
        let (limit, key) = (&self.limits[at], (self.ids[at], self.values(at, descriptor)));
        let (budget, length, now) = (u64::from(limit.requests), limit.unit.seconds(), now.as_secs());
        let start = now - now % length;
        let period = start..start.saturating_add(length);
        let reset = Duration::from_secs(period.end - now);
        if now < self.last_now {
            // A clock was set back: what was counted in its future has ended.
            self.next_end = 0;
        }
        self.last_now = now;
        let found = self.counters.get_mut(&key).filter(|counter| counter.period == period);
        let used = found.as_ref().map_or(0, |counter| counter.used);
        let after = match hits {
            Hits::Take(hits) => used.saturating_add(hits),
            Hits::Return(hits) => used.saturating_sub(hits),
        };
        let is_counted = match found {
            Some(counter) => {
                counter.used = after;
                true
            }
            // What asks or gives back needs no counter.
            None => after == 0 || self.begin(key, at, Counter { used: after, period }, now),
        };
        let standing = match hits {
            Hits::Take(0) if used >= budget => Standing::Over,
            Hits::Take(1..) if after > budget => Standing::Over,
            _ if after > budget * 4 / 5 => Standing::Near,
            _ => Standing::Within,
        };
        let remaining = u32::try_from(budget.saturating_sub(after)).unwrap_or(u32::MAX);
        Some(Verdict { limit: at, standing, remaining, reset, is_counted })
    }

    /// Keeps a new counter, or one in an expired one's place, if there is room.
    fn begin(&mut self, key: (u64, u64), at: usize, counter: Counter, now: u64) -> bool {
        let is_fixed = self.limits[at].entries.iter().all(|(_, value)| *value != Value::Any);
        let is_there = self.counters.contains_key(&key);
        if !is_fixed && !is_there && self.counters.len() >= self.max_counters {
            // To look at all of them is worth it only where some have ended.
            if self.next_end <= now {
                self.counters.retain(|_, counter| counter.period.contains(&now));
                self.next_end =
                    self.counters.values().map(|counter| counter.period.end).min().unwrap_or(u64::MAX);
            }
            if self.counters.len() >= self.max_counters {
                return false;
            }
        }
        self.next_end = self.next_end.min(counter.period.end);
        self.counters.insert(key, counter);
        true
    }

    /// The values that have a budget of their own, hashed.
    fn values(&self, at: usize, descriptor: &[(&str, &str)]) -> u64 {
        let mut hasher = self.key.build_hasher();
        for ((_, value), (_, said)) in self.limits[at].entries.iter().zip(descriptor) {
            if *value == Value::Any {
                said.hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

/// What a limit is known by when limits change.
fn identity(limit: &Limit) -> (Option<&str>, &[(String, Value)], RateUnit) {
    (limit.domain.as_deref(), &limit.entries, limit.unit)
}

#[cfg(test)]
mod tests;

//! What a [`Limiter`] admits.

use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const HOUR: u64 = 3_600;

/// 10:20 of some day, in seconds since 1970.
const NOW: u64 = 20_000 * 24 * HOUR + 10 * HOUR + 20 * 60;

fn entry(key: &str, value: &str) -> (String, Value) {
    (key.to_owned(), if value == "*" { Value::Any } else { Value::Is(value.to_owned()) })
}

/// A limit of the domain `d` for these keys and values, `*` being any.
fn limit(requests: u32, entries: &[(&str, &str)]) -> Limit {
    Limit {
        domain: Some("d".to_owned()),
        entries: entries.iter().map(|(key, value)| entry(key, value)).collect(),
        requests,
        unit: RateUnit::Hour,
        is_shadow: false,
        policy: "default/policy".to_owned(),
        rule: 0,
    }
}

fn limiter(max_counters: usize, limits: Vec<Limit>) -> Limiter {
    let mut limiter = Limiter::new(max_counters, RandomState::new());
    limiter.set(Arc::from(limits));
    limiter
}

impl Limiter {
    /// Charges a descriptor of `d` at this second.
    #[track_caller]
    fn at(&mut self, now: u64, descriptor: &[(&str, &str)], hits: u64) -> Verdict {
        self.charge("d", descriptor, Hits::Take(hits), Duration::from_secs(now)).expect("it has a limit")
    }
}

/// Row 3.7 of the functional specification: 10 tokens an hour and tenant, asked for with 0 and charged at the end.
#[test]
fn the_worked_example_of_costs() {
    let mut limiter = limiter(10, vec![limit(10, &[("rule", "r"), ("header/x-tenant-id", "*")])]);
    for (request, tenant, cost, want, left) in [
        (1, "t1", 6, Standing::Within, 10),
        (2, "t1", 6, Standing::Within, 4),
        (3, "t1", 0, Standing::Over, 0),
        (4, "t2", 0, Standing::Within, 10),
        (5, "t1", 0, Standing::Over, 0),
    ] {
        let descriptor = [("rule", "r"), ("header/x-tenant-id", tenant)];
        let verdict = limiter.at(NOW, &descriptor, 0);
        assert_eq!((verdict.standing, verdict.remaining), (want, left), "request {request}");
        assert_eq!(verdict.reset, Duration::from_secs(40 * 60), "request {request}");
        if cost > 0 {
            limiter.at(NOW, &descriptor, cost);
        }
    }
    let whole = limiter.charge("d", &[("rule", "r")], Hits::Take(1), Duration::from_secs(NOW));
    assert_eq!(whole, None, "without the header there is no limit");
}

#[test]
fn each_call_is_judged_by_what_it_asks_for() {
    for (budget, calls) in [
        (0, vec![(0, Standing::Over, 0), (1, Standing::Over, 0)]),
        (1, vec![(0, Standing::Within, 1), (1, Standing::Near, 0), (0, Standing::Over, 0)]),
        (5, vec![(4, Standing::Within, 1), (1, Standing::Near, 0), (1, Standing::Over, 0)]),
        // What goes over is counted: nothing is left for a smaller one.
        (10, vec![(8, Standing::Within, 2), (5, Standing::Over, 0), (1, Standing::Over, 0)]),
        (10, vec![(u64::MAX, Standing::Over, 0), (u64::MAX, Standing::Over, 0), (0, Standing::Over, 0)]),
        (u32::MAX, vec![(1, Standing::Within, u32::MAX - 1)]),
    ] {
        let mut limiter = limiter(10, vec![limit(budget, &[("rule", "r")])]);
        for (n, (hits, standing, left)) in calls.into_iter().enumerate() {
            let verdict = limiter.at(NOW, &[("rule", "r")], hits);
            assert_eq!((verdict.standing, verdict.remaining), (standing, left), "{n}. call of {budget}");
        }
    }
}

#[test]
fn what_is_given_back_can_be_taken_again() {
    let mut limiter = limiter(10, vec![limit(5, &[("rule", "r")])]);
    let descriptor = [("rule", "r")];
    assert_eq!(limiter.at(NOW, &descriptor, 6).standing, Standing::Over);
    for left in [1, 3, 5, 5] {
        let verdict = limiter.charge("d", &descriptor, Hits::Return(2), Duration::from_secs(NOW));
        let verdict = verdict.expect("it has a limit");
        assert_eq!((verdict.standing == Standing::Over, verdict.remaining), (false, left));
    }
    assert_eq!(limiter.at(NOW, &descriptor, 5).remaining, 0, "never more than the budget");
}

#[test]
fn periods_begin_at_multiples_of_their_unit() {
    for (unit, reset) in [
        (RateUnit::Second, 1),
        (RateUnit::Minute, 60),
        (RateUnit::Hour, 40 * 60),
        (RateUnit::Day, 13 * HOUR + 40 * 60),
        // 1970 began on a Thursday, and so do weeks.
        (RateUnit::Week, 5 * 24 * HOUR + 13 * HOUR + 40 * 60),
        (RateUnit::Month, 9 * 24 * HOUR + 13 * HOUR + 40 * 60),
        (RateUnit::Year, 74 * 24 * HOUR + 13 * HOUR + 40 * 60),
    ] {
        let mut limiter = limiter(10, vec![Limit { unit, ..limit(1, &[("rule", "r")]) }]);
        let mut at = |now| limiter.at(now, &[("rule", "r")], 1);
        assert_eq!(at(NOW).reset, Duration::from_secs(reset), "{unit:?}");
        assert_eq!(at(NOW + reset - 1).standing, Standing::Over, "{unit:?}");
        let next = at(NOW + reset);
        assert_eq!((next.remaining, next.reset.as_secs()), (0, unit.seconds()), "{unit:?}");
        assert_ne!(next.standing, Standing::Over, "{unit:?}");
    }
}

#[test]
fn a_clock_may_be_set() {
    let mut limiter = limiter(2, vec![limit(1, &[("user", "*")])]);
    let a = [("user", "a")];
    limiter.at(NOW, &a, 1);
    assert_eq!(limiter.at(NOW - 15 * 60, &a, 1).standing, Standing::Over, "the same period");
    let past = limiter.at(NOW - 2 * HOUR, &a, 1);
    assert_eq!((past.standing, past.reset), (Standing::Near, Duration::from_secs(40 * 60)), "another one");
    limiter.at(NOW + 1000 * HOUR, &[("user", "b")], 1);
    limiter.at(NOW + 1000 * HOUR, &[("user", "c")], 1);
    assert!(limiter.at(NOW, &[("user", "d")], 1).is_counted, "what was counted in the future makes room");
    limiter.at(u64::MAX, &a, 1);
}

#[test]
fn a_descriptor_belongs_to_the_limit_that_names_most_of_it() {
    let everywhere = Limit { domain: None, ..limit(1, &[("shared", "s")]) };
    let limits = vec![
        limit(1, &[("entry", "e"), ("rule", "r")]),
        limit(1, &[("entry", "e"), ("rule", "r"), ("user", "*")]),
        limit(1, &[("entry", "e"), ("rule", "r"), ("user", "root")]),
        limit(1, &[("user", "*"), ("path", "/a")]),
        everywhere,
        limit(9, &[("entry", "e"), ("rule", "r")]),
    ];
    let limiter = limiter(10, limits);
    for (domain, descriptor, want) in [
        ("d", &[("entry", "e"), ("rule", "r")][..], Some(0)),
        ("d", &[("entry", "e"), ("rule", "r"), ("user", "u")], Some(1)),
        ("d", &[("entry", "e"), ("rule", "r"), ("user", "")], Some(1)),
        ("d", &[("entry", "e"), ("rule", "r"), ("user", "root")], Some(2)),
        ("d", &[("entry", "e"), ("rule", "r"), ("group", "u")], None),
        ("d", &[("entry", "e")], None),
        ("d", &[("entry", "f"), ("rule", "r")], None),
        ("d", &[("rule", "r"), ("entry", "e")], None),
        ("d", &[("user", "u"), ("path", "/a")], Some(3)),
        ("d", &[], None),
        ("x", &[("entry", "e"), ("rule", "r")], None),
        ("d", &[("shared", "s")], Some(4)),
        ("x", &[("shared", "s")], Some(4)),
        ("", &[("shared", "s")], Some(4)),
    ] {
        assert_eq!(limiter.tree.find(domain, descriptor), want, "{domain} {descriptor:?}");
    }
}

#[test]
fn a_limit_of_all_domains_is_shared_by_them() {
    let mut limiter = limiter(10, vec![Limit { domain: None, ..limit(2, &[("rule", "r")]) }]);
    for (domain, want) in [("a", 1), ("b", 0)] {
        let verdict = limiter.charge(domain, &[("rule", "r")], Hits::Take(1), Duration::from_secs(NOW));
        assert_eq!(verdict.expect("it has a limit").remaining, want, "{domain}");
    }
}

#[test]
fn what_was_counted_stays_where_the_rule_stays() {
    let before = [
        limit(10, &[("rule", "same")]),
        limit(10, &[("rule", "more")]),
        limit(10, &[("rule", "unit")]),
        limit(10, &[("rule", "gone"), ("user", "*")]),
    ];
    let mut limiter = limiter(100, before.to_vec());
    for name in ["same", "more", "unit"] {
        limiter.at(NOW, &[("rule", name)], 4);
    }
    limiter.at(NOW, &[("rule", "gone"), ("user", "u")], 4);
    let after = vec![
        limit(10, &[("rule", "new")]),
        Limit { unit: RateUnit::Day, ..limit(10, &[("rule", "unit")]) },
        Limit { is_shadow: true, ..limit(20, &[("rule", "more")]) },
        limit(10, &[("rule", "same")]),
    ];
    limiter.set(Arc::from(after));
    assert_eq!(limiter.n_counters(), 2);
    for (name, left) in [("same", 6), ("more", 16), ("unit", 10), ("new", 10)] {
        assert_eq!(limiter.at(NOW, &[("rule", name)], 0).remaining, left, "{name}");
    }
    limiter.set(Arc::from(before.to_vec()));
    assert_eq!(limiter.at(NOW, &[("rule", "gone"), ("user", "u")], 0).remaining, 10, "it was forgotten");
}

#[test]
fn memory_is_bounded_and_expired_counters_make_room() {
    let limits = vec![
        limit(2, &[("rule", "each"), ("user", "*")]),
        limit(2, &[("rule", "all")]),
        limit(0, &[("rule", "none"), ("user", "*")]),
    ];
    let mut limiter = limiter(3, limits);
    let user = |user| [("rule", "each"), ("user", user)];
    limiter.at(NOW, &user("looks"), 0);
    assert_eq!(limiter.n_counters(), 0, "to look takes no room");
    for name in ["a", "b", "c"] {
        assert!(limiter.at(NOW, &user(name), 2).is_counted, "{name}");
    }
    for (descriptor, is_counted, standing) in [
        (&user("d")[..], false, Standing::Near),
        (&user("d"), false, Standing::Near),
        (&user("a"), true, Standing::Over),
        (&[("rule", "all")], true, Standing::Within),
        (&[("rule", "none"), ("user", "d")], false, Standing::Over),
    ] {
        let hits = if standing == Standing::Near { 2 } else { 1 };
        let verdict = limiter.at(NOW, descriptor, hits);
        assert_eq!((verdict.is_counted, verdict.standing), (is_counted, standing), "{descriptor:?}");
    }
    assert_eq!(limiter.n_counters(), 4, "a fixed one comes on top");
    assert!(limiter.at(NOW + HOUR, &user("e"), 1).is_counted);
    assert_eq!(limiter.n_counters(), 1);
}

proptest! {
    /// Whatever comes in which order: in one period a value gets its budget in requests of 1, and not one more.
    #[test]
    fn nobody_gets_more_than_the_budget(
        budget in 0_u32..20,
        calls in proptest::collection::vec((0_u64..3 * 60, 0_usize..3, 0_u64..2), 0..200),
        max_counters in 3_usize..10,
    ) {
        let limit = Limit { unit: RateUnit::Minute, ..limit(budget, &[("user", "*")]) };
        let mut limiter = limiter(max_counters, vec![limit]);
        let mut calls = calls;
        calls.sort_by_key(|(at, ..)| *at);
        let mut admitted = HashMap::new();
        for (at, user, hits) in calls {
            let verdict = limiter.at(at, &[("user", ["a", "b", "c"][user])], hits);
            let admitted: &mut u32 = admitted.entry((at / 60, user)).or_default();
            prop_assert_eq!(verdict.standing == Standing::Over, *admitted == budget);
            if hits == 1 && verdict.standing != Standing::Over {
                *admitted += 1;
            }
            prop_assert_eq!(verdict.remaining, budget - *admitted);
            prop_assert!(limiter.n_counters() <= max_counters);
        }
    }

    #[test]
    fn no_input_panics(
        domain in ".{0,3}",
        descriptor in proptest::collection::vec((".{0,3}", ".{0,3}"), 0..4),
        hits in any::<u64>(),
        (seconds, nanos, gives) in (any::<u64>(), 0_u32..1_000_000_000, any::<bool>()),
    ) {
        let limits = vec![Limit { domain: None, ..limit(1, &[]) }, limit(1, &[("", "*")])];
        let mut limiter = limiter(1, limits);
        let descriptor: Vec<_> = descriptor.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let hits = if gives { Hits::Return(hits) } else { Hits::Take(hits) };
        limiter.charge(&domain, &descriptor, hits, Duration::new(seconds, nanos));
    }
}

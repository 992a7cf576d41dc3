//! What one candidate does, step by step. That no two lead is in `crowd`.

mod crowd;

use k8s_openapi::jiff;

use super::*;

const ME: &str = "me_1";
const OTHER: &str = "other_2";

fn at(seconds: f64) -> Timestamp {
    Timestamp::after_origin(Duration::from_secs_f64(seconds))
}

/// The time of day as somebody's clock has it.
fn wall(seconds: i64) -> MicroTime {
    MicroTime(jiff::Timestamp::from_second(seconds).unwrap())
}

fn record(holder: &str, renewed: i64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        acquire_time: Some(wall(5)),
        renew_time: Some(wall(renewed)),
        lease_transitions: Some(7),
        ..LeaseSpec::default()
    }
}

/// A candidate whose requests are answered at once, at times that the test says. No jitter.
struct One(Elector);

impl One {
    fn new() -> Self {
        Self(Elector::new(ME.to_owned()))
    }

    /// A candidate that leads since 0 s.
    fn leader() -> Self {
        let mut one = Self::new();
        one.reads(0.0, None);
        assert!(matches!(one.step(0.0), Step::Create(_)));
        one.hears(0.0, Answer::Written(record(ME, 0)));
        assert!(one.leads(0.0));
        one
    }

    fn step(&mut self, now: f64) -> Step {
        self.0.next(at(now), &wall(100))
    }

    fn hears(&mut self, now: f64, answer: Answer) {
        self.0.heard(answer, at(now), at(now), 0.0);
    }

    #[track_caller]
    fn reads(&mut self, now: f64, lease: Option<LeaseSpec>) {
        assert_eq!(self.step(now), Step::Read);
        self.hears(now, Answer::Read(lease));
    }

    fn leads(&self, now: f64) -> bool {
        self.0.leads(at(now))
    }
}

#[test]
fn a_record_that_is_free_is_claimed_and_any_other_is_not() {
    let empty = LeaseSpec::default();
    let without_holder = LeaseSpec { holder_identity: None, ..record(OTHER, 1) };
    let before = Some(wall(5));
    let now = Some(wall(100));
    for (name, lease, claimed) in [
        ("none", None, Some((true, now.clone(), 0))),
        ("no record", Some(empty), Some((false, now.clone(), 1))),
        ("released", Some(record("", 1)), Some((false, now.clone(), 8))),
        ("no holder", Some(without_holder), Some((false, now, 8))),
        ("mine, from before", Some(record(ME, 1)), Some((false, before, 7))),
        ("another's", Some(record(OTHER, 1)), None),
        ("another's whose clock is far behind", Some(record(OTHER, -1_000_000)), None),
    ] {
        let mut one = One::new();
        one.reads(1.0, lease);
        let (create, spec) = match one.step(1.0) {
            Step::Create(spec) => (true, spec),
            Step::Write(spec) => (false, spec),
            other => {
                assert_eq!(claimed, None, "{name}: {other:?}");
                assert_eq!(other, Step::Wait(at(3.0)), "{name}");
                continue;
            }
        };
        assert_eq!(claimed, Some((create, spec.acquire_time, spec.lease_transitions.unwrap())), "{name}");
        assert_eq!(spec.holder_identity.as_deref(), Some(ME), "{name}");
        assert_eq!((spec.lease_duration_seconds, spec.renew_time), (Some(15), Some(wall(100))), "{name}");
        assert!(!one.leads(1.0), "{name}: not before it is written");
    }
}

#[test]
fn a_lease_is_over_when_its_record_has_not_changed_for_as_long_as_it_says() {
    for (name, seconds, over) in [
        ("as usual", Some(15), 15.0),
        ("as its holder has it", Some(40), 40.0),
        ("nothing said", None, 15.0),
        ("nonsense", Some(0), 15.0),
        ("nonsense", Some(-3), 15.0),
    ] {
        let lease = |renewed| LeaseSpec { lease_duration_seconds: seconds, ..record(OTHER, renewed) };
        let mut one = One::new();
        one.reads(0.0, Some(lease(1)));
        // Then its holder renews it, by a clock that runs backwards.
        one.reads(3.0, Some(lease(0)));
        let mut now = 3.0;
        loop {
            let Step::Wait(until) = one.step(now) else { panic!("{name}: nothing to wait for at {now}") };
            assert!(until > at(now), "{name}");
            now = Duration::from_nanos(until.0).as_secs_f64();
            one.reads(now, Some(lease(0)));
            if matches!(one.step(now), Step::Write(_)) {
                break;
            }
        }
        assert!((now - 3.0 - over).abs() < 1e-6, "{name}: {now}");
    }
}

#[test]
fn what_is_no_part_of_the_record_is_kept() {
    let mut one = One::new();
    let lease = LeaseSpec { preferred_holder: Some("x".to_owned()), ..record("", 1) };
    one.reads(0.0, Some(lease));
    let Step::Write(spec) = one.step(0.0) else { panic!("it is free") };
    assert_eq!(spec.preferred_holder.as_deref(), Some("x"));
}

#[test]
fn a_leader_renews_without_reading_and_leads_from_when_it_asked() {
    let mut one = One::leader();
    for renewals in 1..20 {
        let now = f64::from(renewals) * 2.0;
        assert_eq!(one.step(now - 0.5), Step::Wait(at(now)));
        let Step::Write(spec) = one.step(now) else { panic!("it renews") };
        assert_eq!((spec.acquire_time, spec.lease_transitions), (Some(wall(5)), Some(7)));
        one.0.heard(Answer::Written(record(ME, renewals.into())), at(now), at(now + 0.9), 0.99);
        assert!(one.leads(now + 9.9) && !one.leads(now + 10.0), "from when it asked");
    }
}

#[test]
fn a_leader_whose_renewals_fail_goes_on_to_try_leads_to_the_end_of_its_term_and_returns() {
    let mut one = One::leader();
    // Late, as on a busy machine.
    assert!(matches!(one.step(2.5), Step::Write(_)));
    one.hears(2.9, Answer::Failed);
    for (waits, asks) in [(3.0, 4.5), (5.0, 6.5), (7.0, 8.5)] {
        assert_eq!(one.step(waits), Step::Wait(at(asks)));
        assert_eq!(one.step(asks), Step::Read, "it does not know whether the renewal got through");
        one.hears(asks, Answer::Failed);
    }
    assert_eq!(one.step(9.5), Step::Wait(at(10.0)), "the end of the term is told in time");
    assert!(one.leads(9.9) && !one.leads(10.0));
    assert_eq!(one.step(10.0), Step::Wait(at(10.5)));
    one.reads(10.5, Some(record(ME, 0)));
    let Step::Write(spec) = one.step(10.5) else { panic!("nobody took it") };
    assert_eq!(
        (spec.acquire_time, spec.lease_transitions),
        (Some(wall(5)), Some(7)),
        "its holder never changed"
    );
    one.hears(11.1, Answer::Written(record(ME, 11)));
    assert!(one.leads(11.1));
}

#[test]
fn a_leader_that_sees_another_holder_does_not_lead_any_more() {
    let mut one = One::leader();
    assert!(matches!(one.step(2.0), Step::Write(_)));
    one.hears(2.0, Answer::Conflict);
    assert!(one.leads(2.0), "somebody may have written a label");
    one.reads(2.0, Some(record(OTHER, 2)));
    assert!(!one.leads(2.0));
    assert_eq!(one.0.other_holder(), Some(OTHER));
    assert_eq!(one.step(2.0), Step::Wait(at(4.0)));
}

#[test]
fn a_leader_of_whose_lease_something_else_changed_renews_at_once() {
    let mut one = One::leader();
    assert!(matches!(one.step(2.0), Step::Write(_)));
    one.hears(2.0, Answer::Conflict);
    one.reads(2.0, Some(record(ME, 0)));
    assert!(matches!(one.step(2.0), Step::Write(_)));
    one.hears(2.0, Answer::Conflict);
    assert_eq!(one.step(2.0), Step::Wait(at(4.0)), "a lease that changes all the time does not keep it busy");
    assert!(one.leads(2.0));
}

#[test]
fn whoever_was_slower_waits() {
    for lease in [None, Some(record("", 1))] {
        let mut one = One::new();
        one.reads(0.0, lease);
        assert!(matches!(one.step(0.0), Step::Create(_) | Step::Write(_)));
        one.0.heard(Answer::Conflict, at(0.0), at(0.1), 0.5);
        assert!(!one.leads(0.1));
        assert_eq!(one.step(0.1), Step::Wait(at(2.5)), "with half of the jitter");
        one.reads(2.5, Some(record(OTHER, 1)));
        assert!(matches!(one.step(2.5), Step::Wait(_)));
    }
}

#[test]
fn a_lease_that_is_deleted_is_still_its_holders_for_its_time() {
    let mut one = One::new();
    one.reads(0.0, Some(record(OTHER, 1)));
    one.reads(2.0, None);
    assert_eq!(one.step(2.0), Step::Wait(at(4.0)));
    one.reads(15.0, None);
    assert!(matches!(one.step(15.0), Step::Create(_)));

    let mut leader = One::leader();
    assert!(matches!(leader.step(2.0), Step::Write(_)));
    leader.hears(2.0, Answer::Conflict);
    leader.reads(2.0, None);
    assert!(matches!(leader.step(2.0), Step::Create(_)), "its holder puts it back");
    assert!(leader.leads(2.0));
}

#[test]
fn a_request_is_waited_for_no_longer_than_it_may_help() {
    let one = One::new();
    assert_eq!(one.0.patience(at(5.0)), at(8.0));
    let leader = One::leader();
    for (now, until) in [(2.0, 5.0), (8.0, 10.0), (10.0, 13.0)] {
        assert_eq!(leader.0.patience(at(now)), at(until), "{now}");
    }
}

#[test]
fn only_its_holder_releases_a_lease() {
    let mut one = One::leader();
    let spec = one.0.released(&record(ME, 3), &wall(100)).unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some(""));
    assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(1), Some(7)));
    assert_eq!((spec.acquire_time, spec.renew_time), (Some(wall(100)), Some(wall(100))));
    for lease in [LeaseSpec::default(), record("", 1), record(OTHER, 1)] {
        assert_eq!(one.0.released(&lease, &wall(100)), None, "{lease:?}");
    }
    one.0.resign();
    assert!(!one.leads(0.0));
}

//! The scheduler over fake filters and scorers, with the built-in picker and profile handler.

mod fakes;
mod splits;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use epp_framework::endpoint::{Freshness, Load};
use epp_framework::parameters::ParameterValue;
use smallvec::smallvec;

use super::*;
use crate::recorder::MAX_CANDIDATES;
use fakes::{Asking, By, Counted, Keep, Recalls, Rig, endpoint, given, max_score_picker, profile, scheduler};

/// Name, weight and raw scores of each scorer (`None` is left untouched), totals.
type Weighing<'a> = (&'a str, &'a [(f64, &'a [Option<f64>])], &'a [f64]);

#[test]
fn scores_are_clamped_weighted_and_summed() {
    let cases: &[Weighing<'_>] = &[
        ("F1", &[(2.0, &[Some(-1.0), Some(2.0), Some(0.5)])], &[0.0, 2.0, 1.0]),
        ("F2", &[(1.0, &[Some(0.3)]), (2.0, &[Some(0.8)])], &[1.9]),
        ("F3", &[(1.0, &[Some(0.25), Some(0.5)]), (1.0, &[Some(0.5), None])], &[0.75, 0.5]),
        ("F3: none at all", &[(1.0, &[None, None])], &[0.0, 0.0]),
        ("NaN counts 0", &[(3.0, &[Some(f64::NAN), Some(0.5)])], &[0.0, 1.5]),
        ("infinities", &[(1.0, &[Some(f64::INFINITY), Some(f64::NEG_INFINITY)])], &[1.0, 0.0]),
        ("weights of 0 and less", &[(0.0, &[Some(1.0)]), (-2.0, &[Some(0.5)])], &[-1.0]),
    ];
    for &(name, scorers, want) in cases {
        let mut rig = Rig::new(want.len());
        // What an earlier decision left in the scratch space must not show.
        rig.decide(&scheduler([profile([], [(1.0, given(&[Some(1.0); 3])), (1.0, given(&[Some(1.0); 3]))])]))
            .expect("nobody is filtered");
        let scorers = scorers.iter().map(|&(weight, scores)| (weight, given(scores)));
        rig.decide(&scheduler([profile([], scorers)])).expect("nobody is filtered");
        let record = rig.record();
        let mut totals = vec![f64::NAN; want.len()];
        for candidate in &record.profiles[0].candidates {
            totals[candidate.endpoint.id.slot as usize] = candidate.total;
        }
        let close = totals.iter().zip(want).all(|(total, want)| (total - want).abs() < 1e-12);
        assert!(close, "{name}: {totals:?}");
    }
}

#[test]
fn f4_a_drained_profile_runs_no_scorer_and_is_unschedulable() {
    let mut rig = Rig::new(3);
    let runs = Arc::new(AtomicU32::new(0));
    let counted = || Arc::new(Counted(runs.clone()));
    let profile = profile([Arc::new(Keep(&[])), counted()], [(1.0, counted() as _)]);
    let mut scheduler = scheduler([profile]);
    scheduler.commits.push(counted());
    let drained = Unschedulable::Drained { profile: "profile-0".into() };
    assert_eq!(rig.decide(&scheduler).unwrap_err(), NoDecision::Unschedulable(drained), "F4");
    assert_eq!(runs.load(Relaxed), 0, "F4: neither the next filter, nor a scorer, nor a commit ran");
    let record = rig.record();
    assert_eq!((record.n_eligible, record.picked.len()), (3, 0));
    assert_eq!((record.profiles[0].dropped, record.profiles[0].candidates.len()), (3, 0));
    assert_eq!(rig.in_flight(), [0, 0, 0]);
}

#[test]
fn f5_nobody_to_choose_from_is_told_apart_from_nobody_left() {
    let nobody = Subset::only(["10.1.1.1"].into_iter());
    for (name, n_endpoints, subset) in
        [("F5: empty pool", 0, Subset::Any), ("F5: the subset names nobody", 2, nobody)]
    {
        let mut rig = Rig::new(n_endpoints);
        rig.subset = subset;
        let scheduler = scheduler([profile([], [])]);
        assert_eq!(rig.decide(&scheduler).unwrap_err(), NoDecision::NoCandidates, "{name}");
        let record = rig.record();
        assert_eq!((record.n_endpoints, record.n_eligible, record.profiles.len()), (n_endpoints, 0, 0));
    }
}

#[test]
fn f6_filters_intersect() {
    let mut rig = Rig::new(4);
    let scheduler = scheduler([profile([Arc::new(Keep(&[1, 2])), Arc::new(Keep(&[2, 3]))], [])]);
    let (decision, _reservations) = rig.decide(&scheduler).expect("one is left");
    assert_eq!(decision.targets.as_slice(), [2], "F6");
    assert_eq!(rig.record().profiles[0].dropped, 3, "F6");
}

/// Name, freshness of each endpoint, subset hint, and who is eligible for what.
type Standing<'a> = (&'a str, &'a [Freshness], &'a [&'a str], Eligibility, &'a [u32]);

#[test]
fn the_best_freshness_there_is_is_eligible() {
    use Eligibility as E;
    use Freshness::{Fresh, NeverScraped as Never, NoMetrics};
    let stale = Freshness::Stale;
    let cases: [Standing<'_>; 14] = [
        ("fresh over all", &[stale, Fresh, Never, Fresh], &[], E::Fresh, &[1, 3]),
        ("no metrics with fresh", &[NoMetrics, Fresh, stale], &[], E::Fresh, &[0, 1]),
        ("no metrics over stale", &[stale, NoMetrics, Never], &[], E::Fresh, &[1]),
        ("stale over never scraped", &[Never, stale, stale], &[], E::Stale, &[1, 2]),
        ("never scraped", &[Never, Never], &[], E::NeverScraped, &[0, 1]),
        ("no endpoint", &[], &[], E::Fresh, &[]),
        ("subset by address", &[Fresh, Fresh], &["10.0.0.2"], E::Fresh, &[1]),
        ("subset by port", &[Fresh, Fresh], &["10.0.0.2:8000"], E::Fresh, &[1]),
        ("a port nobody has", &[Fresh, Fresh], &["10.0.0.2:8000", "10.0.0.1:9"], E::Fresh, &[0, 1]),
        ("by address alone where no port fits", &[Fresh, Fresh], &["10.0.0.2:9"], E::Fresh, &[1]),
        ("subset over freshness", &[Fresh, stale], &["10.0.0.2:8000"], E::Stale, &[1]),
        ("freshness over ports", &[stale, Fresh], &["10.0.0.1:8000", "10.0.0.2:9"], E::Fresh, &[1]),
        ("freshness within a subset", &[stale, Fresh, Fresh], &["10.0.0.1", "10.0.0.3"], E::Fresh, &[2]),
        ("a subset of strangers", &[Fresh], &["10.0.1.1"], E::Fresh, &[]),
    ];
    for (name, states, hint, tier, want) in cases {
        let pool = Snapshot { endpoints: (0..).zip(states).map(|(slot, _)| endpoint(slot)).collect() };
        let load = |&freshness| Load { freshness, ..Load::default() };
        let views = pool.endpoints.iter().zip(states.iter().map(load));
        let views = views.map(|(endpoint, load)| EndpointView::new(endpoint.clone(), load)).collect();
        let all_fresh = states.iter().all(|state| matches!(state, Fresh | NoMetrics));
        let views = Views::of(views);
        assert_eq!(views.all_fresh(), all_fresh, "{name}");
        let subset = if hint.is_empty() { Subset::Any } else { Subset::only(hint.iter().copied()) };
        let mut found = vec![77];
        let best = eligible(&views, &subset.resolve(&pool), &mut found);
        assert_eq!((best, &*found), (tier, want), "{name}");
    }
}

#[test]
fn the_record_justifies_the_pick() {
    // Many equals: the pick is then often outside of the best that would be kept anyway.
    let cases: [(&str, usize, By); 4] = [
        ("few", 5, By(|index| f64::from(index * 7 % 5) / 5.0)),
        ("many", 100, By(|index| f64::from(index * 37 % 100) / 100.0)),
        ("many equals", 100, By(|_| 0.5)),
        ("two tiers", 100, By(|index| f64::from(index % 2))),
    ];
    for (name, n_endpoints, by) in cases {
        let scheduler = scheduler([profile([], [(2.0, Arc::new(by) as _), (0.5, given(&[Some(1.0); 5]))])]);
        let mut rig = Rig::new(n_endpoints);
        for _ in 0..20 {
            let (decision, _reservations) = rig.decide(&scheduler).expect("nobody is filtered");
            let record = rig.record();
            let profile = &record.profiles[0];
            assert_eq!(
                profile.outline.scorers,
                [("scorer-0".into(), 2.0), ("scorer-1".into(), 0.5)],
                "{name}"
            );
            let n_kept = profile.candidates.len();
            assert!(n_kept >= n_endpoints.min(MAX_CANDIDATES) && n_kept <= MAX_CANDIDATES + 1, "{name}");
            assert!(profile.candidates.is_sorted_by(|a, b| a.total >= b.total), "{name}: best first");
            for candidate in &profile.candidates {
                let raw = [by.0(candidate.endpoint.id.slot), f64::from(candidate.endpoint.id.slot < 5)];
                assert_eq!(candidate.scores.as_slice(), raw, "{name}");
                assert!((candidate.total - (2.0 * raw[0] + 0.5 * raw[1])).abs() < 1e-12, "{name}");
            }
            let picked: Vec<_> = profile.candidates.iter().filter(|candidate| candidate.picked).collect();
            let [picked] = picked[..] else { panic!("{name}: one is picked") };
            assert_eq!(picked.endpoint.id.slot, decision.targets[0], "{name}");
            assert_eq!(record.picked[0].id, picked.endpoint.id, "{name}");
            let most = profile.candidates[0].total;
            assert!(picked.total >= most, "{name}: {} of {most}", picked.total);
        }
    }
}

#[test]
fn a_reservation_shows_in_the_next_decision_and_is_given_back() {
    let mut rig = Rig::new(2);
    let scheduler = scheduler([profile([], [(1.0, Arc::new(fakes::LeastInFlight) as _)])]);
    let (first, held) = rig.decide(&scheduler).expect("nobody is filtered");
    let (second, also_held) = rig.decide(&scheduler).expect("nobody is filtered");
    assert_ne!(first.targets, second.targets, "the second decision goes where nothing is in flight");
    let record = rig.record();
    for candidate in &record.profiles[0].candidates {
        let want = u32::from(candidate.endpoint.id.slot == first.targets[0]);
        assert_eq!(candidate.load.in_flight, want);
        assert_eq!(candidate.load.since_scrape, want, "no scrape has shown it");
    }
    assert_eq!(rig.in_flight(), [1, 1]);
    drop(held);
    drop(also_held);
    assert_eq!(rig.in_flight(), [0, 0]);
    assert!(rig.loads().iter().all(|load| load.in_flight == Cost::default()), "tokens are given back too");
    rig.decide(&scheduler).expect("nobody is filtered");
    assert_eq!(rig.in_flight(), [0, 0], "a decision that is dropped holds nothing");
}

#[test]
fn commits_see_the_decision_and_its_reservation_before_it_is_answered() {
    let mut rig = Rig::new(3);
    let (one, other) = (Arc::new(Recalls::default()), Arc::new(Recalls::default()));
    let mut scheduler = scheduler([profile([], [(1.0, given(&[Some(0.0), Some(1.0), Some(0.5)]))])]);
    scheduler.commits = vec![one.clone(), other.clone()];
    rig.request.request_id = "r1".into();
    let (decision, _reservations) = rig.decide(&scheduler).expect("nobody is filtered");
    assert_eq!(decision, Decision::of(0, smallvec![1]));
    for commit in [one, other] {
        // Request, profiles that ran, decision, requests in flight there.
        assert_eq!(*commit.0.lock(), [("r1".to_owned(), 1, decision.clone(), 1)]);
    }
}

#[test]
fn a_handler_that_never_stops_asking_is_cut_off() {
    for n_profiles in [1, 2, 5] {
        let mut rig = Rig::new(2);
        let asking = Arc::new(Asking { for_profile: n_profiles - 1, asked: AtomicU32::new(0) });
        let mut scheduler = scheduler((0..n_profiles).map(|_| profile([], [])));
        scheduler.handler = asking.clone();
        rig.decide(&scheduler).expect("nobody is filtered");
        assert_eq!(asking.asked.load(Relaxed) as usize, n_profiles);
        let record = rig.record();
        let last = format!("profile-{}", n_profiles - 1);
        let names: Vec<_> = record.profiles.iter().map(|profile| profile.outline.name.as_str()).collect();
        assert_eq!(names, vec![last; n_profiles]);
    }
}

#[test]
fn a_handler_that_asks_for_nothing_leaves_the_request_unscheduled() {
    let mut rig = Rig::new(2);
    let none = NoDecision::Unschedulable(Unschedulable::NoProfileRun);
    assert_eq!(rig.decide(&scheduler([])).unwrap_err(), none);
    assert_eq!(rig.in_flight(), [0, 0]);
}

#[test]
fn two_endpoints_are_two_targets_of_which_the_first_carries_the_load() {
    let mut rig = Rig::new(4);
    let mut profile =
        profile([Arc::new(Keep(&[0, 1, 3]))], [(1.0, Arc::new(By(|index| f64::from(index) / 4.0)) as _)]);
    profile.picker = max_score_picker(&[("maxNumOfEndpoints", ParameterValue::Integer(2))]);
    let scheduler = scheduler([profile]);
    let (decision, reservations) = rig.decide(&scheduler).expect("three are left");
    assert_eq!(decision.targets.as_slice(), [3, 1], "indices of the pool, best first");
    let record = rig.record();
    assert_eq!(record.picked.iter().map(|endpoint| endpoint.id.slot).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(record.profiles[0].candidates.iter().filter(|candidate| candidate.picked).count(), 2);
    assert_eq!((reservations.len(), rig.in_flight()), (1, vec![0, 0, 0, 1]));
}

/// A filter that takes some time: the clock goes on by as much.
struct Slow(&'static AtomicU64, u64);

impl Filter for Slow {
    fn filter(&self, _cycle: &Cycle<'_>, _candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        self.0.fetch_add(self.1, Relaxed);
    }
}

#[test]
fn a_stopwatch_is_told_of_every_plugin_that_ran_and_what_it_took() {
    static CLOCK: AtomicU64 = AtomicU64::new(0);
    let scorers = [(1.0, given(&[Some(1.0)])), (1.0, given(&[Some(0.5)]))];
    let filters: [Arc<dyn Filter>; 2] = [Arc::new(Slow(&CLOCK, 700)), Arc::new(Keep(&[1, 2]))];
    let mut scheduler = scheduler([profile(filters, scorers)]);
    scheduler.commits = vec![Arc::new(Recalls::default()), Arc::new(Recalls::default())];
    let told = RefCell::new(Vec::new());
    // Each look at the clock takes one nanosecond, so every step takes one, and whatever else its plugin does.
    let now = || Timestamp(CLOCK.fetch_add(1, Relaxed));
    let took = |step, took: Duration| told.borrow_mut().push((step, took.as_nanos()));
    let watch = Stopwatch { now: &now, took: &took };
    Rig::new(3).decide_under(Some(watch), &scheduler).expect("two are left");
    let want = [
        (Step::PickProfiles, 1),
        (Step::Filter { profile: 0, at: 0 }, 701),
        (Step::Filter { profile: 0, at: 1 }, 1),
        (Step::Score { profile: 0, at: 0 }, 1),
        (Step::Score { profile: 0, at: 1 }, 1),
        (Step::Pick { profile: 0 }, 1),
        (Step::ProcessResults, 1),
        (Step::Commit(0), 1),
        (Step::Commit(1), 1),
    ];
    assert_eq!(*told.borrow(), want);
}

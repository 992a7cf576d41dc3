//! Requests whose work is split: who carries which load for how long, and who learns of it.

use epp_framework::scheduling::{Companion, ProfileHandler, Role};

use super::*;

/// Runs all profiles, each picker knowing whom the first one picked: that one answers, the second profile's computes
/// the prompt, the third's encode.
struct Splits;

impl ProfileHandler for Splits {
    fn needs(&self, _profiles: &[String], profile: usize) -> bool {
        profile == 0
    }

    fn next(&self, cycle: &Cycle<'_>) -> SmallVec<[usize; 2]> {
        Some(cycle.runs.len()).filter(|&next| next < cycle.profiles.len()).into_iter().collect()
    }

    fn peer(&self, cycle: &Cycle<'_>, next: usize) -> Option<u32> {
        assert_eq!(cycle.profiles[next], format!("profile-{next}"));
        cycle.runs.first()?.first()
    }

    fn decide(&self, cycle: &Cycle<'_>) -> Result<Decision, Unschedulable> {
        let mut decision = Decision::of(0, cycle.runs[0].picks.clone().ok_or(Unschedulable::NoDecoder)?);
        for (profile, role) in [(1, Role::Prefill), (2, Role::Encode)] {
            let picks = cycle.runs.get(profile).and_then(|run| run.picks.clone());
            decision.companions.extend(picks.map(|targets| Companion { role, profile, targets }));
        }
        Ok(decision)
    }
}

/// Keeps everybody but the peer, who must be there from the second profile on.
struct NotThePeer;

impl Filter for NotThePeer {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        assert_eq!(cycle.peer, cycle.runs.first().and_then(ProfileRun::first));
        candidates.retain(|candidate| Some(candidate.index) != cycle.peer);
    }
}

/// The decode worker is 0; prefill workers are 1 and 2, encode workers 3 and 4.
fn splitting(prefill: bool, encode: bool) -> Scheduler {
    let mut profiles = vec![profile([Arc::new(Keep(&[0]))], [])];
    for (wanted, kept) in [(prefill, &[0, 1, 2][..]), (encode, &[3, 4])] {
        let kept: &'static [u32] = if wanted { kept } else { &[] };
        let by_index = By(|index| 1.0 - f64::from(index) / 8.0);
        let mut profile =
            profile([Arc::new(Keep(kept)) as _, Arc::new(NotThePeer)], [(1.0, Arc::new(by_index) as _)]);
        profile.picker = max_score_picker(&[("maxNumOfEndpoints", ParameterValue::Integer(2))]);
        profiles.push(profile);
    }
    let mut scheduler = scheduler(profiles);
    scheduler.handler = Arc::new(Splits);
    scheduler
}

fn cost(requests: u32, prompt_tokens: u64, output_tokens: u64) -> Cost {
    Cost { requests, prompt_tokens, output_tokens }
}

#[test]
fn each_worker_carries_its_part_and_companions_until_the_first_token() {
    let (none, encoder) = (Cost::default(), cost(1, 0, 0));
    let (whole, decoder, prefiller) = (cost(1, 100, 10), cost(1, 0, 10), cost(1, 100, 0));
    for (name, prefill, encode, want, later) in [
        ("decode only", false, false, [whole, none, none, none, none], decoder),
        ("prefill", true, false, [decoder, prefiller, none, none, none], decoder),
        ("encode", false, true, [whole, none, none, encoder, encoder], decoder),
        ("both", true, true, [decoder, prefiller, none, encoder, encoder], decoder),
    ] {
        let mut rig = Rig::new(5);
        let in_flight = |rig: &Rig| rig.loads().iter().map(|load| load.in_flight).collect::<Vec<_>>();
        let (_, mut reservations) = rig.decide(&splitting(prefill, encode)).expect(name);
        assert_eq!(in_flight(&rig), want, "{name}");
        reservations.iter_mut().for_each(Reservation::first_token);
        assert_eq!(in_flight(&rig), [later, none, none, none, none], "{name}: the answer began");
        drop(reservations);
        assert_eq!(in_flight(&rig), [none; 5], "{name}: it ended");
        drop(rig.decide(&splitting(prefill, encode)));
        assert_eq!(in_flight(&rig), [none; 5], "{name}: it never began");
    }
}

#[test]
fn the_record_and_the_commits_have_every_companion() {
    let mut rig = Rig::new(5);
    let recalls = Arc::new(Recalls::default());
    let mut scheduler = splitting(true, true);
    scheduler.commits = vec![recalls.clone()];
    let (decision, _reservations) = rig.decide(&scheduler).expect("everybody is there");
    assert_eq!(decision.companion(Role::Prefill).map(|of| of.targets.as_slice()), Some(&[1, 2][..]));
    assert_eq!(decision.companion(Role::Encode).map(|of| of.targets.as_slice()), Some(&[3, 4][..]));
    assert_eq!(recalls.0.lock()[0].2, decision);
    let record = rig.record();
    let names: Vec<_> = record.profiles.iter().map(|profile| profile.outline.name.as_str()).collect();
    assert_eq!(names, ["profile-0", "profile-1", "profile-2"]);
    let companions: Vec<_> = record.companions.iter().map(|(role, of)| (*role, of.id.slot)).collect();
    let (prefill, encode) = (Role::Prefill, Role::Encode);
    assert_eq!(companions, [(prefill, 1), (prefill, 2), (encode, 3), (encode, 4)]);
    rig.decide(&splitting(false, false)).expect("the decode worker is there");
    assert!(rig.record().companions.is_empty(), "those of an older record are gone");
}

/// One kind of worker may be stale while the others are fresh.
#[test]
fn who_must_be_there_may_be_stale() {
    let no_decoder = || Err(NoDecision::Unschedulable(Unschedulable::NoDecoder));
    for (name, stale, handler, want) in [
        ("all fresh", &[][..], true, Ok(2)),
        ("the decode worker", &[0], true, Ok(2)),
        ("the decode worker, which is not needed", &[0], false, no_decoder()),
        ("prefill workers do without", &[1, 2], true, Ok(1)),
        ("all", &[0, 1, 2, 3, 4], true, Ok(2)),
    ] {
        let mut rig = Rig::new(5);
        rig.fail(stale);
        let mut scheduler = splitting(true, true);
        if !handler {
            scheduler.handler = Arc::new(Indifferent);
        }
        let companions = rig.decide(&scheduler).map(|(decision, _)| {
            assert_eq!(decision.targets.as_slice(), [0], "{name}");
            decision.companions.len()
        });
        assert_eq!(companions, want, "{name}");
    }
}

/// Admitters judge the pool as a whole, whatever is known of its endpoints.
#[test]
fn admitters_see_all_that_the_subset_allows() {
    let rig = Rig::new(5);
    rig.fail(&[1, 2]);
    assert_eq!(rig.shown(&splitting(true, true), &Subset::Any), [0, 1, 2, 3, 4]);
    assert_eq!(rig.shown(&splitting(true, true), &Subset::only(std::iter::empty::<&str>())), [] as [u32; 0]);
}

/// The same handler, which says of no profile that it must pick.
struct Indifferent;

impl ProfileHandler for Indifferent {
    fn next(&self, cycle: &Cycle<'_>) -> SmallVec<[usize; 2]> {
        Splits.next(cycle)
    }

    fn peer(&self, cycle: &Cycle<'_>, next: usize) -> Option<u32> {
        Splits.peer(cycle, next)
    }

    fn decide(&self, cycle: &Cycle<'_>) -> Result<Decision, Unschedulable> {
        Splits.decide(cycle)
    }
}

//! `single-profile-handler`: runs the one profile there is, and its picks are the decision.
//!
//! Like Gateway API Inference Extension v1.0.1 it runs every profile it is given, and refuses the result unless there
//! is exactly one.

use std::sync::Arc;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Decision, ProfileHandler, Unschedulable};
use smallvec::SmallVec;

/// `single-profile-handler`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "single-profile-handler",
    summary: "Runs the one profile there is, and takes its picks.",
    kinds: &[Kind::ProfileHandler],
    judge_profiles: exactly_one,
    build,
    releases: releases::ALL,
    ..PluginType::PLAIN
};

/// Says what is wrong with profiles of which there must be exactly one.
pub(super) fn exactly_one(_parameters: &Parameters, profiles: &[&str]) -> Vec<String> {
    let n = profiles.len();
    (n != 1).then(|| format!("takes exactly one profile, found {n}")).into_iter().collect()
}

fn build(_parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    Plugin { profile_handler: Some(Arc::new(SingleProfileHandler)), ..Plugin::default() }
}

/// Handles the one profile there is.
pub(super) struct SingleProfileHandler;

impl ProfileHandler for SingleProfileHandler {
    fn next(&self, cycle: &Cycle<'_>) -> SmallVec<[usize; 2]> {
        let ran = |profile: &usize| cycle.runs.iter().any(|run| run.profile == *profile);
        (0..cycle.profiles.len()).filter(|profile| !ran(profile)).collect()
    }

    fn decide(&self, cycle: &Cycle<'_>) -> Result<Decision, Unschedulable> {
        let run = match cycle.runs.as_slice() {
            [] => return Err(Unschedulable::NoProfileRun),
            [run] => run,
            runs => return Err(Unschedulable::NotSingle { ran: runs.len() }),
        };
        match &run.picks {
            Some(picks) if !picks.is_empty() => Ok(Decision::of(run.profile, picks.clone())),
            _ => Err(Unschedulable::Drained {
                profile: cycle.profiles.get(run.profile).cloned().unwrap_or_default(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;
    use epp_framework::scheduling::{Picks, ProfileRun, ProfileRuns};
    use smallvec::smallvec;

    use super::*;
    use crate::testing::Pool;

    fn run(profile: usize, picks: Option<Picks>) -> ProfileRun {
        ProfileRun { profile, picks }
    }

    #[test]
    fn exactly_one_successful_profile_makes_a_decision() {
        let drained = || Err(Unschedulable::Drained { profile: "default".into() });
        let cases: [(&str, ProfileRuns, Result<Decision, Unschedulable>); 5] = [
            ("one", smallvec![run(0, Some(smallvec![2, 0]))], Ok(Decision::of(0, smallvec![2, 0]))),
            ("SP1", smallvec![run(0, None)], drained()),
            ("nothing picked", smallvec![run(0, Some(Picks::new()))], drained()),
            (
                "SP2",
                smallvec![run(0, Some(smallvec![0])), run(1, Some(smallvec![1]))],
                Err(Unschedulable::NotSingle { ran: 2 }),
            ),
            ("none", smallvec![], Err(Unschedulable::NoProfileRun)),
        ];
        let mut pool = Pool::new([Load::default(); 3]);
        pool.profiles = vec!["default".into(), "other".into()];
        for (name, runs, want) in cases {
            pool.runs = runs;
            assert_eq!(SingleProfileHandler.decide(&pool.cycle()), want, "{name}");
        }
    }

    #[test]
    fn profiles_run_until_each_has() {
        let mut pool = Pool::new([]);
        pool.profiles = vec!["a".to_owned(), "b".to_owned()];
        let cases: [(ProfileRuns, &[usize]); 3] = [
            (smallvec![], &[0, 1]),
            (smallvec![run(1, None)], &[0]),
            (smallvec![run(0, None), run(1, None)], &[]),
        ];
        for (runs, want) in cases {
            pool.runs = runs;
            assert_eq!(SingleProfileHandler.next(&pool.cycle()).as_slice(), want);
        }
    }
}

//! A request's work in stages, each on another endpoint: [`Stages`], which `disagg-profile-handler` and
//! `pd-profile-handler` build.
//!
//! The decode worker answers; a prefill worker computes the prompt for it, encode workers its media. Who they are is
//! said by headers, which the decode worker's side reads: the gateway asks nobody else.

use std::sync::Arc;

use epp_framework::scheduling::{
    Companion, Cycle, Decider, Decision, Picks, ProfileHandler, ProfileRun, Role, Unschedulable,
};
use smallvec::SmallVec;

use super::data_parallel;

/// Header that names the prefill worker, `ip:port`.
const PREFILLER: &str = "x-prefiller-host-port";

/// Header that names the encode workers, `ip:port` between commas.
const ENCODERS: &str = "x-encoder-hosts-ports";

/// In which order the stages pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The decode worker; then those who work for it, if their deciders say so.
    DecodeFirst,
    /// The prefill worker always; then encode workers, if their decider says so; then the decode worker.
    PrefillFirst,
}

/// Which profile picks for which stage.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) decode: String,
    pub(super) prefill: String,
    pub(super) encode: String,
}

/// A handler of profiles that are stages.
pub(super) struct Stages {
    pub(super) order: Order,
    pub(super) names: Names,
    /// Says whether there is a prefill worker; nobody does where it picks first, or where there never is one.
    pub(super) prefill: Option<Arc<dyn Decider>>,
    /// Says whether there are encode workers.
    pub(super) encode: Option<Arc<dyn Decider>>,
    /// Port that the gateway is told, whatever rank the decode worker is.
    pub(super) primary_port: Option<u16>,
}

/// Position of the profile `name`.
fn find(cycle: &Cycle<'_>, name: &str) -> Option<usize> {
    cycle.profiles.iter().position(|profile| profile == name)
}

/// What became of the profile at `position`.
fn run<'a>(cycle: &Cycle<'a>, position: usize) -> Option<&'a ProfileRun> {
    cycle.runs.iter().find(|run| run.profile == position)
}

impl Stages {
    fn name(&self, role: Role) -> &str {
        match role {
            Role::Prefill => &self.names.prefill,
            Role::Encode => &self.names.encode,
        }
    }

    /// The profile of a stage that is to run now, if it is there, has not run, and its decider wants it.
    fn wanted(&self, role: Role, decoder: Option<u32>, cycle: &Cycle<'_>) -> Option<usize> {
        let position = find(cycle, self.name(role)).filter(|&position| run(cycle, position).is_none())?;
        let says = match role {
            Role::Prefill => self.prefill.as_ref(),
            Role::Encode => self.encode.as_ref(),
        };
        says?.decide(cycle, decoder).then_some(position)
    }

    fn next_stage(&self, cycle: &Cycle<'_>) -> Option<usize> {
        let decode = find(cycle, &self.names.decode)?;
        match (self.order, run(cycle, decode)) {
            (Order::DecodeFirst, None) => Some(decode),
            (Order::DecodeFirst, Some(run)) => {
                // Without a decode worker there is nobody to work for.
                let decoder = Some(run.first()?);
                self.wanted(Role::Encode, decoder, cycle)
                    .or_else(|| self.wanted(Role::Prefill, decoder, cycle))
            }
            (Order::PrefillFirst, None) => {
                let prefill = find(cycle, &self.names.prefill);
                let prefill = prefill.filter(|&position| run(cycle, position).is_none());
                prefill.or_else(|| self.wanted(Role::Encode, None, cycle)).or(Some(decode))
            }
            (Order::PrefillFirst, Some(_)) => None,
        }
    }
}

impl ProfileHandler for Stages {
    fn next(&self, cycle: &Cycle<'_>) -> SmallVec<[usize; 2]> {
        self.next_stage(cycle).into_iter().collect()
    }

    /// Prefill and decode worker know of each other; encode workers serve either.
    fn peer(&self, cycle: &Cycle<'_>, next: usize) -> Option<u32> {
        let (picks, peer) = match self.order {
            Order::DecodeFirst => (&self.names.prefill, &self.names.decode),
            Order::PrefillFirst => (&self.names.decode, &self.names.prefill),
        };
        let asks = cycle.profiles.get(next).is_some_and(|name| name == picks);
        find(cycle, peer).filter(|_| asks).and_then(|position| run(cycle, position)?.first())
    }

    fn needs(&self, profiles: &[String], profile: usize) -> bool {
        profiles.get(profile).is_some_and(|name| *name == self.names.decode)
    }

    fn splits(&self) -> bool {
        true
    }

    fn decide(&self, cycle: &Cycle<'_>) -> Result<Decision, Unschedulable> {
        if cycle.runs.is_empty() {
            return Err(Unschedulable::NoProfileRun);
        }
        let picks = |position: usize| run(cycle, position)?.picks.clone().filter(|picks| !picks.is_empty());
        let decode = find(cycle, &self.names.decode);
        let (decode, targets) =
            decode.and_then(|position| Some((position, picks(position)?))).ok_or(Unschedulable::NoDecoder)?;
        let mut decision = Decision::of(decode, targets);
        for role in Role::ALL {
            let ran = find(cycle, self.name(role)).filter(|&position| run(cycle, position).is_some());
            let Some(profile) = ran else { continue };
            let Some(mut targets) = picks(profile) else {
                decision.unfilled.push(role);
                continue;
            };
            // Who answers may be fit for the other part as well, and then does it without being told to.
            targets.retain(|target| *target != decision.targets[0]);
            if !targets.is_empty() {
                decision.companions.push(Companion { role, profile, targets });
            }
        }
        let at = |index: u32| cycle.pool[index as usize].endpoint.destination.as_str();
        for Companion { role, targets, .. } in &decision.companions {
            decision.headers.push(match role {
                Role::Prefill => (PREFILLER, at(targets[0]).to_owned()),
                Role::Encode => (ENCODERS, joined(targets, at)),
            });
        }
        if let Some(port) = self.primary_port {
            data_parallel::answer_at(port, cycle, &mut decision);
        }
        Ok(decision)
    }
}

fn joined<'a>(targets: &Picks, at: impl Fn(u32) -> &'a str) -> String {
    let addresses: SmallVec<[&str; 4]> = targets.iter().map(|&index| at(index)).collect();
    addresses.join(",")
}

/// Says what is wrong with the profiles of stages whose decode worker is picked by the profile `decode`.
pub(super) fn judge(decode: &str, profiles: &[&str]) -> Vec<String> {
    if profiles.contains(&decode) {
        return Vec::new();
    }
    let found = profiles.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    vec![format!("needs a scheduling profile `{decode}` to pick who answers, found {found}")]
}

#[cfg(test)]
mod tests;

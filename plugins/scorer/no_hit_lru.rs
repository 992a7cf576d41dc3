//! `no-hit-lru-scorer`: spreads prompts that nobody holds over the endpoints that got none for longest.
//!
//! The scorer ranks, the commit learns. Whether a prompt is cold is asked of the whole pool, so that both say the same.

use std::sync::Arc;

use epp_framework::endpoint::EndpointId;
use epp_framework::lifecycle::Observer;
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Commit, Cycle, Decision, Role, Scorer};
use epp_framework::slot::RequestSlot;
use epp_framework::snapshot::Candidates;
use parking_lot::Mutex;

use crate::prefix::PrefixMatches;
use crate::recent::Recent;
use crate::sources::{PREFIX_MATCHES_PRODUCER, prefix_matches};

const SIZE: &str = "lruSize";
const DEFAULT_SIZE: u32 = 1024;

/// The score of everybody if somebody holds the prompt's beginning.
const WARM: f64 = 0.5;

/// `no-hit-lru-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "no-hit-lru-scorer",
    summary: "Prefers, for prompts that nobody holds, endpoints that got no such prompt for longest.",
    about: "If an endpoint holds the first block of the prompt, all score 0.5: it does not matter here. If nobody does, \
            candidates are ranked, first those that never got such a prompt, in the pool's order, then those that got \
            one, least recently first; the first of n scores 1, the last 0, in even steps, and a single one 1. Beside \
            `prefix-cache-scorer` it spreads new prompts, and with them what will be in which cache.",
    parameters: &[
        Parameter {
            name: SIZE,
            kind: ParameterKind::Integer { default: DEFAULT_SIZE as i64, min: i64::MIN, max: 1 << 20 },
            unit: "endpoints",
            summary: "How many endpoints are remembered; 0 or less means the default.",
        },
        PREFIX_MATCHES_PRODUCER,
        ignored("prefixPluginType"),
        ignored("prefixPluginName"),
    ],
    kinds: &[Kind::Scorer],
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

const fn ignored(name: &'static str) -> Parameter {
    Parameter {
        name,
        kind: ParameterKind::Ignored { because: "write `prefixMatchInfoProducerName` where it matters" },
        unit: "",
        summary: "Once, who said how much of the prompt endpoints hold.",
    }
}

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let size = match parameters.integer(SIZE) {
        ..=0 => DEFAULT_SIZE,
        size => u32::try_from(size).unwrap_or(DEFAULT_SIZE),
    };
    let scorer = Arc::new(NoHitLruScorer {
        matches: prefix_matches(parameters, cx),
        state: Mutex::new(State { used: Recent::new(size as usize), positions: Vec::new() }),
    });
    Plugin {
        scorer: Some(scorer.clone()),
        commit: Some(scorer.clone()),
        observer: Some(scorer),
        ..Plugin::default()
    }
}

struct NoHitLruScorer {
    matches: RequestSlot<PrefixMatches>,
    state: Mutex<State>,
}

struct State {
    /// Endpoints that got a cold prompt.
    used: Recent<EndpointId, ()>,
    /// By slot: position of the candidate + 1, or 0. All 0 between two cycles.
    positions: Vec<usize>,
}

impl NoHitLruScorer {
    fn is_cold(&self, cycle: &Cycle<'_>) -> bool {
        let found = self.matches.get(cycle.request);
        let holds = |found: &PrefixMatches| cycle.pool.iter().any(|view| found.matches.n_blocks(view.id) > 0);
        !found.is_some_and(holds)
    }
}

impl Scorer for NoHitLruScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        if candidates.is_empty() || !self.is_cold(cycle) {
            scores.fill(WARM);
            return;
        }
        let last = (candidates.len() - 1).max(1) as f64;
        let mut rank = 0.0;
        let mut next = || {
            rank += 1.0;
            1.0 - (rank - 1.0) / last
        };
        let State { used, positions } = &mut *self.state.lock();
        for (position, candidate) in candidates.iter().enumerate() {
            let id = candidate.id;
            if used.contains(&id) {
                let slot = id.slot as usize;
                positions.resize(positions.len().max(slot + 1), 0);
                positions[slot] = position + 1;
            } else {
                scores[position] = next();
            }
        }
        for (id, ()) in used.iter() {
            if let Some(position) = positions.get_mut(id.slot as usize).map(std::mem::take)
                && position > 0
            {
                scores[position - 1] = next();
            }
        }
    }
}

impl Commit for NoHitLruScorer {
    fn commit(&self, cycle: &Cycle<'_>, decision: &Decision) {
        if !self.is_cold(cycle) {
            return;
        }
        let prefill = decision.companions.iter().filter(|companion| companion.role == Role::Prefill);
        let computing = [&decision.targets].into_iter().chain(prefill.map(|companion| &companion.targets));
        let mut state = self.state.lock();
        for &first in computing.filter_map(|targets| targets.first()) {
            if let Some(endpoint) = cycle.endpoint(first) {
                state.used.put(endpoint.id, ());
            }
        }
    }
}

impl Observer for NoHitLruScorer {
    fn on_endpoint_removed(&self, endpoint: EndpointId) {
        self.state.lock().used.remove(&endpoint);
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;
    use epp_framework::scheduling::Companion;
    use epp_framework::slot::SlotNames;
    use smallvec::smallvec;

    use super::*;
    use crate::testing::{Pool, assert_close, built_in, matches};

    const A: u32 = 0;
    const B: u32 = 1;
    const C: u32 = 2;

    struct Setup {
        slots: SlotNames,
        pool: Pool,
        plugin: Plugin,
    }

    impl Setup {
        fn of(n_endpoints: usize, parameters: &str) -> Self {
            let slots = SlotNames::default();
            let parameters = format!(r#"{{"prefixMatchInfoProducerName": "p"{parameters}}}"#);
            let plugin = built_in(&slots, &TYPE, &parameters);
            Self { plugin, pool: Pool::new(vec![Load::default(); n_endpoints]), slots }
        }

        /// The next request is one of which endpoint B holds so many blocks.
        fn request(&mut self, held: usize) {
            self.slots.request_slot("p").put(&mut self.pool.request, matches(16, 3, &[0, held, 0]));
        }

        fn scores(&self) -> Vec<f64> {
            self.pool.score(&**self.plugin.scorer.as_ref().unwrap())
        }

        fn send(&self, to: u32) {
            self.pool.commit(&**self.plugin.commit.as_ref().unwrap(), to);
        }
    }

    #[test]
    fn cold_prompts_go_where_none_went_for_longest() {
        let mut setup = Setup::of(3, "");
        assert_close(&setup.scores(), &[1.0, 0.5, 0.0], "N1");
        setup.request(0);
        assert_close(&setup.scores(), &[1.0, 0.5, 0.0], "N1: nobody holds it");
        setup.request(2);
        assert_close(&setup.scores(), &[0.5; 3], "N2");
        setup.request(0);
        setup.send(A);
        assert_close(&setup.scores(), &[0.0, 1.0, 0.5], "N4");
        setup.request(1);
        setup.send(B);
        setup.request(0);
        assert_close(&setup.scores(), &[0.0, 1.0, 0.5], "N5");
        setup.send(B);
        assert_close(&setup.scores(), &[0.5, 0.0, 1.0], "N6: C is best after B");
        setup.send(C);
        assert_close(&setup.scores(), &[1.0, 0.5, 0.0], "N6: A is best after C");
        assert_close(&setup.scores(), &[1.0, 0.5, 0.0], "asking changes nothing");
        let one = Setup::of(1, "");
        assert_close(&one.scores(), &[1.0], "N3");
        one.send(A);
        assert_close(&one.scores(), &[1.0], "N3, used");
        assert_close(&Setup::of(0, "").scores(), &[], "nobody");
    }

    #[test]
    fn n7_who_computes_the_prompt_counts_as_used() {
        let setup = Setup::of(3, "");
        let prefill = Companion { role: Role::Prefill, profile: 1, targets: smallvec![A] };
        let encode = Companion { role: Role::Encode, profile: 2, targets: smallvec![C] };
        let decision = Decision { companions: smallvec![prefill, encode], ..Decision::of(0, smallvec![B]) };
        setup.plugin.commit.as_ref().unwrap().commit(&setup.pool.cycle(), &decision);
        assert_close(&setup.scores(), &[0.0, 0.5, 1.0], "N7");
    }

    #[test]
    fn those_beyond_the_size_and_those_that_left_are_forgotten() {
        let mut setup = Setup::of(3, r#", "lruSize": 2"#);
        for to in [C, B, A] {
            setup.send(to);
        }
        assert_close(&setup.scores(), &[0.0, 0.5, 1.0], "C is forgotten");
        setup.plugin.observer.as_ref().unwrap().on_endpoint_removed(EndpointId { slot: B, generation: 0 });
        setup.pool.replace(1);
        assert_close(&setup.scores(), &[0.0, 1.0, 0.5], "B is another one");
    }
}

//! `topology-affinity-scorer`: prefers endpoints near the one that they will work with, by how fast data gets there.

use std::sync::Arc;

use epp_framework::attribute::{AttributeKey, Nearness, Place};
use epp_framework::parameters::{Parameter, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Stability, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::snapshot::Candidates;

use crate::extractor::topology;

/// `topology-affinity-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "topology-affinity-scorer",
    summary: "Prefers endpoints on the host (1) of the one that they will work with, then in its rack (0.2), zone (0.05), \
              region (0.02).",
    parameters: PARAMETERS,
    kinds: &[Kind::Scorer],
    reads: topology::read,
    build,
    stability: Stability::Alpha,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[topology::PRODUCER];

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let scorer = TopologyAffinityScorer(topology::key(parameters, cx));
    Plugin { scorer: Some(Arc::new(scorer)), ..Plugin::default() }
}

struct TopologyAffinityScorer(AttributeKey);

impl Scorer for TopologyAffinityScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        scores.fill(0.0);
        let Some(peer) = cycle.peer else { return };
        let peer = &cycle.pool[peer as usize].facts.attributes;
        let Some(peer) = peer.words(self.0).map(Place) else { return };
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            let attributes = &candidate.facts.attributes;
            *score = match attributes.words(self.0).and_then(|words| peer.nearness(Place(words))) {
                Some(Nearness::Host) => 1.0,
                Some(Nearness::Rack) => 0.2,
                Some(Nearness::Zone) => 0.05,
                Some(Nearness::Region) => 0.02,
                None => 0.0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::slot::SlotNames;

    use super::*;
    use crate::testing::{Pool, assert_close, parsed};

    #[test]
    fn the_nearer_the_better() {
        let places = ["h/r/z/g", "h/r/z/g", "i/r/z/g", "j/s/z/g", "k/t/y/g", "l/u/x/f", "", "///"];
        for (name, peer, want) in [
            ("the first", Some(0), [1.0, 1.0, 0.2, 0.05, 0.02, 0.0, 0.0, 0.0]),
            ("the third", Some(2), [0.2, 0.2, 1.0, 0.05, 0.02, 0.0, 0.0, 0.0]),
            ("no peer", None, [0.0; 8]),
            ("without a place", Some(6), [0.0; 8]),
            ("without a known one", Some(7), [0.0; 8]),
        ] {
            let names = SlotNames::default();
            let parameters = parsed(PARAMETERS, &serde_json::json!({"topologyProducerName": "mine"}));
            let scorer = build(&parameters, &BuildContext::new("s", &names)).scorer.unwrap();
            let mut pool = Pool::with_places(names.attribute("mine", "Topology"), &places);
            pool.peer = peer;
            assert_close(&pool.score(&*scorer), &want, name);
        }
    }
}

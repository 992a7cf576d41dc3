//! `topology-affinity-filter`: keeps endpoints near the one that they will work with.
//!
//! Nearness is a preference: where nothing is known of that endpoint, or nobody is near enough, everybody is kept.

use std::sync::Arc;

use epp_framework::attribute::{AttributeKey, Nearness, Place};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Stability, releases};
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::Candidates;
use rand::rngs::SmallRng;

use crate::extractor::topology;

/// `topology-affinity-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "topology-affinity-filter",
    summary: "Keeps the endpoints on the host, or in the rack, zone or region, of the one that they will work with; \
              everybody, if there is none of them or nothing is known.",
    parameters: PARAMETERS,
    kinds: &[Kind::Filter],
    reads: topology::read,
    build,
    stability: Stability::Alpha,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "minAffinity",
        kind: ParameterKind::Word { of: &["host", "rack", "zone", "region"], default: Some("host") },
        unit: "",
        summary: "How near they must be.",
    },
    topology::PRODUCER,
];

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let least = match parameters.text("minAffinity") {
        "rack" => Nearness::Rack,
        "zone" => Nearness::Zone,
        "region" => Nearness::Region,
        _ => Nearness::Host,
    };
    let filter = TopologyAffinityFilter { least, key: topology::key(parameters, cx) };
    Plugin { filter: Some(Arc::new(filter)), ..Plugin::default() }
}

struct TopologyAffinityFilter {
    least: Nearness,
    key: AttributeKey,
}

impl Filter for TopologyAffinityFilter {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        let Some(peer) = cycle.peer else { return };
        let peer = &cycle.pool[peer as usize].facts.attributes;
        let Some(peer) = peer.words(self.key).map(Place).filter(Place::is_known) else { return };
        candidates.attempt(|candidates| {
            candidates.retain(|candidate| {
                let attributes = &candidate.facts.attributes;
                let nearness = attributes.words(self.key).and_then(|words| peer.nearness(Place(words)));
                nearness.is_some_and(|nearness| nearness >= self.least)
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::slot::SlotNames;

    use super::*;
    use crate::testing::{Pool, parsed};

    #[test]
    fn the_near_are_kept_or_everybody() {
        // The peer is the first: host, rack, zone, region of each.
        let places = ["h/r/z/g", "h/r/z/g", "i/r/z/g", "j/s/z/g", "k/t/y/g", "l/u/x/f", ""];
        let known_zone = ["//z/", "//z/", "h//z/", "//y/"];
        for (name, places, peer, least, want) in [
            ("host", &places[..], Some(0), "host", &[0, 1][..]),
            ("rack", &places, Some(0), "rack", &[0, 1, 2]),
            ("zone", &places, Some(0), "zone", &[0, 1, 2, 3]),
            ("region", &places, Some(0), "region", &[0, 1, 2, 3, 4]),
            ("no peer", &places, None, "host", &[0, 1, 2, 3, 4, 5, 6]),
            ("nothing is known of the peer", &places, Some(6), "host", &[0, 1, 2, 3, 4, 5, 6]),
            ("empty is not empty", &known_zone, Some(0), "host", &[0, 1, 2, 3]),
            ("a zone alone", &known_zone, Some(0), "zone", &[0, 1, 2]),
            ("nobody is in its rack", &known_zone, Some(3), "rack", &[0, 1, 2, 3]),
        ] {
            let names = SlotNames::default();
            let given = serde_json::json!({ "minAffinity": least });
            let cx = BuildContext::new("f", &names);
            let filter = build(&parsed(PARAMETERS, &given), &cx).filter.unwrap();
            let mut pool = Pool::with_places(names.attribute("topology-extractor", "Topology"), places);
            pool.peer = peer;
            assert_eq!(pool.filter(&*filter, 1), want, "{name}");
        }
    }
}

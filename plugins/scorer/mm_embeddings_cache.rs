//! `mm-embeddings-cache-scorer`: prefers endpoints that were sent the request's media before.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Data, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::slot::RequestSlot;
use epp_framework::snapshot::Candidates;

use crate::media::MediaMatches;

const PRODUCER: &str = "encoderCacheMatchInfoProducerName";

/// `mm-embeddings-cache-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "mm-embeddings-cache-scorer",
    summary: "Prefers endpoints that were sent the request's images, sounds and videos before.",
    about: "The score is the fraction of the request's items that the endpoint holds; a request without any scores 0 \
            everywhere. Use it where users ask several things of the same images, beside `prefix-cache-scorer`, which \
            sees an image only where the text before it is the same.",
    parameters: &[Parameter {
        name: PRODUCER,
        kind: ParameterKind::Producer { of: Data::MediaMatches, own: false },
        unit: "",
        summary: "Who says which items each endpoint holds.",
    }],
    kinds: &[Kind::Scorer],
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let producer = parameters.reference(PRODUCER).unwrap_or(Data::MediaMatches.default_producer());
    let scorer = MmEmbeddingsCacheScorer { matches: cx.slot_of(producer) };
    Plugin { scorer: Some(Arc::new(scorer)), ..Plugin::default() }
}

struct MmEmbeddingsCacheScorer {
    matches: RequestSlot<MediaMatches>,
}

impl Scorer for MmEmbeddingsCacheScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let found = self.matches.get(cycle.request);
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            *score = found.map_or(0.0, |found| found.ratio(candidate.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;
    use epp_framework::slot::SlotNames;

    use super::*;
    use crate::testing::{Pool, assert_close, built_in};

    #[test]
    fn endpoints_score_by_the_items_they_hold() {
        let slots = SlotNames::default();
        let mut pool = Pool::new([Load::default(); 3]);
        let scorer = built_in(&slots, &TYPE, "{}").scorer.unwrap();
        assert_close(&pool.score(&*scorer), &[0.0; 3], "without media");
        let mut matches = MediaMatches::of(vec![1, 2, 3, 4]);
        matches.set(pool.endpoint(0).id, 1);
        matches.set(pool.endpoint(2).id, 4);
        slots.request_slot(Data::MediaMatches.default_producer()).put(&mut pool.request, matches);
        assert_close(&pool.score(&*scorer), &[0.25, 0.0, 1.0], "");
        pool.replace(2);
        assert_close(&pool.score(&*scorer), &[0.25, 0.0, 0.0], "another one in the slot");
        let empty = MediaMatches::of(Vec::new());
        slots.request_slot(Data::MediaMatches.default_producer()).put(&mut pool.request, empty);
        assert_close(&pool.score(&*scorer), &[0.0; 3], "no items");
    }
}

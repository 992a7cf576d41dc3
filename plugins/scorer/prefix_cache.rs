//! `prefix-cache-scorer`: prefers endpoints that hold the beginning of the prompt in their cache.
//!
//! As in Gateway API Inference Extension v1.0.1, one type does both halves: the scorer below reads from the request
//! what the approximate producer of the same instance left there. Unlike there, an endpoint drops out at its first
//! missing block, since a cache can reuse nothing behind a gap.

use std::sync::Arc;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::slot::RequestSlot;
use epp_framework::snapshot::Candidates;

use crate::prefix::PrefixMatches;
use crate::prefix::approximate::{ApproximatePrefix, PARAMETERS};

/// `prefix-cache-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "prefix-cache-scorer",
    summary: "Prefers endpoints to which prompts with the same beginning were sent before.",
    parameters: PARAMETERS,
    kinds: &[Kind::Scorer],
    build,
    releases: releases::ALL,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let prefix = ApproximatePrefix::new(parameters, cx);
    Plugin {
        scorer: Some(Arc::new(PrefixCacheScorer { matches: prefix.slot() })),
        producer: Some(prefix.clone()),
        commit: Some(prefix.clone()),
        observer: Some(prefix.clone()),
        prefix_report: Some(prefix),
        ..Plugin::default()
    }
}

struct PrefixCacheScorer {
    matches: RequestSlot<PrefixMatches>,
}

impl Scorer for PrefixCacheScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let found = self.matches.get(cycle.request);
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            *score = found.map_or(0.0, |found| found.ratio(candidate.endpoint.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::{EndpointId, Load};
    use epp_framework::prompt::Prompt;

    use super::*;
    use crate::testing::{Pool, assert_close, built};

    /// Blocks of four bytes.
    const BLOCKS: &str = r#"{"hashBlockSize": 4}"#;

    /// A pool of two, and the plugin.
    fn setup(parameters: &str) -> (Pool, Plugin) {
        (Pool::new([Load::default(); 2]), built(&TYPE, parameters))
    }

    /// Scores `prompt`, then sends it to the endpoint at index `to`.
    fn step(pool: &mut Pool, plugin: &Plugin, (model, prompt): (&str, &str), to: u32) -> Vec<f64> {
        pool.request.target_model = model.to_owned();
        pool.request.prompt = Prompt::text(prompt.to_owned());
        pool.produce(&**plugin.producer.as_ref().unwrap());
        let scores = pool.score(&**plugin.scorer.as_ref().unwrap());
        pool.commit(&**plugin.commit.as_ref().unwrap(), to);
        scores
    }

    #[test]
    fn endpoints_score_by_how_much_of_the_prompt_they_were_sent() {
        let (mut pool, plugin) = setup(BLOCKS);
        for (name, model, prompt, to, want) in [
            ("X1, row 43", "test-model1", "aaaaaa", 0, [0.0, 0.0]),
            ("X2", "test-model2", "bbbbbb", 1, [0.0, 0.0]),
            ("X3", "test-model1", "aaaabbbb", 0, [0.5, 0.0]),
            ("X4", "test-model-new", "aaaabbbb", 0, [0.0, 0.0]),
            ("X5", "test-model1", "aaaabbbbcccc", 0, [2.0 / 3.0, 0.0]),
            ("X6", "test-model1", "aaa", 0, [0.0, 0.0]),
        ] {
            assert_close(&step(&mut pool, &plugin, (model, prompt), to), &want, name);
        }
    }

    #[test]
    fn x7_blocks_beyond_the_maximum_do_not_count() {
        let (mut pool, plugin) = setup(r#"{"hashBlockSize": 4, "maxPrefixBlocksToMatch": 2}"#);
        step(&mut pool, &plugin, ("m", "aaaabbbbcccc"), 1);
        assert_close(&step(&mut pool, &plugin, ("m", "aaaabbbbdddd"), 1), &[0.0, 1.0], "X7");
    }

    #[test]
    fn a_successor_in_the_slot_inherits_nothing() {
        let (mut pool, plugin) = setup(BLOCKS);
        step(&mut pool, &plugin, ("m", "aaaabbbb"), 1);
        plugin.observer.as_ref().unwrap().on_endpoint_removed(EndpointId { slot: 1, generation: 0 });
        pool.replace(1);
        assert_close(&step(&mut pool, &plugin, ("m", "aaaabbbb"), 1), &[0.0, 0.0], "replaced");
        assert_close(&step(&mut pool, &plugin, ("m", "aaaabbbb"), 1), &[0.0, 1.0], "learned anew");
    }

    #[test]
    fn without_a_producer_all_score_0() {
        let (pool, plugin) = setup(BLOCKS);
        assert_close(&pool.score(&**plugin.scorer.as_ref().unwrap()), &[0.0, 0.0], "");
    }
}

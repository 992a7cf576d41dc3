//! `prefix-cache-scorer`: prefers endpoints that hold the beginning of the prompt in their cache.
//!
//! As in Gateway API Inference Extension v1.0.1, one type does both halves where no producer is declared: the scorer
//! below reads from the request what the approximate producer of the same instance left there. As in v1.5 and llm-d, it
//! reads from a producer where there is one. Unlike there, an endpoint drops out at its first missing block, since a
//! cache can reuse nothing behind a gap.

use std::sync::Arc;

use epp_framework::endpoint::EndpointId;
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Data, Kind, Plugin, PluginType, Review, Stability, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::slot::RequestSlot;
use epp_framework::snapshot::Candidates;

use crate::prefix::PrefixMatches;
use crate::prefix::approximate::ApproximatePrefix;
use crate::prefix::later;
use crate::prefix::settings::{self, Settings};
use crate::sources::PREFIX_MATCHES;

const LENGTH_WEIGHT: &str = "matchLengthWeight";
const LENGTH_SCALE: &str = "matchLengthScaleTokens";

/// `prefix-cache-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "prefix-cache-scorer",
    summary: "Prefers endpoints to which prompts with the same beginning were sent before.",
    about: "The score is the fraction of the prompt's blocks, from its beginning and without a gap, that the endpoint \
            holds; 0 for a prompt shorter than a block. With `matchLengthWeight` w it is \
            w * min(1, held tokens / `matchLengthScaleTokens`)^2 + (1 - w) * fraction, so that a long match counts for \
            more than a short one. Who holds what is said by the producer that `prefixMatchInfoProducerName` names, or \
            else by one that is declared; without any the scorer finds it out by itself, from what it has sent where, \
            by its other parameters. Then, without either limit, the first 131,072 tokens of a prompt count, or 256 \
            blocks, as in v1.0.1, where `hashBlockSize` is given. Weigh it higher where prompts share long beginnings: chats, agents, documents.",
    parameters: &[
        settings::HASH_BLOCK_SIZE,
        settings::MAX_BLOCKS,
        settings::CAPACITY,
        settings::AUTO_TUNE,
        settings::BLOCK_TOKENS,
        settings::BLOCK_BYTES,
        settings::max_tokens(0),
        Parameter {
            name: PREFIX_MATCHES,
            kind: ParameterKind::Producer { of: Data::PrefixMatches, own: true },
            unit: "",
            summary: "Who says how much of the prompt each endpoint holds.",
        },
        Parameter {
            name: LENGTH_WEIGHT,
            kind: ParameterKind::Float { default: 0.0, min: 0.0, max: 1.0 },
            unit: "",
            summary: "How much the length of a match counts beside its fraction of the prompt.",
        },
        Parameter {
            name: LENGTH_SCALE,
            kind: ParameterKind::Integer { default: 8192, min: i64::MIN, max: i64::MAX },
            unit: "tokens",
            summary: "Length of a match from which on more does not count; above 0 where length counts.",
        },
    ],
    kinds: &[Kind::Scorer],
    check,
    build,
    review,
    releases: releases::ALL,
    ..PluginType::PLAIN
};

/// `precise-prefix-cache-scorer`.
pub(crate) const PRECISE: PluginType = PluginType {
    name: "precise-prefix-cache-scorer",
    summary: "Prefers endpoints that hold the beginning of the prompt.",
    about: "`prefix-cache-scorer` with a `precise-prefix-cache-producer` of its own.",
    parameters: later::PRECISE_PARAMETERS,
    kinds: &[Kind::Scorer, Kind::Produces(Data::PrefixMatches)],
    build: |parameters, cx| {
        let prefix = ApproximatePrefix::new(later::precise_settings(parameters), cx);
        let scorer = PrefixCacheScorer { matches: prefix.slot(), length_weight: 0.0, length_scale: 1.0 };
        Plugin { scorer: Some(Arc::new(scorer)), ..prefix.plugin() }
    },
    review: |_| vec![later::APPROXIMATELY.to_owned()],
    stability: Stability::Deprecated {
        instead: "declare a `precise-prefix-cache-producer`, and a `prefix-cache-scorer` that names it",
    },
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn check(parameters: &Parameters) -> Vec<String> {
    let mut wrong = settings::check(parameters);
    if parameters.float(LENGTH_WEIGHT) > 0.0 && parameters.integer(LENGTH_SCALE) <= 0 {
        wrong.push(format!("`{LENGTH_SCALE}` must be above 0 where `{LENGTH_WEIGHT}` is"));
    }
    wrong
}

fn review(cx: &Review<'_>) -> Vec<String> {
    let Some(producer) = cx.parameters.reference(PREFIX_MATCHES) else {
        return settings::review(cx.parameters, &Settings::read_all(cx.parameters));
    };
    let nothing = |name| {
        format!("`{name}` does nothing here, prompts are matched by `{producer}`: give it that parameter")
    };
    settings::changed(cx.parameters).into_iter().map(nothing).collect()
}

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let (matches, producing) = if let Some(producer) = parameters.reference(PREFIX_MATCHES) {
        (cx.slot_of(producer), Plugin::default())
    } else {
        let prefix = ApproximatePrefix::new(Settings::read_all(parameters), cx);
        (prefix.slot(), prefix.plugin())
    };
    let length_weight = parameters.float(LENGTH_WEIGHT);
    let length_scale = parameters.integer(LENGTH_SCALE) as f64;
    let scorer = PrefixCacheScorer { matches, length_weight, length_scale };
    Plugin { scorer: Some(Arc::new(scorer)), ..producing }
}

struct PrefixCacheScorer {
    matches: RequestSlot<PrefixMatches>,
    length_weight: f64,
    length_scale: f64,
}

impl PrefixCacheScorer {
    fn rate(&self, found: &PrefixMatches, endpoint: EndpointId) -> f64 {
        let ratio = found.ratio(endpoint);
        if self.length_weight == 0.0 {
            return ratio;
        }
        let length = (found.tokens(endpoint) as f64 / self.length_scale).min(1.0);
        self.length_weight * length * length + (1.0 - self.length_weight) * ratio
    }
}

impl Scorer for PrefixCacheScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let found = self.matches.get(cycle.request);
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            *score = found.map_or(0.0, |found| self.rate(found, candidate.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::{EndpointId, Load};
    use epp_framework::prompt::Prompt;
    use epp_framework::slot::SlotNames;

    use super::*;
    use crate::testing::{Pool, assert_close, built, built_in, matches};

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

    #[test]
    fn with_a_producer_it_reads_what_that_found() {
        let by_length = r#""matchLengthWeight": 0.5, "matchLengthScaleTokens": 100"#;
        // Parameters, tokens per block, blocks of the prompt, blocks that each of three endpoints holds.
        for (name, parameters, block_tokens, n_blocks, held, want) in [
            ("P1", "", 16, 10, [5, 2, 0], [0.5, 0.2, 0.0]),
            ("P2: two it does not know", "", 16, 10, [5, 0, 0], [0.5, 0.0, 0.0]),
            ("P3, a short prompt", by_length, 1, 10, [5, 0, 10], [0.25125, 0.0, 0.505]),
            ("P3, a long one", by_length, 1, 100, [50, 0, 100], [0.375, 0.0, 1.0]),
            ("beyond the scale", by_length, 16, 100, [50, 0, 100], [0.75, 0.0, 1.0]),
            ("P4", "", 16, 0, [0, 0, 0], [0.0, 0.0, 0.0]),
            ("P7: the default scale", r#""matchLengthWeight": 0.5"#, 4096, 2, [1, 2, 0], [0.375, 1.0, 0.0]),
        ] {
            let slots = SlotNames::default();
            let mut pool = Pool::new([Load::default(); 3]);
            let separator = if parameters.is_empty() { "" } else { "," };
            let parameters = format!(r#"{{"prefixMatchInfoProducerName": "p"{separator} {parameters}}}"#);
            let plugin = built_in(&slots, &TYPE, &parameters);
            assert!(plugin.producer.is_none() && plugin.commit.is_none(), "{name}: it has no index");
            let scorer = plugin.scorer.unwrap();
            assert_close(&pool.score(&*scorer), &[0.0; 3], "nothing was found");
            slots.request_slot("p").put(&mut pool.request, matches(block_tokens, n_blocks, &held));
            assert_close(&pool.score(&*scorer), &want, name);
        }
    }
}

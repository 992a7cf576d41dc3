//! `prefix-based-pd-decider`: prompts of which much is to be computed are computed elsewhere.
//!
//! Both counts are of tokens as far as they are known: where no tokenizer ran, the prompt's length is an estimate from
//! its bytes, and so is the length of a block of the prefix index.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Data, Kind, Plugin, PluginType, Review, releases};
use epp_framework::scheduling::{Cycle, Decider};
use epp_framework::slot::RequestSlot;

use crate::prefix::PrefixMatches;

/// `prefix-based-pd-decider`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "prefix-based-pd-decider",
    summary: "Has a prompt computed by a prefill worker if enough of it is not in the decode worker's cache.",
    about: "For `deciders.prefill` of `disagg-profile-handler`, which asks it once the decode worker is picked. \
            Without `nonCachedTokens` it always says no.",
    needs: &["prefix matches, which `prefix-cache-scorer` or its producer leaves on requests"],
    parameters: PARAMETERS,
    kinds: &[Kind::Decider],
    build,
    releases: releases::LLM_D,
    review,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "nonCachedTokens",
        kind: ParameterKind::Integer { default: 0, min: 0, max: i64::MAX },
        unit: "tokens",
        summary: "How much of the prompt must be missing in the decode worker's cache; 0 means never.",
    },
    Parameter {
        name: "promptTokens",
        kind: ParameterKind::Integer { default: 0, min: 0, max: i64::MAX },
        unit: "tokens",
        summary: "How long the whole prompt must be.",
    },
    Parameter {
        name: "prefixMatchInfoProducerName",
        kind: ParameterKind::Producer { of: Data::PrefixMatches, own: false },
        unit: "",
        summary: "Name of the plugin whose prefix matches count.",
    },
];

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let tokens = |name| u64::try_from(parameters.integer(name)).unwrap_or(0);
    let decider = PrefixBased {
        missing: tokens("nonCachedTokens"),
        prompt: tokens("promptTokens"),
        matches: parameters.reference("prefixMatchInfoProducerName").map(|producer| cx.slot_of(producer)),
    };
    Plugin { decider: Some(Arc::new(decider)), ..Plugin::default() }
}

fn review(review: &Review<'_>) -> Vec<String> {
    let never = review.parameters.integer("nonCachedTokens") == 0;
    never
        .then(|| "`nonCachedTokens` is 0, so no prompt is computed elsewhere".to_owned())
        .into_iter()
        .collect()
}

struct PrefixBased {
    /// Tokens that must be missing; 0 means never.
    missing: u64,
    /// Tokens that the prompt must have.
    prompt: u64,
    /// Where the matches lie; the loader has named a producer wherever there is one.
    matches: Option<RequestSlot<PrefixMatches>>,
}

impl Decider for PrefixBased {
    fn decide(&self, cycle: &Cycle<'_>, endpoint: Option<u32>) -> bool {
        let n_prompt = cycle.request.prompt_tokens;
        if self.missing == 0 || n_prompt < self.prompt || n_prompt < self.missing {
            return false;
        }
        let endpoint = endpoint.and_then(|index| cycle.endpoint(index));
        let found = self.matches.and_then(|slot| slot.get(cycle.request));
        let (Some(endpoint), Some(found)) = (endpoint, found) else { return false };
        n_prompt.saturating_sub(found.tokens(endpoint.id)) >= self.missing
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;
    use epp_framework::prompt::Prompt;

    use super::*;
    use crate::scorer::prefix_cache;
    use crate::testing::{Pool, built};

    /// A prompt of so many tokens, the same for the same number.
    fn ask(pool: &mut Pool, n_tokens: usize) {
        let text: String = ('a'..='z').cycle().take(n_tokens * 4).collect();
        (pool.request.prompt, pool.request.prompt_tokens) = (Prompt::text(text), n_tokens as u64);
    }

    fn decider(missing: u64, prompt: u64) -> Arc<dyn Decider> {
        let parameters = format!(
            r#"{{"nonCachedTokens": {missing}, "promptTokens": {prompt},
                "prefixMatchInfoProducerName": "prefix-cache-scorer"}}"#
        );
        built(&TYPE, &parameters).decider.unwrap()
    }

    /// Rows of the plugin specification; D11 is refused by the declaration. The prompt has ten tokens.
    #[test]
    fn a_prompt_is_computed_elsewhere_if_enough_of_it_is_missing() {
        for (row, missing, prompt, cached, want) in [
            ("D1", 0, 0, Some(0), false),
            ("D2: no endpoint", 5, 0, None, false),
            ("D3", 20, 0, Some(0), false),
            ("D4", 5, 0, Some(8), false),
            ("D5", 5, 0, Some(5), true),
            ("D6", 3, 0, Some(2), true),
            ("D7", 1, 0, Some(10), false),
            ("D8", 5, 0, Some(0), true),
            ("D9", 5, 20, Some(0), false),
            ("D10", 5, 10, Some(5), true),
        ] {
            // Blocks of one token.
            let prefix = built(&prefix_cache::TYPE, r#"{"hashBlockSize": 4}"#);
            let mut pool = Pool::new([Load::default(); 2]);
            ask(&mut pool, cached.unwrap_or(0));
            pool.produce(&**prefix.producer.as_ref().unwrap());
            pool.commit(&**prefix.commit.as_ref().unwrap(), 0);
            ask(&mut pool, 10);
            pool.produce(&**prefix.producer.as_ref().unwrap());
            let endpoint = cached.map(|_| 0);
            assert_eq!(decider(missing, prompt).decide(&pool.cycle(), endpoint), want, "{row}");
        }
    }

    #[test]
    fn d12_without_matches_nothing_is_computed_elsewhere() {
        let mut pool = Pool::new([Load::default()]);
        ask(&mut pool, 10);
        assert!(!decider(5, 0).decide(&pool.cycle(), Some(0)), "D12");
        let nobody = built(&TYPE, r#"{"nonCachedTokens": 5}"#).decider.unwrap();
        assert!(!nobody.decide(&pool.cycle(), Some(0)), "D12: no producer");
    }
}

//! `llm-request-costs`: the token counts of an answer under the keys that `llmRequestCosts` of Envoy AI Gateway has.
//!
//! A count that the model server did not report has no key, except the output's: an answer without one (embeddings) has
//! no output, which is 0 tokens. The total is the server's, or else the sum.

use std::sync::Arc;

use epp_framework::answer::Usage;
use epp_framework::lifecycle::{AnswerFacts, Attribute, Report, Reporter};
use epp_framework::plugin::{Kind, Plugin, PluginType};

/// Namespace that the gateway's rate limits look in.
const NAMESPACE: &str = "io.envoy.ai_gateway";

/// Declares the type.
pub(crate) const TYPE: PluginType = PluginType {
    name: "llm-request-costs",
    summary: "reports the token counts of an answer to the gateway",
    kinds: &[Kind::Reporter],
    build: |_, _| Plugin { reporter: Some(Arc::new(LlmRequestCosts)), ..Plugin::default() },
    ..PluginType::PLAIN
};

/// Which count of an answer's usage.
#[derive(Clone, Copy, Debug)]
enum Count {
    Input,
    CachedInput,
    Output,
    Total,
}

impl Count {
    fn of(self, usage: &Usage) -> Option<u64> {
        match self {
            Self::Input => usage.prompt_tokens,
            Self::CachedInput => usage.cached_tokens,
            Self::Output => Some(usage.completion_tokens.unwrap_or(0)),
            Self::Total => Some(usage.total()),
        }
    }
}

/// What is reported where nothing else is asked for.
const DEFAULT_COSTS: [(&str, Count); 4] = [
    ("llm_input_token", Count::Input),
    ("llm_output_token", Count::Output),
    ("llm_total_token", Count::Total),
    ("llm_cached_input_token", Count::CachedInput),
];

struct LlmRequestCosts;

impl Reporter for LlmRequestCosts {
    fn report(&self, facts: &AnswerFacts<'_>, report: &mut Report) {
        let attribute = |(key, count): (&str, Count)| {
            let value = count.of(facts.usage)?;
            Some(Attribute { namespace: NAMESPACE.to_owned(), key: key.to_owned(), value })
        };
        report.attributes.extend(DEFAULT_COSTS.into_iter().filter_map(attribute));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::built;

    fn reported(usage: &Usage) -> Vec<(String, u64)> {
        let plugin = built(&TYPE, "{}");
        let facts = AnswerFacts { usage, model: "m", target_model: "t", pool: "p", namespace: "n" };
        let mut report = Report::default();
        plugin.reporter.expect("it is one").report(&facts, &mut report);
        assert_eq!(report.n_errors, 0);
        assert!(report.attributes.iter().all(|attribute| attribute.namespace == NAMESPACE));
        report.attributes.into_iter().map(|attribute| (attribute.key, attribute.value)).collect()
    }

    #[test]
    fn counts_that_are_known_are_reported_and_output_always() {
        for (prompt, completion, total, cached, want) in [
            (
                Some(7),
                Some(5),
                Some(12),
                Some(4),
                &[("input", 7), ("output", 5), ("total", 12), ("cached_input", 4)][..],
            ),
            (Some(7), Some(5), None, None, &[("input", 7), ("output", 5), ("total", 12)]),
            (Some(7), None, Some(7), None, &[("input", 7), ("output", 0), ("total", 7)]),
            (None, None, Some(9), None, &[("output", 0), ("total", 9)]),
            (None, None, None, Some(4), &[("output", 0), ("total", 0), ("cached_input", 4)]),
        ] {
            let usage = Usage {
                prompt_tokens: prompt,
                completion_tokens: completion,
                total_tokens: total,
                cached_tokens: cached,
                ..Usage::default()
            };
            let want: Vec<_> = want.iter().map(|&(key, value)| (format!("llm_{key}_token"), value)).collect();
            assert_eq!(reported(&usage), want, "{usage:?}");
        }
    }
}

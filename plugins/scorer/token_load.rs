//! `token-load-scorer`: prefers endpoints with few tokens in flight, against a fixed threshold.
//!
//! Counted is what the core reserved, no scrape: prompt tokens until the first token of the answer, and, if an
//! `inflight-load-producer` is declared, the output that it estimates. Without one the client's bound of output tokens
//! is all there is, and bounds are no estimates, so output does not count.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::slot::RequestSlot;
use epp_framework::snapshot::{Candidate, Candidates};

use crate::prefix::PrefixMatches;
use crate::sources::{IN_FLIGHT_LOAD, IN_FLIGHT_LOAD_PRODUCER, PREFIX_MATCHES_PRODUCER, prefix_matches};

const THRESHOLD: &str = "queueThresholdTokens";
const DEFAULT_THRESHOLD: i64 = 4_194_304;

/// `token-load-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "token-load-scorer",
    summary: "Prefers endpoints with few tokens in flight.",
    about: "The score is 1 - tokens / `queueThresholdTokens`, and 0 from there on. Tokens are those of prompts that the \
            endpoint was sent and has not begun to answer, those of this prompt that it does not hold in its cache, \
            and, with an `inflight-load-producer`, the estimated output of running requests. No scrape is involved, so \
            it is never late. Choose the threshold near what a server computes in the time that a request may wait: \
            with the default, scores differ visibly only among very busy endpoints.",
    parameters: &[
        Parameter {
            name: THRESHOLD,
            kind: ParameterKind::Integer { default: DEFAULT_THRESHOLD, min: i64::MIN, max: i64::MAX },
            unit: "tokens",
            summary: "From how many tokens on an endpoint scores 0; 0 or less means the default.",
        },
        IN_FLIGHT_LOAD_PRODUCER,
        PREFIX_MATCHES_PRODUCER,
    ],
    kinds: &[Kind::Scorer],
    build,
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let threshold = match parameters.integer(THRESHOLD) {
        ..=0 => DEFAULT_THRESHOLD,
        threshold => threshold,
    };
    let scorer = TokenLoadScorer {
        per_token: 1.0 / threshold as f64,
        outputs: parameters.has(IN_FLIGHT_LOAD),
        matches: prefix_matches(parameters, cx),
    };
    Plugin { scorer: Some(Arc::new(scorer)), ..Plugin::default() }
}

struct TokenLoadScorer {
    /// What one token takes of the score.
    per_token: f64,
    /// Whether output tokens count.
    outputs: bool,
    matches: RequestSlot<PrefixMatches>,
}

impl TokenLoadScorer {
    fn tokens(&self, prompt_tokens: u64, found: Option<&PrefixMatches>, candidate: &Candidate<'_>) -> u64 {
        let in_flight = candidate.load.in_flight;
        let outputs = if self.outputs { in_flight.output_tokens } else { 0 };
        let cached = found.map_or(0, |found| found.tokens(candidate.id));
        let own = prompt_tokens.saturating_sub(cached);
        in_flight.prompt_tokens.saturating_add(outputs).saturating_add(own)
    }
}

impl Scorer for TokenLoadScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let found = self.matches.get(cycle.request);
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            let tokens = self.tokens(cycle.request.prompt_tokens, found, &candidate);
            // A signed number is converted in one step.
            let tokens = i64::try_from(tokens).unwrap_or(i64::MAX) as f64;
            *score = 1.0 - (tokens * self.per_token).min(1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::{Cost, Load};
    use epp_framework::slot::SlotNames;

    use super::*;
    use crate::testing::{Pool, assert_close, built_in, matches};

    /// Prompt and output tokens in flight.
    fn load(&(prompt_tokens, output_tokens): &(u64, u64)) -> Load {
        Load { in_flight: Cost { requests: 1, prompt_tokens, output_tokens }, ..Load::default() }
    }

    /// Name, parameters, prompt and output tokens in flight, those of the prompt, scores.
    type Case<'a> = (&'a str, &'a str, &'a [(u64, u64)], u64, &'a [f64]);

    #[test]
    fn few_tokens_in_flight_score_best() {
        let threshold = r#"{"queueThresholdTokens": 1000}"#;
        let outputs = r#"{"queueThresholdTokens": 1000, "inFlightLoadProducerName": "p"}"#;
        let cases: &[Case<'_>] = &[
            ("T1", threshold, &[(0, 0), (500, 0), (1000, 0)], 0, &[1.0, 0.5, 0.0]),
            ("T2", threshold, &[(0, 0), (250, 0), (750, 0)], 250, &[0.75, 0.5, 0.0]),
            ("T3", threshold, &[(5000, 0)], 0, &[0.0]),
            ("bounds of output are no estimate", threshold, &[(0, 500)], 0, &[1.0]),
            ("estimated output", outputs, &[(0, 500), (250, 500)], 0, &[0.5, 0.25]),
            ("default", "{}", &[(2_097_152, 0)], 0, &[0.5]),
            ("0 means the default", r#"{"queueThresholdTokens": 0}"#, &[(2_097_152, 0)], 0, &[0.5]),
            ("no overflow", outputs, &[(u64::MAX, u64::MAX)], u64::MAX, &[0.0]),
            ("nobody", "{}", &[], 0, &[]),
        ];
        for (name, parameters, loads, prompt_tokens, want) in cases {
            let mut pool = Pool::new(loads.iter().map(load));
            pool.request.prompt_tokens = *prompt_tokens;
            let scorer = built_in(&SlotNames::default(), &TYPE, parameters).scorer.unwrap();
            assert_close(&pool.score(&*scorer), want, name);
        }
    }

    #[test]
    fn cached_tokens_of_the_prompt_do_not_count() {
        let slots = SlotNames::default();
        let mut pool = Pool::new([Load::default(); 3]);
        pool.request.prompt_tokens = 100;
        let producer = slots.request_slot("p");
        producer.put(&mut pool.request, matches(10, 10, &[10, 5, 0]));
        let parameters = r#"{"queueThresholdTokens": 100, "prefixMatchInfoProducerName": "p"}"#;
        let scorer = built_in(&slots, &TYPE, parameters).scorer.unwrap();
        assert_close(&pool.score(&*scorer), &[1.0, 0.5, 0.0], "");
        pool.request.prompt_tokens = 40;
        assert_close(&pool.score(&*scorer), &[1.0, 1.0, 0.6], "more cached than there is");
    }
}

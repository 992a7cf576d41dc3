//! `inflight-load-producer`: what a request counts for while it is in flight.
//!
//! The count itself is the core's: every decision reserves on its endpoint, and gives back when the answer ends. What
//! this type adds is the estimate of the output.

use std::sync::Arc;

use epp_framework::endpoint::Cost;
use epp_framework::lifecycle::Estimator;
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Data, Kind, Plugin, PluginType, releases};
use epp_framework::request::InferenceRequest;

/// `inflight-load-producer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "inflight-load-producer",
    summary: "Says how many tokens a request counts for while it is in flight.",
    about: "Requests and tokens in flight are counted with or without it: one request, and those tokens of its prompt \
            that the endpoint does not hold in its cache, the latter until the first token of the answer. With \
            `addEstimatedOutputTokens` output counts, too, until the answer ends: prompt tokens × outputRatio, at most \
            what the client asked for, at most `maxEstimatedOutputTokens`. The first one of a configuration counts.",
    releases: releases::SINCE_V1_5,
    parameters: PARAMETERS,
    kinds: &[Kind::Produces(Data::InFlightLoad)],
    build,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "addEstimatedOutputTokens",
        kind: ParameterKind::Boolean { default: false },
        unit: "",
        summary: "Whether output counts.",
    },
    Parameter {
        name: "outputRatio",
        kind: ParameterKind::Float { default: 1.5, min: 0.0, max: 1e6 },
        unit: "output tokens per prompt token",
        summary: "How much output a prompt is thought to have.",
    },
    Parameter {
        name: "maxEstimatedOutputTokens",
        kind: ParameterKind::OptionalInteger { min: 0, max: MAX_OUTPUT_TOKENS },
        unit: "tokens",
        summary: "Most output that a request counts for.",
    },
    Parameter {
        name: "prefixMatchInfoProducerName",
        kind: ParameterKind::Ignored { because: "every prefix index is asked, and the longest match counts" },
        unit: "",
        summary: "Whose matches say which prompt tokens are cached.",
    },
];

/// Most output tokens that a request counts for, whatever its client asks for.
const MAX_OUTPUT_TOKENS: i64 = 1 << 24;

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let cap = parameters.optional_integer("maxEstimatedOutputTokens").unwrap_or(MAX_OUTPUT_TOKENS);
    let estimator = InflightLoad {
        ratio: parameters.boolean("addEstimatedOutputTokens").then(|| parameters.float("outputRatio")),
        cap: u64::try_from(cap).unwrap_or(0),
    };
    Plugin { estimator: Some(Arc::new(estimator)), ..Plugin::default() }
}

struct InflightLoad {
    /// Output tokens per prompt token; `None` if output does not count.
    ratio: Option<f64>,
    cap: u64,
}

impl Estimator for InflightLoad {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is capped")]
    fn estimate(&self, request: &InferenceRequest, cost: Cost) -> Cost {
        let Some(ratio) = self.ratio else { return cost };
        let estimated = (request.prompt_tokens as f64 * ratio).round() as u64;
        let output_tokens = estimated.min(request.max_tokens.unwrap_or(u64::MAX)).min(self.cap);
        Cost { output_tokens, ..cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::built;

    #[test]
    fn output_is_estimated_if_asked_for_and_bounded() {
        let on = r#"{"addEstimatedOutputTokens": true}"#;
        let capped =
            r#"{"addEstimatedOutputTokens": true, "outputRatio": 3, "maxEstimatedOutputTokens": 250}"#;
        for (name, parameters, max_tokens, want) in [
            ("off", "{}", Some(10), 0),
            ("by the prompt", on, None, 150),
            ("by the client", on, Some(40), 40),
            ("by the cap", capped, None, 250),
            ("by the client before the cap", capped, Some(7), 7),
        ] {
            let request = InferenceRequest { prompt_tokens: 100, max_tokens, ..InferenceRequest::default() };
            let cost = Cost { requests: 1, prompt_tokens: 60, output_tokens: 0 };
            let estimator = built(&TYPE, parameters).estimator.unwrap();
            assert_eq!(estimator.estimate(&request, cost), Cost { output_tokens: want, ..cost }, "{name}");
        }
    }
}

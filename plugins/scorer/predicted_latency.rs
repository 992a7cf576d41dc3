//! `predicted-latency-scorer`: what v1.5 had in one type; here the part of it that needs no predictions.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Stability, releases};

use super::latency::{COMPOSITE_KV, COMPOSITE_PREFIX, COMPOSITE_QUEUE, Composite};
use crate::producer::predicted_latency::{CONTEXT_TTL, NO_PREDICTIONS, ROLE_LABEL, STREAMING};
use crate::sources::PREFIX_MATCHES_PRODUCER;

/// `predicted-latency-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "predicted-latency-scorer",
    summary: "Rates free cache, queue and cached prefix, as it does where no latency is predicted.",
    about: "v1.5 put prediction, scoring and admission into this type. No latencies are predicted yet, so the score is \
            that of `latency-scorer` without predictions, by the three composite weights; the other parameters are \
            read and do nothing.",
    needs: &["vllm:kv_cache_usage_perc", "vllm:num_requests_waiting"],
    stability: Stability::Deprecated { instead: "use `latency-scorer`" },
    parameters: &[
        COMPOSITE_KV,
        COMPOSITE_QUEUE,
        COMPOSITE_PREFIX,
        PREFIX_MATCHES_PRODUCER,
        CONTEXT_TTL,
        STREAMING,
        ROLE_LABEL,
        unused("samplingMean"),
        unused("maxSampledTokens"),
        unused("sloBufferFactor"),
        unused("negHeadroomTTFTWeight"),
        unused("negHeadroomTPOTWeight"),
        unused("headroomTTFTWeight"),
        unused("headroomTPOTWeight"),
        unused("epsilonExploreSticky"),
        unused("epsilonExploreNeg"),
        unused("affinityGateTau"),
        unused("affinityGateTauGlobal"),
        unused("affinityMaxTTFTPenaltyMs"),
        unused_word("headroomSelectionStrategy"),
        unused_word("selectionMode"),
    ],
    kinds: &[Kind::Scorer],
    build,
    review: |_| vec![NO_PREDICTIONS.to_owned()],
    releases: releases::V1_5_ONLY,
    ..PluginType::PLAIN
};

const fn unused(name: &'static str) -> Parameter {
    let kind = ParameterKind::OptionalFloat { min: f64::MIN, max: f64::MAX, required: false };
    Parameter { name, kind, unit: "", summary: "Does nothing while nothing is predicted." }
}

const fn unused_word(name: &'static str) -> Parameter {
    let kind = ParameterKind::Text { default: Some(""), check: |_| None };
    Parameter { name, kind, unit: "", summary: "Does nothing while nothing is predicted." }
}

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    Plugin { scorer: Some(Arc::new(Composite::new(parameters, cx))), ..Plugin::default() }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;

    use super::*;
    use crate::testing::{Pool, assert_close, built, reviewed};

    #[test]
    fn without_predictions_it_rates_load_and_says_so() {
        let parameters = r#"{"compositePrefixWeight": 0, "samplingMean": 10, "selectionMode": "linear"}"#;
        let pool = Pool::new([(0.5, 2), (1.0, 0)].map(|(kv_used, waiting)| Load {
            kv_used,
            waiting,
            ..Load::default()
        }));
        assert_close(&pool.score(&*built(&TYPE, parameters).scorer.unwrap()), &[0.25, 0.5], "");
        assert!(reviewed(&TYPE, parameters).starts_with("no latencies are predicted yet"));
    }
}

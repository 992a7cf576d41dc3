//! `predicted-latency-producer`: a declaration. Its parameters are read, and no latencies are predicted yet.

use std::time::Duration;

use epp_framework::parameters::{Parameter, ParameterKind};
use epp_framework::plugin::{Data, Kind, PluginType, releases};

use crate::sources::{IN_FLIGHT_LOAD_PRODUCER, PREFIX_MATCHES};

/// Said of every configuration that asks for predictions.
pub(crate) const NO_PREDICTIONS: &str = "no latencies are predicted yet: `latency-scorer` rates load and prefix instead, filters keep \
     everybody, and nobody is denied";

/// `predicted-latency-producer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "predicted-latency-producer",
    summary: "Would tell other plugins how fast each endpoint will answer; predicts nothing yet.",
    about: "It is there so that configurations with latency prediction load. Its readers do what they do where nothing is \
            predicted.",
    parameters: &[
        Parameter {
            name: "sloBufferFactor",
            kind: ParameterKind::Float { default: 1.0, min: 1e-6, max: f64::MAX },
            unit: "",
            summary: "Factor on the time per token that the client allows.",
        },
        CONTEXT_TTL,
        STREAMING,
        ROLE_LABEL,
        Parameter {
            name: "predictInProduce",
            kind: ParameterKind::Boolean { default: true },
            unit: "",
            summary: "Whether every request is predicted before it is decided.",
        },
        Parameter {
            name: PREFIX_MATCHES,
            kind: ParameterKind::Reference { to: Kind::Produces(Data::PrefixMatches), default: None },
            unit: "",
            summary: "Who says how much of the prompt each endpoint holds.",
        },
        IN_FLIGHT_LOAD_PRODUCER,
        Parameter {
            name: "useEncoderCacheFeatures",
            kind: ParameterKind::Boolean { default: false },
            unit: "",
            summary: "Whether media that endpoints hold count.",
        },
        Parameter {
            name: "encoderCacheMatchInfoProducerName",
            kind: ParameterKind::Reference { to: Kind::Produces(Data::MediaMatches), default: None },
            unit: "",
            summary: "Who says which media each endpoint holds.",
        },
        ignored("samplingMean"),
        ignored("maxDecodeTokenSamplesForPrediction"),
    ],
    renamed: &[("predictInPrepareData", "predictInProduce")],
    kinds: &[Kind::Produces(Data::LatencyPrediction)],
    review: |_| vec![NO_PREDICTIONS.to_owned()],
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

/// Of both types of predictions.
pub(crate) const CONTEXT_TTL: Parameter = Parameter {
    name: "contextTTL",
    kind: ParameterKind::Span { default: Duration::from_secs(300), min: Duration::ZERO },
    unit: "",
    summary: "How long what is known of a request is kept.",
};

/// Of both types of predictions.
pub(crate) const STREAMING: Parameter = Parameter {
    name: "streamingMode",
    kind: ParameterKind::Boolean { default: false },
    unit: "",
    summary: "Whether predictions are trained on every token.",
};

/// Of both types of predictions.
pub(crate) const ROLE_LABEL: Parameter = Parameter {
    name: "endpointRoleLabel",
    kind: ParameterKind::Text { default: Some(""), check: |_| None },
    unit: "",
    summary: "Label that says an endpoint's role in prefill and decode.",
};

const fn ignored(name: &'static str) -> Parameter {
    Parameter {
        name,
        kind: ParameterKind::Ignored { because: "it has no effect in llm-d either" },
        unit: "",
        summary: "Without effect.",
    }
}

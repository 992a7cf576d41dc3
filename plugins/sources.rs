//! Parameters by which plugins of several families say who leaves the values that they read.

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Data};
use epp_framework::slot::RequestSlot;

use crate::latency::LatencyPredictions;
use crate::prefix::PrefixMatches;

/// Name of [`IN_FLIGHT_LOAD_PRODUCER`].
pub(crate) const IN_FLIGHT_LOAD: &str = "inFlightLoadProducerName";

/// Load in flight is counted by the core, so nobody has to produce it.
pub(crate) const IN_FLIGHT_LOAD_PRODUCER: Parameter = Parameter {
    name: IN_FLIGHT_LOAD,
    kind: ParameterKind::Producer { of: Data::InFlightLoad, own: true },
    unit: "",
    summary: "Who says what a request costs; load in flight is counted in any case.",
};

/// Name of [`PREFIX_MATCHES_PRODUCER`].
pub(crate) const PREFIX_MATCHES: &str = "prefixMatchInfoProducerName";

/// Who says how much of the prompt endpoints hold, for types that have no producer of their own.
pub(crate) const PREFIX_MATCHES_PRODUCER: Parameter = Parameter {
    name: PREFIX_MATCHES,
    kind: ParameterKind::Producer { of: Data::PrefixMatches, own: false },
    unit: "",
    summary: "Who says how much of the prompt each endpoint holds.",
};

/// Where the producer that [`PREFIX_MATCHES_PRODUCER`] names, or else the default one, leaves its matches.
pub(crate) fn prefix_matches(parameters: &Parameters, cx: &BuildContext<'_>) -> RequestSlot<PrefixMatches> {
    let named = parameters.reference(PREFIX_MATCHES);
    cx.slot_of(named.unwrap_or(Data::PrefixMatches.default_producer()))
}

/// Name of [`LATENCY_PREDICTIONS_PRODUCER`].
pub(crate) const LATENCY_PREDICTIONS: &str = "latencyPredictionInfoProducerName";

/// Who predicts latencies.
pub(crate) const LATENCY_PREDICTIONS_PRODUCER: Parameter = Parameter {
    name: LATENCY_PREDICTIONS,
    kind: ParameterKind::Producer { of: Data::LatencyPrediction, own: false },
    unit: "",
    summary: "Who predicts latencies.",
};

/// Where the producer that [`LATENCY_PREDICTIONS`] names, or else the default one, leaves its predictions.
pub(crate) fn latency_predictions(
    parameters: &Parameters,
    cx: &BuildContext<'_>,
) -> RequestSlot<LatencyPredictions> {
    let named = parameters.reference(LATENCY_PREDICTIONS);
    cx.slot_of(named.unwrap_or(Data::LatencyPrediction.default_producer()))
}

/// What is wrong with the name of a header, if anything is.
pub(crate) fn check_header(name: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (!name.bytes().all(fits)).then(|| "expected the name of a header".to_owned())
}

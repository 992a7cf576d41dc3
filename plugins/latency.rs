//! Predicted latencies of a request on each endpoint: [`LatencyPredictions`], which their producer leaves on requests.
//!
//! The readers are `latency-scorer`, `slo-headroom-tier-filter`, `latency-slo-admitter` and `prefix-cache-affinity-filter`.

use epp_framework::endpoint::EndpointId;

/// A prediction per endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencyPredictions {
    /// By endpoint.
    by_endpoint: Vec<(EndpointId, Prediction)>,
}

/// How fast an endpoint would answer, and how that compares with what the client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Time to the first token.
    pub ttft_ms: f64,
    /// Time per further token.
    pub tpot_ms: f64,
    /// What the client allows to the first token, less `ttft_ms`; negative where it takes longer.
    pub ttft_headroom_ms: f64,
    /// What the client allows per further token, less `tpot_ms`; negative where it takes longer.
    pub tpot_headroom_ms: f64,
    /// Whether the rest can be trusted; others count as not there.
    pub valid: bool,
    /// Requests that we sent there and that have not finished.
    pub n_dispatched: u32,
}

impl Prediction {
    /// Whether the endpoint would keep what the client asked for.
    pub fn meets_objectives(&self) -> bool {
        self.ttft_headroom_ms >= 0.0 && self.tpot_headroom_ms >= 0.0
    }
}

impl LatencyPredictions {
    /// The prediction for `endpoint`, if there is a valid one.
    pub fn of(&self, endpoint: EndpointId) -> Option<&Prediction> {
        let at = self.by_endpoint.binary_search_by_key(&endpoint, |(known, _)| *known).ok()?;
        Some(&self.by_endpoint[at].1).filter(|prediction| prediction.valid)
    }
}

impl FromIterator<(EndpointId, Prediction)> for LatencyPredictions {
    fn from_iter<I: IntoIterator<Item = (EndpointId, Prediction)>>(predictions: I) -> Self {
        let mut by_endpoint: Vec<_> = predictions.into_iter().collect();
        by_endpoint.sort_by_key(|(endpoint, _)| *endpoint);
        Self { by_endpoint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_predictions_of_the_same_endpoint_count() {
        let id = |slot, generation| EndpointId { slot, generation };
        let predictions: LatencyPredictions =
            [(id(2, 0), 20.0, true), (id(0, 1), 1.0, true), (id(1, 0), 9.0, false)]
                .into_iter()
                .map(|(endpoint, ttft_ms, valid)| {
                    (endpoint, Prediction { ttft_ms, valid, ..Prediction::default() })
                })
                .collect();
        for (endpoint, want) in [
            (id(0, 1), Some(1.0)),
            (id(2, 0), Some(20.0)),
            (id(1, 0), None),
            (id(0, 0), None),
            (id(3, 0), None),
        ] {
            assert_eq!(predictions.of(endpoint).map(|found| found.ttft_ms), want, "{endpoint:?}");
        }
    }
}

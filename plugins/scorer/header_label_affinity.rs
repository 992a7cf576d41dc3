//! `header-label-affinity-scorer`: prefers endpoints with a label that equals a header of the request.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Stability, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::snapshot::Candidates;

use crate::sources::check_header;

const HEADER: &str = "headerName";
const LABEL: &str = "labelKey";

/// `header-label-affinity-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "header-label-affinity-scorer",
    summary: "Prefers endpoints with a label that equals a header of the request.",
    about: "The score is 1 if the label is there and its value is that of the header, letter by letter, and 0 otherwise; \
            a request without the header scores 0 everywhere. Clients, or the gateway, can so ask for a zone, a tier \
            or a generation of hardware without depending on it.",
    stability: Stability::Alpha,
    parameters: &[
        Parameter {
            name: HEADER,
            kind: ParameterKind::Text { default: None, check: check_header },
            unit: "",
            summary: "The header.",
        },
        Parameter {
            name: LABEL,
            kind: ParameterKind::Text { default: None, check: |_| None },
            unit: "",
            summary: "The label of the endpoints.",
        },
    ],
    kinds: &[Kind::Scorer],
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let header = parameters.text(HEADER).to_ascii_lowercase();
    let request_headers = vec![header.clone()];
    let scorer = HeaderLabelAffinityScorer { header, label: parameters.text(LABEL).to_owned() };
    Plugin { scorer: Some(Arc::new(scorer)), request_headers, ..Plugin::default() }
}

struct HeaderLabelAffinityScorer {
    header: String,
    label: String,
}

impl Scorer for HeaderLabelAffinityScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let Some(wanted) = cycle.request.headers.get(&self.header) else {
            scores.fill(0.0);
            return;
        };
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            let equal = candidate.facts.labels.get(&self.label).is_some_and(|label| label == wanted);
            *score = f64::from(u8::from(equal));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pool, assert_close, built};

    #[test]
    fn labels_are_compared_with_the_header() {
        for (name, header, want) in [
            ("H1", Some("a"), [1.0, 0.0, 0.0]),
            ("no header", None, [0.0; 3]),
            ("letter by letter", Some("A"), [0.0; 3]),
            ("an empty header is no missing label", Some(""), [0.0; 3]),
        ] {
            let mut pool = Pool::with_labels([Some(("zone", "a")), Some(("zone", "b")), None]);
            pool.request.headers = header.map(|value| ("x-zone", value.to_owned())).into_iter().collect();
            let plugin = built(&TYPE, r#"{"headerName": "X-Zone", "labelKey": "zone"}"#);
            assert_eq!(plugin.request_headers, ["x-zone"]);
            assert_close(&pool.score(&*plugin.scorer.unwrap()), &want, name);
        }
    }
}

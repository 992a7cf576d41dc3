//! `endpoint-attribute-scorer`: prefers endpoints by one of their attributes, higher or lower.

use std::sync::Arc;

use epp_framework::attribute::AttributeKey;
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Stability, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::snapshot::{Candidate, Candidates};

use crate::attribute;

/// `endpoint-attribute-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "endpoint-attribute-scorer",
    summary: "Rates endpoints by an attribute: linearly, from the worst value (0) to the best (1). One without the \
              attribute gets 0.",
    parameters: PARAMETERS,
    kinds: &[Kind::Scorer],
    build,
    check,
    reads: |parameters| vec![attribute::named(parameters, "attributeKey")],
    stability: Stability::Alpha,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[attribute::attribute("attributeKey"), attribute::PRODUCER, ALGORITHM];

const ALGORITHM: Parameter = Parameter {
    name: "algorithm",
    kind: ParameterKind::Map { fields: || FIELDS, required: true, one_of: false },
    unit: "",
    summary: "How a value becomes a score.",
};

const LOWER: &str = "linear_lower_is_better";
const HIGHER: &str = "linear_higher_is_better";

const FIELDS: &[Parameter] = &[
    Parameter {
        name: "type",
        kind: ParameterKind::Word { of: &[LOWER, HIGHER], default: None },
        unit: "",
        summary: "Which values are better.",
    },
    Parameter {
        name: "normalization",
        kind: ParameterKind::Map { fields: || NORMALIZATION, required: false, one_of: false },
        unit: "",
        summary: "Which values are the worst and the best; without it those of the candidates.",
    },
];

const NORMALIZATION: &[Parameter] = &[
    Parameter {
        name: "adaptiveRange",
        kind: ParameterKind::Map { fields: || &[], required: false, one_of: false },
        unit: "",
        summary: "The least and the greatest value among the candidates. If they are equal, all get 1.",
    },
    Parameter {
        name: "fixedRange",
        kind: ParameterKind::Map { fields: || RANGE, required: false, one_of: false },
        unit: "",
        summary: "These two; values beyond count as the nearer one.",
    },
];

const RANGE: &[Parameter] = &[bound("min", "The least value."), bound("max", "The greatest value.")];

const fn bound(name: &'static str, summary: &'static str) -> Parameter {
    let kind = ParameterKind::Float { default: 0.0, min: f64::MIN, max: f64::MAX };
    Parameter { name, kind, unit: "", summary }
}

fn normalization(parameters: &Parameters) -> Option<&Parameters> {
    parameters.map("algorithm")?.map("normalization")
}

fn fixed_range(parameters: &Parameters) -> Option<(f64, f64)> {
    let range = normalization(parameters)?.map("fixedRange")?;
    Some((range.float("min"), range.float("max")))
}

fn check(parameters: &Parameters) -> Vec<String> {
    let mut wrong = Vec::new();
    if normalization(parameters).is_some_and(|given| given.has("adaptiveRange") && given.has("fixedRange")) {
        wrong.push("`normalization`: expected `adaptiveRange` or `fixedRange`, found both".to_owned());
    }
    if let Some((min, max)) = fixed_range(parameters)
        && min >= max
    {
        wrong.push(format!("`fixedRange`: expected `min` below `max`, found {min} and {max}"));
    }
    wrong
}

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let algorithm = parameters.map("algorithm");
    let scorer = EndpointAttributeScorer {
        key: attribute::key(parameters, "attributeKey", cx),
        lower_is_better: algorithm.is_some_and(|algorithm| algorithm.text("type") == LOWER),
        range: fixed_range(parameters),
    };
    Plugin { scorer: Some(Arc::new(scorer)), ..Plugin::default() }
}

struct EndpointAttributeScorer {
    key: AttributeKey,
    lower_is_better: bool,
    /// `None` is that of the candidates.
    range: Option<(f64, f64)>,
}

impl EndpointAttributeScorer {
    fn value(&self, candidate: Candidate<'_>) -> Option<f64> {
        candidate.facts.attributes.number(self.key)
    }
}

impl Scorer for EndpointAttributeScorer {
    fn score(&self, _cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        // Each is read once, or a value that changes meanwhile could lie beyond the range.
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            *score = self.value(candidate).unwrap_or(f64::NAN);
        }
        let (min, max) = self.range.unwrap_or_else(|| {
            let known = || scores.iter().copied().filter(|value| !value.is_nan());
            (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max))
        });
        for score in scores {
            *score = match *score {
                missing if missing.is_nan() => 0.0,
                _ if min >= max => 1.0,
                value => {
                    // Halves: the difference of two finite values may be none.
                    let share = ((value / 2.0 - min / 2.0) / (max / 2.0 - min / 2.0)).clamp(0.0, 1.0);
                    if self.lower_is_better { 1.0 - share } else { share }
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::slot::SlotNames;

    use super::*;
    use crate::testing::{Pool, assert_close, parsed};

    const NONE: f64 = f64::NAN;

    #[test]
    fn values_are_rated_between_the_worst_and_the_best() {
        let lower = r#""type": "linear_lower_is_better""#;
        let higher = r#""type": "linear_higher_is_better""#;
        let fixed = r#", "normalization": {"fixedRange": {"min": 0, "max": 10}}"#;
        let adaptive = r#", "normalization": {"adaptiveRange": {}}"#;
        for (name, algorithm, values, want) in [
            ("lower", lower.to_owned(), &[0.0, 5.0, 10.0][..], &[1.0, 0.5, 0.0][..]),
            ("higher", higher.to_owned(), &[0.0, 5.0, 10.0], &[0.0, 0.5, 1.0]),
            ("the same, said", format!("{higher}{adaptive}"), &[-1.0, 1.0], &[0.0, 1.0]),
            ("equal ones", lower.to_owned(), &[3.0, 3.0], &[1.0, 1.0]),
            ("one", lower.to_owned(), &[7.0], &[1.0]),
            ("missing is the worst, and no bound", lower.to_owned(), &[NONE, 2.0, 4.0], &[0.0, 1.0, 0.0]),
            ("all missing", higher.to_owned(), &[NONE, NONE], &[0.0, 0.0]),
            ("one has it", lower.to_owned(), &[NONE, 2.0], &[0.0, 1.0]),
            ("fixed", format!("{lower}{fixed}"), &[0.0, 2.5, 10.0], &[1.0, 0.75, 0.0]),
            ("fixed, higher", format!("{higher}{fixed}"), &[0.0, 2.5, 10.0], &[0.0, 0.25, 1.0]),
            ("beyond a fixed range", format!("{lower}{fixed}"), &[-5.0, 15.0, NONE], &[1.0, 0.0, 0.0]),
            ("equal in a fixed range", format!("{lower}{fixed}"), &[5.0, 5.0], &[0.5, 0.5]),
            ("as far apart as can be", higher.to_owned(), &[f64::MIN, 0.0, f64::MAX], &[0.0, 0.5, 1.0]),
            ("nobody", lower.to_owned(), &[], &[]),
        ] {
            let parameters = format!(r#"{{"attributeKey": "a", "algorithm": {{{algorithm}}}}}"#);
            let names = SlotNames::default();
            let parameters = parsed(PARAMETERS, &serde_json::from_str(&parameters).unwrap());
            let scorer = build(&parameters, &BuildContext::new("s", &names)).scorer.unwrap();
            let values: Vec<_> =
                values.iter().map(|value| Some(*value).filter(|value| !value.is_nan())).collect();
            let pool = Pool::with_numbers(names.attribute("core-metrics-extractor", "a"), &values);
            assert_close(&pool.score(&*scorer), want, name);
        }
    }

    #[test]
    fn ranges_must_be_ranges_and_one() {
        let told = |normalization: &str| {
            let parameters = format!(
                r#"{{"attributeKey": "a", "algorithm": {{"type": "{LOWER}", "normalization": {normalization}}}}}"#
            );
            check(&parsed(PARAMETERS, &serde_json::from_str(&parameters).unwrap()))
        };
        assert!(told("{}").is_empty() && told(r#"{"fixedRange": {"min": -1, "max": 1}}"#).is_empty());
        assert_eq!(
            told(r#"{"fixedRange": {"min": 1, "max": 1}}"#),
            ["`fixedRange`: expected `min` below `max`, found 1 and 1"]
        );
        let both = r#"{"fixedRange": {"max": 1}, "adaptiveRange": {}}"#;
        assert_eq!(told(both), ["`normalization`: expected `adaptiveRange` or `fixedRange`, found both"]);
    }
}

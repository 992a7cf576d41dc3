//! `endpoint-attribute-filter`: keeps endpoints by one of their attributes.

use std::sync::Arc;

use epp_framework::attribute::AttributeKey;
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Review, Stability, releases};
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::{Candidate, Candidates};
use parking_lot::Mutex;
use rand::rngs::SmallRng;

use crate::attribute;

/// `endpoint-attribute-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "endpoint-attribute-filter",
    summary: "Keeps endpoints by an attribute: by a threshold, a range, a number of the best, or a percentile.",
    parameters: PARAMETERS,
    reads: |parameters| vec![attribute::named(parameters, "attribute")],
    kinds: &[Kind::Filter],
    check,
    build,
    review,
    stability: Stability::Alpha,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[
    attribute::attribute("attribute"),
    attribute::PRODUCER,
    Parameter {
        name: "onMissing",
        kind: ParameterKind::Word { of: &["Pass", "Fail"], default: Some("Pass") },
        unit: "",
        summary: "Whether an endpoint without the attribute is kept (`Pass`) or not (`Fail`).",
    },
    Parameter {
        name: "fallbackOnEmpty",
        kind: ParameterKind::Boolean { default: false },
        unit: "",
        summary: "Whether everybody is kept where nobody would be.",
    },
    Parameter {
        name: "algorithm",
        kind: ParameterKind::Map { fields: || ALGORITHM, required: true, one_of: false },
        unit: "",
        summary: "Who is kept.",
    },
];

const ALGORITHM: &[Parameter] = &[
    Parameter {
        name: "type",
        kind: ParameterKind::Word { of: &["threshold", "range", "topK", "percentile"], default: None },
        unit: "",
        summary: "Which of the four below; it has to be there.",
    },
    map("threshold", || THRESHOLD, "Keeps those whose value compares with another."),
    map("range", || RANGE, "Keeps those whose value is within two others, or one of them."),
    map("topK", || TOP_K, "Keeps those with the best values, a number of them; equal ones in their order."),
    map(
        "percentile",
        || PERCENTILE,
        "Keeps those whose value is as good as that of a share of the candidates, or better.",
    ),
];

const fn map(name: &'static str, fields: fn() -> &'static [Parameter], summary: &'static str) -> Parameter {
    Parameter { name, kind: ParameterKind::Map { fields, required: false, one_of: false }, unit: "", summary }
}

const THRESHOLD: &[Parameter] = &[
    Parameter {
        name: "operator",
        kind: ParameterKind::Word {
            of: &["LessThan", "LessThanOrEqual", "GreaterThan", "GreaterThanOrEqual", "Equal", "NotEqual"],
            default: None,
        },
        unit: "",
        summary: "How the attribute compares with the value.",
    },
    number("value", "The value that the attribute is compared with."),
];

const RANGE: &[Parameter] = &[
    bound("min", "The least that is kept; without it `max` alone counts."),
    bound("max", "The greatest that is kept."),
];

const fn bound(name: &'static str, summary: &'static str) -> Parameter {
    let kind = ParameterKind::OptionalFloat { min: f64::MIN, max: f64::MAX, required: false };
    Parameter { name, kind, unit: "", summary }
}

const fn number(name: &'static str, summary: &'static str) -> Parameter {
    let kind = ParameterKind::Float { default: 0.0, min: f64::MIN, max: f64::MAX };
    Parameter { name, kind, unit: "", summary }
}

const TOP_K: &[Parameter] = &[
    Parameter {
        name: "k",
        kind: ParameterKind::Integer { default: 1, min: 1, max: 1_000_000 },
        unit: "endpoints",
        summary: "How many are kept.",
    },
    HIGHER_IS_BETTER,
];

const PERCENTILE: &[Parameter] = &[
    Parameter {
        name: "percentile",
        kind: ParameterKind::Float { default: 0.0, min: 0.0, max: 100.0 },
        unit: "%",
        summary: "Of the values in ascending order, the one at this share, rounded up, is the bound.",
    },
    HIGHER_IS_BETTER,
];

const HIGHER_IS_BETTER: Parameter = Parameter {
    name: "higherIsBetter",
    kind: ParameterKind::Boolean { default: true },
    unit: "",
    summary: "Whether the higher values are kept, or the lower ones.",
};

fn algorithm(parameters: &Parameters) -> Option<(&str, Option<&Parameters>)> {
    let algorithm = parameters.map("algorithm")?;
    let name = algorithm.text("type");
    Some((name, algorithm.map(name)))
}

fn check(parameters: &Parameters) -> Vec<String> {
    match algorithm(parameters) {
        Some((name, None)) => vec![format!("`algorithm`: `{name}` is not there, which `type` asks for")],
        Some(("range", Some(range))) => match (range.optional_float("min"), range.optional_float("max")) {
            (None, None) => vec!["`range`: expected `min`, `max` or both, found neither".to_owned()],
            (Some(min), Some(max)) if min > max => {
                vec![format!("`range`: expected `min` at most as great as `max`, found {min} and {max}")]
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn review(review: &Review<'_>) -> Vec<String> {
    let told =
        || "it may leave nobody, and requests are then refused, unless `fallbackOnEmpty` is true".to_owned();
    (!review.parameters.boolean("fallbackOnEmpty")).then(told).into_iter().collect()
}

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let (name, given) = algorithm(parameters).unwrap_or_default();
    let number = |name| given.map_or(0.0, |given| given.float(name));
    let bound = |name, none| given.and_then(|given| given.optional_float(name)).unwrap_or(none);
    let higher =
        given.is_some_and(|given| matches!(name, "topK" | "percentile") && given.boolean("higherIsBetter"));
    let filter = EndpointAttributeFilter {
        key: attribute::key(parameters, "attribute", cx),
        keeps_missing: parameters.text("onMissing") == "Pass",
        keeps_all_for_nobody: parameters.boolean("fallbackOnEmpty"),
        scratch: Mutex::default(),
        rule: match name {
            "range" => Rule::Range(bound("min", f64::NEG_INFINITY), bound("max", f64::INFINITY)),
            "topK" => {
                let k = given.map_or(1, |given| given.integer("k"));
                Rule::Top(usize::try_from(k).unwrap_or(usize::MAX), higher)
            }
            "percentile" => Rule::Percentile(number("percentile"), higher),
            _ => {
                Rule::Threshold(comparison(given.map_or("", |given| given.text("operator"))), number("value"))
            }
        },
    };
    Plugin { filter: Some(Arc::new(filter)), ..Plugin::default() }
}

fn comparison(operator: &str) -> fn(f64, f64) -> bool {
    match operator {
        "LessThan" => |a, b| a < b,
        "LessThanOrEqual" => |a, b| a <= b,
        "GreaterThan" => |a, b| a > b,
        "GreaterThanOrEqual" => |a, b| a >= b,
        "Equal" => equal,
        _ => |a, b| !equal(a, b),
    }
}

#[expect(clippy::float_cmp, reason = "whoever asks for equality means it")]
fn equal(a: f64, b: f64) -> bool {
    a == b
}

/// Whose value is good enough.
enum Rule {
    /// How it compares, and with what.
    Threshold(fn(f64, f64) -> bool, f64),
    /// From, to.
    Range(f64, f64),
    /// How many of the best there are, and whether higher is better.
    Top(usize, bool),
    /// The share at which the bound is, 0–100, and whether higher is better.
    Percentile(f64, bool),
}

/// A position among the candidates, and its value.
type Value = (usize, f64);

impl Rule {
    /// Whether a value is good enough by itself; `None` if that takes the others.
    fn judge(&self, value: f64) -> Option<bool> {
        match *self {
            Self::Threshold(holds, other) => Some(holds(value, other)),
            Self::Range(min, max) => Some((min..=max).contains(&value)),
            Self::Top(..) | Self::Percentile(..) => None,
        }
    }

    /// Leaves the values that are good enough among one another, in order of position.
    fn choose(&self, values: &mut Vec<Value>) {
        match *self {
            Self::Threshold(..) | Self::Range(..) => {}
            Self::Top(k, higher) => {
                let order = |a: &f64, b: &f64| if higher { b.total_cmp(a) } else { a.total_cmp(b) };
                values.sort_unstable_by(|(at, a), (other, b)| order(a, b).then(at.cmp(other)));
                values.truncate(k);
            }
            Self::Percentile(share, higher) => {
                values.sort_unstable_by(|(_, a), (_, b)| a.total_cmp(b));
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a share of a length"
                )]
                let rank = (share / 100.0 * values.len() as f64).ceil() as usize;
                let bound = values.get(rank.saturating_sub(1)).map_or(0.0, |(_, value)| *value);
                values.retain(|(_, value)| if higher { *value >= bound } else { *value <= bound });
            }
        }
        values.sort_unstable_by_key(|(at, _)| *at);
    }
}

struct EndpointAttributeFilter {
    key: AttributeKey,
    keeps_missing: bool,
    keeps_all_for_nobody: bool,
    rule: Rule,
    scratch: Mutex<Scratch>,
}

/// Positions among the candidates; empty but for their memory, which decisions use again.
#[derive(Default)]
struct Scratch {
    best: Vec<Value>,
    missing: Vec<usize>,
}

impl EndpointAttributeFilter {
    fn value(&self, candidate: Candidate<'_>) -> Option<f64> {
        candidate.facts.attributes.number(self.key)
    }

    fn keep(&self, candidates: &mut Candidates<'_>) {
        if matches!(self.rule, Rule::Top(..) | Rule::Percentile(..)) {
            return self.keep_the_best(candidates);
        }
        candidates.retain(|candidate| {
            let value = self.value(candidate);
            value.map_or(self.keeps_missing, |value| self.rule.judge(value).unwrap_or(true))
        });
    }

    fn keep_the_best(&self, candidates: &mut Candidates<'_>) {
        // Each is read once: a value may change meanwhile.
        let Scratch { best, missing } = &mut *self.scratch.lock();
        best.clear();
        missing.clear();
        for (at, candidate) in candidates.iter().enumerate() {
            match self.value(candidate) {
                Some(value) => best.push((at, value)),
                None => missing.push(at),
            }
        }
        self.rule.choose(best);
        let (mut at, mut best, mut missing) = (0, best.iter().peekable(), missing.iter().peekable());
        candidates.retain(|_| {
            let is_best = best.next_if(|(position, _)| *position == at).is_some();
            let is_missing = missing.next_if(|position| **position == at).is_some();
            at += 1;
            is_best || (is_missing && self.keeps_missing)
        });
    }
}

impl Filter for EndpointAttributeFilter {
    fn filter(&self, _cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        if self.keeps_all_for_nobody {
            candidates.attempt(|candidates| self.keep(candidates));
        } else {
            self.keep(candidates);
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::slot::SlotNames;

    use super::*;
    use crate::testing::{Pool, parsed};

    fn parameters(algorithm: &str, more: &str) -> Parameters {
        let given = format!(r#"{{"attribute": "a", "producer": "p", "algorithm": {{{algorithm}}}{more}}}"#);
        parsed(PARAMETERS, &serde_json::from_str(&given).unwrap())
    }

    /// Who is left of endpoints with these values.
    fn left(algorithm: &str, more: &str, values: &[Option<f64>]) -> Vec<u32> {
        let names = SlotNames::default();
        let parameters = parameters(algorithm, more);
        assert_eq!(check(&parameters), [""; 0]);
        let filter = build(&parameters, &BuildContext::new("f", &names)).filter.unwrap();
        Pool::with_numbers(names.attribute("p", "a"), values).filter(&*filter, 1)
    }

    fn threshold(operator: &str) -> String {
        format!(r#""type": "threshold", "threshold": {{"operator": "{operator}", "value": 5}}"#)
    }

    #[test]
    fn the_best_of_many_are_found_without_memory_of_their_own() {
        let names = SlotNames::default();
        let values: Vec<_> = (0..300).map(|n| (n % 3 > 0).then_some(f64::from(n))).collect();
        let pool = Pool::with_numbers(names.attribute("p", "a"), &values);
        let warm = |algorithm: &str| {
            let filter = build(&parameters(algorithm, ""), &BuildContext::new("f", &names)).filter.unwrap();
            assert!(!pool.filter(&*filter, 1).is_empty());
            allocation_counter::measure(|| drop(pool.filter(&*filter, 1))).count_total
        };
        // It looks at each by itself; what it takes is the pool's.
        let least = warm(&threshold("GreaterThan"));
        for algorithm in [
            r#""type": "topK", "topK": {"k": 5, "higherIsBetter": true}"#,
            r#""type": "percentile", "percentile": {"percentile": 50, "higherIsBetter": true}"#,
        ] {
            assert_eq!(warm(algorithm), least, "{algorithm}");
        }
    }

    #[test]
    fn those_that_compare_are_kept() {
        let values = [Some(4.0), Some(5.0), Some(6.0), None];
        for (operator, want) in [
            ("LessThan", &[0, 3][..]),
            ("LessThanOrEqual", &[0, 1, 3]),
            ("GreaterThan", &[2, 3]),
            ("GreaterThanOrEqual", &[1, 2, 3]),
            ("Equal", &[1, 3]),
            ("NotEqual", &[0, 2, 3]),
        ] {
            assert_eq!(left(&threshold(operator), "", &values), want, "{operator}");
            let known: Vec<_> = want.iter().copied().filter(|&index| index != 3).collect();
            assert_eq!(left(&threshold(operator), r#", "onMissing": "Fail""#, &values), known, "{operator}");
        }
    }

    #[test]
    fn nobody_is_left_or_everybody_is_kept() {
        let (fail, all) = (r#", "onMissing": "Fail""#, r#", "onMissing": "Fail", "fallbackOnEmpty": true"#);
        let values = [Some(6.0), None];
        assert!(left(&threshold("LessThan"), fail, &values).is_empty());
        assert_eq!(left(&threshold("LessThan"), all, &values), [0, 1]);
        assert_eq!(left(&threshold("GreaterThan"), all, &values), [0], "somebody is left");
        assert!(left(&threshold("LessThan"), all, &[]).is_empty());
    }

    #[test]
    fn others_are_kept_by_how_they_compare_with_one_another() {
        let values = [Some(3.0), None, Some(1.0), Some(2.0), Some(3.0)];
        for (algorithm, want) in [
            (r#""type": "range", "range": {"min": 2, "max": 3}"#, &[0, 3, 4][..]),
            (r#""type": "range", "range": {"min": 1, "max": 1}"#, &[2]),
            (r#""type": "range", "range": {"min": -2, "max": -1}"#, &[]),
            (r#""type": "range", "range": {"min": 2}"#, &[0, 3, 4]),
            (r#""type": "range", "range": {"max": 2}"#, &[2, 3]),
            (r#""type": "range", "range": {"max": -1}"#, &[]),
            (r#""type": "topK", "topK": {"k": 1}"#, &[0]),
            (r#""type": "topK", "topK": {"k": 3}"#, &[0, 3, 4]),
            (r#""type": "topK", "topK": {"k": 2, "higherIsBetter": false}"#, &[2, 3]),
            (r#""type": "topK", "topK": {"k": 9}"#, &[0, 2, 3, 4]),
            (r#""type": "percentile", "percentile": {"percentile": 75}"#, &[0, 4]),
            (r#""type": "percentile", "percentile": {"percentile": 26}"#, &[0, 3, 4]),
            (r#""type": "percentile", "percentile": {"percentile": 25, "higherIsBetter": false}"#, &[2]),
            (r#""type": "percentile", "percentile": {"percentile": 0, "higherIsBetter": false}"#, &[2]),
            (r#""type": "percentile", "percentile": {"percentile": 100}"#, &[0, 4]),
        ] {
            assert_eq!(left(algorithm, r#", "onMissing": "Fail""#, &values), want, "{algorithm}");
            let mut with_missing = want.to_vec();
            with_missing.push(1);
            with_missing.sort_unstable();
            assert_eq!(left(algorithm, "", &values), with_missing, "{algorithm}");
            assert_eq!(left(algorithm, "", &[None, None]), [0, 1], "{algorithm}");
        }
    }

    #[test]
    fn the_type_asks_for_its_own_parameters() {
        for (algorithm, want) in [
            (r#""type": "topK""#, "`algorithm`: `topK` is not there, which `type` asks for"),
            (
                r#""type": "range", "range": {"min": 2, "max": 1}"#,
                "`range`: expected `min` at most as great as `max`, found 2 and 1",
            ),
            (r#""type": "range", "range": {}"#, "`range`: expected `min`, `max` or both, found neither"),
        ] {
            assert_eq!(check(&parameters(algorithm, "")), [want], "{algorithm}");
        }
    }
}

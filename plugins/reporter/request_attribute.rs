//! `request-attribute-reporter`: numbers that expressions make of an answer's `usage`, as llm-d has it.
//!
//! The counts are doubles there, as in JSON, so `usage.prompt_tokens * 0.5` works and `usage.prompt_tokens * 2` does not.
//! What fails with doubles is tried with ints, so both work here. A fraction is cut off.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use epp_framework::answer::Usage;
use epp_framework::lifecycle::{AnswerFacts, Attribute, Report, Reporter};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};

use super::expression::{Expression, kind, whole};

const ATTRIBUTES: &str = "attributes";
const KEY: &str = "key";
const NAMESPACE: &str = "namespace";
const NAME: &str = "name";
const EXPRESSION: &str = "expression";
const CONDITION: &str = "condition";

/// `request-attribute-reporter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "request-attribute-reporter",
    summary: "Tells the gateway numbers that expressions make of an answer's usage.",
    parameters: &[Parameter {
        name: ATTRIBUTES,
        kind: ParameterKind::List { fields: || ATTRIBUTE, required: true, check: |_| None },
        unit: "",
        summary: "What is told under which key.",
    }],
    kinds: &[Kind::Reporter],
    build,
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

const ATTRIBUTE: &[Parameter] = &[
    Parameter {
        name: KEY,
        kind: ParameterKind::Map { fields: || PLACE, required: true, one_of: false },
        unit: "",
        summary: "Where in the metadata.",
    },
    Parameter {
        name: EXPRESSION,
        kind: ParameterKind::Text { default: None, check: check_expression },
        unit: "",
        summary: "A CEL expression, whose value is a number.",
    },
    Parameter {
        name: CONDITION,
        kind: ParameterKind::Text { default: Some(""), check: check_condition },
        unit: "",
        summary: "A CEL expression that says whether there is something to tell.",
    },
];

const PLACE: &[Parameter] = &[
    Parameter {
        name: NAMESPACE,
        kind: ParameterKind::Text { default: Some("envoy.lb"), check: |_| None },
        unit: "",
        summary: "Namespace of the metadata.",
    },
    Parameter {
        name: NAME,
        kind: ParameterKind::Text { default: None, check: |_| None },
        unit: "",
        summary: "Key in there.",
    },
];

/// The one variable of an expression.
const VARIABLES: &[&str] = &["usage"];

struct RequestAttribute {
    namespace: String,
    key: String,
    expression: Expression,
    condition: Option<Expression>,
}

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let compiled = |text: &str| Expression::compile(text, VARIABLES).expect("checked when loaded");
    let attribute = |attribute: &Parameters| {
        let place = attribute.map(KEY);
        let place = |name| place.map_or("", |place| place.text(name)).to_owned();
        let condition = Some(attribute.text(CONDITION)).filter(|text| !text.is_empty());
        RequestAttribute {
            namespace: place(NAMESPACE),
            key: place(NAME),
            expression: compiled(attribute.text(EXPRESSION)),
            condition: condition.map(compiled),
        }
    };
    let attributes = parameters.list(ATTRIBUTES).unwrap_or_default().iter().map(attribute).collect();
    Plugin { reporter: Some(Arc::new(RequestAttributes(attributes))), ..Plugin::default() }
}

struct RequestAttributes(Vec<RequestAttribute>);

impl Reporter for RequestAttributes {
    fn report(&self, facts: &AnswerFacts<'_>, report: &mut Report) {
        for attribute in &self.0 {
            match attribute.value(facts.usage) {
                Ok(Some(value)) => {
                    let (namespace, key) = (attribute.namespace.clone(), attribute.key.clone());
                    report.attributes.push(Attribute { namespace, key, value });
                }
                Ok(None) => {}
                Err(_) => report.n_errors += 1,
            }
        }
    }
}

impl RequestAttribute {
    /// The number; `None` if the condition does not hold.
    fn value(&self, usage: &Usage) -> Result<Option<u64>, String> {
        if let Some(condition) = &self.condition
            && !try_both(condition, usage, holds)?
        {
            return Ok(None);
        }
        try_both(&self.expression, usage, cut).map(Some)
    }
}

/// What `read` makes of the expression's value with counts as doubles, or else with counts as ints.
fn try_both<T>(
    expression: &Expression,
    usage: &Usage,
    read: fn(&Value) -> Result<T, String>,
) -> Result<T, String> {
    let with = |number: fn(u64) -> Value| expression.evaluate(|_| fields(usage, number));
    match with(|n| Value::Float(n as f64)) {
        Ok(value) => read(&value),
        Err(_) => read(&with(|n| Value::Int(i64::try_from(n).unwrap_or(i64::MAX)))?),
    }
}

/// `usage` as a map; a count that the server did not report is not in it, except the output's.
fn fields(usage: &Usage, number: fn(u64) -> Value) -> Value {
    let mut fields: HashMap<&str, Value> = HashMap::new();
    fields.extend(usage.prompt_tokens.map(|n| ("prompt_tokens", number(n))));
    fields.insert("completion_tokens", number(usage.completion_tokens.unwrap_or(0)));
    fields.insert("total_tokens", number(usage.total()));
    if let Some(cached) = usage.cached_tokens {
        let details = || HashMap::from([("cached_tokens", number(cached))]).into();
        // llm-d's first spelling lacks an `s`.
        fields.insert("prompt_tokens_details", details());
        fields.insert("prompt_token_details", details());
    }
    if let Some(reasoning) = usage.reasoning_tokens {
        let details = HashMap::from([("reasoning_tokens", number(reasoning))]);
        fields.insert("completion_tokens_details", details.into());
    }
    fields.into()
}

fn holds(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(holds) => Ok(*holds),
        other => Err(format!("expected a bool, found {}", kind(other))),
    }
}

/// The number without its fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut on purpose, and in range")]
fn cut(value: &Value) -> Result<u64, String> {
    match *value {
        Value::Float(number) if (0.0..u64::MAX as f64).contains(&number) => Ok(number as u64),
        Value::Float(number) => Err(format!("expected at least 0, found {number}")),
        ref other => whole(other),
    }
}

/// What is wrong with an expression, tried on an answer that reported every count: 1 each.
fn tried<T>(text: &str, read: fn(&Value) -> Result<T, String>) -> Option<String> {
    let usage = Usage {
        prompt_tokens: Some(1),
        completion_tokens: Some(1),
        total_tokens: Some(1),
        cached_tokens: Some(1),
        cache_creation_tokens: Some(1),
        reasoning_tokens: Some(1),
    };
    let expression = match Expression::compile(text, VARIABLES) {
        Ok(expression) => expression,
        Err(wrong) => return Some(wrong),
    };
    try_both(&expression, &usage, read).err().map(|wrong| format!("{wrong}, if all counts are 1"))
}

fn check_expression(text: &str) -> Option<String> {
    tried(text, cut)
}

fn check_condition(text: &str) -> Option<String> {
    tried(text, holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::built;

    /// What is told: a number, nothing, or that it could not be computed.
    fn reported(expression: &str, condition: &str, usage: &Usage) -> Result<Option<u64>, ()> {
        let attribute = serde_json::json!({
            "key": { "name": "x-cost" }, "expression": expression, "condition": condition,
        });
        let plugin = built(&TYPE, &serde_json::json!({ "attributes": [attribute] }).to_string());
        let facts = AnswerFacts { usage, model: "m", target_model: "t", pool: "p", namespace: "n" };
        let mut report = Report::default();
        plugin.reporter.expect("it is one").report(&facts, &mut report);
        let told = report.attributes.pop();
        if let Some(told) = &told {
            assert_eq!((told.namespace.as_str(), told.key.as_str()), ("envoy.lb", "x-cost"));
        }
        if report.n_errors == 0 { Ok(told.map(|told| told.value)) } else { Err(()) }
    }

    #[test]
    fn numbers_are_doubles_or_else_ints() {
        let usage = Usage {
            prompt_tokens: Some(7),
            completion_tokens: Some(10),
            cached_tokens: Some(4),
            ..Usage::default()
        };
        let either = |field: &str| format!("(has(usage.{field}) ? usage.{field} : 0)");
        let both = format!("{} + {}", either("prompt_tokens"), either("completion_tokens"));
        for (expression, condition, want) in [
            ("usage.completion_tokens", "has(usage.completion_tokens)", Ok(Some(10))),
            ("usage.prompt_tokens + usage.completion_tokens", "", Ok(Some(17))),
            ("usage.total_tokens", "", Ok(Some(17))),
            ("usage.prompt_tokens * 0.5", "", Ok(Some(3))),
            ("usage.prompt_tokens * 2", "", Ok(Some(14))),
            ("usage.prompt_tokens_details.cached_tokens", "", Ok(Some(4))),
            ("usage.prompt_token_details.cached_tokens", "", Ok(Some(4))),
            ("usage.completion_tokens", "usage.prompt_tokens > 8.0", Ok(None)),
            ("usage.completion_tokens", "usage.prompt_tokens > 6", Ok(Some(10))),
            ("1", "has(usage.completion_tokens_details)", Ok(None)),
            ("usage.completion_tokens_details.reasoning_tokens", "", Err(())),
            ("usage.prompt_tokens - usage.completion_tokens", "", Err(())),
            (&both, "", Ok(Some(17))),
        ] {
            assert_eq!(reported(expression, condition, &usage), want, "{expression} if {condition}");
        }
        let embeddings = Usage { prompt_tokens: Some(7), ..Usage::default() };
        assert_eq!(reported(&both, "", &embeddings), Ok(Some(7)), "the output is known to be none");
        assert_eq!(reported(&both, "", &Usage { total_tokens: Some(3), ..Usage::default() }), Ok(Some(0)));
    }

    #[test]
    fn expressions_are_tried() {
        for (check, text, want) in [
            (
                check_expression as fn(&str) -> Option<String>,
                "usage.prompt_tokens / usage.total_tokens",
                None,
            ),
            (check_expression, "usage.prompt_tokens - 1.0", None),
            (check_expression, "has(usage.prompt_tokens)", Some("expected an int or uint, found a bool")),
            (check_expression, "usage.promt_tokens", Some("No such key: promt_tokens")),
            (check_expression, "tokens", Some("unknown variable `tokens`, there are `usage`")),
            (check_expression, "0.0 - usage.total_tokens", Some("expected at least 0")),
            (check_condition, "has(usage.nowhere)", None),
            (
                check_condition,
                "usage.total_tokens",
                Some("expected a bool, found a double, if all counts are 1"),
            ),
        ] {
            let found = check(text);
            let told = found.as_deref().unwrap_or_default();
            assert!(want.map_or(found.is_none(), |want| told.contains(want)), "{text}: {told}");
        }
    }
}

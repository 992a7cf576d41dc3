//! `llm-request-costs`: what an answer cost, under keys as `llmRequestCosts` of Envoy AI Gateway has them.
//!
//! A count that the model server did not report has no key, except the output's: an answer without one (embeddings) has
//! no output, which is 0 tokens. The total is the server's, or else the sum. Expressions see 0 for what is not known.

use std::sync::Arc;

use cel::Value;
use epp_framework::answer::Usage;
use epp_framework::lifecycle::{AnswerFacts, Attribute, Report, Reporter};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType};

use super::expression::{Expression, whole};

const NAMESPACE: &str = "namespace";
const COSTS: &str = "llmRequestCosts";
const KEY: &str = "metadataKey";
const TYPE_OF_COST: &str = "type";
const CEL: &str = "cel";

/// What a cost may be, as Envoy AI Gateway's `llmRequestCosts` have it.
pub const COST_TYPES: [&str; 7] = [
    "InputToken",
    "CachedInputToken",
    "CacheCreationInputToken",
    "OutputToken",
    "TotalToken",
    "ReasoningToken",
    "CEL",
];

/// `llm-request-costs`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "llm-request-costs",
    summary: "Tells the gateway what each answer cost, in tokens or as an expression says.",
    parameters: &[
        Parameter {
            name: NAMESPACE,
            kind: ParameterKind::Text { default: Some("io.envoy.ai_gateway"), check: |_| None },
            unit: "",
            summary: "Namespace of the metadata.",
        },
        Parameter {
            name: COSTS,
            kind: ParameterKind::List { fields: || COST, required: false, check: check_cost },
            unit: "",
            summary: "What is told under which key; absent: input, output, total and cached tokens.",
        },
    ],
    kinds: &[Kind::Reporter],
    build,
    ..PluginType::PLAIN
};

const COST: &[Parameter] = &[
    Parameter {
        name: KEY,
        kind: ParameterKind::Text { default: None, check: |_| None },
        unit: "",
        summary: "Key in the metadata.",
    },
    Parameter {
        name: TYPE_OF_COST,
        kind: ParameterKind::Word { default: None, of: &COST_TYPES },
        unit: "",
        summary: "Which count, or that `cel` says it.",
    },
    Parameter {
        name: CEL,
        kind: ParameterKind::Text { default: Some(""), check: check_expression },
        unit: "",
        summary: "A CEL expression, whose value is an int or uint.",
    },
];

/// Variables of an expression.
const VARIABLES: &[&str] = &[
    "model",
    "target_model",
    "backend",
    "route_name",
    "input_tokens",
    "cached_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
    "total_tokens",
    "reasoning_tokens",
];

/// Which count of an answer's usage.
#[derive(Clone, Copy, Debug)]
enum Count {
    Input,
    CachedInput,
    CacheCreationInput,
    Output,
    Total,
    Reasoning,
}

impl Count {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "InputToken" => Self::Input,
            "CachedInputToken" => Self::CachedInput,
            "CacheCreationInputToken" => Self::CacheCreationInput,
            "OutputToken" => Self::Output,
            "TotalToken" => Self::Total,
            "ReasoningToken" => Self::Reasoning,
            _ => return None,
        })
    }

    fn of(self, usage: &Usage) -> Option<u64> {
        match self {
            Self::Input => usage.prompt_tokens,
            Self::CachedInput => usage.cached_tokens,
            Self::CacheCreationInput => usage.cache_creation_tokens,
            Self::Output => Some(usage.completion_tokens.unwrap_or(0)),
            Self::Total => Some(usage.total()),
            Self::Reasoning => usage.reasoning_tokens,
        }
    }
}

/// What is reported where nothing else is asked for.
const DEFAULT_COSTS: [(&str, Count); 4] = [
    ("llm_input_token", Count::Input),
    ("llm_output_token", Count::Output),
    ("llm_total_token", Count::Total),
    ("llm_cached_input_token", Count::CachedInput),
];

enum Cost {
    Count(Count),
    Expression(Box<Expression>),
}

struct LlmRequestCosts {
    namespace: String,
    /// Each under its key.
    costs: Vec<(String, Cost)>,
}

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let cost = |parameters: &Parameters| {
        let cost = Count::named(parameters.text(TYPE_OF_COST)).map_or_else(
            || {
                let expression = Expression::compile(parameters.text(CEL), VARIABLES);
                Cost::Expression(Box::new(expression.expect("checked when loaded")))
            },
            Cost::Count,
        );
        (parameters.text(KEY).to_owned(), cost)
    };
    let costs = match parameters.list(COSTS) {
        Some(costs) => costs.iter().map(cost).collect(),
        None => DEFAULT_COSTS.map(|(key, count)| (key.to_owned(), Cost::Count(count))).into(),
    };
    let reporter = LlmRequestCosts { namespace: parameters.text(NAMESPACE).to_owned(), costs };
    Plugin { reporter: Some(Arc::new(reporter)), ..Plugin::default() }
}

impl Reporter for LlmRequestCosts {
    fn report(&self, facts: &AnswerFacts<'_>, report: &mut Report) {
        for (key, cost) in &self.costs {
            let value = match cost {
                Cost::Count(count) => count.of(facts.usage),
                Cost::Expression(expression) => {
                    let value = evaluate(expression, facts).ok();
                    report.n_errors += u64::from(value.is_none());
                    value
                }
            };
            let attribute = |value| Attribute { namespace: self.namespace.clone(), key: key.clone(), value };
            report.attributes.extend(value.map(attribute));
        }
    }
}

fn evaluate(expression: &Expression, facts: &AnswerFacts<'_>) -> Result<u64, String> {
    let count = |count: Count| Value::UInt(count.of(facts.usage).unwrap_or(0));
    let value = expression.evaluate(|name| match name {
        "model" => facts.model.into(),
        "target_model" => facts.target_model.into(),
        "backend" => format!("{}.{}", facts.pool, facts.namespace).into(),
        "input_tokens" => count(Count::Input),
        "cached_input_tokens" => count(Count::CachedInput),
        "cache_creation_input_tokens" => count(Count::CacheCreationInput),
        "output_tokens" => count(Count::Output),
        "total_tokens" => count(Count::Total),
        "reasoning_tokens" => count(Count::Reasoning),
        // `route_name`: the gateway does not say it.
        _ => "".into(),
    })?;
    whole(&value)
}

/// Tells what is wrong with the expression of a cost, without a position; it is tried on an answer without tokens.
pub fn check_cost_expression(text: &str) -> Result<(), String> {
    check_expression(text).map_or(Ok(()), Err)
}

/// Tries an expression on an answer without tokens.
fn check_expression(text: &str) -> Option<String> {
    let facts =
        AnswerFacts { usage: &Usage::default(), model: "", target_model: "", pool: "", namespace: "" };
    let expression = match Expression::compile(text, VARIABLES) {
        Ok(expression) => expression,
        Err(wrong) => return Some(wrong),
    };
    evaluate(&expression, &facts).err().map(|wrong| format!("{wrong}, if all counts are 0"))
}

fn check_cost(cost: &Parameters) -> Option<String> {
    match (cost.text(TYPE_OF_COST) == "CEL", cost.text(CEL).is_empty()) {
        (true, true) => Some("`cel` is required with type `CEL`".to_owned()),
        (false, false) => Some("`cel` is only for type `CEL`".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::built;

    /// What is reported under `namespace`, as `key=number`, and how much could not be computed.
    fn reported(parameters: &str, namespace: &str, usage: &Usage) -> (Vec<String>, u64) {
        let plugin = built(&TYPE, parameters);
        let facts = AnswerFacts { usage, model: "m", target_model: "t", pool: "p", namespace: "n" };
        let mut report = Report::default();
        plugin.reporter.expect("it is one").report(&facts, &mut report);
        assert!(report.attributes.iter().all(|attribute| attribute.namespace == namespace));
        let told = |attribute: Attribute| format!("{}={}", attribute.key, attribute.value);
        (report.attributes.into_iter().map(told).collect(), report.n_errors)
    }

    fn usage(prompt: Option<u64>, completion: Option<u64>, total: Option<u64>, cached: Option<u64>) -> Usage {
        Usage {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: total,
            cached_tokens: cached,
            ..Usage::default()
        }
    }

    #[test]
    fn counts_that_are_known_are_reported_and_output_always() {
        for (usage, want) in [
            (usage(Some(7), Some(5), Some(12), Some(4)), "input=7 output=5 total=12 cached_input=4"),
            (usage(Some(7), Some(5), None, None), "input=7 output=5 total=12"),
            (usage(Some(7), None, Some(7), None), "input=7 output=0 total=7"),
            (usage(None, None, Some(9), None), "output=0 total=9"),
            (usage(None, None, None, Some(4)), "output=0 total=0 cached_input=4"),
        ] {
            let (told, n_errors) = reported("{}", "io.envoy.ai_gateway", &usage);
            let told: Vec<_> =
                told.iter().map(|told| told.replace("llm_", "").replace("_token", "")).collect();
            assert_eq!((told.join(" ").as_str(), n_errors), (want, 0), "{usage:?}");
        }
    }

    /// Rows A28 and A29 of the gateway's specification, and every type.
    #[test]
    fn a28_a29_each_key_has_its_count_or_expression() {
        let usage = Usage {
            cache_creation_tokens: Some(2),
            reasoning_tokens: Some(3),
            ..usage(Some(7), Some(5), Some(13), Some(4))
        };
        for (cost, want) in [
            ("type: InputToken", "7"),
            ("type: CachedInputToken", "4"),
            ("type: CacheCreationInputToken", "2"),
            ("type: OutputToken", "5"),
            ("type: TotalToken", "13"),
            ("type: ReasoningToken", "3"),
            ("type: CEL, cel: input_tokens + output_tokens", "12"),
            ("type: CEL, cel: model == 'm' ? output_tokens * 2u : 0u", "10"),
            ("type: CEL, cel: target_model == 't' && route_name == '' ? 1 : 2", "1"),
            ("type: CEL, cel: backend == 'p.n' ? reasoning_tokens : 0u", "3"),
            ("type: CEL, cel: total_tokens - cached_input_tokens - cache_creation_input_tokens", "7"),
        ] {
            let (cost_type, cel) = cost.split_once(", cel: ").unwrap_or((cost, ""));
            let cost = serde_json::json!({ "metadataKey": "k", "type": &cost_type[6..], "cel": cel });
            let parameters = serde_json::json!({ "namespace": "mine", "llmRequestCosts": [cost] });
            let want = (vec![format!("k={want}")], 0);
            assert_eq!(reported(&parameters.to_string(), "mine", &usage), want, "{cost}");
        }
    }

    #[test]
    fn what_cannot_be_computed_is_left_out_and_counted() {
        let parameters = r#"{"llmRequestCosts": [
            {"metadataKey": "a", "type": "CEL", "cel": "output_tokens > 0u ? 1u / cached_input_tokens : 0u"},
            {"metadataKey": "b", "type": "InputToken"}
        ]}"#;
        let usage = usage(Some(7), Some(5), None, None);
        assert_eq!(reported(parameters, "io.envoy.ai_gateway", &usage), (vec!["b=7".to_owned()], 1));
    }

    /// Row A30 of the gateway's specification, and others that fail when they are tried.
    #[test]
    fn a30_expressions_are_tried_with_zeros() {
        for (text, want) in [
            ("input_tokens + output_tokens", None),
            ("input_tokens * 0.5", Some("cannot compute `mul` of a uint and a double, if all counts are 0")),
            ("input_tokens / output_tokens", Some("division by 0, if all counts are 0")),
            ("-1", Some("expected at least 0, found -1, if all counts are 0")),
            ("1.0", Some("expected an int or uint, found a double")),
            ("usage.prompt_tokens", Some("unknown variable `usage`")),
        ] {
            let found = check_expression(text);
            let told = found.as_deref().unwrap_or_default();
            assert!(want.map_or(found.is_none(), |want| told.contains(want)), "{text}: {told}");
        }
    }
}

//! `label-selector-filter`: keeps the endpoints that a Kubernetes label selector selects.

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};

use crate::labels::{LabelFilter, Labels};

const MATCH_LABELS: &str = "matchLabels";
const MATCH_EXPRESSIONS: &str = "matchExpressions";
const KEY: &str = "key";
const OPERATOR: &str = "operator";
const VALUES: &str = "values";
const IN: &str = "In";
const NOT_IN: &str = "NotIn";
const EXISTS: &str = "Exists";
const DOES_NOT_EXIST: &str = "DoesNotExist";

/// `label-selector-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "label-selector-filter",
    aliases: &["by-label-selector"],
    summary: "Keeps the endpoints that a Kubernetes label selector selects.",
    about: "An endpoint is kept if it has every label of `matchLabels` with that value, and every expression holds; an \
            empty selector keeps all. As in Kubernetes, `NotIn` holds for an endpoint without the label as well.",
    parameters: &[
        Parameter {
            name: MATCH_LABELS,
            kind: ParameterKind::TextMap,
            unit: "",
            summary: "Labels with the values that they must have.",
        },
        Parameter {
            name: MATCH_EXPRESSIONS,
            kind: ParameterKind::List { fields: || EXPRESSION, required: false, check: check_expression },
            unit: "",
            summary: "What else must hold of labels.",
        },
    ],
    kinds: &[Kind::Filter],
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

const EXPRESSION: &[Parameter] = &[
    Parameter {
        name: KEY,
        kind: ParameterKind::Text { default: None, check: |_| None },
        unit: "",
        summary: "The label.",
    },
    Parameter {
        name: OPERATOR,
        kind: ParameterKind::Word { of: &[IN, NOT_IN, EXISTS, DOES_NOT_EXIST], default: None },
        unit: "",
        summary: "What must hold of its value.",
    },
    Parameter {
        name: VALUES,
        kind: ParameterKind::Texts { required: false },
        unit: "",
        summary: "The values that `In` and `NotIn` compare with; the others take none.",
    },
];

fn check_expression(expression: &Parameters) -> Option<String> {
    let (operator, values) = (expression.text(OPERATOR), expression.texts(VALUES));
    match operator {
        IN | NOT_IN if values.is_empty() => Some(format!("`{operator}` needs `{VALUES}`")),
        EXISTS | DOES_NOT_EXIST if !values.is_empty() => Some(format!("`{operator}` takes no `{VALUES}`")),
        _ => None,
    }
}

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let equal = parameters.text_map(MATCH_LABELS).iter();
    let equal = equal.map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()]));
    let expressions = parameters.list(MATCH_EXPRESSIONS).unwrap_or_default();
    let requirements: Vec<_> = equal.chain(expressions.iter().map(Requirement::read)).collect();
    LabelFilter::plugin(move |labels| requirements.iter().all(|requirement| requirement.holds(labels)))
}

enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Requirement {
    fn read(expression: &Parameters) -> Self {
        let (key, values) = (expression.text(KEY).to_owned(), expression.texts(VALUES).to_vec());
        match expression.text(OPERATOR) {
            IN => Self::In(key, values),
            NOT_IN => Self::NotIn(key, values),
            EXISTS => Self::Exists(key),
            _ => Self::DoesNotExist(key),
        }
    }

    fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pool, built, parsed};

    #[test]
    fn endpoints_are_selected_as_kubernetes_does() {
        let mut pool = Pool::with_labels([None, Some(("a", "x")), Some(("a", "z")), None]);
        pool.label(3, [("a", "x"), ("b", "y")]);
        let expressions = |expressions: &str| format!(r#"{{"matchExpressions": [{expressions}]}}"#);
        for (name, parameters, want) in [
            ("B4", r#"{"matchLabels": {"a": "x", "b": "y"}}"#.to_owned(), &[3][..]),
            ("B5", expressions(r#"{"key": "a", "operator": "NotIn", "values": ["x"]}"#), &[0, 2]),
            ("In", expressions(r#"{"key": "a", "operator": "In", "values": ["x", "y"]}"#), &[1, 3]),
            ("Exists", expressions(r#"{"key": "a", "operator": "Exists"}"#), &[1, 2, 3]),
            ("DoesNotExist", expressions(r#"{"key": "b", "operator": "DoesNotExist"}"#), &[0, 1, 2]),
            ("empty", "{}".to_owned(), &[0, 1, 2, 3]),
            (
                "both",
                r#"{"matchLabels": {"a": "x"}, "matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}"#
                    .to_owned(),
                &[1],
            ),
        ] {
            assert_eq!(pool.filter(&*built(&TYPE, &parameters).filter.unwrap(), 1), want, "{name}");
        }
    }

    #[test]
    fn expressions_have_the_values_that_they_need() {
        for (expression, wrong) in [
            (r#"{"key": "a", "operator": "In"}"#, Some("`In` needs `values`")),
            (r#"{"key": "a", "operator": "NotIn", "values": []}"#, Some("`NotIn` needs `values`")),
            (r#"{"key": "a", "operator": "Exists", "values": ["x"]}"#, Some("`Exists` takes no `values`")),
            (r#"{"key": "a", "operator": "Exists", "values": []}"#, None),
            (r#"{"key": "a", "operator": "In", "values": ["x"]}"#, None),
        ] {
            let found = check_expression(&parsed(EXPRESSION, &serde_json::from_str(expression).unwrap()));
            assert_eq!(found.as_deref(), wrong, "{expression}");
        }
    }
}

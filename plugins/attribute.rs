//! What plugins that read an attribute of endpoints have in common: how parameters name it.

use epp_framework::attribute::AttributeKey;
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::BuildContext;

use crate::extractor::core_metrics;

/// The plugin that leaves the attribute.
pub(crate) const PRODUCER: Parameter = Parameter {
    name: "producer",
    kind: ParameterKind::Text { default: Some(core_metrics::NAME), check: |_| None },
    unit: "",
    summary: "Name, or type, of the plugin that leaves the attribute, such as `dcgm-extractor`.",
};

/// The attribute's name.
pub(crate) const fn attribute(name: &'static str) -> Parameter {
    Parameter {
        name,
        kind: ParameterKind::Text { default: None, check: check_attribute },
        unit: "",
        summary: "Attribute of the endpoint; `ATTRIBUTE/PRODUCER` says both.",
    }
}

fn check_attribute(text: &str) -> Option<String> {
    let is_cut = text.split_once('/').is_some_and(|(name, producer)| !name.is_empty() && producer.is_empty());
    is_cut.then(|| "expected the name of a producer after `/`".to_owned())
}

/// Producer and name of the attribute. Files of llm-d before it had `producer` say both in one, the producer last.
pub(crate) fn named<'p>(parameters: &'p Parameters, parameter: &str) -> (&'p str, &'p str) {
    let (name, producer) = (parameters.text(parameter), parameters.text("producer"));
    match name.rsplit_once('/') {
        Some((name, producer_too)) if producer == core_metrics::NAME && !name.is_empty() => {
            (producer_too, name)
        }
        _ => (producer, name),
    }
}

/// The attribute that parameters name.
pub(crate) fn key(parameters: &Parameters, parameter: &str, cx: &BuildContext<'_>) -> AttributeKey {
    let (producer, name) = named(parameters, parameter);
    cx.attribute(producer, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::parsed;

    static DECLARED: [Parameter; 2] = [attribute("attribute"), PRODUCER];

    #[test]
    fn an_attribute_is_named_in_one_way_or_the_other() {
        for (given, want) in [
            (r#"{"attribute": "a"}"#, ("core-metrics-extractor", "a")),
            (r#"{"attribute": "a", "producer": "p"}"#, ("p", "a")),
            (r#"{"attribute": "a/p"}"#, ("p", "a")),
            (r#"{"attribute": "a/b/p"}"#, ("p", "a/b")),
            (r#"{"attribute": "/v1/models", "producer": "p"}"#, ("p", "/v1/models")),
            (r#"{"attribute": "a/b", "producer": "p"}"#, ("p", "a/b")),
        ] {
            let parameters = parsed(&DECLARED, &serde_json::from_str(given).unwrap());
            assert_eq!(named(&parameters, "attribute"), want, "{given}");
        }
        for (text, fits) in [("a", true), ("a/p", true), ("a/", false), ("/", true)] {
            assert_eq!(check_attribute(text).is_none(), fits, "{text}");
        }
    }
}

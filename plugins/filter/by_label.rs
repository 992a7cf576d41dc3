//! `by-label`: keeps the endpoints whose label has one of a few values; older than `label-selector-filter`.

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Stability, releases};

use crate::labels::LabelFilter;

const LABEL: &str = "label";
const VALUES: &str = "validValues";
const NO_LABEL: &str = "allowsNoLabel";

/// `by-label`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "by-label",
    summary: "Keeps the endpoints whose label has one of a few values.",
    about: "An endpoint without the label is kept with `allowsNoLabel` only. `label-selector-filter` does the same with \
            the operator `In`, but for endpoints without the label.",
    stability: Stability::Deprecated { instead: "use `label-selector-filter`" },
    parameters: &[
        Parameter {
            name: LABEL,
            kind: ParameterKind::Text { default: None, check: |_| None },
            unit: "",
            summary: "The label.",
        },
        Parameter {
            name: VALUES,
            kind: ParameterKind::Texts { required: false },
            unit: "",
            summary: "The values; needed unless `allowsNoLabel` is set.",
        },
        Parameter {
            name: NO_LABEL,
            kind: ParameterKind::Boolean { default: false },
            unit: "",
            summary: "Also keep endpoints without the label.",
        },
    ],
    kinds: &[Kind::Filter],
    check,
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn check(parameters: &Parameters) -> Vec<String> {
    let nobody = parameters.texts(VALUES).is_empty() && !parameters.boolean(NO_LABEL);
    let told = || format!("expected `{VALUES}`, or `{NO_LABEL}: true`");
    if nobody { vec![told()] } else { Vec::new() }
}

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let (label, values) = (parameters.text(LABEL).to_owned(), parameters.texts(VALUES).to_vec());
    let no_label = parameters.boolean(NO_LABEL);
    LabelFilter::plugin(move |labels| labels.get(&label).map_or(no_label, |value| values.contains(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pool, built, checked};

    #[test]
    fn endpoints_are_kept_by_the_values_of_a_label() {
        let pool = Pool::with_labels([Some(("tier", "a")), Some(("tier", "b")), None, Some(("tier", ""))]);
        for (parameters, want) in [
            (r#"{"label": "tier", "validValues": ["a", "c"]}"#, &[0][..]),
            (r#"{"label": "tier", "validValues": ["b"], "allowsNoLabel": true}"#, &[1, 2]),
            (r#"{"label": "tier", "allowsNoLabel": true}"#, &[2]),
            (r#"{"label": "zone", "validValues": ["a"]}"#, &[]),
        ] {
            assert_eq!(pool.filter(&*built(&TYPE, parameters).filter.unwrap(), 1), want, "{parameters}");
        }
    }

    #[test]
    fn b6_values_are_needed_unless_their_lack_is_allowed() {
        assert_eq!(checked(&TYPE, r#"{"label": "a"}"#), "expected `validValues`, or `allowsNoLabel: true`");
        assert_eq!(checked(&TYPE, r#"{"label": "a", "allowsNoLabel": true}"#), "");
        assert_eq!(checked(&TYPE, r#"{"label": "a", "validValues": ["b"]}"#), "");
    }
}

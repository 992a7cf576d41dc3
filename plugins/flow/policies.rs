//! The policies that `flowControl` refers to, as declarations: names and parameters.
//!
//! No request waits yet, so nothing is built of them.

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{Kind, PluginType, Review, Stability, releases};

/// What is said of each of them, behind what it is for.
const NOT_YET: &str = "It is checked, and does nothing yet: no request waits.";

const fn fairness(name: &'static str, summary: &'static str) -> PluginType {
    PluginType {
        name,
        summary,
        about: NOT_YET,
        kinds: &[Kind::FairnessPolicy],
        review: inert,
        releases: releases::SINCE_V1_5,
        ..PluginType::PLAIN
    }
}

const fn ordering(name: &'static str, summary: &'static str) -> PluginType {
    PluginType { kinds: &[Kind::OrderingPolicy], ..fairness(name, summary) }
}

const fn usage(name: &'static str, summary: &'static str) -> PluginType {
    PluginType { kinds: &[Kind::UsageLimitPolicy], ..fairness(name, summary) }
}

const ALPHA: PluginType =
    PluginType { stability: Stability::Alpha, releases: releases::LLM_D, review: inert, ..PluginType::PLAIN };

fn inert(_review: &Review<'_>) -> Vec<String> {
    vec!["it does nothing yet, no request waits".to_owned()]
}

/// `global-strict-fairness-policy`.
pub(crate) const GLOBAL_STRICT: PluginType =
    fairness("global-strict-fairness-policy", "The best waiting request goes first, whoever sent it.");

/// `round-robin-fairness-policy`.
pub(crate) const ROUND_ROBIN: PluginType =
    fairness("round-robin-fairness-policy", "The flows that have waiting requests take turns.");

/// `program-aware-fairness`.
pub(crate) const PROGRAM_AWARE: PluginType = PluginType {
    parameters: &[Parameter {
        name: "strategy",
        kind: ParameterKind::Text { default: Some("las"), check: |_| None },
        unit: "",
        summary: "How programs are compared; `las` is by the least service so far.",
    }],
    releases: releases::LLM_D,
    ..fairness("program-aware-fairness", "The program that was served least goes first.")
};

/// `fcfs-ordering-policy`.
pub(crate) const FCFS: PluginType =
    ordering("fcfs-ordering-policy", "Of a flow's requests the one that came first goes first.");

/// `edf-ordering-policy`.
pub(crate) const EDF: PluginType =
    ordering("edf-ordering-policy", "Of a flow's requests the one whose time to live ends first goes first.");

/// `slo-deadline-ordering-policy`.
pub(crate) const SLO_DEADLINE: PluginType = ordering(
    "slo-deadline-ordering-policy",
    "Of a flow's requests the one whose first token is due first goes first.",
);

/// `static-usage-limit-policy`.
pub(crate) const STATIC_USAGE: PluginType = PluginType {
    parameters: &[Parameter {
        name: "threshold",
        kind: ParameterKind::Float { default: 1.0, min: 0.0, max: f64::MAX },
        unit: "fraction",
        summary: "How full the pool may be.",
    }],
    ..usage("static-usage-limit-policy", "Every priority may fill the pool equally far.")
};

/// `priority-holdback-policy`.
pub(crate) const PRIORITY_HOLDBACK: PluginType = PluginType {
    stability: Stability::Alpha,
    releases: releases::LLM_D,
    parameters: &[
        Parameter {
            name: "minCeiling",
            kind: ParameterKind::OptionalFloat { min: 0.0, max: 1.0, required: true },
            unit: "fraction",
            summary: "How far the lowest priority may fill the pool; less than 1.",
        },
        Parameter {
            name: "maxCeiling",
            kind: ParameterKind::Float { default: 1.0, min: 0.0, max: 1.0 },
            unit: "fraction",
            summary: "How far the highest priority may; more than `minCeiling`.",
        },
        Parameter {
            name: "shape",
            kind: ParameterKind::Word { of: &["linear"], default: Some("linear") },
            unit: "",
            summary: "How the priorities in between are interpolated.",
        },
        Parameter {
            name: "domain",
            kind: ParameterKind::Word { of: &["rank", "value"], default: Some("rank") },
            unit: "",
            summary: "By what they are interpolated: their rank among the bands, or their number.",
        },
    ],
    check: check_ceilings,
    ..usage("priority-holdback-policy", "The lower a priority, the less of the pool it may fill.")
};

fn check_ceilings(parameters: &Parameters) -> Vec<String> {
    let (min, max) = (parameters.float("minCeiling"), parameters.float("maxCeiling"));
    if min < max {
        return Vec::new();
    }
    vec![format!("`minCeiling`: expected less than `maxCeiling`, found {min} and {max}")]
}

/// `soft-reflective-ceiling-policy`.
pub(crate) const SOFT_REFLECTIVE: PluginType = PluginType {
    stability: ALPHA.stability,
    releases: ALPHA.releases,
    ..usage(
        "soft-reflective-ceiling-policy",
        "The fuller the pool, the less of it lower priorities may fill.",
    )
};

/// `sheddable-eviction-filter`.
pub(crate) const SHEDDABLE_EVICTION: PluginType = PluginType {
    name: "sheddable-eviction-filter",
    aliases: &["eviction-sheddable-filter"],
    summary: "Running requests of a negative priority may be evicted.",
    about: NOT_YET,
    ..ALPHA
};

/// `priority-then-time-eviction-order-policy`.
pub(crate) const EVICTION_ORDER: PluginType = PluginType {
    name: "priority-then-time-eviction-order-policy",
    aliases: &["eviction-priority-then-time-ordering"],
    summary: "Of running requests the lowest priority is evicted first, of equal ones the youngest.",
    about: NOT_YET,
    ..ALPHA
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::parsed;

    #[test]
    fn a_holdback_policy_leaves_more_to_higher_priorities() {
        for (parameters, want) in [
            (r#"{"minCeiling": 0.5}"#, 0),
            (r#"{"minCeiling": 1}"#, 1),
            (r#"{"minCeiling": 0.9, "maxCeiling": 0.8}"#, 1),
        ] {
            let declared = PRIORITY_HOLDBACK.parameters;
            let parameters = parsed(declared, &serde_json::from_str(parameters).unwrap());
            assert_eq!(check_ceilings(&parameters).len(), want, "{parameters:?}");
        }
    }
}

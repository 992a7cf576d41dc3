//! `decision-tree-filter`: filters as a tree, each step depending on whether the one before left somebody.
//!
//! From v0.5.1. A step that leaves somebody hands them to its success branch; one that leaves nobody hands what it was
//! given itself to its failure branch. A tree may refer to another tree; the loader refuses cycles.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Review, releases};
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::Candidates;
use rand::rngs::SmallRng;

const CURRENT: &str = "current";
const ON_SUCCESS: &str = "nextOnSuccess";
const ON_FAILURE: &str = "nextOnFailure";
const ON_EITHER: &str = "nextOnSuccessOrFailure";
const PLUGIN: &str = "pluginRef";
const TREE: &str = "decisionTree";

/// `decision-tree-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "decision-tree-filter",
    summary: "Runs other filters as a tree: what runs next depends on whether the one before left somebody.",
    parameters: LEVEL,
    kinds: &[Kind::Filter],
    build,
    review,
    releases: releases::OLD,
    ..PluginType::PLAIN
};

/// One level of the tree.
const LEVEL: &[Parameter] = &[
    step(CURRENT, true, "What runs first."),
    step(ON_SUCCESS, false, "What runs on those that `current` left."),
    step(ON_FAILURE, false, "What runs instead, if `current` left nobody."),
    step(ON_EITHER, false, "What runs in either case, where the other two do not say."),
];

/// What a step is.
const STEP: &[Parameter] = &[
    Parameter {
        name: PLUGIN,
        kind: ParameterKind::Reference { to: Kind::Filter, default: None },
        unit: "",
        summary: "Name of a filter.",
    },
    Parameter {
        name: TREE,
        kind: ParameterKind::Map { fields: || LEVEL, required: false, one_of: false },
        unit: "",
        summary: "A level of its own.",
    },
];

const fn step(name: &'static str, required: bool, summary: &'static str) -> Parameter {
    Parameter {
        name,
        kind: ParameterKind::Map { fields: || STEP, required, one_of: true },
        unit: "",
        summary,
    }
}

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    Plugin { filter: Some(Arc::new(Level::build(parameters, cx))), ..Plugin::default() }
}

struct Level {
    current: Arc<dyn Filter>,
    on_success: Option<Arc<dyn Filter>>,
    on_failure: Option<Arc<dyn Filter>>,
}

impl Level {
    fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Self {
        let step = |name| {
            let step = parameters.map(name)?;
            let filter: Arc<dyn Filter> = match (step.reference(PLUGIN), step.map(TREE)) {
                (Some(name), _) => cx.filter(name),
                (None, Some(level)) => Arc::new(Self::build(level, cx)),
                (None, None) => return None,
            };
            Some(filter)
        };
        let either = step(ON_EITHER);
        Self {
            current: step(CURRENT).expect("`current` is required"),
            on_success: step(ON_SUCCESS).or_else(|| either.clone()),
            on_failure: step(ON_FAILURE).or(either),
        }
    }
}

impl Filter for Level {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, rng: &mut SmallRng) {
        let success = candidates.attempt(|inner| self.current.filter(cycle, inner, rng));
        match if success { &self.on_success } else { &self.on_failure } {
            Some(next) => next.filter(cycle, candidates, rng),
            None if success => {}
            None => candidates.clear(),
        }
    }
}

fn review(cx: &Review<'_>) -> Vec<String> {
    let mut told = Vec::new();
    never_used(cx.parameters, "", &mut told);
    if let Some((leaf, when)) = drains(cx.parameters, cx) {
        told.push(format!("the tree may leave nobody, and requests are then refused: it ends in `{leaf}`, which does so {when}"));
    }
    told
}

/// Tells the branches that no result leads to.
fn never_used(level: &Parameters, path: &str, told: &mut Vec<String>) {
    let given = |name| level.map(name).is_some();
    if given(ON_SUCCESS) && given(ON_FAILURE) && given(ON_EITHER) {
        told.push(format!("`{path}{ON_EITHER}` is never used: the other two branches are both given"));
    }
    for name in [CURRENT, ON_SUCCESS, ON_FAILURE, ON_EITHER] {
        if let Some(inner) = level.map(name).and_then(|step| step.map(TREE)) {
            never_used(inner, &format!("{path}{name}.{TREE}."), told);
        }
    }
}

/// Parameters on which it hangs whether a filter may leave nobody: the value with which it may, and how that is told.
const DRAINS_BY: [(&str, bool, &str); 2] = [
    ("fallbackOnEmpty", false, "unless its `fallbackOnEmpty` is true"),
    ("enableFiltering", true, "with its `enableFiltering`"),
];

/// When a filter of this type and these parameters may leave nobody, if ever.
fn when_it_drains(plugin_type: &PluginType, parameters: &Parameters) -> Option<&'static str> {
    let declares = |name: &str| plugin_type.parameters.iter().any(|parameter| parameter.name == name);
    let by_parameter = || {
        let mut all = DRAINS_BY.into_iter();
        all.find_map(|(name, drains, when)| {
            (declares(name) && parameters.boolean(name) == drains).then_some(when)
        })
    };
    Some(plugin_type.drains).filter(|when| !when.is_empty()).or_else(by_parameter)
}

/// The first filter whose result may be empty and final, and when it is.
fn drains(level: &Parameters, cx: &Review<'_>) -> Option<(String, &'static str)> {
    let step = |name: &str| {
        let step = level.map(name)?;
        if let Some(inner) = step.map(TREE) {
            return Some(drains(inner, cx));
        }
        let name = step.reference(PLUGIN)?;
        Some((cx.find)(name).and_then(|(plugin_type, parameters)| match plugin_type.name {
            name if name == TYPE.name => drains(parameters, cx),
            _ => Some((name.to_owned(), when_it_drains(plugin_type, parameters)?)),
        }))
    };
    // A failure without a branch is the result of `current`; so is a success, but then somebody is left. No step is
    // looked at twice, or trees that refer to trees would take for ever.
    let either = step(ON_EITHER);
    let after_failure = step(ON_FAILURE).or_else(|| either.clone()).or_else(|| step(CURRENT));
    let after_success = step(ON_SUCCESS).or(either);
    after_failure.flatten().or_else(|| after_success.flatten())
}

#[cfg(test)]
mod tests;

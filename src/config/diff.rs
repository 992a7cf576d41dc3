//! What changes in effect from one configuration to another, and what a reload between them keeps: [`diff`].
//!
//! Compares compositions, so that order in the file, spelling, and defaults that are written out make no difference.

use epp_framework::parameters::{Parameter, ParameterKind, ParameterValue, Parameters};

use super::build::{Composition, InstancePlan, ProfilePlan, SourcePlan};
use super::effective::{plain, span};
use super::problem::{shown, shown_list};

/// A line for each change, then what a running server would do; nothing if there is no change.
pub fn diff(before: &Composition, after: &Composition) -> Vec<String> {
    let mut lines = Vec::new();
    plugins(before, after, &mut lines);
    profiles(before, after, &mut lines);
    one(
        "profile handler",
        &before.instances[before.handler].name,
        &after.instances[after.handler].name,
        &mut lines,
    );
    let parsers = |of: &Composition| names(of, &of.parsers);
    if parsers(before) != parsers(after) {
        lines.push(format!("~ parsers: {} → {}", parsers(before), parsers(after)));
    }
    let detector = |of: &Composition| names(of, of.saturation.as_slice());
    if detector(before) != detector(after) {
        lines.push(format!("~ saturation detector: {} → {}", detector(before), detector(after)));
    }
    if sources(before) != sources(after) {
        lines.push(format!("~ data sources: {} → {}", sources(before), sources(after)));
    }
    let moved = discovery(before, after, &mut lines);
    if !lines.is_empty() {
        lines.push(String::new());
        reload(before, after, &mut lines);
        if moved {
            lines.push("  takes a restart: where endpoints are listed".to_owned());
        }
    }
    lines
}

fn names(of: &Composition, list: &[usize]) -> String {
    match list {
        [] => "none".to_owned(),
        list => shown_list(list.iter().map(|&at| of.instances[at].name.as_str())),
    }
}

fn one(what: &str, before: &str, after: &str, lines: &mut Vec<String>) {
    if before != after {
        lines.push(format!("~ {what}: {} → {}", shown(before), shown(after)));
    }
}

fn find<'a>(of: &'a Composition, name: &str) -> Option<&'a InstancePlan> {
    of.instances.iter().find(|plan| plan.name == name)
}

fn plugins(before: &Composition, after: &Composition, lines: &mut Vec<String>) {
    let titled = |plan: &InstancePlan| {
        if plan.name == plan.plugin_type.name {
            shown(&plan.name)
        } else {
            format!("{} of type {}", shown(&plan.name), shown(plan.plugin_type.name))
        }
    };
    for plan in before.instances.iter().filter(|plan| find(after, &plan.name).is_none()) {
        lines.push(format!("- plugin {}", titled(plan)));
    }
    for plan in &after.instances {
        match find(before, &plan.name) {
            None => {
                lines.push(format!("+ plugin {}", titled(plan)));
                lines.extend(given(plan));
            }
            Some(old) if old.plugin_type.name != plan.plugin_type.name => {
                one(
                    &format!("plugin {}: type", shown(&plan.name)),
                    old.plugin_type.name,
                    plan.plugin_type.name,
                    lines,
                );
            }
            Some(old) => {
                let whose = format!("plugin {}: ", shown(&plan.name));
                parameters(&whose, plan.plugin_type.parameters, (&old.parameters, &plan.parameters), lines);
            }
        }
    }
}

/// The parameters of a new plugin that are no defaults.
fn given(plan: &InstancePlan) -> Vec<String> {
    let defaults = Parameters::defaults(plan.plugin_type.parameters);
    let given =
        plan.parameters.iter().zip(defaults.iter()).filter(|((_, value), (_, default))| value != default);
    given.map(|((name, value), _)| format!("    {name}: {}", plain(value))).collect()
}

/// What differs between two maps of one type, by its path.
fn parameters(
    whose: &str,
    declared: &'static [Parameter],
    (old, new): (&Parameters, &Parameters),
    lines: &mut Vec<String>,
) {
    for ((parameter, (name, old)), (_, new)) in declared.iter().zip(old.iter()).zip(new.iter()) {
        match (old, new, parameter.kind) {
            (old, new, _) if old == new => {}
            (ParameterValue::Map(old), ParameterValue::Map(new), ParameterKind::Map { fields, .. }) => {
                parameters(&format!("{whose}{name}."), fields(), (old, new), lines);
            }
            _ => {
                let unit =
                    if parameter.unit.is_empty() { String::new() } else { format!(" {}", parameter.unit) };
                lines.push(format!("~ {whose}{name}: {} → {}{unit}", plain(old), plain(new)));
            }
        }
    }
}

fn profiles(before: &Composition, after: &Composition, lines: &mut Vec<String>) {
    let has = |of: &Composition, name: &str| of.profiles.iter().any(|profile| profile.name == name);
    for profile in before.profiles.iter().filter(|profile| !has(after, &profile.name)) {
        lines.push(format!("- profile {}", shown(&profile.name)));
    }
    for profile in &after.profiles {
        match before.profiles.iter().find(|old| old.name == profile.name) {
            None => {
                let filters = names(after, &profile.filters);
                let scorer =
                    |&(at, weight): &(usize, f64)| format!("{} × {weight}", shown(&after.instances[at].name));
                let scorers = profile.scorers.iter().map(scorer).collect::<Vec<_>>().join(", ");
                let picker = shown(&after.instances[profile.picker].name);
                lines.push(format!(
                    "+ profile {}: filters {filters}; scorers {}; picker {picker}",
                    shown(&profile.name),
                    if scorers.is_empty() { "none" } else { &scorers },
                ));
            }
            Some(old) => changed_profile((before, old), (after, profile), lines),
        }
    }
}

type Of<'a> = (&'a Composition, &'a ProfilePlan);

fn changed_profile((before, old): Of<'_>, (after, new): Of<'_>, lines: &mut Vec<String>) {
    let whose = format!("profile {}: ", shown(&new.name));
    let (filters_before, filters_after) = (names(before, &old.filters), names(after, &new.filters));
    if filters_before != filters_after {
        lines.push(format!("~ {whose}filters, in their order: {filters_before} → {filters_after}"));
    }
    // A scorer may be listed more than once; what counts is the sum.
    let weight = |(of, profile): Of<'_>, name: &str| {
        let listed = profile.scorers.iter().filter(|&&(at, _)| of.instances[at].name == name);
        listed.map(|(_, weight)| *weight).reduce(|sum, weight| sum + weight)
    };
    let mut seen: Vec<&str> = Vec::new();
    let all = |(of, profile): Of<'_>| {
        profile.scorers.iter().map(|&(at, _)| of.instances[at].name.clone()).collect::<Vec<_>>()
    };
    let (in_old, in_new) = (all((before, old)), all((after, new)));
    for name in in_old.iter().chain(&in_new) {
        if seen.contains(&name.as_str()) {
            continue;
        }
        seen.push(name);
        let scorer = shown(name);
        match (weight((before, old), name), weight((after, new), name)) {
            (Some(_), None) => lines.push(format!("- {whose}scorer {scorer}")),
            (None, Some(weight)) => lines.push(format!("+ {whose}scorer {scorer} with weight {weight}")),
            (Some(old), Some(new)) if old.to_bits() != new.to_bits() => {
                lines.push(format!("~ {whose}weight of {scorer}: {old} → {new}"));
            }
            _ => {}
        }
    }
    let (from, to) = (&before.instances[old.picker].name, &after.instances[new.picker].name);
    one(&format!("{whose}picker"), from, to, lines);
}

/// The sources of data, each with its extractors and its interval.
fn sources(of: &Composition) -> String {
    let source = |plan: &SourcePlan| {
        let interval =
            plan.interval.map_or_else(String::new, |interval| format!(" every {}", span(interval)));
        format!("{}{interval} with {}", shown(&of.instances[plan.source].name), names(of, &plan.extractors))
    };
    let sources: Vec<_> = of.sources.iter().map(source).collect();
    if sources.is_empty() { "none".to_owned() } else { sources.join("; ") }
}

/// Tells where endpoints are listed, if that changes what a server does with its file.
fn discovery(before: &Composition, after: &Composition, lines: &mut Vec<String>) -> bool {
    let plan = |of: &'_ Composition| of.discovery.map(|at| of.instances[at].clone());
    let (old, new) = (plan(before), plan(after));
    let what = |plan: &Option<InstancePlan>| {
        plan.as_ref().map_or("the command line".to_owned(), |plan| shown(&plan.name))
    };
    if old.as_ref().map(|plan| &plan.name) != new.as_ref().map(|plan| &plan.name) {
        lines.push(format!("~ list of endpoints: {} → {}", what(&old), what(&new)));
    }
    let says = |plan: &Option<InstancePlan>| {
        plan.as_ref().map(|plan| (plan.plugin_type.name, plan.parameters.clone()))
    };
    says(&old) != says(&new)
}

/// Which instances a running server would keep.
fn reload(before: &Composition, after: &Composition, lines: &mut Vec<String>) {
    let kept = after.kept(|plan| {
        find(before, &plan.name).is_some_and(|old| {
            (old.plugin_type.name, &old.parameters) == (plan.plugin_type.name, &plan.parameters)
        })
    });
    let those = |is_kept: bool| {
        let plans = after
            .instances
            .iter()
            .zip(&kept)
            .filter(|(plan, kept)| **kept == is_kept && (is_kept || find(before, &plan.name).is_some()));
        plans.map(|(plan, _)| plan.name.as_str()).collect::<Vec<_>>()
    };
    let (kept, anew) = (those(true), those(false));
    lines.push("If a server reloads:".to_owned());
    for (what, names) in [("go on with what they know", kept), ("start anew", anew)] {
        if !names.is_empty() {
            lines.push(format!("  {what}: {}", shown_list(names)));
        }
    }
}

#[cfg(test)]
mod tests;

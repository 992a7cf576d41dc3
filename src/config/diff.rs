//! What changes in effect from one configuration to another, and what a reload between them keeps: [`diff`].
//!
//! Compares compositions, so that order in the file, spelling, and defaults that are written out make no difference.

use std::collections::BTreeSet;

use epp_framework::parameters::{Parameter, ParameterKind, ParameterValue, Parameters};
use serde_json::json;

use super::build::{Composition, InstancePlan, ProfilePlan, SourcePlan};
use super::effective::{plain, span};
use super::problem::{shown, shown_list};

/// What changes, and what a running server would do with it.
#[derive(Debug, Default)]
pub struct Diff {
    /// Each change, in words.
    changes: Vec<Change>,
    /// Plugins that go on with what they know.
    kept: Vec<String>,
    /// Plugins that start anew, and why.
    anew: Vec<(String, String)>,
    /// Whether a restart is needed for some of it.
    restart: bool,
}

/// One change.
#[derive(Debug)]
struct Change {
    sign: char,
    what: String,
    /// The parameters of a new plugin that are no defaults.
    given: Vec<String>,
}

/// What only a restart changes.
const RESTART: &str = "where endpoints are listed";

impl Diff {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// A line for each change, then what a running server would do; nothing if there is no change.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for Change { sign, what, given } in &self.changes {
            lines.push(format!("{sign} {what}"));
            lines.extend(given.iter().map(|given| format!("    {given}")));
        }
        if lines.is_empty() {
            return lines;
        }
        lines.extend([String::new(), "If a server reloads:".to_owned()]);
        if !self.kept.is_empty() {
            let kept = shown_list(self.kept.iter().map(String::as_str));
            lines.push(format!("  go on with what they know: {kept}"));
        }
        let anew: Vec<_> = self.anew.iter().map(|(name, why)| format!("{} ({why})", shown(name))).collect();
        if !anew.is_empty() {
            lines.push(format!("  start anew: {}", anew.join(", ")));
        }
        if self.restart {
            lines.push(format!("  takes a restart: {RESTART}"));
        }
        lines
    }

    /// The same as an object.
    pub fn json(&self) -> String {
        let change = |Change { sign, what, given }: &Change| {
            let kind = match sign {
                '+' => "added",
                '-' => "removed",
                _ => "changed",
            };
            let mut object = json!({"change": kind, "what": what});
            if !given.is_empty() {
                object["parameters"] = json!(given);
            }
            object
        };
        let anew = |(name, why): &(String, String)| json!({"plugin": name, "because": why});
        let object = json!({
            "changes": self.changes.iter().map(change).collect::<Vec<_>>(),
            "reload": {
                "kept": self.kept,
                "anew": self.anew.iter().map(anew).collect::<Vec<_>>(),
                "takes_restart": if self.restart { vec![RESTART] } else { Vec::new() },
            },
        });
        format!("{object:#}\n")
    }
}

/// The changes of one comparison, as they are found.
#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn added(&mut self, what: String) {
        self.0.push(Change { sign: '+', what, given: Vec::new() });
    }

    fn removed(&mut self, what: String) {
        self.0.push(Change { sign: '-', what, given: Vec::new() });
    }

    fn changed(&mut self, what: String) {
        self.0.push(Change { sign: '~', what, given: Vec::new() });
    }

    /// Says more of the last one.
    fn give(&mut self, given: &[String]) {
        if let Some(change) = self.0.last_mut() {
            change.given.extend_from_slice(given);
        }
    }
}

/// Compares two configurations.
pub fn diff(before: &Composition, after: &Composition) -> Diff {
    let mut changes = Changes::default();
    plugins(before, after, &mut changes);
    profiles(before, after, &mut changes);
    one(
        "profile handler",
        &before.instances[before.handler].name,
        &after.instances[after.handler].name,
        &mut changes,
    );
    let parsers = |of: &Composition| names(of, &of.parsers);
    if parsers(before) != parsers(after) {
        changes.changed(format!("parsers: {} → {}", parsers(before), parsers(after)));
    }
    let detector = |of: &Composition| names(of, of.saturation.as_slice());
    if detector(before) != detector(after) {
        changes.changed(format!("saturation detector: {} → {}", detector(before), detector(after)));
    }
    if sources(before) != sources(after) {
        changes.changed(format!("data sources: {} → {}", sources(before), sources(after)));
    }
    let moved = discovery(before, after, &mut changes);
    let (kept, anew) = reload(before, after);
    Diff { changes: changes.0, kept, anew, restart: moved }
}

fn names(of: &Composition, list: &[usize]) -> String {
    match list {
        [] => "none".to_owned(),
        list => shown_list(list.iter().map(|&at| of.instances[at].name.as_str())),
    }
}

fn one(what: &str, before: &str, after: &str, changes: &mut Changes) {
    if before != after {
        changes.changed(format!("{what}: {} → {}", shown(before), shown(after)));
    }
}

fn find<'a>(of: &'a Composition, name: &str) -> Option<&'a InstancePlan> {
    of.instances.iter().find(|plan| plan.name == name)
}

fn plugins(before: &Composition, after: &Composition, changes: &mut Changes) {
    let titled = |plan: &InstancePlan| {
        if plan.name == plan.plugin_type.name {
            shown(&plan.name)
        } else {
            format!("{} of type {}", shown(&plan.name), shown(plan.plugin_type.name))
        }
    };
    for plan in before.instances.iter().filter(|plan| find(after, &plan.name).is_none()) {
        changes.removed(format!("plugin {}", titled(plan)));
    }
    for plan in &after.instances {
        match find(before, &plan.name) {
            None => {
                changes.added(format!("plugin {}", titled(plan)));
                changes.give(&given(plan));
            }
            Some(old) if old.plugin_type.name != plan.plugin_type.name => {
                one(
                    &format!("plugin {}: type", shown(&plan.name)),
                    old.plugin_type.name,
                    plan.plugin_type.name,
                    changes,
                );
            }
            Some(old) => {
                let whose = format!("plugin {}: ", shown(&plan.name));
                parameters(&whose, plan.plugin_type.parameters, (&old.parameters, &plan.parameters), changes);
            }
        }
    }
}

/// The parameters of a new plugin that are no defaults.
fn given(plan: &InstancePlan) -> Vec<String> {
    let defaults = Parameters::defaults(plan.plugin_type.parameters);
    let given =
        plan.parameters.iter().zip(defaults.iter()).filter(|((_, value), (_, default))| value != default);
    given.map(|((name, value), _)| format!("{name}: {}", plain(value))).collect()
}

/// What differs between two maps of one type, by its path.
fn parameters(
    whose: &str,
    declared: &'static [Parameter],
    (old, new): (&Parameters, &Parameters),
    changes: &mut Changes,
) {
    for ((parameter, (name, old)), (_, new)) in declared.iter().zip(old.iter()).zip(new.iter()) {
        match (old, new, parameter.kind) {
            (old, new, _) if old == new => {}
            (ParameterValue::Map(old), ParameterValue::Map(new), ParameterKind::Map { fields, .. }) => {
                parameters(&format!("{whose}{name}."), fields(), (old, new), changes);
            }
            _ => {
                let unit =
                    if parameter.unit.is_empty() { String::new() } else { format!(" {}", parameter.unit) };
                changes.changed(format!("{whose}{name}: {} → {}{unit}", plain(old), plain(new)));
            }
        }
    }
}

fn profiles(before: &Composition, after: &Composition, changes: &mut Changes) {
    let has = |of: &Composition, name: &str| of.profiles.iter().any(|profile| profile.name == name);
    for profile in before.profiles.iter().filter(|profile| !has(after, &profile.name)) {
        changes.removed(format!("profile {}", shown(&profile.name)));
    }
    for profile in &after.profiles {
        match before.profiles.iter().find(|old| old.name == profile.name) {
            None => {
                let filters = names(after, &profile.filters);
                let scorer =
                    |&(at, weight): &(usize, f64)| format!("{} × {weight}", shown(&after.instances[at].name));
                let scorers = profile.scorers.iter().map(scorer).collect::<Vec<_>>().join(", ");
                let picker = shown(&after.instances[profile.picker].name);
                changes.added(format!(
                    "profile {}: filters {filters}; scorers {}; picker {picker}",
                    shown(&profile.name),
                    if scorers.is_empty() { "none" } else { &scorers },
                ));
            }
            Some(old) => changed_profile((before, old), (after, profile), changes),
        }
    }
}

type Of<'a> = (&'a Composition, &'a ProfilePlan);

fn changed_profile((before, old): Of<'_>, (after, new): Of<'_>, changes: &mut Changes) {
    let whose = format!("profile {}: ", shown(&new.name));
    let (filters_before, filters_after) = (names(before, &old.filters), names(after, &new.filters));
    if filters_before != filters_after {
        changes.changed(format!("{whose}filters, in their order: {filters_before} → {filters_after}"));
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
            (Some(_), None) => changes.removed(format!("{whose}scorer {scorer}")),
            (None, Some(weight)) => changes.added(format!("{whose}scorer {scorer} with weight {weight}")),
            (Some(old), Some(new)) if old.to_bits() != new.to_bits() => {
                changes.changed(format!("{whose}weight of {scorer}: {old} → {new}"));
            }
            _ => {}
        }
    }
    let (from, to) = (&before.instances[old.picker].name, &after.instances[new.picker].name);
    one(&format!("{whose}picker"), from, to, changes);
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
fn discovery(before: &Composition, after: &Composition, changes: &mut Changes) -> bool {
    let plan = |of: &'_ Composition| of.discovery.map(|at| of.instances[at].clone());
    let (old, new) = (plan(before), plan(after));
    let what = |plan: &Option<InstancePlan>| {
        plan.as_ref().map_or("the command line".to_owned(), |plan| shown(&plan.name))
    };
    if old.as_ref().map(|plan| &plan.name) != new.as_ref().map(|plan| &plan.name) {
        changes.changed(format!("list of endpoints: {} → {}", what(&old), what(&new)));
    }
    let says = |plan: &Option<InstancePlan>| {
        plan.as_ref().map(|plan| (plan.plugin_type.name, plan.parameters.clone()))
    };
    says(&old) != says(&new)
}

/// Which instances a running server would keep, and which not and why.
fn reload(before: &Composition, after: &Composition) -> (Vec<String>, Vec<(String, String)>) {
    let old = |plan: &InstancePlan| find(before, &plan.name);
    let kept = after.kept(|plan| {
        old(plan).is_some_and(|old| {
            (old.plugin_type.name, &old.parameters) == (plan.plugin_type.name, &plan.parameters)
        })
    });
    let (mut goes_on, mut anew) = (Vec::new(), Vec::new());
    for (plan, is_kept) in after.instances.iter().zip(&kept) {
        match old(plan) {
            _ if *is_kept => goes_on.push(plan.name.clone()),
            None => {}
            Some(old) => {
                let why = if old.plugin_type.name != plan.plugin_type.name {
                    "its type changes".to_owned()
                } else if old.parameters != plan.parameters {
                    "its parameters change".to_owned()
                } else {
                    let news = plan.references.iter().filter(|to| !kept[**to]);
                    let news: BTreeSet<_> = news.map(|to| after.instances[*to].name.as_str()).collect();
                    format!("it refers to {}, anew or changed", shown_list(news))
                };
                anew.push((plan.name.clone(), why));
            }
        }
    }
    (goes_on, anew)
}

#[cfg(test)]
mod tests;

//! Profiles: what their references come to, and whether the handler can do with them.

use std::collections::{HashMap, HashSet};

use epp_framework::plugin::Kind;

use super::{Composer, DEFAULT_HANDLER, DEFAULT_PROFILE, DEFAULT_WEIGHT, MAX_WEIGHT, ProfilePlan};
use crate::config::ProfileSpec;
use crate::config::problem::{Position, shown};

impl<'a> Composer<'a> {
    /// Names of the profiles; of a file that has none, that of the one that it gets.
    pub(super) fn profile_names(&self) -> Vec<&'a str> {
        let config = self.config;
        let names = config.profiles.iter().filter_map(|profile| profile.name.as_ref());
        let names: Vec<_> = names.map(|name| name.value.as_str()).collect();
        if config.profiles.is_empty() { vec![DEFAULT_PROFILE] } else { names }
    }

    /// Whether the profiles are such that `handler` can handle them; tells why they are not.
    pub(super) fn judge_profiles(&mut self, handler: usize) -> bool {
        let names = self.profile_names();
        // One without a name was told, and may be what is missing.
        if names.len() < self.config.profiles.len() {
            return false;
        }
        let plan = &self.instances[handler];
        let wrong = (plan.plugin_type.judge_profiles)(&plan.parameters, &names);
        let (type_name, at) = (plan.plugin_type.name, self.position_of(handler));
        let advice = if type_name == DEFAULT_HANDLER { self.other_handlers() } else { String::new() };
        for wrong in &wrong {
            self.problems.error(at, format!("`{type_name}` {wrong}{advice}"));
        }
        wrong.is_empty()
    }

    /// The profile of a file that has none: everything declared, in file order.
    pub(super) fn synthesized_profile(
        &mut self,
        n_declared: usize,
        default_picker: Option<usize>,
    ) -> Option<ProfilePlan> {
        let mut draft = Draft::new(DEFAULT_PROFILE);
        // What a tree runs is not run by itself as well.
        let within: HashSet<_> = self.instances.iter().flat_map(|plan| &plan.references).copied().collect();
        for instance in (0..n_declared).filter(|instance| !within.contains(instance)) {
            let at = self.position_of(instance);
            self.add(&mut draft, instance, None, at);
        }
        draft.finish(default_picker)
    }

    pub(super) fn profiles(&mut self, default_picker: Option<usize>) -> Vec<Option<ProfilePlan>> {
        let mut first_at: HashMap<&str, u32> = HashMap::new();
        let mut plans = Vec::new();
        for profile in &self.config.profiles {
            if let Some(name) = &profile.name {
                if let Some(line) = first_at.get(name.value.as_str()) {
                    let message = format!(
                        "scheduling profile {} is already defined at line {line}",
                        shown(&name.value)
                    );
                    self.problems.error(name.at, message);
                }
                first_at.entry(&name.value).or_insert(name.at.line);
            }
            plans.push(self.profile(profile, default_picker));
        }
        plans
    }

    fn profile(&mut self, profile: &ProfileSpec, default_picker: Option<usize>) -> Option<ProfilePlan> {
        let mut draft = Draft::new(profile.name.as_ref().map_or("", |name| &name.value));
        let mut complete = profile.name.is_some();
        for reference in &profile.plugins {
            let name = reference.name.value.as_str();
            let Some(declared) = self.names.get_mut(name) else {
                self.tell_unknown_name("", name, reference.name.at);
                continue;
            };
            declared.referenced = true;
            let Some(instance) = declared.instance else {
                complete = false;
                continue;
            };
            if let Some(weight) = &reference.weight {
                self.judge_weight(instance, weight.value, weight.at);
            }
            self.add(&mut draft, instance, reference.weight.as_ref().map(|w| w.value), reference.name.at);
            if !self.is_scheduling(instance) {
                let message = format!("plugin {} does nothing in a profile", shown(name));
                self.problems.warning(reference.name.at, message);
            }
        }
        let picker = draft.picker.or(default_picker);
        if let Some(picker) = picker {
            self.mark_referenced(picker);
        }
        draft.finish(picker).filter(|_| complete)
    }

    fn add(&mut self, draft: &mut Draft, instance: usize, weight: Option<f64>, at: Position) {
        if self.has(instance, Kind::Filter) {
            draft.filters.push(instance);
        }
        if self.has(instance, Kind::Scorer) {
            if draft.scorers.iter().any(|&(before, _)| before == instance) {
                let message = format!(
                    "scorer {} is listed again in profile {}, its scores count once more",
                    shown(&self.instances[instance].name),
                    shown(&draft.name)
                );
                self.problems.warning(at, message);
            }
            draft.scorers.push((instance, weight.unwrap_or(DEFAULT_WEIGHT)));
        }
        if self.has(instance, Kind::Picker) {
            if let Some(first) = draft.picker {
                let message = format!(
                    "picker {} is a second one in profile {}, beside {}; keep one",
                    shown(&self.instances[instance].name),
                    shown(&draft.name),
                    shown(&self.instances[first].name)
                );
                self.problems.error(at, message);
            }
            draft.picker.get_or_insert(instance);
        }
    }

    fn judge_weight(&mut self, instance: usize, weight: f64, at: Position) {
        let name = shown(&self.instances[instance].name);
        if !weight.is_finite() {
            self.problems.error(at, format!("weight of {name}: expected a finite number, found {weight}"));
        } else if weight.abs() > MAX_WEIGHT as f64 {
            let message = format!(
                "weight of {name}: expected a number from -{MAX_WEIGHT:e} to {MAX_WEIGHT:e}, found {weight:e}"
            );
            self.problems.error(at, message);
        } else if !self.has(instance, Kind::Scorer) {
            self.problems.warning(at, format!("weight of {name} does nothing, it is no scorer"));
        } else if weight == 0.0 {
            self.problems.warning(at, format!("weight of {name} is 0, its scores count for nothing"));
        } else if weight < 0.0 {
            let message = format!("weight of {name} is negative, endpoints that score low are preferred");
            self.problems.warning(at, message);
        }
    }
}

/// A profile in the making.
struct Draft {
    name: String,
    filters: Vec<usize>,
    scorers: Vec<(usize, f64)>,
    picker: Option<usize>,
}

impl Draft {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), filters: Vec::new(), scorers: Vec::new(), picker: None }
    }

    fn finish(self, default_picker: Option<usize>) -> Option<ProfilePlan> {
        let picker = self.picker.or(default_picker)?;
        Some(ProfilePlan { name: self.name, filters: self.filters, scorers: self.scorers, picker })
    }
}

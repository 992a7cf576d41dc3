//! From the text of a configuration to a [`Composition`]: [`load`].
//!
//! Injects the defaults, resolves the references, checks the parameters, and tells every problem it finds. Pure: no
//! plugin is built here, the caller does that with each instance's `plugin_type.build`, in `build_order`.

mod attributes;
mod data_layer;
mod flow_control;
mod parsers;
mod producers;
mod profiles;
mod references;
mod reviews;

use std::collections::HashMap;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{Kind, PluginType};

pub use self::data_layer::SourcePlan;
use crate::config::parameters::{self, Reference};
use crate::config::problem::{Position, Problem, Problems, shown};
use crate::config::{EndpointPickerConfig, Located, PluginSpec, node, read_into};

const DEFAULT_PROFILE: &str = "default";
const DEFAULT_HANDLER: &str = "single-profile-handler";
const DEFAULT_PICKER: &str = "max-score-picker";
const DEFAULT_REPORTER: &str = "llm-request-costs";

/// Weight of a scorer that is referenced without one.
pub(super) const DEFAULT_WEIGHT: f64 = 1.0;

/// Most that a scorer may weigh, in either direction: sums of weighted scores stay exact enough to tell endpoints apart.
pub(crate) const MAX_WEIGHT: i64 = 1_000_000_000_000;

/// Most plugins, profiles and references (of all profiles together) that one configuration may have, of each.
const MAX_ENTRIES: usize = 1000;

/// What to build, and how it hangs together; numbers are positions in `instances`.
#[derive(Clone, Debug)]
pub struct Composition {
    /// Plugins in file order, then injected ones.
    pub instances: Vec<InstancePlan>,
    /// Profiles in file order; at least one.
    pub profiles: Vec<ProfilePlan>,
    /// The profile handler.
    pub handler: usize,
    /// The plugin that lists the pool's endpoints, if the configuration names one.
    pub discovery: Option<usize>,
    /// Where data on endpoints comes from, in file order; the default source stands last.
    pub sources: Vec<SourcePlan>,
    /// The plugin that says how full the pool is, if the configuration names one.
    pub saturation: Option<usize>,
    /// Those that read requests, in the order in which they are asked; at least one.
    pub parsers: Vec<usize>,
    /// All instances, each after those that its parameters refer to.
    pub build_order: Vec<usize>,
}

impl Composition {
    /// Which instances go on where this composition takes over: those that `is_same` finds as they are, and that refer
    /// to none that is built anew.
    pub fn kept(&self, is_same: impl Fn(&InstancePlan) -> bool) -> Vec<bool> {
        let mut kept = vec![false; self.instances.len()];
        for &at in &self.build_order {
            let plan = &self.instances[at];
            kept[at] = is_same(plan) && plan.references.iter().all(|&to| kept[to]);
        }
        kept
    }
}

/// One plugin to build.
#[derive(Clone)]
pub struct InstancePlan {
    /// Name, unique in the composition.
    pub name: String,
    /// Its type.
    pub plugin_type: &'static PluginType,
    /// Its parameters, validated and complete.
    pub parameters: Parameters,
    /// The instances that its parameters refer to, each as often as they do.
    pub references: Vec<usize>,
}

impl InstancePlan {
    fn new(name: &str, plugin_type: &'static PluginType, parameters: Parameters) -> Self {
        Self { name: name.to_owned(), plugin_type, parameters, references: Vec::new() }
    }
}

impl std::fmt::Debug for InstancePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} {:?}", self.name, self.plugin_type.name, self.parameters)
    }
}

/// One scheduling profile.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfilePlan {
    /// Name, unique in the composition.
    pub name: String,
    /// Filters, in the order they run.
    pub filters: Vec<usize>,
    /// Scorers with their weights, in file order. A weight is at most 1e12 in either direction; it may be zero.
    pub scorers: Vec<(usize, f64)>,
    /// The picker.
    pub picker: usize,
}

/// Reads and composes a file. The composition is there if and only if no problem is an error.
pub fn load(text: &str, types: &'static [PluginType]) -> (Option<Composition>, Vec<Problem>) {
    load_with_costs(text, types, None)
}

/// The same; `costs` are parameters of `llm-request-costs`, which is there with them unless the file declares it.
pub fn load_with_costs(
    text: &str,
    types: &'static [PluginType],
    costs: Option<&str>,
) -> (Option<Composition>, Vec<Problem>) {
    let mut problems = Problems::default();
    let config = read_into(text, &mut problems);
    let composition = config.and_then(|config| {
        let mut composer = Composer::new(&config, types, &mut problems);
        composer.costs = costs;
        composer.compose()
    });
    (composition.filter(|_| !problems.has_errors()), problems.into_vec())
}

/// A name that references may use.
#[derive(Clone, Copy)]
struct Declared {
    at: Position,
    /// `None` when the entry is broken, which was told.
    instance: Option<usize>,
    referenced: bool,
}

struct Composer<'a> {
    config: &'a EndpointPickerConfig,
    types: &'static [PluginType],
    problems: &'a mut Problems,
    instances: Vec<InstancePlan>,
    /// The `type` of each instance as the file spells it.
    spellings: Vec<&'a str>,
    /// What the parameters of each instance refer to; once resolved, only producers, which are judged last.
    references: Vec<(usize, Reference)>,
    names: HashMap<String, Declared>,
    /// Whether nothing was wrong with each instance's parameters and what they refer to.
    sound: Vec<bool>,
    /// Whether each entry of `plugins` became an instance; what was told may have been what is missing.
    every_entry_is_read: bool,
    /// Types that were probably meant by nameless entries, whose names they would be.
    guessed: Vec<&'static str>,
    /// Whether a name was told to be unknown: it may have meant what seems to be left over.
    has_unknown_names: bool,
    /// Parameters of `llm-request-costs`, if the file does not declare it.
    costs: Option<&'a str>,
}

impl<'a> Composer<'a> {
    fn new(
        config: &'a EndpointPickerConfig,
        types: &'static [PluginType],
        problems: &'a mut Problems,
    ) -> Self {
        Self {
            config,
            types,
            problems,
            instances: Vec::new(),
            spellings: Vec::new(),
            references: Vec::new(),
            names: HashMap::new(),
            sound: Vec::new(),
            every_entry_is_read: false,
            guessed: Vec::new(),
            has_unknown_names: false,
            costs: None,
        }
    }

    /// The order of the steps is the order in which defaults depend on one another.
    fn compose(mut self) -> Option<Composition> {
        let config = self.config;
        let n_references = config.profiles.iter().map(|profile| profile.plugins.len()).sum();
        for (what, n) in [
            ("plugins", config.plugins.len()),
            ("scheduling profiles", config.profiles.len()),
            ("references to plugins", n_references),
        ] {
            if n > MAX_ENTRIES {
                let message = format!("expected at most {MAX_ENTRIES} {what}, found {n}");
                self.problems.error(Position::START, message);
                return None;
            }
        }
        for plugin in &config.plugins {
            self.declare(plugin);
        }
        let n_declared = self.instances.len();
        self.every_entry_is_read = n_declared == config.plugins.len() && !config.unread.plugins;
        let build_order = self.resolve_references();
        let n_ordered = self.instances.len();
        let discovery = self.discovery();
        let sources = self.sources();
        let parsers = self.parsers();
        let saturation = self.flow_control();
        let handler = self.handler();
        let picker = self.default_picker();
        let profiles = if config.profiles.is_empty() {
            vec![self.synthesized_profile(n_declared, picker)]
        } else {
            let profiles = self.profiles(picker);
            self.warn_of_unreferenced();
            profiles
        };
        self.default_reporter();
        self.resolve_producers();
        self.judge_producers();
        self.review(profiles.iter().flatten(), discovery, &parsers);
        self.review_sources(&sources);
        self.review_attributes();
        // An entry that was told about is missing from the lists; the rest cannot stand without it.
        let complete = self.every_entry_is_read;
        let profiles = profiles.into_iter().collect::<Option<Vec<_>>>();
        // What was injected refers to nothing.
        let build_order = build_order.into_iter().chain(n_ordered..self.instances.len()).collect();
        let (instances, profiles, handler) = (self.instances, profiles?, handler?);
        Some(Composition {
            instances,
            profiles,
            handler,
            discovery,
            sources,
            saturation,
            parsers,
            build_order,
        })
        .filter(|_| complete)
    }

    fn declare(&mut self, plugin: &'a PluginSpec) {
        let Some(name) = &plugin.name else { return };
        if let Some(first) = self.names.get(&name.value) {
            let message =
                format!("plugin name {} is already taken at line {}", shown(&name.value), first.at.line);
            let advice = if references::name_is_type(plugin) { "; give this one a `name`" } else { "" };
            self.problems.error(name.at, message + advice);
            return;
        }
        let mut declared = Declared { at: name.at, instance: None, referenced: false };
        if let Some(type_name) = &plugin.type_name {
            if let Some(plugin_type) = self.find_type(&type_name.value) {
                let api_version = self.config.api_version;
                let n_told = self.problems.n_errors();
                let (parameters, references) =
                    parameters::read(plugin, plugin_type, api_version, self.problems);
                self.sound.push(self.problems.n_errors() == n_told);
                let instance = self.instances.len();
                declared.instance = Some(instance);
                self.instances.push(InstancePlan::new(&name.value, plugin_type, parameters));
                self.spellings.push(&type_name.value);
                self.references.extend(references.into_iter().map(|reference| (instance, reference)));
            } else {
                self.tell_unknown_type(&type_name.value, type_name.at);
                if references::name_is_type(plugin) {
                    self.guessed.extend(self.nearest_type(&type_name.value));
                }
            }
        }
        self.names.insert(name.value.clone(), declared);
    }

    fn find_type(&self, name: &str) -> Option<&'static PluginType> {
        self.types.iter().find(|plugin_type| plugin_type.name == name || plugin_type.aliases.contains(&name))
    }

    fn has(&self, instance: usize, kind: Kind) -> bool {
        self.instances[instance].plugin_type.kinds.contains(&kind)
    }

    fn all_of(&self, kind: Kind) -> Vec<usize> {
        (0..self.instances.len()).filter(|&instance| self.has(instance, kind)).collect()
    }

    fn position_of(&self, instance: usize) -> Position {
        self.names.get(&self.instances[instance].name).map_or(Position::START, |declared| declared.at)
    }

    fn handler(&mut self) -> Option<usize> {
        let handlers = self.all_of(Kind::ProfileHandler);
        let n_profiles = self.config.profiles.len().max(1);
        for &second in handlers.iter().skip(1) {
            let first = handlers[0];
            let message = format!(
                "plugin {} is a second profile handler, the first is {} at line {}; keep one",
                shown(&self.instances[second].name),
                shown(&self.instances[first].name),
                self.position_of(first).line
            );
            self.problems.error(self.position_of(second), message);
        }
        match handlers.first() {
            Some(&handler) => self.judge_profiles(handler).then_some(handler),
            None if n_profiles == 1 => self.inject(DEFAULT_HANDLER, Position::START),
            None => {
                // A plugin that could not be read may have been the handler.
                if self.every_entry_is_read {
                    let message = format!("{n_profiles} profiles need a profile handler, none is declared");
                    let advice = self.other_handlers();
                    self.problems.error(self.config.profiles[1].at, message + &advice);
                }
                None
            }
        }
    }

    /// The picker of profiles that name none: the first declared one, else an injected one.
    fn default_picker(&mut self) -> Option<usize> {
        match self.all_of(Kind::Picker).first() {
            Some(&picker) => Some(picker),
            None => self.inject(DEFAULT_PICKER, Position::START),
        }
    }

    /// Injects the reporter of a file that declares none, or not the one of the costs; if the binary has it.
    fn default_reporter(&mut self) {
        let Some(plugin_type) = self.find_type(DEFAULT_REPORTER) else { return };
        let Some(costs) = self.costs else {
            if self.all_of(Kind::Reporter).is_empty() {
                self.inject(DEFAULT_REPORTER, Position::START);
            }
            return;
        };
        if self.instances.iter().any(|plan| plan.plugin_type.name == plugin_type.name) {
            return;
        }
        let parameters = match node::parse(costs) {
            Ok(parameters) => parameters,
            Err(problem) => {
                self.problems
                    .error(Position::START, format!("the costs cannot be read: {}", problem.message));
                return;
            }
        };
        let spec = PluginSpec {
            at: Position::START,
            index: self.config.plugins.len(),
            name: Some(Located { value: DEFAULT_REPORTER.to_owned(), at: Position::START }),
            type_name: None,
            parameters: Some(parameters),
        };
        let (parameters, _) = parameters::read(&spec, plugin_type, self.config.api_version, self.problems);
        if let Some(at) = self.inject(DEFAULT_REPORTER, Position::START) {
            self.instances[at].parameters = parameters;
        }
    }

    fn is_scheduling(&self, instance: usize) -> bool {
        [Kind::Filter, Kind::Scorer, Kind::Picker].into_iter().any(|kind| self.has(instance, kind))
    }

    fn mark_referenced(&mut self, instance: usize) {
        if let Some(declared) = self.names.get_mut(&self.instances[instance].name) {
            declared.referenced = true;
        }
    }

    fn is_referenced(&self, instance: usize) -> bool {
        self.names.get(&self.instances[instance].name).is_none_or(|declared| declared.referenced)
    }
}

#[cfg(test)]
mod tests;

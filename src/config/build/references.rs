//! Names of plugins and of their types: what they mean, and what was probably meant.
//!
//! References in parameters may point forwards; here they become positions and an order to build in.

use std::collections::HashSet;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{Data, Kind, PluginType, Stability};

use super::{Composer, DEFAULT_HANDLER, Declared, InstancePlan};
use crate::config::PluginSpec;
use crate::config::node::{Node, Value};
use crate::config::parameters::{BY_DEFAULT, Reference};
use crate::config::problem::{Position, did_you_mean, nearest, shown, shown_list};
use crate::config::releases;

/// Most plugins that one plugin may refer to, with all that those refer to, counted as often as they are referred to.
/// It bounds what a decision runs, and how deep it nests.
const MAX_REFERRED: usize = 256;

/// Most names that a message lists.
const MAX_NAMED: usize = 20;

/// Types that never existed in a released version, but whose names are in old guides.
const SHEDDING: [&str; 4] = ["has-capacity", "sheddable", "critical", "drop-request"];

/// Types of the Go EPP that will not be, and what to do instead.
const REFUSED: [(&str, &str); 9] = [
    ("multicluster-queue-scorer", ONE_CLUSTER),
    ("multicluster-kv-cache-utilization-scorer", ONE_CLUSTER),
    ("multicluster-prefix-cache-scorer", ONE_CLUSTER),
    ("multicluster-approx-prefix-cache-producer", ONE_CLUSTER),
    ("multicluster-session-affinity-filter", ONE_CLUSTER),
    ("multicluster-metrics-data-source", ONE_CLUSTER),
    ("multicluster-metrics-extractor", ONE_CLUSTER),
    ("multicluster-file-discovery", ONE_CLUSTER),
    (
        "disaggregatedset-rollout-screener",
        "to keep revisions apart give each an `InferencePool` of its own and split traffic by the weights of an \
         `HTTPRoute`, or list a `label-selector-filter` for the revision's label",
    ),
];

const ONE_CLUSTER: &str = "an epp serves the pool of one cluster; use the type without `multicluster-`, and split \
                           traffic between clusters in the gateway";

impl Composer<'_> {
    /// Tells of a type that is not there.
    pub(super) fn tell_unknown_type(&mut self, name: &str, at: Position) {
        let types = self.types;
        self.problems.error_with(at, || {
            let unknown = format!("unknown plugin type {}", shown(name));
            if SHEDDING.contains(&name.strip_suffix("-filter").unwrap_or(name)) {
                return format!(
                    "{unknown}: shedding is done by admission, for objectives with a negative priority"
                );
            }
            if let Some((_, instead)) = REFUSED.iter().find(|(known, _)| *known == name) {
                return format!("plugin type {} is not there: {instead}", shown(name));
            }
            let names = types.iter().map(|plugin_type| plugin_type.name);
            let aliases = types.iter().flat_map(|plugin_type| plugin_type.aliases);
            if let Some(releases) = releases::that_know(name) {
                return format!("{unknown}: {releases} has it, epp does not");
            }
            let hint = did_you_mean(name, names.clone().chain(aliases.copied()));
            if !hint.is_empty() {
                return format!("{unknown}{hint}");
            }
            let beginning = |known: &&str| name.len() >= 3 && known.starts_with(name);
            let likely: Vec<_> = names.clone().filter(beginning).collect();
            match likely.as_slice() {
                [] if types.len() <= MAX_NAMED => format!("{unknown}, expected one of {}", shown_list(names)),
                [] => format!("{unknown}; `epp config schema` has the {} that there are", types.len()),
                likely => format!("{unknown}, did you mean one of {}?", shown_list(likely.iter().copied())),
            }
        });
    }

    /// Which types handle several profiles, as the end of a sentence.
    pub(super) fn other_handlers(&self) -> String {
        let handles = |known: &&PluginType| {
            known.kinds.contains(&Kind::ProfileHandler)
                && known.name != DEFAULT_HANDLER
                && !matches!(known.stability, Stability::Deprecated { .. })
        };
        let names: Vec<_> = self.types.iter().filter(handles).map(|known| known.name).collect();
        match names.as_slice() {
            [] => "; no type of handler takes several, so keep one profile".to_owned(),
            names => format!("; those for several are {}", shown_list(names.iter().copied())),
        }
    }

    /// The type that was probably meant by a name that is none.
    pub(super) fn nearest_type(&self, name: &str) -> Option<&'static str> {
        let spellings =
            |known: &'static PluginType| [known.name].into_iter().chain(known.aliases.iter().copied());
        nearest(name, self.types.iter().flat_map(spellings))
    }

    /// Whether a name may be that of an entry of `plugins` which could not be read, and was told.
    pub(super) fn is_unread(&self, name: &str) -> bool {
        self.guessed.contains(&name) || self.config.unread.names.iter().any(|word| word == name)
    }

    /// Tells of a name that no plugin has; `whose` begins the message.
    pub(super) fn tell_unknown_name(&mut self, whose: &str, name: &str, at: Position) {
        if self.is_unread(name) {
            return;
        }
        self.has_unknown_names = true;
        let asked = self.find_type(name);
        let of_type = |plan: &&InstancePlan| asked.is_some_and(|asked| asked.name == plan.plugin_type.name);
        let (names, instances, config) = (&self.names, &self.instances, self.config);
        self.problems.error_with(at, || {
            let unknown = format!("{whose}no plugin is named {}", shown(name));
            let others: Vec<_> = instances.iter().filter(of_type).map(|plan| plan.name.as_str()).collect();
            if !others.is_empty() {
                let (of, are) = if others.len() == 1 { ("the plugin", "is") } else { ("the plugins", "are") };
                return format!("{unknown}; {of} of that type {are} named {}", shown_list(others));
            }
            let hint = did_you_mean(name, names.keys().map(String::as_str));
            if asked.is_some() {
                return format!("{unknown}, declare one of that type in `plugins`{hint}");
            }
            if !hint.is_empty() {
                return format!("{unknown}{hint}");
            }
            let declared = config.plugins.iter().filter_map(|plugin| plugin.name.as_ref());
            let mut seen = HashSet::new();
            let declared = declared.map(|name| name.value.as_str()).filter(|name| seen.insert(*name));
            let declared: Vec<_> = declared.take(MAX_NAMED).collect();
            match declared.as_slice() {
                [] => format!("{unknown}; `plugins` declares none"),
                declared => format!("{unknown}; `plugins` declares {}", shown_list(declared.iter().copied())),
            }
        });
    }

    /// The plugin that `dataLayer.discovery` names.
    pub(super) fn discovery(&mut self) -> Option<usize> {
        let discovery = self.config.data_layer.as_ref()?.discovery.as_ref()?;
        let Some(declared) = self.names.get_mut(&discovery.value) else {
            self.tell_unknown_name("`dataLayer.discovery`: ", &discovery.value, discovery.at);
            return None;
        };
        declared.referenced = true;
        let instance = declared.instance?;
        if !self.has(instance, Kind::Discovery) {
            let message = format!("`dataLayer.discovery`: {} lists no endpoints", shown(&discovery.value));
            self.problems.error(discovery.at, message);
        }
        Some(instance)
    }

    /// Resolves what parameters refer to; the instances in an order to build them in, complete if nothing was wrong.
    pub(super) fn resolve_references(&mut self) -> Vec<usize> {
        for (from, reference) in std::mem::take(&mut self.references) {
            if let Kind::Produces(of) = reference.to {
                self.refer_to_producer(of, from, &reference);
                self.references.push((from, reference));
            } else if let Some(to) = self.referred(from, &reference) {
                self.instances[from].references.push(to);
            } else {
                self.sound[from] = false;
            }
        }
        let mut walk = Walk { order: Vec::new(), path: Vec::new(), sizes: vec![None; self.instances.len()] };
        for instance in 0..self.instances.len() {
            self.visit(instance, &mut walk);
        }
        walk.order
    }

    fn referred(&mut self, from: usize, reference: &Reference) -> Option<usize> {
        let whose = self.whose(from, reference);
        if !self.names.contains_key(&reference.name) && self.lacks_decider(from, reference) {
            let message = format!(
                "{whose}no plugin is named {}; `threshold: 0` splits every request: declare an \
                 `always-disagg-pd-decider`, and name it in `deciderPluginName`",
                shown(&reference.name)
            );
            self.problems.error(reference.at, message);
            return None;
        }
        let Some(declared) = self.names.get_mut(&reference.name) else {
            self.tell_unknown_name(&whose, &reference.name, reference.at);
            return None;
        };
        declared.referenced = true;
        // One that is broken was told.
        let to = declared.instance?;
        if !self.has(to, reference.to) {
            let name = shown(&reference.name);
            let listed = if self.is_scheduling(to) { "; list it in the profile" } else { "" };
            let wanted = reference.to.noun();
            self.problems.error(reference.at, format!("{whose}{name} is not a {wanted}{listed}"));
            return None;
        }
        Some(to)
    }

    /// Whether a handler is one of the first versions, which needed no decider, with a threshold that splits all.
    fn lacks_decider(&self, from: usize, reference: &Reference) -> bool {
        let plan = &self.instances[from];
        let mut specs = self.config.plugins.iter();
        let spec = specs.find(|spec| spec.name.as_ref().is_some_and(|name| name.value == plan.name));
        let given = spec.and_then(|spec| spec.parameters.as_ref());
        let Some(Value::Map(entries)) = given.map(|node| &node.value) else { return false };
        let is_zero = |(key, value): &(Node, Node)| {
            matches!(&key.value, Value::String(key) if key == "threshold") && value.whole_number() == Some(0)
        };
        plan.plugin_type.name == "pd-profile-handler"
            && reference.path.ends_with(BY_DEFAULT)
            && entries.iter().any(is_zero)
    }

    /// How messages begin that tell of a reference.
    pub(super) fn whose(&self, from: usize, reference: &Reference) -> String {
        format!("plugin {}: `{}`: ", shown(&self.instances[from].name), reference.path)
    }

    /// Looks up the name of a producer, which is judged last. It is no reason to build a plugin after it, or anew with
    /// it: values are handed over by the producer's name. A default one that is not declared is injected, as upstream
    /// does.
    fn refer_to_producer(&mut self, of: Data, from: usize, reference: &Reference) {
        let name = reference.name.as_str();
        if let Some(declared) = self.names.get_mut(name) {
            declared.referenced = true;
        } else if name == of.default_producer() {
            self.inject(name, reference.at);
        } else {
            let whose = self.whose(from, reference);
            self.tell_unknown_name(&whose, name, reference.at);
        }
    }

    /// Adds a plugin that the file does not declare, under the name of its type. `at` is where it is asked for.
    pub(super) fn inject(&mut self, type_name: &str, at: Position) -> Option<usize> {
        let Some(plugin_type) = self.find_type(type_name) else {
            let message = format!("the default plugin type `{type_name}` is not built in, declare another");
            self.problems.error(Position::START, message);
            return None;
        };
        if let Some(taken) = self.names.get(type_name) {
            // One that is broken was told, and may have been what is missing.
            taken.instance?;
            let message = format!("plugin name `{type_name}` is needed for the default plugin of that type");
            self.problems.error(taken.at, message);
            return None;
        }
        let parameters = Parameters::defaults(plugin_type.parameters);
        let required = plugin_type.parameters.iter().filter(|parameter| parameter.kind.is_required());
        let mut wrong: Vec<_> =
            required.map(|parameter| format!("`{}` is required", parameter.name)).collect();
        if wrong.is_empty() {
            wrong = (plugin_type.check)(&parameters);
        }
        if !self.every_entry_is_read {
            // The one that was told may have been what is asked for.
            wrong.clear();
        }
        for wrong in wrong {
            let name = shown(type_name);
            let message = format!("plugin {name} is not declared, and cannot do with its defaults: {wrong}");
            self.problems.error(at, message);
        }
        let instance = self.instances.len();
        self.instances.push(InstancePlan::new(type_name, plugin_type, parameters));
        self.spellings.push(plugin_type.name);
        self.sound.push(true);
        let declared = Declared { at: Position::START, instance: Some(instance), referenced: true };
        self.names.insert(type_name.to_owned(), declared);
        Some(instance)
    }

    /// Visits an instance after all that it refers to; refuses cycles, and what refers to too many.
    fn visit(&mut self, instance: usize, walk: &mut Walk) -> usize {
        if let Some(size) = walk.sizes[instance] {
            return size;
        }
        if let Some(first) = walk.path.iter().position(|&other| other == instance) {
            let names = walk.path[first..].iter().chain([&instance]);
            let names: Vec<_> = names.map(|&at| self.instances[at].name.clone()).collect();
            let message = format!("plugins refer to one another in a circle: {}", shown(&names.join(" → ")));
            self.problems.error(self.position_of(instance), message);
            self.sound[instance] = false;
            return 0;
        }
        walk.path.push(instance);
        let mut size: usize = 1;
        for to in self.instances[instance].references.clone() {
            size = size.saturating_add(self.visit(to, walk));
            // What looks into all that it refers to must come to an end.
            self.sound[instance] &= self.sound[to];
        }
        walk.path.pop();
        if size > MAX_REFERRED {
            let name = shown(&self.instances[instance].name);
            let message = format!(
                "plugin {name} refers to more than {MAX_REFERRED} plugins, with all that those refer to"
            );
            self.problems.error(self.position_of(instance), message);
            // Told once, not for everybody who refers to it as well.
            size = 1;
            self.sound[instance] = false;
        }
        walk.sizes[instance] = Some(size);
        walk.order.push(instance);
        size
    }
}

/// Whether an entry has no `name`, or one that says no more than its `type`.
pub(super) fn name_is_type(plugin: &PluginSpec) -> bool {
    plugin.name.as_ref().map(|name| &name.value) == plugin.type_name.as_ref().map(|name| &name.value)
}

struct Walk {
    order: Vec<usize>,
    /// The instances that are being visited.
    path: Vec<usize>,
    /// How many each stands for, once it was visited.
    sizes: Vec<Option<usize>>,
}

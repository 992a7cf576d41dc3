//! Plugins and profiles in each release: types, parameters, references, and what is added.

use std::collections::HashMap;

use epp_framework::plugin::{Kind, PluginType, Release};

use super::Judge;
use super::registry::{Registered, Role, Shape, reads};
use crate::config::node::{Node, Value};
use crate::config::problem::{Position, Problems, shown, shown_list};
use crate::config::{EndpointPickerConfig, Located, PluginSpec, ProfileSpec};

const SINGLE: &str = "single-profile-handler";
const APPROXIMATE: &str = "approx-prefix-cache-producer";
const PREFIX: &str = "prefix-cache-scorer";

impl Judge<'_> {
    /// Judges each entry of `plugins`.
    pub(super) fn plugins(&mut self, config: &EndpointPickerConfig) {
        let mut lines: HashMap<&str, u32> = HashMap::new();
        for plugin in &config.plugins {
            let Some(type_name) = &plugin.type_name else {
                self.refuses(plugin.at, "a plugin without `type`");
                continue;
            };
            let name = plugin.name.as_ref().unwrap_or(type_name);
            if let Some(line) = lines.insert(&name.value, name.at.line) {
                self.refuses(
                    name.at,
                    &format!("the name {} a second time, after line {line}", shown(&name.value)),
                );
            }
            self.plugin_type(type_name);
            if let Some(parameters) = &plugin.parameters {
                self.parameters(&type_name.value, parameters, config);
            }
        }
        let handlers = self.of_role(config, Role::Handler);
        for second in handlers.iter().skip(1) {
            self.refuses(second.at, &format!("a second profile handler, {}", shown(&second.value)));
        }
        self.profile_handler(config, handlers.first().copied());
        if self.release == Release::V1_0_1 {
            self.idle_prefix_scorers(config);
        }
    }

    fn profile_handler(&mut self, config: &EndpointPickerConfig, handler: Option<&Located<String>>) {
        let n_profiles = config.profiles.len();
        let Some(second) = config.profiles.get(1) else { return };
        match handler {
            None => self.refuses(second.at, &format!("{n_profiles} profiles without a profile handler")),
            Some(handler) if handler.value == SINGLE && self.release == Release::V1_0_1 => {
                let message = format!("loads {n_profiles} profiles with `{SINGLE}`, and fails every request");
                self.note(handler.at, message);
            }
            Some(handler) if handler.value == SINGLE => {
                self.refuses(handler.at, &format!("`{SINGLE}` with {n_profiles} profiles"));
            }
            Some(_) => {}
        }
    }

    /// In v1.0.1 its hook runs for every request, referenced or not.
    fn idle_prefix_scorers(&mut self, config: &EndpointPickerConfig) {
        let referenced = |name: &str| {
            let mut references = config.profiles.iter().flat_map(|profile| &profile.plugins);
            config.profiles.is_empty() || references.any(|reference| reference.name.value == name)
        };
        for plugin in &config.plugins {
            if let (Some(name), Some(type_name)) = (&plugin.name, &plugin.type_name)
                && type_name.value == PREFIX
                && !referenced(&name.value)
            {
                let message = format!(
                    "runs {} for every request all the same, and logs an error each time",
                    shown(&name.value)
                );
                self.note(name.at, message);
            }
        }
    }

    fn plugin_type(&mut self, type_name: &Located<String>) {
        let (name, at) = (type_name.value.as_str(), type_name.at);
        match Registered::find(name) {
            Some(known) if known.is_in(self.release) => {
                if known.is_alpha {
                    let what = format!(
                        "the plugin type {} unless started with --allow-experimental-plugins",
                        shown(name)
                    );
                    self.note(at, format!("refuses {what}"));
                    if self.conditions.is_empty() {
                        self.conditions.push("--allow-experimental-plugins");
                    }
                }
            }
            _ => self.refuses(at, &format!("the unknown plugin type {}", shown(name))),
        }
    }

    fn parameters(&mut self, type_name: &str, parameters: &Node, config: &EndpointPickerConfig) {
        let declared = self.find_type(type_name).map(|known| known.parameters);
        let known_here = Registered::find(type_name).is_some_and(|known| known.is_in(self.release));
        let fields = parameters.fields("", &mut Problems::default());
        let Some(fields) = fields.filter(|_| known_here) else { return };
        let forwarded = type_name == PREFIX && self.release == Release::V1_5;
        let forwarded_away = forwarded && declares(config, APPROXIMATE);
        let keys = reads(type_name, self.release);
        for (key, at, value) in fields.iter() {
            let shape = keys.map(|keys| {
                keys.iter().find(|(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, shape)| *shape)
            });
            match shape {
                // Types that read nothing never look.
                Some(None) if self.release == Release::LlmD && keys.is_some_and(|keys| !keys.is_empty()) => {
                    self.refuses(at, &format!("the unknown parameter {}", shown(key)));
                }
                Some(None) => self.note(at, format!("ignores the parameter {}", shown(key))),
                Some(Some(_)) if forwarded_away => {
                    self.note(
                        at,
                        format!(
                            "ignores the parameter {}: `{APPROXIMATE}` is declared and has its own",
                            shown(key)
                        ),
                    );
                }
                Some(Some(shape)) => self.known_parameter(key, shape, value, at),
                // Theirs are ours.
                None => {
                    let known = declared.is_none_or(|declared| {
                        declared.iter().any(|known| known.name.eq_ignore_ascii_case(key))
                    });
                    match declared {
                        _ if known => {
                            self.leaves(format!("values of parameters of {}", shown(type_name)));
                        }
                        Some(declared) if self.release == Release::LlmD && !declared.is_empty() => {
                            self.refuses(at, &format!("the unknown parameter {}", shown(key)));
                        }
                        _ => self.note(at, format!("ignores the parameter {}", shown(key))),
                    }
                }
            }
        }
    }

    fn known_parameter(&mut self, key: &str, shape: Shape, value: &Node, at: Position) {
        let fits = match (shape, &value.value) {
            (_, Value::Null) | (Shape::Switch, Value::Boolean(_)) | (Shape::Text, Value::String(_)) => true,
            (Shape::Whole, _) => value.whole_number().is_some(),
            (Shape::Number, _) => value.finite_number().is_some(),
            _ => false,
        };
        if !fits {
            self.refuses(value.at, &format!("{} as parameter {}", value.describe(), shown(key)));
        } else if self.release == Release::V1_0_1 && key.eq_ignore_ascii_case("hashBlockSize") {
            if value.whole_number().is_some_and(|size| size <= 0) {
                self.note(value.at, "loads this, and hangs at the first request: a block has no bytes");
            }
        } else if self.release == Release::V1_5 && key.eq_ignore_ascii_case("lruCapacityPerServer") {
            self.note(at, format!("takes the parameter {}, which does nothing there", shown(key)));
        }
    }

    /// Judges what profiles and parsers refer to.
    pub(super) fn references(&mut self, config: &EndpointPickerConfig, root: &Node) {
        let mut seen: Vec<&str> = Vec::new();
        for profile in &config.profiles {
            match &profile.name {
                None => self.refuses(profile.at, "a scheduling profile without `name`"),
                Some(name) if seen.contains(&name.value.as_str()) => {
                    self.refuses(
                        name.at,
                        &format!("the scheduling profile {} a second time", shown(&name.value)),
                    );
                }
                Some(name) => seen.push(&name.value),
            }
            self.profile(config, profile);
        }
        self.parser(config, root);
    }

    fn profile(&mut self, config: &EndpointPickerConfig, profile: &ProfileSpec) {
        let mut picker: Option<&str> = None;
        for reference in &profile.plugins {
            let (name, at) = (reference.name.value.as_str(), reference.name.at);
            let Some(plugin) = named(config, name) else {
                // It injects the two before it looks.
                if name != "max-score-picker" || !self.of_role(config, Role::Picker).is_empty() {
                    self.refuses(at, &format!("the reference to {}, which no plugin is named", shown(name)));
                }
                continue;
            };
            let role = plugin.type_name.as_ref().and_then(|type_name| self.role(&type_name.value));
            match role {
                Some(Role::Picker) => {
                    if let Some(first) = picker {
                        self.refuses(at, &format!("a second picker in the profile, beside {}", shown(first)));
                    }
                    picker = Some(name);
                }
                Some(Role::Scorer)
                    if reference.weight.is_none() && picker.is_some() && self.release == Release::V1_0_1 =>
                {
                    let message = format!(
                        "crashes at start: scorer {} has no weight, and stands behind a picker",
                        shown(name)
                    );
                    self.note(at, message);
                    self.crashes = true;
                }
                _ => {}
            }
        }
        let pickers = self.of_role(config, Role::Picker);
        if picker.is_none() && pickers.len() > 1 {
            let names = shown_list(pickers.iter().map(|name| name.value.as_str()));
            self.note(
                profile.at,
                format!("gives this profile any of the declared pickers, by chance: {names}"),
            );
        }
    }

    fn parser(&mut self, config: &EndpointPickerConfig, root: &Node) {
        // v1.5 knows the field of one parser alone.
        let fields = root.fields("", &mut Problems::default());
        let is_listed = fields.is_some_and(|fields| fields.get("requestHandler").is_some());
        if self.release <= Release::V1_0_1 || (is_listed && self.release == Release::V1_5) {
            return;
        }
        for parser in &config.parsers {
            let name = parser.value.as_str();
            let declared = named(config, name).and_then(|plugin| plugin.type_name.as_ref());
            let type_name = match (declared, self.release) {
                (Some(type_name), _) => type_name.value.as_str(),
                (None, Release::V1_5) if name != "openai-parser" => {
                    self.refuses(parser.at, &format!("the parser {}, which no plugin is named", shown(name)));
                    continue;
                }
                (None, _) => name,
            };
            let known = Registered::find(type_name).filter(|known| known.is_in(self.release));
            if known.is_none_or(|known| known.role != Role::Parser) {
                self.refuses(parser.at, &format!("{} as a parser", shown(name)));
            }
        }
    }

    /// What it adds to a configuration that it takes, as the end of a sentence.
    pub(super) fn added(&self, config: &EndpointPickerConfig) -> String {
        let mut added: Vec<&str> = Vec::new();
        if self.of_role(config, Role::Picker).is_empty() {
            added.push("max-score-picker");
        }
        if self.of_role(config, Role::Handler).is_empty() {
            added.push(SINGLE);
        }
        if self.release > Release::V1_0_1 {
            if declares(config, PREFIX) && !declares(config, APPROXIMATE) {
                added.push(APPROXIMATE);
                if self.release == Release::LlmD && !declares(config, "token-producer") {
                    added.push("token-producer");
                }
            }
            if config.parsers.is_empty() {
                added.push("openai-parser");
                if self.release == Release::LlmD {
                    added.extend(["anthropic-parser", "vllmhttp-parser", "passthrough-parser"]);
                }
            }
            added.extend(["metrics-data-source", "core-metrics-extractor", "utilization-detector"]);
            added.extend([
                "fcfs-ordering-policy",
                "global-strict-fairness-policy",
                "static-usage-limit-policy",
            ]);
            added.retain(|name| !declares(config, name));
        }
        let mut text = String::new();
        if !added.is_empty() {
            text = format!(", and adds {}", shown_list(added.iter().copied()));
        }
        if config.profiles.is_empty() {
            text.push_str("; one profile, `default`, has all plugins, in an order by chance");
        }
        text
    }

    fn find_type(&self, name: &str) -> Option<&PluginType> {
        self.types.iter().find(|known| known.name == name || known.aliases.contains(&name))
    }

    /// What a type is to the loader, ours or theirs.
    fn role(&self, type_name: &str) -> Option<Role> {
        let ours = self.find_type(type_name).map(|known| {
            let has = |kind| known.kinds.contains(&kind);
            let roles = [
                (Kind::Picker, Role::Picker),
                (Kind::Scorer, Role::Scorer),
                (Kind::Filter, Role::Filter),
                (Kind::ProfileHandler, Role::Handler),
                (Kind::Parser, Role::Parser),
            ];
            roles.into_iter().find(|(kind, _)| has(*kind)).map_or(Role::Other, |(_, role)| role)
        });
        ours.or_else(|| Registered::find(type_name).map(|known| known.role))
    }

    /// The types of this role that are declared, with their places, in file order.
    fn of_role<'c>(&self, config: &'c EndpointPickerConfig, role: Role) -> Vec<&'c Located<String>> {
        let types = config.plugins.iter().filter_map(|plugin| plugin.type_name.as_ref());
        types.filter(|type_name| self.role(&type_name.value) == Some(role)).collect()
    }
}

fn named<'c>(config: &'c EndpointPickerConfig, name: &str) -> Option<&'c PluginSpec> {
    config.plugins.iter().find(|plugin| plugin.name.as_ref().is_some_and(|known| known.value == name))
}

fn declares(config: &EndpointPickerConfig, type_name: &str) -> bool {
    config
        .plugins
        .iter()
        .any(|plugin| plugin.type_name.as_ref().is_some_and(|known| known.value == type_name))
}

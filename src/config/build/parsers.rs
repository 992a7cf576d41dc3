//! Who reads requests: what `requestHandler` lists, or the default parsers.

use epp_framework::plugin::{Kind, PluginType};

use super::Composer;
use crate::config::problem::{Position, did_you_mean, shown, shown_list};

/// The parsers of a configuration that lists none. The last takes every path that the others leave; the Go EPP has
/// `passthrough-parser` there, which reads nothing.
const DEFAULT_PARSERS: [&str; 4] = ["openai-parser", "anthropic-parser", "vllmhttp-parser", "generic-parser"];

impl Composer<'_> {
    /// The parsers, in the order in which they are asked. One that is named and not declared is made by its type.
    pub(super) fn parsers(&mut self) -> Vec<usize> {
        let config = self.config;
        if config.parsers.is_empty() {
            return DEFAULT_PARSERS.iter().filter_map(|name| self.default_parser(name)).collect();
        }
        let mut parsers = Vec::new();
        for reference in &config.parsers {
            let name = reference.value.as_str();
            let declared = self.names.get_mut(name);
            let is_declared = declared.is_some();
            let instance = match declared {
                Some(declared) => {
                    declared.referenced = true;
                    declared.instance
                }
                None => self.parser_of_type(name, reference.at),
            };
            match instance {
                Some(instance) if !self.has(instance, Kind::Parser) => {
                    self.problems.error(reference.at, format!("plugin {} is no parser", shown(name)));
                }
                Some(instance) if parsers.contains(&instance) => {
                    self.problems.warning(reference.at, format!("parser {} is listed twice", shown(name)));
                }
                Some(instance) => parsers.push(instance),
                None if !is_declared => self.tell_unknown_parser(name, reference.at),
                // What is wrong with it was told.
                None => {}
            }
        }
        parsers
    }

    fn tell_unknown_parser(&mut self, name: &str, at: Position) {
        if self.is_unread(name) {
            return;
        }
        self.has_unknown_names = true;
        let is_parser = |known: &&PluginType| known.kinds.contains(&Kind::Parser);
        let is_type = self.find_type(name).is_some();
        let (types, names) = (self.types, &self.names);
        self.problems.error_with(at, || {
            if is_type {
                return format!("plugin type {} is no parser", shown(name));
            }
            let types = || types.iter().filter(is_parser).map(|known| known.name);
            let hint = did_you_mean(name, names.keys().map(String::as_str).chain(types()));
            let unknown = format!("no plugin and no type of parser is named {}", shown(name));
            if hint.is_empty() {
                format!("{unknown}; the types are {}", shown_list(types()))
            } else {
                format!("{unknown}{hint}")
            }
        });
    }

    fn default_parser(&mut self, name: &str) -> Option<usize> {
        let declared = self.names.get_mut(name).map(|declared| {
            declared.referenced = true;
            declared.instance
        });
        let instance = declared.unwrap_or_else(|| self.parser_of_type(name, Position::START));
        instance.filter(|&instance| self.has(instance, Kind::Parser))
    }

    fn parser_of_type(&mut self, name: &str, at: Position) -> Option<usize> {
        let is_parser = self.find_type(name).is_some_and(|found| found.kinds.contains(&Kind::Parser));
        if is_parser { self.inject(name, at) } else { None }
    }
}

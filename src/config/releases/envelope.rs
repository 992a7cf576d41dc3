//! The fields of the envelope in each release: all but `parameters` is decoded strictly.

use epp_framework::plugin::Release;

use super::Judge;
use crate::config::node::{Node, Value};
use crate::config::problem::shown;

/// What a field holds.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Number,
    /// A list of what is declared below `[]`.
    List,
    /// What is declared below the name.
    Map,
    /// Anything.
    Any,
}

/// A field: the path of its map, its name, the first release that knows it, and what it holds.
struct Field(&'static str, &'static str, Release, Shape);

const FIELDS: &[Field] = &[
    Field("", "apiVersion", Release::V1_0_1, Shape::Text),
    Field("", "kind", Release::V1_0_1, Shape::Text),
    Field("", "plugins", Release::V1_0_1, Shape::List),
    Field("", "schedulingProfiles", Release::V1_0_1, Shape::List),
    Field("", "featureGates", Release::V1_5, Shape::Any),
    Field("", "saturationDetector", Release::V1_5, Shape::Map),
    Field("", "dataLayer", Release::V1_5, Shape::Map),
    Field("", "flowControl", Release::V1_5, Shape::Map),
    Field("", "parser", Release::V1_5, Shape::Map),
    Field("", "requestHandler", Release::LlmD, Shape::Map),
    Field("plugins[]", "name", Release::V1_0_1, Shape::Text),
    Field("plugins[]", "type", Release::V1_0_1, Shape::Text),
    Field("plugins[]", "parameters", Release::V1_0_1, Shape::Any),
    Field("schedulingProfiles[]", "name", Release::V1_0_1, Shape::Text),
    Field("schedulingProfiles[]", "plugins", Release::V1_0_1, Shape::List),
    Field("schedulingProfiles[].plugins[]", "pluginRef", Release::V1_0_1, Shape::Text),
    Field("schedulingProfiles[].plugins[]", "weight", Release::V1_0_1, Shape::Number),
    Field("saturationDetector", "pluginRef", Release::V1_5, Shape::Text),
    Field("parser", "pluginRef", Release::V1_5, Shape::Text),
    Field("requestHandler", "parsers", Release::LlmD, Shape::List),
    Field("requestHandler.parsers[]", "pluginRef", Release::LlmD, Shape::Text),
    Field("dataLayer", "sources", Release::V1_5, Shape::List),
    Field("dataLayer", "injectDefaults", Release::LlmD, Shape::Any),
    Field("dataLayer", "discovery", Release::LlmD, Shape::Map),
    Field("dataLayer", "peerDiscovery", Release::LlmD, Shape::Map),
    Field("dataLayer", "crossReplicaSyncerPluginRef", Release::LlmD, Shape::Text),
    Field("dataLayer", "crossReplicaSyncInterval", Release::LlmD, Shape::Any),
    Field("dataLayer.sources[]", "pluginRef", Release::V1_5, Shape::Text),
    Field("dataLayer.sources[]", "extractors", Release::V1_5, Shape::List),
    Field("dataLayer.sources[]", "interval", Release::LlmD, Shape::Any),
    Field("dataLayer.sources[].extractors[]", "pluginRef", Release::V1_5, Shape::Text),
    Field("dataLayer.discovery", "pluginRef", Release::LlmD, Shape::Text),
    Field("dataLayer.discovery", "endpoints", Release::LlmD, Shape::Map),
    Field("dataLayer.discovery.endpoints", "pluginRef", Release::LlmD, Shape::Text),
    Field("dataLayer.peerDiscovery", "pluginRef", Release::LlmD, Shape::Text),
    Field("flowControl", "maxBytes", Release::V1_5, Shape::Any),
    Field("flowControl", "maxRequests", Release::V1_5, Shape::Any),
    Field("flowControl", "defaultRequestTTL", Release::V1_5, Shape::Any),
    Field("flowControl", "defaultPriorityBand", Release::V1_5, Shape::Any),
    Field("flowControl", "priorityBands", Release::V1_5, Shape::Any),
    Field("flowControl", "usageLimitPolicyPluginRef", Release::V1_5, Shape::Text),
    Field("flowControl", "noEndpointRequestTTL", Release::LlmD, Shape::Any),
    Field("flowControl", "defaultNegativePriorityBand", Release::LlmD, Shape::Any),
    Field("flowControl", "saturationDetector", Release::LlmD, Shape::Map),
    Field("flowControl", "enableEviction", Release::LlmD, Shape::Any),
    Field("flowControl.saturationDetector", "pluginRef", Release::LlmD, Shape::Text),
];

impl Judge<'_> {
    /// Looks at every field of the map at `path`, and at what is below.
    pub(super) fn envelope(&mut self, map: &Node, path: &str) {
        let Value::Map(entries) = &map.value else {
            let whose = if path.is_empty() { "the configuration" } else { path };
            self.refuses(map.at, &format!("{}, where a map is expected ({whose})", map.describe()));
            return;
        };
        let mut seen: Vec<&str> = Vec::new();
        for (key, value) in entries {
            let Value::String(name) = &key.value else { continue };
            if seen.contains(&name.as_str()) {
                self.refuses(key.at, &format!("the duplicate key {}", shown(name)));
                continue;
            }
            seen.push(name);
            let field = FIELDS.iter().find(|Field(of, known, ..)| *of == path && known == name);
            match field {
                Some(&Field(_, _, since, shape)) if since <= self.release => {
                    let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.field(value, &below, shape);
                    let is_judged = ["apiVersion", "kind", "plugins", "schedulingProfiles", "featureGates"];
                    let is_parser = ["parser", "requestHandler"].contains(&name.as_str());
                    if path.is_empty()
                        && !is_judged.contains(&name.as_str())
                        && !is_parser
                        && !value.is_empty()
                    {
                        self.leaves(format!("values and references of {}", shown(name)));
                    }
                }
                Some(Field(_, _, since, _)) => {
                    let what = format!("the field {}, which came with {}", shown(name), super::name(*since));
                    self.refuses(key.at, &what);
                }
                None => self.refuses(key.at, &format!("the unknown field {}", shown(name))),
            }
        }
    }

    fn field(&mut self, node: &Node, path: &str, shape: Shape) {
        match (shape, &node.value) {
            (_, Value::Null) | (Shape::Any, _) | (Shape::Text, Value::String(_)) => {}
            (Shape::Number, Value::Integer(_) | Value::Float(_)) => self.weight(node),
            (Shape::List, Value::List(items)) => {
                let below = format!("{path}[]");
                for item in items {
                    self.envelope(item, &below);
                }
            }
            (Shape::Map, Value::Map(_)) => self.envelope(node, path),
            _ => self.refuses(node.at, &format!("{} as {}", node.describe(), shown(path))),
        }
    }

    /// v1.0.1 decodes weights as integers.
    fn weight(&mut self, node: &Node) {
        if self.release == Release::V1_0_1 && node.whole_number().is_none() {
            self.refuses(node.at, &format!("the weight {}: it takes whole numbers only", node.describe()));
        }
    }
}

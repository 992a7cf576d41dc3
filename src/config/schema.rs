//! A JSON Schema of the format, for editors that complete and check it: [`schema`].
//!
//! Draft 7, which yaml-language-server (VS Code, Neovim …) knows best. What refers to something else in the file (names,
//! circles, pickers per profile) no schema can judge. It is stricter than the loader where that only warns: names of
//! parameters are as declared, in their case, and unknown ones are refused.

use epp_framework::parameters::{Parameter, ParameterKind};
use epp_framework::plugin::{Kind, PluginType, Stability};
use serde_json::{Map, Value, json};

use super::build::MAX_WEIGHT;
use super::{GIE_API, KIND, LLM_D_API};

/// The schema, with the parameters of these types.
pub fn schema(types: &'static [PluginType]) -> Value {
    let mut definitions = Map::new();
    let mut cases = Vec::new();
    for plugin_type in types {
        let parameters = parameters_of(plugin_type, &mut definitions);
        for name in names(plugin_type) {
            cases.push(json!({
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": parameters.clone(),
            }));
        }
    }
    definitions.insert("pluginRef".to_owned(), reference("Name of a plugin in `plugins`."));
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": KIND,
        "description": "Which plugins pick the endpoint of a request, and how they hang together.",
        "type": "object",
        "additionalProperties": false,
        "properties": envelope(types, &cases),
        "definitions": definitions,
    })
}

/// Every spelling of a type.
fn names(plugin_type: &PluginType) -> impl Iterator<Item = &'static str> {
    std::iter::once(plugin_type.name).chain(plugin_type.aliases.iter().copied())
}

fn envelope(types: &[PluginType], cases: &[Value]) -> Value {
    let parsers = types.iter().filter(|known| known.kinds.contains(&Kind::Parser)).map(|known| known.name);
    let parsers = parsers.collect::<Vec<_>>().join(", ");
    let pluginref = |description: &str| {
        json!({
            "type": ["object", "null"],
            "description": description,
            "additionalProperties": false,
            "properties": {"pluginRef": {"$ref": "#/definitions/pluginRef"}},
        })
    };
    let parser = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["pluginRef"],
        "properties": {"pluginRef": reference(&format!("A parser in `plugins`, or a type of parser: {parsers}."))},
    });
    json!({
        "apiVersion": {
            "description": format!("`{LLM_D_API}` refuses unknown parameters, `{GIE_API}` ignores them."),
            "enum": [GIE_API, LLM_D_API],
            "default": GIE_API,
        },
        "kind": {"const": KIND, "default": KIND},
        "plugins": {
            "type": ["array", "null"],
            "description": "The plugins there are. Each is built once, whatever refers to it.",
            "items": plugin(types, cases),
        },
        "schedulingProfiles": {
            "type": ["array", "null"],
            "description": "Which filters, scorers and picker decide together. Without any, one profile has all plugins.",
            "items": profile(),
        },
        "featureGates": {
            "type": ["array", "null"],
            "description": "Switches, as `name` or `name=false`.",
            "items": {"type": "string", "pattern": "^(flowControl|dataLayer|enableLegacyMetrics|prepareDataPlugins|haPopulateNonLeaderDatastore)(=.*)?$"},
        },
        "dataLayer": data_layer(&pluginref("The same in the notation of newer versions.")),
        "requestHandler": {
            "type": ["object", "null"],
            "description": "Who reads requests.",
            "additionalProperties": false,
            "properties": {
                "parsers": {
                    "type": ["array", "null"],
                    "description": "Parsers in the order in which they are asked; one without a path takes what is left.",
                    "items": parser,
                },
            },
        },
        "parser": pluginref("The one parser, as v1.5 has it; `requestHandler.parsers` takes several."),
        "saturationDetector": pluginref("The older place of `flowControl.saturationDetector`."),
        "flowControl": flow_control(&pluginref("Who says whether the pool is saturated.")),
    })
}

fn data_layer(endpoints: &Value) -> Value {
    let extractor = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["pluginRef"],
        "properties": {"pluginRef": {"$ref": "#/definitions/pluginRef"}},
    });
    let source = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["pluginRef"],
        "properties": {
            "pluginRef": {"$ref": "#/definitions/pluginRef"},
            "interval": {"type": ["string", "null"], "description": "Time between two readings, such as 1s."},
            "extractors": {"type": ["array", "null"], "description": "Who makes values of it.", "items": extractor},
        },
    });
    json!({
        "type": ["object", "null"],
        "description": "Where endpoints and their metrics come from.",
        "additionalProperties": false,
        "properties": {
            "injectDefaults": {"type": "boolean", "default": true, "description": "Whether metrics pages are read without being listed."},
            "sources": {"type": ["array", "null"], "description": "What is read from endpoints.", "items": source},
            "discovery": {
                "type": ["object", "null"],
                "description": "Who lists the pool's endpoints, if not the command line says it.",
                "additionalProperties": false,
                "properties": {
                    "pluginRef": {"$ref": "#/definitions/pluginRef"},
                    "endpoints": endpoints,
                },
            },
            "peerDiscovery": {"type": ["object", "null"], "description": "Of other versions."},
            "crossReplicaSyncerPluginRef": {"type": "string", "description": "Of other versions."},
            "crossReplicaSyncInterval": {"description": "Of other versions."},
        },
    })
}

fn flow_control(detector: &Value) -> Value {
    let amount = |what: &str| {
        json!({
            "type": ["string", "integer"],
            "minimum": 0,
            "description": format!("{what}, as a quantity such as 1Gi or 500; 0 is no limit."),
        })
    };
    let span = |what: &str| json!({"type": "string", "description": format!("{what}, such as 30s; 0s is for ever.")});
    let fields = json!({
        "maxBytes": amount("Bytes that may wait in it"),
        "maxRequests": amount("Requests that may wait in it"),
        "fairnessPolicyRef": reference("A fairness policy: whose turn it is."),
        "orderingPolicyRef": reference("An ordering policy: what a flow sends first."),
        "priority": {"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX, "description": "Which requests."},
    });
    let band = |required: &[&str]| {
        json!({
            "type": ["object", "null"],
            "description": "A priority band.",
            "additionalProperties": false,
            "required": required,
            "properties": fields,
        })
    };
    json!({
        "type": ["object", "null"],
        "description": "How requests wait; queues need the feature gate `flowControl`, the detector does not.",
        "additionalProperties": false,
        "properties": {
            "maxBytes": amount("Bytes that may wait in all bands"),
            "maxRequests": amount("Requests that may wait in all bands"),
            "defaultRequestTTL": span("How long a request may wait"),
            "noEndpointRequestTTL": span("The same while the pool has no endpoint"),
            "defaultPriorityBand": band(&[]),
            "defaultNegativePriorityBand": band(&[]),
            "priorityBands": {"type": ["array", "null"], "items": band(&["priority"])},
            "usageLimitPolicyPluginRef": reference("A usage limit policy: how full the pool may be for a priority."),
            "saturationDetector": detector,
            "enableEviction": {"type": "boolean", "default": false, "description": "Whether running requests may be evicted."},
        },
    })
}

fn plugin(types: &[PluginType], cases: &[Value]) -> Value {
    let (mut spellings, mut said) = (Vec::new(), Vec::new());
    for known in types {
        for name in names(known) {
            spellings.push(name);
            said.push(if name == known.name {
                known.summary.to_owned()
            } else {
                format!("The old name of {}.", known.name)
            });
        }
    }
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["type"],
        "properties": {
            "name": {
                "type": ["string", "null"],
                "description": "What references call it; the type, if absent.",
            },
            "type": {
                "description": "What it is.",
                "enum": spellings,
                "enumDescriptions": said,
            },
            "parameters": {
                "type": ["object", "null"],
                "description": "What it is told; which keys there are depends on the type.",
            },
        },
        "allOf": cases,
    })
}

fn profile() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "description": "What the profile handler calls it."},
            "plugins": {
                "type": ["array", "null"],
                "description": "Filters run first, in this order, then scorers, then the picker.",
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["pluginRef"],
                    "properties": {
                        "pluginRef": {"$ref": "#/definitions/pluginRef"},
                        "weight": {
                            "type": ["number", "null"],
                            "description": "What the scores of a scorer are multiplied by.",
                            "default": 1,
                            "minimum": -MAX_WEIGHT,
                            "maximum": MAX_WEIGHT,
                        },
                    },
                },
            },
        },
    })
}

fn reference(description: &str) -> Value {
    json!({"type": "string", "minLength": 1, "description": description})
}

/// What holds for an entry of this type.
fn parameters_of(plugin_type: &'static PluginType, definitions: &mut Map<String, Value>) -> Value {
    let mut about = plugin_type.summary.to_owned();
    for more in [plugin_type.about, plugin_type.drains] {
        if !more.is_empty() {
            about = format!("{about} {more}");
        }
    }
    let mut writer =
        Writer { whose: plugin_type.name, renamed: plugin_type.renamed, above: Vec::new(), definitions };
    let mut inner = writer.map(plugin_type.parameters, "parameters", false);
    inner["description"] = about.clone().into();
    inner["type"] = json!(["object", "null"]);
    definitions.insert(format!("parameters-{}", plugin_type.name), inner);
    let parameters = json!({"$ref": format!("#/definitions/parameters-{}", plugin_type.name)});
    let needs_some = plugin_type.parameters.iter().any(|parameter| parameter.kind.is_required());
    let mut then = json!({"properties": {"type": {"description": about}, "parameters": parameters}});
    if needs_some {
        then["required"] = json!(["parameters"]);
        then["properties"]["parameters"] =
            json!({"allOf": [then["properties"]["parameters"].clone(), {"type": "object"}]});
    }
    if let Stability::Deprecated { instead } = plugin_type.stability {
        then["properties"]["type"]["deprecationMessage"] = instead.into();
    }
    then
}

/// Writes the maps of one type.
struct Writer<'a> {
    whose: &'static str,
    renamed: &'static [(&'static str, &'static str)],
    /// The maps that we are in, and whether one within is like it.
    above: Vec<(&'static [Parameter], bool)>,
    definitions: &'a mut Map<String, Value>,
}

/// Whether two declarations are the same: a map that contains maps like itself declares the same names again.
fn alike(one: &[Parameter], other: &[Parameter]) -> bool {
    one.iter().map(|parameter| parameter.name).eq(other.iter().map(|parameter| parameter.name))
}

impl Writer<'_> {
    fn map(&mut self, declared: &'static [Parameter], name: &str, one_of: bool) -> Value {
        if let Some(n) = self.above.iter().position(|(above, _)| alike(above, declared)) {
            self.above[n].1 = true;
            return json!({"$ref": self.definition(declared)});
        }
        let is_top = self.above.is_empty();
        self.above.push((declared, false));
        let mut properties = Map::new();
        for parameter in declared {
            let value = self.parameter(parameter);
            for (old, _) in self.renamed.iter().filter(|(_, new)| is_top && *new == parameter.name) {
                properties.insert((*old).to_owned(), value.clone());
            }
            properties.insert(parameter.name.to_owned(), value);
        }
        let mut map = json!({"type": "object", "additionalProperties": false, "properties": properties});
        let required: Vec<_> = declared
            .iter()
            .filter(|parameter| parameter.kind.is_required())
            .map(|parameter| parameter.name)
            .collect();
        if !required.is_empty() {
            map["required"] = required.into();
        }
        if one_of {
            map["minProperties"] = 1.into();
            map["maxProperties"] = 1.into();
        }
        let repeats = self.above.pop().is_some_and(|(_, repeats)| repeats);
        if repeats {
            let reference = self.definition(declared);
            let key = reference.trim_start_matches("#/definitions/").to_owned();
            self.definitions.insert(key, map.clone());
            if name != "parameters" {
                return json!({"$ref": reference});
            }
        }
        map
    }

    fn definition(&self, declared: &[Parameter]) -> String {
        let first = declared.first().map_or("", |parameter| parameter.name);
        format!("#/definitions/map-{}-{first}", self.whose)
    }

    fn parameter(&mut self, parameter: &Parameter) -> Value {
        let mut value = self.value(parameter);
        let unit =
            if parameter.unit.is_empty() { String::new() } else { format!(" Unit: {}.", parameter.unit) };
        let description = format!("{}{unit}", parameter.summary);
        // Beside `$ref` draft 7 reads nothing.
        if value.get("$ref").is_some() {
            value = json!({"allOf": [value]});
        }
        value["description"] = description.into();
        value
    }

    fn value(&mut self, parameter: &Parameter) -> Value {
        match parameter.kind {
            ParameterKind::Boolean { default } => json!({"type": "boolean", "default": default}),
            ParameterKind::Integer { default, min, max } => {
                let mut value = integer(min, max);
                value["default"] = default.into();
                value
            }
            ParameterKind::Float { default, min, max } => {
                let mut value = number(min, max);
                value["default"] = default.into();
                value
            }
            ParameterKind::OptionalInteger { min, max } => integer(min, max),
            ParameterKind::OptionalFloat { min, max, .. } => number(min, max),
            ParameterKind::Span { default, .. } => json!({
                "type": ["string", "integer"],
                "pattern": "^[+]?([0-9]*[.]?[0-9]+(ns|us|µs|μs|ms|s|m|h))+$|^0$",
                "minimum": 0,
                "default": super::effective::span(default),
            }),
            ParameterKind::Text { default: Some(default), .. } => {
                json!({"type": "string", "default": default})
            }
            ParameterKind::Word { of, default } => match default {
                Some(default) => json!({"enum": of, "default": default}),
                None => json!({"enum": of}),
            },
            ParameterKind::Texts { required } => json!({
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "minItems": u8::from(required),
            }),
            ParameterKind::TextMap => json!({"type": "object", "additionalProperties": {"type": "string"}}),
            ParameterKind::Reference { default: Some(default), .. } => {
                json!({"type": "string", "minLength": 1, "default": default})
            }
            ParameterKind::Text { default: None, .. } | ParameterKind::Reference { default: None, .. } => {
                json!({"type": "string", "minLength": 1})
            }
            ParameterKind::Producer { of, own } => {
                let mut value = json!({"type": "string"});
                if !own {
                    value["default"] = of.default_producer().into();
                }
                value
            }
            ParameterKind::Ignored { because: "" } => json!({"deprecationMessage": "it does nothing"}),
            ParameterKind::Ignored { because } => json!({"deprecationMessage": because}),
            ParameterKind::Map { fields, one_of, .. } => self.map(fields(), parameter.name, one_of),
            ParameterKind::List { fields, required, .. } => json!({
                "type": "array",
                "items": self.map(fields(), parameter.name, false),
                "minItems": u8::from(required),
            }),
        }
    }
}

fn integer(min: i64, max: i64) -> Value {
    let mut value = json!({"type": "integer"});
    if min != i64::MIN {
        value["minimum"] = min.into();
    }
    if max != i64::MAX {
        value["maximum"] = max.into();
    }
    value
}

fn number(min: f64, max: f64) -> Value {
    let mut value = json!({"type": "number"});
    if min > f64::MIN {
        value["minimum"] = min.into();
    }
    if max < f64::MAX {
        value["maximum"] = max.into();
    }
    value
}

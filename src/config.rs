//! `EndpointPickerConfig` as written; [`read`] is the entry point.
//!
//! The envelope is strict: what is not known is refused, with its place. Both API groups of `v1alpha1` are taken. What
//! the plugins and profiles mean, which defaults apply and whether references resolve is left to [`build`].

pub mod build;
mod data_layer;
pub mod diff;
pub mod document;
pub mod effective;
mod envelope;
pub mod flow_control;
pub mod node;
mod parameters;
pub mod problem;
pub mod releases;
pub mod reload;
pub mod report;
pub mod schema;
pub mod standing;

use std::time::Duration;

use crate::config::flow_control::FlowControl;
use crate::config::node::{Fields, Node, Value};
use crate::config::problem::{Position, Problem, Problems, did_you_mean, shown};

/// The configuration that applies when none is given: three scorers, weighted 2, 2, 3.
pub const DEFAULT_CONFIG: &str = "\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
    weight: 2
  - pluginRef: kv-cache-utilization-scorer
    weight: 2
  - pluginRef: prefix-cache-scorer
    weight: 3
";

/// The configuration that v0.4 was built with, and that the manifests of v0.5.1 bring as a file: a decision tree.
pub const LEGACY_CONFIG: &str = include_str!("../config/legacy-plugins.yaml");

/// What is said of a text without any value, wherever it is found.
pub const EMPTY: &str = "the configuration is empty: epp starts with its built-in default then, and refuses a reload, as \
                         the file may have been cut";

/// Most values of one file. The largest configuration that composes has far fewer.
const MAX_VALUES: usize = 200_000;

const KIND: &str = "EndpointPickerConfig";
const GIE_API: &str = "inference.networking.x-k8s.io/v1alpha1";
const LLM_D_API: &str = "llm-d.ai/v1alpha1";

/// Keys that are written by mistake, in lower case, and what to do instead.
type Mistaken = &'static [(&'static [&'static str], &'static str)];

const MISTAKEN: Mistaken = &[
    (&["profiles", "profile", "scheduling"], "did you mean `schedulingProfiles`?"),
    (&["parsers"], "write `requestHandler: {parsers: […]}`"),
    (&["sources", "discovery"], "it belongs below `dataLayer`"),
    (&["data"], "did you mean `dataLayer`? A ConfigMap is given as the file that one of its keys holds"),
    (&["metadata", "spec"], "this is a file of `epp`, not an object of Kubernetes"),
    (
        &["scorers", "filters", "pickers"],
        "declare all of them in `plugins`, and refer to them in `schedulingProfiles`",
    ),
];

const MISTAKEN_OF_PLUGIN: Mistaken = &[
    (
        &["config", "configuration", "params", "args", "options", "settings", "spec"],
        "did you mean `parameters`?",
    ),
    (&["weight"], "it belongs beside the `pluginRef` in a scheduling profile"),
    (&["pluginref"], "did you mean `type`?"),
    (&["kind", "plugintype"], "did you mean `type`?"),
];

const MISTAKEN_OF_PROFILE: Mistaken = &[(
    &["filters", "scorers", "picker", "pickers", "pluginrefs", "refs"],
    "list them all in `plugins`, each as `pluginRef`",
)];

const MISTAKEN_OF_REFERENCE: Mistaken = &[
    (&["name", "plugin", "ref", "type", "pluginname"], "did you mean `pluginRef`?"),
    (&["parameters", "config"], "they belong to the entry of `plugins`"),
];

/// Which group the file was written for. They differ in what they take as `parameters`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiVersion {
    /// `inference.networking.x-k8s.io/v1alpha1`, also when the file does not say: unknown parameters are ignored.
    #[default]
    Gie,
    /// `llm-d.ai/v1alpha1`: unknown parameters are refused.
    LlmD,
}

/// A value and the place where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it is written.
    pub at: Position,
}

/// One file. Entries that are not usable, and were told, lack their `Option`al fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointPickerConfig {
    /// Group that the file was written for.
    pub api_version: ApiVersion,
    /// `featureGates`.
    pub gates: FeatureGates,
    /// `plugins`, in file order.
    pub plugins: Vec<PluginSpec>,
    /// `schedulingProfiles`, in file order; empty means that one is synthesized.
    pub profiles: Vec<ProfileSpec>,
    /// `dataLayer`; `None` where the file has none.
    pub data_layer: Option<DataLayerSpec>,
    /// Names of the parsers, from `requestHandler.parsers`; empty means the default ones.
    pub parsers: Vec<Located<String>>,
    /// `flowControl`, and the older `saturationDetector`.
    pub flow_control: FlowControl,
    /// What could not be read, and was told.
    pub unread: Unread,
}

/// What of a file could not be read: it keeps what follows from its lack from being told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unread {
    /// Whether some of `plugins` is missing from the list.
    pub plugins: bool,
    /// Words of entries without a name: each may be the name that was meant.
    pub names: Vec<String>,
    /// Whether names may be missing where plugins are referred to.
    pub references: bool,
}

/// Feature gates that change something here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    /// Whether requests wait for their turn.
    pub flow_control: bool,
}

/// One entry of `plugins`.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginSpec {
    /// Where the entry begins.
    pub at: Position,
    /// Its place in the list, from 0.
    pub index: usize,
    /// `name`, or `type` where there is none.
    pub name: Option<Located<String>>,
    /// `type`.
    pub type_name: Option<Located<String>>,
    /// `parameters`, as written.
    pub parameters: Option<Node>,
}

/// One entry of `schedulingProfiles`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileSpec {
    /// Where the entry begins.
    pub at: Position,
    /// `name`.
    pub name: Option<Located<String>>,
    /// `plugins`, in file order.
    pub plugins: Vec<PluginRef>,
}

/// One entry of a profile's `plugins`.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginRef {
    /// `pluginRef`.
    pub name: Located<String>,
    /// `weight`; may be anything that YAML calls a number.
    pub weight: Option<Located<f64>>,
}

/// `dataLayer`.
#[derive(Clone, Debug, PartialEq)]
pub struct DataLayerSpec {
    /// Where it is written.
    pub at: Position,
    /// Name of the plugin that lists the pool's endpoints, from `discovery`.
    pub discovery: Option<Located<String>>,
    /// `sources`, in file order.
    pub sources: Vec<SourceSpec>,
    /// `injectDefaults`; `None` where it is not said.
    pub inject_defaults: Option<bool>,
    /// Whether it has fields that only llm-d knows.
    pub is_llm_d: bool,
}

/// One entry of `dataLayer.sources`.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSpec {
    /// `pluginRef`.
    pub name: Located<String>,
    /// `interval`, where it is said.
    pub interval: Option<Duration>,
    /// `extractors`, by their `pluginRef`s, in file order.
    pub extractors: Vec<Located<String>>,
}

/// Reads a file. `None` only where there is nothing that could be composed; an empty text is [`DEFAULT_CONFIG`].
pub fn read(text: &str) -> (Option<EndpointPickerConfig>, Vec<Problem>) {
    let mut problems = Problems::default();
    let config = read_into(text, &mut problems);
    (config, problems.into_vec())
}

/// The configuration that applies when none is given.
fn default_config() -> EndpointPickerConfig {
    read(DEFAULT_CONFIG).0.expect("the built-in text is a configuration")
}

fn read_into(text: &str, problems: &mut Problems) -> Option<EndpointPickerConfig> {
    let root = match node::parse_up_to(MAX_VALUES, text) {
        Ok(root) => root,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    if root.value == Value::Null {
        problems.warning(Position::START, EMPTY);
        return Some(default_config());
    }
    let fields = root.fields("the configuration", problems)?;
    let api_version = read_api_version(&fields, problems);
    expect_kind(&fields, problems);
    let mut known = vec!["apiVersion", "kind", "plugins", "schedulingProfiles", "featureGates", "dataLayer"];
    known.extend(["requestHandler", "parser", "saturationDetector", "flowControl"]);
    let n_told = problems.n_errors();
    fields.refuse_unknown_but(&known, MISTAKEN, problems);
    let items = |key: &str, problems: &mut Problems| {
        fields.get(key).map_or(&[][..], |node| node.list(&shown(key), problems))
    };
    let mut unread = Unread { references: problems.n_errors() > n_told, ..Unread::default() };
    let plugins =
        fields.get("plugins").map_or_else(Vec::new, |node| read_plugins(node, &mut unread, problems));
    let n_told = problems.n_errors();
    let profiles = items("schedulingProfiles", problems);
    let profiles = profiles.iter().filter_map(|node| read_profile(node, problems)).collect();
    let gates = fields.get("featureGates");
    let gates = gates.map(|node| envelope::read_feature_gates(node, problems)).unwrap_or_default();
    let flow_control = flow_control::read(&fields, problems);
    let data_layer = fields.get("dataLayer").and_then(|node| data_layer::read(node, problems));
    let parsers = envelope::read_parsers(&fields, problems);
    unread.references |= problems.n_errors() > n_told;
    Some(EndpointPickerConfig {
        api_version,
        gates,
        plugins,
        profiles,
        data_layer,
        parsers,
        flow_control,
        unread,
    })
}

fn read_api_version(fields: &Fields<'_>, problems: &mut Problems) -> ApiVersion {
    let Some(node) = fields.get("apiVersion") else {
        problems.warning(fields.at, format!("`apiVersion` is missing, `{GIE_API}` is assumed"));
        return ApiVersion::default();
    };
    match node.string("`apiVersion`", problems) {
        Some(GIE_API) | None => ApiVersion::Gie,
        Some(LLM_D_API) => ApiVersion::LlmD,
        Some(other) => {
            let message =
                format!("`apiVersion`: expected `{GIE_API}` or `{LLM_D_API}`, found {}", shown(other));
            problems.error(node.at, message);
            ApiVersion::default()
        }
    }
}

fn expect_kind(fields: &Fields<'_>, problems: &mut Problems) {
    let Some(node) = fields.get("kind") else {
        problems.warning(fields.at, format!("`kind` is missing, `{KIND}` is assumed"));
        return;
    };
    if let Some(kind) = node.string("`kind`", problems).filter(|kind| *kind != KIND) {
        problems.error(node.at, format!("`kind`: expected `{KIND}`, found {}", shown(kind)));
    }
}

/// Opens an entry of a list; a bare word is told with the field that it probably is.
fn entry<'a>(node: &'a Node, what: &str, key: &str, problems: &mut Problems) -> Option<Fields<'a>> {
    let Value::String(word) = &node.value else { return node.fields(what, problems) };
    let is_word = !word.contains(char::is_whitespace);
    let instead =
        if is_word { format!("; write {}", shown(&format!("{key}: {word}"))) } else { String::new() };
    problems.error(node.at, format!("{what}: expected a map, found the string {}{instead}", shown(word)));
    None
}

fn read_plugins(node: &Node, unread: &mut Unread, problems: &mut Problems) -> Vec<PluginSpec> {
    let items = node.list("`plugins`", problems);
    unread.plugins = !matches!(&node.value, Value::List(_));
    let mut plugins = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let plugin = read_plugin(index, item, problems);
        unread.plugins |= plugin.is_none();
        if plugin.as_ref().is_none_or(|plugin| plugin.name.is_none()) {
            let (word, entries) = match &item.value {
                Value::Map(entries) => (None, entries.as_slice()),
                _ => (Some(item), &[][..]),
            };
            let words = word.into_iter().chain(entries.iter().map(|(_, value)| value));
            unread.names.extend(words.filter_map(|node| match &node.value {
                Value::String(word) => Some(word.clone()),
                _ => None,
            }));
        }
        plugins.extend(plugin);
    }
    plugins
}

fn read_plugin(index: usize, node: &Node, problems: &mut Problems) -> Option<PluginSpec> {
    let fields = entry(node, "entry of `plugins`", "type", problems)?;
    fields.refuse_unknown_but(&["name", "type", "parameters"], MISTAKEN_OF_PLUGIN, problems);
    let name = read_text(&fields, "name", problems);
    let whose = name.as_ref().map_or_else(String::new, |name| format!(" {}", shown(&name.value)));
    let type_name = read_required(&fields, "type", &format!("plugin{whose}"), problems);
    let name = name.or_else(|| type_name.clone());
    Some(PluginSpec { at: node.at, index, name, type_name, parameters: fields.get("parameters").cloned() })
}

fn read_profile(node: &Node, problems: &mut Problems) -> Option<ProfileSpec> {
    let fields = entry(node, "entry of `schedulingProfiles`", "name", problems)?;
    fields.refuse_unknown_but(&["name", "plugins"], MISTAKEN_OF_PROFILE, problems);
    let name = read_required(&fields, "name", "scheduling profile", problems);
    let plugins = fields.get("plugins").map_or(&[][..], |node| node.list("`plugins`", problems));
    let plugins = plugins.iter().filter_map(|node| read_reference(node, problems)).collect();
    Some(ProfileSpec { at: node.at, name, plugins })
}

fn read_reference(node: &Node, problems: &mut Problems) -> Option<PluginRef> {
    let fields = entry(node, "entry of a profile's `plugins`", "pluginRef", problems)?;
    fields.refuse_unknown_but(&["pluginRef", "weight"], MISTAKEN_OF_REFERENCE, problems);
    let name = read_required(&fields, "pluginRef", "entry of a profile's `plugins`", problems);
    let weight = fields
        .get("weight")
        .and_then(|node| Some(Located { value: node.number("`weight`", problems)?, at: node.at }));
    Some(PluginRef { name: name?, weight })
}

/// The string at `key`, unless it is absent, empty, or no string, which is told.
fn read_text(fields: &Fields<'_>, key: &str, problems: &mut Problems) -> Option<Located<String>> {
    let node = fields.get(key)?;
    let value = node.string(&shown(key), problems).filter(|value| !value.is_empty())?;
    Some(Located { value: value.to_owned(), at: node.at })
}

/// Whether a key was told to be another spelling of `key`.
fn misspells(fields: &Fields<'_>, key: &str) -> bool {
    let (mistaken, _) = MISTAKEN_OF_REFERENCE[0];
    let is_mistaken = |known: &str| key == "pluginRef" && mistaken.contains(&known.to_lowercase().as_str());
    let misspells = |known: &str| is_mistaken(known) || !did_you_mean(known, [key]).is_empty();
    fields.iter().any(|(known, ..)| known != key && misspells(known))
}

/// The same, where `what` cannot be without.
fn read_required(
    fields: &Fields<'_>,
    key: &str,
    what: &str,
    problems: &mut Problems,
) -> Option<Located<String>> {
    match fields.get(key).map(|node| &node.value) {
        // That it is missing is no news then.
        None if misspells(fields, key) => {}
        None => problems.error(fields.at, format!("{what} has no {}", shown(key))),
        Some(Value::String(value)) if value.is_empty() => {
            problems.error(fields.at, format!("{what} has an empty {}", shown(key)));
        }
        Some(_) => return read_text(fields, key, problems),
    }
    None
}

//! The parts of the envelope that say how the process runs: `featureGates`, `dataLayer` and `requestHandler`.
//!
//! What later versions know and we do anyway is accepted; what would need more than there is, is refused with the
//! reason.

use crate::config::node::{Fields, Node, Value};
use crate::config::problem::{Problems, did_you_mean, shown, shown_list};
use crate::config::{FeatureGates, Located};

/// The gate that does something.
const FLOW_CONTROL: &str = "flowControl";

/// Feature gates of later versions.
const GATES: [&str; 5] =
    [FLOW_CONTROL, "dataLayer", "enableLegacyMetrics", "prepareDataPlugins", "haPopulateNonLeaderDatastore"];

/// Reads `featureGates`: names, each perhaps with `=true` or `=false`.
pub(super) fn read_feature_gates(node: &Node, problems: &mut Problems) -> FeatureGates {
    let mut gates = FeatureGates::default();
    for gate in node.list("`featureGates`", problems) {
        let Some(text) = gate.string("feature gate", problems) else { continue };
        let mut parts = text.split('=');
        let name = parts.next().unwrap_or_default().trim();
        let Some(&name) = GATES.iter().find(|known| **known == name) else {
            let names = || GATES.iter().copied();
            problems.error_with(gate.at, || {
                let hint = did_you_mean(name, names());
                let known = shown_list(names());
                format!("unknown feature gate {}{hint} (known gates: {known})", shown(name))
            });
            continue;
        };
        match parts.next().map_or(Some(true), switch) {
            None => gate.mismatch(&format!("feature gate `{name}`"), "`true` or `false`", problems),
            Some(on) if name == FLOW_CONTROL => gates.flow_control = on,
            Some(_) => problems.warning(gate.at, format!("feature gate `{name}` does nothing here")),
        }
    }
    gates
}

/// A boolean as Go writes them, without regard to case.
fn switch(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "1" | "t" | "true" => Some(true),
        "0" | "f" | "false" => Some(false),
        _ => None,
    }
}

/// Reads `dataLayer`: the name of the plugin that lists the endpoints, if it says one.
pub(super) fn read_data_layer(node: &Node, problems: &mut Problems) -> Option<Located<String>> {
    let fields = node.fields("`dataLayer`", problems)?;
    let unsupported = ["sources", "peerDiscovery", "crossReplicaSyncerPluginRef", "crossReplicaSyncInterval"];
    let mut known = vec!["discovery", "injectDefaults"];
    known.extend(unsupported);
    fields.refuse_unknown(&known, problems);
    for (key, at, node) in fields.iter() {
        if unsupported.contains(&key) && !node.is_empty() {
            let message = format!("`dataLayer.{key}` is not supported yet, remove it or leave it empty");
            problems.error(at, message);
        }
    }
    match fields.get("injectDefaults").map(|node| (&node.value, node)) {
        None | Some((Value::Boolean(true), _)) => {}
        Some((Value::Boolean(false), node)) => {
            let message = "`dataLayer.injectDefaults`: false is not supported, metrics pages are always read";
            problems.error(node.at, message);
        }
        Some((_, node)) => node.mismatch("`dataLayer.injectDefaults`", "`true` or `false`", problems),
    }
    fields.get("discovery").and_then(|node| read_discovery(node, problems))
}

/// Reads `requestHandler: {parsers: [{pluginRef: a}]}`, or `parser: {pluginRef: a}` as v1.5 has it, which counts only
/// where the other lists none.
pub(super) fn read_parsers(envelope: &Fields<'_>, problems: &mut Problems) -> Vec<Located<String>> {
    let reference = |node: &Node, what: &str, problems: &mut Problems| {
        let n_told = problems.n_errors();
        let fields = node.fields(what, problems)?;
        fields.refuse_unknown(&["pluginRef"], problems);
        let name = read_name(&fields, problems);
        if name.is_none() && problems.n_errors() == n_told {
            problems.error(node.at, format!("{what} has no `pluginRef`"));
        }
        name
    };
    let mut parsers = Vec::new();
    if let Some(node) = envelope.get("requestHandler").filter(|node| !node.is_empty())
        && let Some(fields) = node.fields("`requestHandler`", problems)
    {
        fields.refuse_unknown(&["parsers"], problems);
        let listed =
            fields.get("parsers").map_or(&[][..], |node| node.list("`requestHandler.parsers`", problems));
        parsers.extend(
            listed.iter().filter_map(|node| reference(node, "entry of `requestHandler.parsers`", problems)),
        );
    }
    if let Some(node) = envelope.get("parser").filter(|node| !node.is_empty()) {
        let old = reference(node, "`parser`", problems);
        if parsers.is_empty() {
            parsers.extend(old);
        } else {
            problems.warning(node.at, "`parser` does nothing beside `requestHandler.parsers`");
        }
    }
    parsers
}

/// `discovery: {pluginRef: a}`, or as the newest version has it, `discovery: {endpoints: {pluginRef: a}}`.
fn read_discovery(node: &Node, problems: &mut Problems) -> Option<Located<String>> {
    let n_told = problems.n_errors();
    let fields = node.fields("`dataLayer.discovery`", problems)?;
    fields.refuse_unknown(&["pluginRef", "endpoints"], problems);
    let direct = read_name(&fields, problems);
    let nested = fields.get("endpoints").and_then(|node| {
        let fields = node.fields("`dataLayer.discovery.endpoints`", problems)?;
        fields.refuse_unknown(&["pluginRef"], problems);
        read_name(&fields, problems)
    });
    if let (Some(direct), Some(nested)) = (&direct, &nested)
        && direct.value != nested.value
    {
        let message =
            format!("`dataLayer.discovery` names two plugins, the other is {}", shown(&direct.value));
        problems.error(nested.at, message);
    }
    if direct.is_none() && nested.is_none() && !node.is_empty() && problems.n_errors() == n_told {
        problems.error(node.at, "`dataLayer.discovery` has no `pluginRef`");
    }
    direct.or(nested)
}

pub(super) fn read_name(fields: &Fields<'_>, problems: &mut Problems) -> Option<Located<String>> {
    let node = fields.get("pluginRef")?;
    let value = node.string("`pluginRef`", problems)?;
    if value.is_empty() {
        problems.error(node.at, "`pluginRef` is empty");
        return None;
    }
    Some(Located { value: value.to_owned(), at: node.at })
}

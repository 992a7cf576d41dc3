//! The parts of the envelope that say how the process runs: `featureGates` and `requestHandler`.
//!
//! What later versions know and we do anyway is accepted; what would need more than there is, is refused with the
//! reason.

use crate::config::node::{Fields, Node};
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
            Some(on) if name == FLOW_CONTROL => {
                gates.flow_control = on;
                if on {
                    let message = "feature gate `flowControl`: no request waits yet, each is decided at once";
                    problems.warning(gate.at, message);
                }
            }
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

/// Reads `requestHandler: {parsers: [{pluginRef: a}]}`, or `parser: {pluginRef: a}` as v1.5 has it, which counts only
/// where the other lists none.
pub(super) fn read_parsers(envelope: &Fields<'_>, problems: &mut Problems) -> Vec<Located<String>> {
    let mut parsers = Vec::new();
    if let Some(node) = envelope.get("requestHandler").filter(|node| !node.is_empty())
        && let Some(fields) = node.fields("`requestHandler`", problems)
    {
        fields.refuse_unknown(&["parsers"], problems);
        let listed =
            fields.get("parsers").map_or(&[][..], |node| node.list("`requestHandler.parsers`", problems));
        parsers.extend(
            listed
                .iter()
                .filter_map(|node| read_reference(node, "entry of `requestHandler.parsers`", problems)),
        );
    }
    if let Some(node) = envelope.get("parser").filter(|node| !node.is_empty()) {
        let old = read_reference(node, "`parser`", problems);
        if parsers.is_empty() {
            parsers.extend(old);
        } else {
            problems.warning(node.at, "`parser` does nothing beside `requestHandler.parsers`");
        }
    }
    parsers
}

/// A map that has a `pluginRef` and nothing else.
pub(super) fn read_reference(node: &Node, what: &str, problems: &mut Problems) -> Option<Located<String>> {
    let n_told = problems.n_errors();
    let fields = node.fields(what, problems)?;
    fields.refuse_unknown(&["pluginRef"], problems);
    let name = read_name(&fields, problems);
    if name.is_none() && problems.n_errors() == n_told {
        problems.error(node.at, format!("{what} has no `pluginRef`"));
    }
    name
}

/// The `pluginRef` of a map, if it is there; an empty one is told.
pub(super) fn read_name(fields: &Fields<'_>, problems: &mut Problems) -> Option<Located<String>> {
    let node = fields.get("pluginRef")?;
    let value = node.string("`pluginRef`", problems)?;
    if value.is_empty() {
        problems.error(node.at, "`pluginRef` is empty");
        return None;
    }
    Some(Located { value: value.to_owned(), at: node.at })
}

//! The part of the envelope that says where endpoints, and data on them, come from: `dataLayer`.
//!
//! Entry point: [`read`]. What it refers to is judged when the plugins are known.

use std::time::Duration;

use crate::args::duration;
use crate::config::envelope::{read_name, read_reference};
use crate::config::node::{Fields, Node, Value};
use crate::config::problem::{Problems, shown};
use crate::config::{DataLayerSpec, Located, SourceSpec};

/// Fields that need what there is not: the field, whether it is refused, and why.
const UNSUPPORTED: [(&str, bool, &str); 3] = [
    ("peerDiscovery", true, "endpoints of other clusters are not picked"),
    ("crossReplicaSyncerPluginRef", false, "replicas do not share what they learned"),
    ("crossReplicaSyncInterval", false, "replicas do not share what they learned"),
];

/// Shortest time from one poll to the next.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Reads `dataLayer`.
pub(super) fn read(node: &Node, problems: &mut Problems) -> Option<DataLayerSpec> {
    if node.value == Value::Null {
        return None;
    }
    let fields = node.fields("`dataLayer`", problems)?;
    let mut known = vec!["discovery", "injectDefaults", "sources"];
    known.extend(UNSUPPORTED.map(|(key, ..)| key));
    fields.refuse_unknown(&known, problems);
    for (key, at, node) in fields.iter() {
        match UNSUPPORTED.iter().find(|(unsupported, ..)| *unsupported == key) {
            _ if node.is_empty() => {}
            Some((_, true, why)) => {
                problems.error(at, format!("`dataLayer.{key}` is not supported, remove it: {why}"));
            }
            Some((_, false, why)) => problems.warning(at, format!("`dataLayer.{key}` does nothing: {why}")),
            None => {}
        }
    }
    let inject_defaults = fields.get("injectDefaults").and_then(|node| match node.value {
        Value::Boolean(inject) => Some(inject),
        Value::Null => None,
        _ => {
            node.mismatch("`dataLayer.injectDefaults`", "`true` or `false`", problems);
            None
        }
    });
    let listed = fields.get("sources").filter(|node| node.value != Value::Null);
    let listed = listed.map_or(&[][..], |node| node.list("`dataLayer.sources`", problems));
    Some(DataLayerSpec {
        at: node.at,
        discovery: fields.get("discovery").and_then(|node| read_discovery(node, problems)),
        sources: listed.iter().filter_map(|node| read_source(node, problems)).collect(),
        inject_defaults,
        is_llm_d: fields.iter().any(|(key, ..)| key != "sources"),
    })
}

/// `{pluginRef: a, interval: 1s, extractors: [{pluginRef: b}]}`.
fn read_source(node: &Node, problems: &mut Problems) -> Option<SourceSpec> {
    const WHAT: &str = "entry of `dataLayer.sources`";
    let n_told = problems.n_errors();
    let fields = node.fields(WHAT, problems)?;
    fields.refuse_unknown(&["pluginRef", "interval", "extractors"], problems);
    let name = read_name(&fields, problems);
    if name.is_none() && problems.n_errors() == n_told {
        problems.error(node.at, format!("{WHAT} has no `pluginRef`"));
    }
    let interval = read_interval(&fields, problems);
    let extractors = fields.get("extractors").filter(|node| node.value != Value::Null);
    let extractors = extractors.map_or(&[][..], |node| node.list("`extractors`", problems));
    let extractors =
        extractors.iter().filter_map(|node| read_reference(node, "entry of `extractors`", problems));
    let extractors = extractors.collect();
    Some(SourceSpec { name: name?, interval, extractors })
}

fn read_interval(fields: &Fields<'_>, problems: &mut Problems) -> Option<Duration> {
    let node = fields.get("interval").filter(|node| node.value != Value::Null)?;
    let text = node.string("`interval`", problems)?;
    match duration::parse(text) {
        Ok(interval) if interval >= MIN_INTERVAL => Some(interval),
        _ => {
            let expected = format!("expected a duration of at least {}ms", MIN_INTERVAL.as_millis());
            problems.error(node.at, format!("`interval`: {expected}, such as 1s, found {}", shown(text)));
            None
        }
    }
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

//! What releases of the Go EPP would do with a configuration: refuse it and why, ignore parts, add others. [`judge`].
//!
//! Their loaders stop at the first error; here all are told. It judges by tables of what those releases know, beside
//! and independent of [`build`](super::build), which judges for us.

mod envelope;
mod plugins;
mod registry;

use epp_framework::plugin::{PluginType, Release};

use super::node::{self, Node, Value};
use super::problem::{Position, Problem, Problems};
use super::{EndpointPickerConfig, GIE_API, KIND, LLM_D_API, read_into};

/// The releases that are judged by, by the names that messages use.
pub const RELEASES: [(&str, Release); 3] =
    [("v1.0.1", Release::V1_0_1), ("v1.5", Release::V1_5), ("llm-d", Release::LlmD)];

/// What messages call a release.
pub fn name(release: Release) -> &'static str {
    RELEASES.iter().find(|(_, known)| *known == release).map_or("v0.5.1", |(name, _)| name)
}

/// The same with its version, where the name does not say it.
pub fn title(release: Release) -> &'static str {
    match release {
        Release::LlmD => "llm-d (v0.10-dev of August 2026)",
        other => name(other),
    }
}

/// The releases that register a type, in words; none if no release does.
pub(super) fn that_know(type_name: &str) -> Option<String> {
    let known = registry::Registered::find(type_name)?;
    let names: Vec<_> = known.releases.iter().map(|release| name(*release)).collect();
    Some(names.join(" and "))
}

/// Notes of what `release` would do; the first is the verdict.
pub fn judge(release: Release, text: &str, types: &'static [PluginType]) -> Vec<Problem> {
    let mut judge = Judge {
        release,
        types,
        notes: Vec::new(),
        n_refusals: 0,
        crashes: false,
        conditions: Vec::new(),
        unjudged: Vec::new(),
    };
    let root = match node::parse(text) {
        Ok(root) => root,
        Err(problem) => {
            judge.refuses(problem.at(), "what cannot be read as YAML");
            return judge.verdict(None);
        }
    };
    if root.value == Value::Null {
        let verdict = match release {
            Release::V1_0_1 => "does not start with an empty configuration: it has no built-in one",
            _ => {
                "takes its built-in configuration instead of an empty one: queue, KV cache and prefix scorers, \
                 weighted 2, 2 and 3"
            }
        };
        return vec![Problem::note(Position::START, verdict)];
    }
    judge.group_and_kind(&root);
    judge.envelope(&root, "");
    // What is wrong for us is told by others.
    let config = read_into(text, &mut Problems::default());
    if let Some(config) = &config {
        judge.feature_gates(&root);
        judge.plugins(config);
        judge.references(config, &root);
    }
    judge.verdict(config.as_ref())
}

struct Judge<'a> {
    release: Release,
    types: &'a [PluginType],
    notes: Vec<Problem>,
    n_refusals: usize,
    crashes: bool,
    /// Flags that it must be started with.
    conditions: Vec<&'static str>,
    /// What the file has that nothing is said of.
    unjudged: Vec<String>,
}

impl Judge<'_> {
    fn note(&mut self, at: Position, message: impl Into<String>) {
        self.notes.push(Problem::note(at, message));
    }

    /// Notes that something is not looked at.
    fn leaves(&mut self, what: String) {
        if !self.unjudged.contains(&what) {
            self.unjudged.push(what);
        }
    }

    fn refuses(&mut self, at: Position, what: &str) {
        self.n_refusals += 1;
        self.note(at, format!("refuses {what}"));
    }

    /// The notes, beginning with what they come to.
    fn verdict(mut self, config: Option<&EndpointPickerConfig>) -> Vec<Problem> {
        let message = match self.n_refusals {
            0 if self.crashes => "crashes when it loads this configuration".to_owned(),
            0 => {
                let added = config.map_or_else(String::new, |config| self.added(config));
                let conditions = self.conditions.iter().map(|flag| format!(", if started with {flag}"));
                let conditions = conditions.collect::<String>();
                let unjudged = match self.unjudged.as_slice() {
                    [] => String::new(),
                    unjudged => format!("; not judged: {}", unjudged.join(", ")),
                };
                format!("loads this configuration{conditions}{added}{unjudged}")
            }
            1 => "refuses this configuration, for one reason".to_owned(),
            n => format!("refuses this configuration, for {n} reasons"),
        };
        self.notes.sort_by_key(Problem::at);
        self.notes.insert(0, Problem::note(Position::START, message));
        self.notes
    }

    fn group_and_kind(&mut self, root: &Node) {
        let Some(fields) = root.fields("", &mut Problems::default()) else { return };
        if let Some(version) = fields.get("apiVersion") {
            match &version.value {
                Value::String(text) if text == GIE_API && self.release == Release::LlmD => {
                    self.note(version.at, format!("takes `{GIE_API}`, and logs that it is deprecated"));
                }
                Value::String(text) if text == GIE_API => {}
                Value::String(text) if text == LLM_D_API && self.release == Release::LlmD => {}
                other => {
                    let found = Node { value: other.clone(), at: version.at }.describe();
                    self.refuses(version.at, &format!("the `apiVersion` {found}: it knows `{GIE_API}`"));
                }
            }
        }
        if let Some(kind) = fields.get("kind").filter(|kind| kind.value != Value::String(KIND.to_owned())) {
            self.refuses(kind.at, &format!("the `kind` {}: it knows `{KIND}`", kind.describe()));
        }
    }

    fn feature_gates(&mut self, root: &Node) {
        let known: &[&str] = match self.release {
            // It knows no gates at all, which the envelope told.
            Release::V0_5_1 | Release::V1_0_1 => return,
            Release::V1_5 => &["dataLayer", "enableLegacyMetrics", "flowControl"],
            Release::LlmD => &["flowControl", "haPopulateNonLeaderDatastore"],
        };
        let fields = root.fields("", &mut Problems::default());
        let gates = fields.and_then(|fields| fields.get("featureGates"));
        let Some(Node { value: Value::List(gates), .. }) = gates else { return };
        for gate in gates {
            let Value::String(text) = &gate.value else {
                self.refuses(gate.at, &format!("{} as a feature gate", gate.describe()));
                continue;
            };
            let (name, value) = match text.split_once('=') {
                Some((name, value)) if self.release == Release::LlmD => (name, Some(value)),
                _ => (text.as_str(), None),
            };
            let switch = value.map(|value| value.split('=').next().unwrap_or_default().trim().to_lowercase());
            if !known.contains(&name) {
                self.refuses(gate.at, &format!("the unknown feature gate {}", super::problem::shown(name)));
            } else if switch.is_some_and(|v| !["1", "t", "true", "0", "f", "false"].contains(&v.as_str())) {
                self.refuses(
                    gate.at,
                    &format!(
                        "the feature gate {}: it is neither true nor false",
                        super::problem::shown(text)
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! The `parameters` of one plugin against what its type declares; [`read`] is the entry point.
//!
//! Knows the declarations of the framework and nothing of any plugin. References to other plugins are gathered; whether
//! they resolve is judged when every plugin is known.

use std::collections::HashMap;
use std::time::Duration;

use epp_framework::parameters::{Parameter, ParameterKind, ParameterValue, Parameters};
use epp_framework::plugin::{Kind, PluginType};

use crate::args::duration;
use crate::config::node::{Node, Value};
use crate::config::problem::{Position, Problems, Severity, did_you_mean, shown, shown_list};
use crate::config::{ApiVersion, PluginSpec};

/// End of the path of a reference that nobody wrote.
pub(super) const BY_DEFAULT: &str = ", by default";

/// The type that refuses every parameter, in every version.
const TAKES_NOTHING: &str = "soft-reflective-ceiling-policy";

/// A parameter that names another plugin.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    /// The name.
    pub(super) name: String,
    /// What the plugin must be.
    pub(super) to: Kind,
    /// Where the name is written.
    pub(super) at: Position,
    /// The same as a path: `plugins[4].parameters.current.pluginRef`.
    pub(super) path: String,
}

/// Reads the parameters of a plugin; what is absent, or wrong and told, has its default.
///
/// Keys are compared as Go's decoder did: without regard to case. What v1.0.1 ignored is a warning.
pub(super) fn read(
    spec: &PluginSpec,
    plugin_type: &'static PluginType,
    api_version: ApiVersion,
    problems: &mut Problems,
) -> (Parameters, Vec<Reference>) {
    let name = spec.name.as_ref().map_or("", |name| name.value.as_str());
    let plugin = format!("plugin {}", shown(name));
    // Even strict versions never look at the parameters of a plugin that has none.
    let strict = plugin_type.name == TAKES_NOTHING
        || (api_version == ApiVersion::LlmD && !plugin_type.parameters.is_empty());
    let renamed = plugin_type.renamed;
    let mut reader = Reader { plugin, strict, renamed, problems, references: Vec::new(), depth: 0 };
    let level =
        Level { declared: plugin_type.parameters, path: format!("plugins[{}].parameters", spec.index) };
    let n_told = reader.problems.n_errors();
    let parameters = reader.level(&level, spec.parameters.as_ref(), spec.at);
    let Reader { plugin, references, problems, .. } = reader;
    if problems.n_errors() == n_told {
        let at = spec.parameters.as_ref().map_or(spec.at, |node| node.at);
        for wrong in (plugin_type.check)(&parameters) {
            problems.error(at, format!("{plugin}: {wrong}"));
        }
    }
    (parameters, references)
}

struct Reader<'a> {
    /// ``plugin `name` ``.
    plugin: String,
    /// Whether unknown keys are errors.
    strict: bool,
    /// See [`PluginType::renamed`].
    renamed: &'static [(&'static str, &'static str)],
    problems: &'a mut Problems,
    references: Vec<Reference>,
    /// How many maps we are in.
    depth: usize,
}

/// One map of parameters.
struct Level {
    declared: &'static [Parameter],
    /// The map as a path.
    path: String,
}

impl Reader<'_> {
    /// Reads a map, or the lack of one.
    fn level(&mut self, level: &Level, node: Option<&Node>, at: Position) -> Parameters {
        let mut parameters = Parameters::defaults(level.declared);
        let what = match self.depth {
            0 => format!("{}: `parameters`", self.plugin),
            _ => format!("{}: `{}`", self.plugin, level.path),
        };
        let mut given: HashMap<&str, &str> = HashMap::new();
        if let Some(node) = node {
            let Some(fields) = node.fields(&what, self.problems) else { return parameters };
            for (key, at, value) in fields.iter() {
                let Some(parameter) = self.find(level, key, at) else { continue };
                if let Some(other) = given.insert(parameter.name, key) {
                    let message = format!("{} and {} are the same parameter", shown(other), shown(key));
                    self.problems.error(at, format!("{}: {message}", self.plugin));
                    continue;
                }
                if parameter.name != key {
                    let message = format!("{} is read as {}", shown(key), shown(parameter.name));
                    self.problems.warning(at, format!("{}: {message}", self.plugin));
                }
                if value.value == Value::Null {
                    given.remove(parameter.name);
                } else if let ParameterKind::Ignored { because } = parameter.kind {
                    let message = format!("{}: parameter {} does nothing", self.plugin, shown(key));
                    if !because.is_empty() {
                        self.problems.warning(at, format!("{message}: {because}"));
                    }
                } else if let Some(value) = self.value(level, parameter, value) {
                    parameters.set(parameter.name, value);
                }
            }
        }
        for parameter in level.declared.iter().filter(|parameter| !given.contains_key(parameter.name)) {
            if parameter.kind.is_required() {
                self.problems.error(at, format!("{} is required", self.whose(level, parameter)));
            }
            if let ParameterKind::Reference { default: Some(name), .. } = parameter.kind {
                self.gather(level, parameter, name, at);
                if let Some(reference) = self.references.last_mut() {
                    reference.path.push_str(BY_DEFAULT);
                }
            }
        }
        parameters
    }

    /// The parameter that `key` means, or a problem.
    fn find(&mut self, level: &Level, key: &str, at: Position) -> Option<&'static Parameter> {
        let exact = level.declared.iter().find(|parameter| parameter.name == key);
        let folded = || level.declared.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(key));
        let renamed = || {
            let (_, new) = self.renamed.iter().find(|(old, _)| self.depth == 0 && *old == key)?;
            level.declared.iter().find(|parameter| parameter.name == *new)
        };
        let found = exact.or_else(renamed).or_else(folded);
        if found.is_none() {
            let severity = if self.strict { Severity::Error } else { Severity::Warning };
            self.problems.push_with(severity, at, || {
                let ignored = if self.strict { "" } else { " (ignored)" };
                let hint = expected_keys(key, level.declared);
                let within = if self.depth == 0 { String::new() } else { format!(" in `{}`", level.path) };
                format!("{}: unknown parameter {}{within}{hint}{ignored}", self.plugin, shown(key))
            });
        }
        found
    }

    /// How messages call a parameter: those that hang together with others by their whole path.
    fn whose(&self, level: &Level, parameter: &Parameter) -> String {
        let hangs_together = matches!(
            parameter.kind,
            ParameterKind::Reference { .. } | ParameterKind::Map { .. } | ParameterKind::List { .. }
        );
        if hangs_together || self.depth > 0 {
            format!("{}: `{}.{}`", self.plugin, level.path, parameter.name)
        } else {
            format!("{}: parameter {}", self.plugin, shown(parameter.name))
        }
    }

    /// The value, or a problem.
    fn value(&mut self, level: &Level, parameter: &Parameter, node: &Node) -> Option<ParameterValue> {
        let value = match parameter.kind {
            ParameterKind::Boolean { .. } => match node.value {
                Value::Boolean(value) => Some(ParameterValue::Boolean(value)),
                _ => None,
            },
            ParameterKind::Integer { min, max, .. } | ParameterKind::OptionalInteger { min, max } => {
                whole_number(node, (min, max))
            }
            ParameterKind::Float { min, max, .. } | ParameterKind::OptionalFloat { min, max, .. } => {
                node.finite_number().filter(|value| (min..=max).contains(value)).map(ParameterValue::Float)
            }
            // A default may be no span at all, for something that is said elsewhere.
            ParameterKind::Span { default, min } => {
                span(node).filter(|span| *span >= min || *span == default).map(ParameterValue::Span)
            }
            ParameterKind::Text { .. }
            | ParameterKind::Word { .. }
            | ParameterKind::Producer { .. }
            | ParameterKind::Reference { .. } => match &node.value {
                Value::String(text) => self.text(level, parameter, (text, node.at)),
                _ => None,
            },
            ParameterKind::Texts { required } => self.texts(level, parameter, required, node),
            ParameterKind::TextMap => self.text_map(level, parameter, node),
            // Told where the key was read.
            ParameterKind::Ignored { .. } => Some(ParameterValue::Absent),
            ParameterKind::Map { fields, one_of, .. } => {
                let path = format!("{}.{}", level.path, parameter.name);
                Some(self.map(&Level { declared: fields(), path }, one_of, node))
            }
            ParameterKind::List { .. } => self.list(level, parameter, node),
        };
        if value.is_none() {
            node.mismatch(&self.whose(level, parameter), &expected_value(&parameter.kind), self.problems);
        }
        value
    }

    /// The value of a parameter that is written as a string.
    fn text(
        &mut self,
        level: &Level,
        parameter: &Parameter,
        (text, at): (&str, Position),
    ) -> Option<ParameterValue> {
        match parameter.kind {
            ParameterKind::Text { default, .. } if text.is_empty() => {
                default.map(|default| ParameterValue::Text(default.to_owned()))
            }
            ParameterKind::Text { check, .. } => {
                if let Some(wrong) = check(text) {
                    let whose = self.whose(level, parameter);
                    self.problems.error(at, format!("{whose}: {wrong}"));
                }
                Some(ParameterValue::Text(text.to_owned()))
            }
            ParameterKind::Word { of, .. } => {
                of.contains(&text).then(|| ParameterValue::Text(text.to_owned()))
            }
            // As upstream has it, the default one.
            ParameterKind::Producer { .. } if text.is_empty() => Some(ParameterValue::Absent),
            _ if text.is_empty() => None,
            _ => {
                self.gather(level, parameter, text, at);
                Some(ParameterValue::Reference(text.to_owned()))
            }
        }
    }

    /// A list of strings, or a problem; items that are wrong were told, each in its place.
    fn texts(
        &mut self,
        level: &Level,
        parameter: &Parameter,
        required: bool,
        node: &Node,
    ) -> Option<ParameterValue> {
        let Value::List(items) = &node.value else { return None };
        if !(usize::from(required)..=MAX_TEXTS).contains(&items.len()) {
            return None;
        }
        let mut texts = Vec::new();
        for (n, item) in (1..).zip(items) {
            let what = format!("{}: item {n}", self.whose(level, parameter));
            match item.string(&what, self.problems) {
                Some("") => item.mismatch(&what, "a string that is not empty", self.problems),
                text => texts.extend(text.map(str::to_owned)),
            }
        }
        Some(ParameterValue::Texts(texts))
    }

    /// A map of strings, or a problem; what is wrong with an entry was told.
    fn text_map(&mut self, level: &Level, parameter: &Parameter, node: &Node) -> Option<ParameterValue> {
        let Value::Map(_) = &node.value else { return None };
        let whose = self.whose(level, parameter);
        let fields = node.fields(&whose, self.problems)?;
        let mut entries = Vec::new();
        for (key, _, value) in fields.iter() {
            let text = value.string(&format!("{whose}: value of {}", shown(key)), self.problems);
            entries.extend(text.map(|text| (key.to_owned(), text.to_owned())));
        }
        Some(ParameterValue::TextMap(entries))
    }

    /// A list of maps, or a problem; entries that are wrong were told.
    fn list(&mut self, level: &Level, parameter: &Parameter, node: &Node) -> Option<ParameterValue> {
        let (ParameterKind::List { fields, required, check }, Value::List(entries)) =
            (parameter.kind, &node.value)
        else {
            return None;
        };
        if !(usize::from(required)..=MAX_LIST).contains(&entries.len()) {
            return None;
        }
        let mut list = Vec::new();
        for (n, entry) in entries.iter().enumerate() {
            let path = format!("{}.{}[{n}]", level.path, parameter.name);
            let level = Level { declared: fields(), path };
            let n_told = self.problems.n_errors();
            let ParameterValue::Map(map) = self.map(&level, false, entry) else { return None };
            // What a field lacks was told.
            if self.problems.n_errors() == n_told
                && let Some(wrong) = check(&map)
            {
                self.problems.error(entry.at, format!("{}: `{}`: {wrong}", self.plugin, level.path));
            }
            list.push(map);
        }
        Some(ParameterValue::List(list))
    }

    fn gather(&mut self, level: &Level, parameter: &Parameter, name: &str, at: Position) {
        let to = match parameter.kind {
            ParameterKind::Reference { to, .. } => to,
            ParameterKind::Producer { of, .. } => Kind::Produces(of),
            _ => return,
        };
        let path = format!("{}.{}", level.path, parameter.name);
        self.references.push(Reference { name: name.to_owned(), to, at, path });
    }

    /// A map within a map; how deep that goes is bounded by the parser.
    fn map(&mut self, level: &Level, one_of: bool, node: &Node) -> ParameterValue {
        let n_told = self.problems.n_errors();
        if let Value::String(word) = &node.value
            && level.declared.iter().any(|parameter| parameter.name == REFERENCE)
        {
            let whose = format!("{}: `{}`: expected a map", self.plugin, level.path);
            let instead = shown(&format!("{{{REFERENCE}: {word}}}"));
            let message = format!("{whose}, found the string {}; write {instead}", shown(word));
            self.problems.error(node.at, message);
            return ParameterValue::Map(Parameters::defaults(level.declared));
        }
        self.depth += 1;
        let parameters = self.level(level, Some(node), node.at);
        self.depth -= 1;
        let n_given = level.declared.iter().filter(|parameter| parameters.has(parameter.name)).count();
        // What was wrong with a field was told; that the map lacks it is no news then.
        if one_of && n_given != 1 && self.problems.n_errors() == n_told {
            let names = level.declared.iter().map(|parameter| shown(parameter.name)).collect::<Vec<_>>();
            let found = if n_given == 0 { "neither" } else { "both" };
            let message = format!("`{}`: expected either {}, found {found}", level.path, names.join(" or "));
            self.problems.error(node.at, format!("{}: {message}", self.plugin));
        }
        ParameterValue::Map(parameters)
    }
}

/// Key under which maps have the name of a plugin.
const REFERENCE: &str = "pluginRef";

/// Most entries in one list.
const MAX_LIST: usize = 100;

/// Most strings in one list.
const MAX_TEXTS: usize = 1000;

fn whole_number(node: &Node, (min, max): (i64, i64)) -> Option<ParameterValue> {
    let value = node.whole_number().and_then(|value| i64::try_from(value).ok());
    value.filter(|value| (min..=max).contains(value)).map(ParameterValue::Integer)
}

/// A span as a string in Go's notation, or as nanoseconds.
fn span(node: &Node) -> Option<Duration> {
    match &node.value {
        Value::String(text) => duration::parse(text).ok(),
        _ => node.whole_number().and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos),
    }
}

fn expected_value(kind: &ParameterKind) -> String {
    match *kind {
        ParameterKind::Boolean { .. } => "`true` or `false`".to_owned(),
        ParameterKind::Integer { min, max, .. } | ParameterKind::OptionalInteger { min, max } => {
            expected_integer(min, max)
        }
        ParameterKind::Float { min, max, .. } | ParameterKind::OptionalFloat { min, max, .. } => {
            expected_number(min, max)
        }
        ParameterKind::Span { min, .. } => {
            let bound = if min.is_zero() { String::new() } else { format!(" of at least {min:?}") };
            format!("a span of time{bound} such as `30s`, or a number of nanoseconds")
        }
        ParameterKind::Texts { required } => {
            format!("a list of {} to {MAX_TEXTS} strings", u8::from(required))
        }
        ParameterKind::TextMap => "a map of strings".to_owned(),
        ParameterKind::Ignored { .. } => "anything".to_owned(),
        ParameterKind::Text { .. } => "a string that is not empty".to_owned(),
        ParameterKind::Word { of, .. } => format!("one of {}", shown_list(of.iter().copied())),
        ParameterKind::Reference { .. } | ParameterKind::Producer { .. } => "the name of a plugin".to_owned(),
        ParameterKind::Map { .. } => "a map".to_owned(),
        ParameterKind::List { required, .. } => {
            format!("a list of {} to {MAX_LIST} maps", u8::from(required))
        }
    }
}

fn expected_integer(min: i64, max: i64) -> String {
    match (min, max) {
        (i64::MIN, i64::MAX) => "an integer".to_owned(),
        (min, i64::MAX) => format!("an integer of at least {min}"),
        (i64::MIN, max) => format!("an integer of at most {max}"),
        (min, max) => format!("an integer from {min} to {max}"),
    }
}

fn expected_number(min: f64, max: f64) -> String {
    match (min <= f64::MIN, max >= f64::MAX) {
        (true, true) => "a number".to_owned(),
        (false, true) => format!("a number of at least {min}"),
        (true, false) => format!("a number of at most {max}"),
        (false, false) => format!("a number from {min} to {max}"),
    }
}

fn expected_keys(key: &str, declared: &[Parameter]) -> String {
    let names = || declared.iter().map(|parameter| parameter.name);
    let hint = did_you_mean(key, names());
    if !hint.is_empty() {
        hint
    } else if declared.is_empty() {
        ", it takes none".to_owned()
    } else {
        format!(", it takes {}", shown_list(names()))
    }
}

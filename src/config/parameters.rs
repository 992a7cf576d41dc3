//! The `parameters` of one plugin against what its type declares; [`read`] is the entry point.
//!
//! Knows the declarations of the framework and nothing of any plugin.

use std::collections::HashMap;

use epp_framework::plugin::{Parameter, ParameterKind, ParameterValue, Parameters, PluginType};

use crate::config::ApiVersion;
use crate::config::node::{Node, Value};
use crate::config::problem::{Problems, Severity, did_you_mean, shown, shown_list};

/// Reads the parameters of the plugin `name`; what is absent, or wrong and told, has its default.
///
/// Keys are compared as Go's decoder did: without regard to case. What v1.0.1 ignored is a warning.
pub(super) fn read(
    name: &str,
    plugin_type: &'static PluginType,
    node: Option<&Node>,
    api_version: ApiVersion,
    problems: &mut Problems,
) -> Parameters {
    let declared = plugin_type.parameters;
    let mut parameters = Parameters::defaults(declared);
    let Some(node) = node else { return parameters };
    let what = format!("plugin {}", shown(name));
    let Some(fields) = node.fields(&format!("{what}: `parameters`"), problems) else { return parameters };
    let mut given: HashMap<&str, &str> = HashMap::new();
    for (key, at, value) in fields.iter() {
        let exact = declared.iter().find(|parameter| parameter.name == key);
        let folded = || declared.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(key));
        let Some(parameter) = exact.or_else(folded) else {
            // Even strict versions never look at the parameters of a plugin that has none.
            let strict = api_version == ApiVersion::LlmD && !declared.is_empty();
            let severity = if strict { Severity::Error } else { Severity::Warning };
            problems.push_with(severity, at, || {
                let ignored = if strict { "" } else { " (ignored)" };
                let hint = expected_keys(key, declared);
                format!("{what}: unknown parameter {}{hint}{ignored}", shown(key))
            });
            continue;
        };
        if let Some(other) = given.insert(parameter.name, key) {
            problems.error(at, format!("{what}: {} and {} are the same parameter", shown(other), shown(key)));
            continue;
        }
        if exact.is_none() {
            problems.warning(at, format!("{what}: {} is read as {}", shown(key), shown(parameter.name)));
        }
        match read_value(parameter, value) {
            Ok(Some(value)) => parameters.set(parameter.name, value),
            Ok(None) => {}
            Err(expected) => {
                value.mismatch(&format!("{what}: parameter {}", shown(parameter.name)), &expected, problems);
            }
        }
    }
    parameters
}

/// The value, `None` for `null`, or what was expected.
fn read_value(parameter: &Parameter, node: &Node) -> Result<Option<ParameterValue>, String> {
    if node.value == Value::Null {
        return Ok(None);
    }
    let value = match parameter.kind {
        ParameterKind::Boolean { .. } => match node.value {
            Value::Boolean(value) => Some(ParameterValue::Boolean(value)),
            _ => None,
        },
        ParameterKind::Integer { min, max, .. } => node
            .whole_number()
            .and_then(|value| i64::try_from(value).ok())
            .filter(|value| (min..=max).contains(value))
            .map(ParameterValue::Integer),
    };
    value.map(Some).ok_or_else(|| expected_value(&parameter.kind))
}

fn expected_value(kind: &ParameterKind) -> String {
    match *kind {
        ParameterKind::Boolean { .. } => "`true` or `false`".to_owned(),
        ParameterKind::Integer { min: i64::MIN, max: i64::MAX, .. } => "an integer".to_owned(),
        ParameterKind::Integer { min, max: i64::MAX, .. } => format!("an integer of at least {min}"),
        ParameterKind::Integer { min: i64::MIN, max, .. } => format!("an integer of at most {max}"),
        ParameterKind::Integer { min, max, .. } => format!("an integer from {min} to {max}"),
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

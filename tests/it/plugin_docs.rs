//! `docs/plugins.md` says of every plugin type what its declaration says.

use epp_framework::parameters::{Parameter, ParameterKind};

const DOCS: &str = include_str!("../../docs/plugins.md");

fn kind(parameter: &Parameter) -> String {
    match parameter.kind {
        ParameterKind::Boolean { default } => default.to_string(),
        ParameterKind::Integer { default, .. } => default.to_string(),
        ParameterKind::Float { default, .. } => default.to_string(),
        ParameterKind::Text { default: Some(default), .. } if !default.is_empty() => default.to_owned(),
        ParameterKind::Span { default, .. } => format!("{default:?}"),
        ParameterKind::Word { default: Some(default), .. } => default.to_owned(),
        kind if kind.is_required() => "required".to_owned(),
        _ => "none".to_owned(),
    }
}

/// Every type has a row that begins with its name, and every parameter one beneath its type, with its default.
#[test]
fn every_type_and_parameter_is_documented() {
    for plugin in epp_plugins::BUILT_IN {
        let row = DOCS.lines().find(|line| line.starts_with(&format!("| `{}` |", plugin.name)));
        let row = row.unwrap_or_else(|| panic!("`{}` has no row", plugin.name));
        for alias in plugin.aliases {
            assert!(row.contains(&format!("`{alias}`")), "{alias} is missing: {row}");
        }
        for parameter in plugin.parameters {
            let (of, name) = (plugin.name, parameter.name);
            let begins = format!("| `{of}` | `{name}` | {} |", kind(parameter));
            assert!(DOCS.lines().any(|line| line.starts_with(&begins)), "no line begins with {begins}");
        }
    }
}

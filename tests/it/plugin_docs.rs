//! `docs/plugins.md` lists the types as they are declared. `UPDATE_DOCS=1 cargo test -p epp --test it plugin_docs`
//! writes the catalogue anew; what is around it is written by hand.

use std::fmt::Write as _;

use epp_framework::parameters::{Parameter, ParameterKind};
use epp_framework::plugin::{Kind, PluginType, Release, Stability};
use epp_plugins::BUILT_IN;

const BEGIN: &str = "<!-- catalogue: written by the test `plugins_md_says_what_the_declarations_say` -->\n";
const END: &str = "<!-- end of the catalogue -->\n";

/// What the declarations say: all types in one table, then each by itself.
fn catalogue() -> String {
    let mut text = String::from("\n| type | kind | what it does | known to |\n|---|---|---|---|\n");
    for known in BUILT_IN {
        let (name, summary) = (known.name, known.summary);
        let _ =
            writeln!(text, "| [`{name}`](#{name}) | {} | {summary} | {} |", kinds(known), releases(known));
    }
    for known in BUILT_IN {
        let _ = write!(text, "\n### {}\n\n{}", known.name, paragraph(known));
        if !known.parameters.is_empty() {
            text.push_str("\n| parameter | what it is | default | what it says |\n|---|---|---|---|\n");
            rows(&mut text, known.parameters, "", &mut Vec::new(), known.renamed);
        }
    }
    text.push('\n');
    text
}

fn kinds(known: &PluginType) -> String {
    match known.kinds {
        [] => "–".to_owned(),
        kinds => kinds.iter().map(|kind| kind.noun()).collect::<Vec<_>>().join(", "),
    }
}

fn releases(known: &PluginType) -> String {
    let name = |release: &Release| match release {
        Release::V0_5_1 => "v0.5.1",
        Release::V1_0_1 => "v1.0.1",
        Release::V1_5 => "v1.5",
        Release::LlmD => "llm-d",
    };
    match known.releases {
        [] => "epp alone".to_owned(),
        [Release::V0_5_1, Release::V1_0_1, Release::V1_5, Release::LlmD] => "all".to_owned(),
        releases => releases.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

fn paragraph(known: &PluginType) -> String {
    let mut text = known.summary.to_owned();
    let mut sentence = |more: String| {
        let _ = write!(text, " {more}");
    };
    if !known.about.is_empty() {
        sentence(known.about.to_owned());
    }
    if !known.needs.is_empty() {
        sentence(format!(
            "Needs {}.",
            known.needs.iter().map(|need| named(need)).collect::<Vec<_>>().join(", ")
        ));
    }
    if !known.drains.is_empty() {
        sentence(format!("It may leave nobody: {}.", known.drains));
    }
    if !known.aliases.is_empty() {
        sentence(format!("Older files call it {}.", quoted(known.aliases)));
    }
    match known.stability {
        Stability::Beta => {}
        Stability::Alpha => {
            sentence(
                "An experiment in llm-d, which takes it with `--allow-experimental-plugins`.".to_owned(),
            );
        }
        Stability::Deprecated { instead } => sentence(format!("Deprecated: {instead}.")),
    }
    text + "\n"
}

/// A metric in backquotes; what is said in words as it is.
fn named(need: &str) -> String {
    if need.contains(' ') { need.to_owned() } else { format!("`{need}`") }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// A row for each parameter, and for what is within maps and lists beneath it.
fn rows(
    text: &mut String,
    declared: &'static [Parameter],
    path: &str,
    above: &mut Vec<&'static [Parameter]>,
    renamed: &[(&str, &str)],
) {
    above.push(declared);
    for parameter in declared {
        let name = format!("{path}{}", parameter.name);
        let old: Vec<_> =
            renamed.iter().filter(|(_, new)| *new == parameter.name).map(|(old, _)| *old).collect();
        let also = if old.is_empty() { String::new() } else { format!(", older {}", quoted(&old)) };
        let unit = if parameter.unit.is_empty() { String::new() } else { format!("; {}", parameter.unit) };
        let what = what_it_is(parameter);
        let summary = parameter.summary.replace('|', "\\|");
        let _ = writeln!(text, "| `{name}`{also} | {what}{unit} | {} | {summary} |", default(parameter));
        let (inner, path) = match parameter.kind {
            ParameterKind::Map { fields, .. } => (fields(), format!("{name}.")),
            ParameterKind::List { fields, .. } => (fields(), format!("{name}[].")),
            _ => continue,
        };
        let names = |of: &'static [Parameter]| of.iter().map(|parameter| parameter.name);
        if above.iter().any(|outer| names(outer).eq(names(inner))) {
            let _ = writeln!(text, "| `{path}…` | | | The same again. |");
        } else {
            rows(text, inner, &path, above, &[]);
        }
    }
    above.pop();
}

fn what_it_is(parameter: &Parameter) -> String {
    match parameter.kind {
        ParameterKind::Boolean { .. } => "boolean".to_owned(),
        ParameterKind::Integer { min, max, .. } | ParameterKind::OptionalInteger { min, max } => {
            let bound = |bound: i64, none: i64| (bound != none).then(|| bound.to_string());
            range("integer", bound(min, i64::MIN), bound(max, i64::MAX))
        }
        ParameterKind::Float { min, max, .. } | ParameterKind::OptionalFloat { min, max, .. } => {
            let bound = |bound: f64, is_one: bool| is_one.then(|| bound.to_string());
            range("number", bound(min, min > f64::MIN), bound(max, max < f64::MAX))
        }
        ParameterKind::Span { min, .. } => range("time", (!min.is_zero()).then(|| format!("{min:?}")), None),
        ParameterKind::Text { .. } => "text".to_owned(),
        ParameterKind::Word { of, .. } => quoted(of).replace(", ", " or "),
        ParameterKind::Texts { .. } => "list of texts".to_owned(),
        ParameterKind::TextMap => "map of texts".to_owned(),
        ParameterKind::Reference { to, .. } => format!("name of a {}", to.noun()),
        ParameterKind::Producer { of, .. } => format!("name of a {}", Kind::Produces(of).noun()),
        ParameterKind::Ignored { because: "" } => "ignored, see above".to_owned(),
        ParameterKind::Ignored { because } => format!("ignored: {because}"),
        ParameterKind::Map { one_of: true, .. } => "map with one of".to_owned(),
        ParameterKind::Map { .. } => "map".to_owned(),
        ParameterKind::List { .. } => "list of maps".to_owned(),
    }
}

fn range(what: &str, min: Option<String>, max: Option<String>) -> String {
    match (min, max) {
        (None, None) => what.to_owned(),
        (Some(min), None) => format!("{what}, at least {min}"),
        (None, Some(max)) => format!("{what}, at most {max}"),
        (Some(min), Some(max)) => format!("{what}, {min} to {max}"),
    }
}

fn default(parameter: &Parameter) -> String {
    let value = match parameter.kind {
        kind if kind.is_required() => return "required".to_owned(),
        ParameterKind::Boolean { default } => default.to_string(),
        ParameterKind::Integer { default, .. } => default.to_string(),
        ParameterKind::Float { default, .. } => default.to_string(),
        ParameterKind::Span { default, .. } => format!("{default:?}"),
        ParameterKind::Text { default: Some(default), .. }
        | ParameterKind::Word { default: Some(default), .. }
        | ParameterKind::Reference { default: Some(default), .. } => default.to_owned(),
        ParameterKind::Producer { own: true, .. } => return "itself".to_owned(),
        ParameterKind::Producer { of, own: false } => of.default_producer().to_owned(),
        _ => return "none".to_owned(),
    };
    if value.is_empty() { "none".to_owned() } else { format!("`{value}`") }
}

#[test]
fn plugins_md_says_what_the_declarations_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plugins.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the line above the catalogue");
    let (written, after) = rest.split_once(END).expect("the page has the line below the catalogue");
    let catalogue = catalogue();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{catalogue}{END}{after}")).unwrap();
    } else {
        let how = "docs/plugins.md is behind: run UPDATE_DOCS=1 cargo test -p epp --test it plugin_docs";
        assert!(written == catalogue, "{how}");
    }
}

/// No type is in the table without a word on what it does, nor a parameter.
#[test]
fn everything_says_what_it_does() {
    for known in BUILT_IN {
        assert!(known.summary.ends_with('.'), "{}: {:?}", known.name, known.summary);
        for parameter in known.parameters {
            assert!(
                parameter.summary.ends_with('.'),
                "{}.{}: {:?}",
                known.name,
                parameter.name,
                parameter.summary
            );
        }
    }
}

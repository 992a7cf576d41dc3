//! The help of the server's flags: in groups, a line a flag where one is enough, at most 100 columns wide.
//!
//! clap's own layout gives every flag three lines once one of them has more to say. What it says comes from clap's
//! declarations and from the table of flags of other versions.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::flags::{FLAGS, Fate};

/// Widest line, in columns.
const WIDTH: usize = 100;

/// Where the explanations begin.
const COLUMN: usize = 37;

/// What must be said, and what else there is.
pub(super) const USAGE: &str = "epp --pool-name NAME [FLAGS]\n       epp COMMAND";

const EXAMPLES: &str = "\
Examples:
  epp --pool-name mistral --pool-namespace default --config-file plugins.yaml
  epp --pool-name mistral --endpoints-file endpoints.yaml
  epp --pool-name mistral --endpoints-file endpoints.yaml --config-file plugins.yaml -v 4
  epp --pool-name mistral --endpoints-file endpoints.yaml --secure-serving=false --zap-encoder json
  epp --pool default/mistral --pool default/llama,config-file=llama.yaml
  epp config check plugins.yaml
  epp standalone check -f guide.yaml --explain
  epp sim serve --servers 4 --endpoints-file endpoints.yaml
";

const SYNTAX: &str = "Flags may be written with one dash or two, their values behind = or as the next word; \
                      switches take true or false behind = only. Times are written 50ms, 2s or 1m30s, sizes 10MiB \
                      or 25MB. The last of several equal flags counts.";

const OLD_NAMES: &str = "The names of v0.5.1 are taken as well (-poolName, -grpcPort …) and switch on its variables and \
                         defaults.";

/// Writes the help; `long` is what `--help` shows, else `-h`.
pub(super) fn render(command: &Command, long: bool) -> String {
    let mut text = String::new();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(text, "{about}\n\nUsage: {USAGE}\n");
    text += "Commands:\n";
    for subcommand in command.get_subcommands() {
        let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        entry(&mut text, &format!("  {}", subcommand.get_name()), &about);
    }
    let arguments: Vec<&Arg> =
        command.get_arguments().filter(|arg| arg.get_help_heading().is_some()).collect();
    let mut headings: Vec<&str> = arguments.iter().filter_map(|arg| arg.get_help_heading()).collect();
    headings.dedup();
    for heading in headings {
        let _ = writeln!(text, "\n{heading}:");
        let group = arguments.iter().filter(|arg| arg.get_help_heading() == Some(heading));
        for arg in group.filter(|arg| long || !arg.is_hide_short_help_set()) {
            entry(&mut text, &spelled(arg), &explained(arg));
            if long && let Some(more) = more(arg) {
                paragraph(&mut text, COLUMN, &more);
            }
        }
    }
    text += "\nOther:\n";
    entry(&mut text, "  -h, --help", "What you read; -h is shorter");
    entry(&mut text, "      --version", "The version and the commit");
    text.push('\n');
    if !long {
        text += "epp --help says more, and has examples.\n";
        return text;
    }
    text += "Syntax:\n";
    paragraph(&mut text, 2, SYNTAX);
    paragraph(&mut text, 2, OLD_NAMES);
    others(&mut text);
    text.push('\n');
    text + EXAMPLES
}

/// Flags of the Go EPP that are not flags of ours.
fn others(text: &mut String) {
    *text += "\nFlags of the Go EPP that are taken without effect:\n";
    for flag in FLAGS {
        if let Fate::Inert { why, .. } = flag.fate {
            entry(text, &format!("      --{}", flag.name), why);
        }
    }
}

fn spelled(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    if long.chars().count() == 1 {
        return format!("  -{long} {}", value(arg));
    }
    match value(arg) {
        // Whoever writes a switch that is on wants it off.
        value if value.is_empty() && default(arg).as_deref() == Some("true") => {
            format!("      --{long}=false")
        }
        value if value.is_empty() => format!("      --{long}"),
        value => format!("      --{long} {value}"),
    }
}

/// What stands for a flag's value: nothing for switches.
pub(super) fn value(arg: &Arg) -> String {
    let possible = arg.get_possible_values();
    let named = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    match named {
        _ if super::read::kind(arg) == super::flags::Kind::Bool => String::new(),
        // Too long for a line: they are in the explanation.
        _ if !possible.is_empty() && possible.len() <= 3 => {
            possible.iter().map(clap::builder::PossibleValue::get_name).collect::<Vec<_>>().join("|")
        }
        Some(name) if !name.eq_ignore_ascii_case(arg.get_id().as_str()) => name,
        _ => "VALUE".to_owned(),
    }
}

/// A flag's line without its default, and the default if the line itself words it.
pub(super) fn worded(arg: &Arg) -> (String, Option<String>) {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    match help.split_once(" [default: ") {
        Some((what, default)) => (what.to_owned(), Some(default.trim_end_matches(']').to_owned())),
        None => (help, None),
    }
}

/// A flag's line of help, with its default.
pub(super) fn explained(arg: &Arg) -> String {
    let (mut what, written) = worded(arg);
    let possible = arg.get_possible_values();
    if possible.len() > 3 {
        let names: Vec<_> = possible.iter().map(clap::builder::PossibleValue::get_name).collect();
        let _ = write!(what, ": {}", names.join(", "));
    }
    match default(arg).or(written) {
        Some(default) => format!("{what} [default: {default}]"),
        None => what,
    }
}

/// A flag's default, as far as it is a value.
pub(super) fn default(arg: &Arg) -> Option<String> {
    let default = arg.get_default_values().first().filter(|_| !arg.is_hide_default_value_set())?;
    Some(default.to_string_lossy().into_owned())
}

/// What `--help` adds to a flag's line.
fn more(arg: &Arg) -> Option<String> {
    let (help, long) = (arg.get_help()?.to_string(), arg.get_long_help()?.to_string());
    let rest = long.strip_prefix(&help)?.trim_start_matches('.').trim();
    (!rest.is_empty()).then(|| rest.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A flag and its explanation beside it, or below where it is too long.
fn entry(text: &mut String, flag: &str, explanation: &str) {
    if flag.chars().count() + 2 > COLUMN {
        let _ = writeln!(text, "{flag}");
        paragraph(text, COLUMN, explanation);
        return;
    }
    let mut lines = String::new();
    paragraph(&mut lines, COLUMN, explanation);
    let _ = writeln!(text, "{flag:COLUMN$}{}", lines.trim());
}

/// Words in lines, from a column on.
fn paragraph(text: &mut String, column: usize, words: &str) {
    let (mut width, blank) = (0, "");
    // Marks of code are for the documentation.
    for word in words.replace('`', "").split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length <= WIDTH {
            let _ = write!(text, " {word}");
            width += 1 + length;
        } else {
            if width > 0 {
                text.push('\n');
            }
            let _ = write!(text, "{blank:column$}{word}");
            width = column + length;
        }
    }
    text.push('\n');
}

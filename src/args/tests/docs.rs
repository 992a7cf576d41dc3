//! `docs/flags.md` says what the code says. `UPDATE_DOCS=1 cargo test -p epp --lib docs` writes its tables anew.

use std::fmt::Write as _;

use clap::CommandFactory;

use super::super::flags::{FLAGS, Fate, Flag};
use super::super::{Args, flags, help, read};

const BEGIN: &str = "<!-- tables: written by the test `flags_md_says_what_the_code_says` -->\n";

/// What the code says.
fn tables() -> String {
    let command = Args::command();
    let mut text = String::new();
    let mut heading = None;
    for (name, arg) in read::declared(&command) {
        if arg.get_help_heading() != heading {
            heading = arg.get_help_heading();
            let _ = writeln!(text, "\n## {}\n\n{HEAD}", heading.unwrap_or("Other"));
        }
        let (what, worded) = help::worded(arg);
        let default = help::default(arg).map(|default| format!("`{default}`")).or(worded).unwrap_or_default();
        let known = flags::find(name);
        let versions = known.map_or("ours", |flag| flag.versions);
        let note = known.map_or_else(String::new, note);
        let _ = writeln!(text, "| `--{name}` | {default} | {what} | {versions} | {note} |");
    }
    text.push_str("\n## Taken without effect\n\n| flag | versions | why |\n|---|---|---|\n");
    for flag in FLAGS {
        if let Fate::Inert { why, .. } = flag.fate {
            let _ = writeln!(text, "| `--{}`{} | {} | {why} |", flag.name, old_name(flag), flag.versions);
        }
    }
    text
}

const HEAD: &str = "| flag | default | what it does | versions | note |\n|---|---|---|---|---|";

fn old_name(flag: &Flag) -> String {
    flag.camel.map(|camel| format!(", `-{camel}`")).unwrap_or_default()
}

fn note(flag: &Flag) -> String {
    let changed = match flag.fate {
        Fate::Changed(how) => Some(how.to_owned()),
        _ => None,
    };
    let kept = flag.name.contains(|c: char| c.is_ascii_uppercase());
    let whose = if kept { "as well" } else { "in v0.5.1" };
    let camel = flag.camel.map(|camel| format!("`-{camel}` {whose}"));
    let env = flag.env.map(|env| format!("there also `{env}`"));
    [changed, camel, env].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[test]
fn flags_md_says_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/flags.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, written) = page.split_once(BEGIN).expect("the page has the line above the tables");
    let tables = tables();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{tables}")).unwrap();
    } else {
        assert!(written == tables, "docs/flags.md is behind: run UPDATE_DOCS=1 cargo test -p epp --lib docs");
    }
}

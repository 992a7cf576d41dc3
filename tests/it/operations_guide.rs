//! `docs/operations.md` against the code: it explains every log line and names every metric. `docs/migrate.md` leads to
//! every flag, plugin and metric. And flags that any page names exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use epp::args::Args;
use epp::args::flags::{FLAGS, Fate};

use crate::support::hermetic::Hermetic;
use crate::tidy::source;

fn guide() -> String {
    page("operations.md")
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    fs::read_to_string(path).expect("the page can be read")
}

/// Messages of the log lines that are written at the default verbosity.
fn messages(text: &str) -> BTreeSet<String> {
    let mut messages = BTreeSet::new();
    for call in ["info!(", "warn!(", "error!("] {
        for (at, _) in text.match_indices(call) {
            // Behind a path or by itself; `compile_error!` is another macro.
            if !text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                messages.extend(last_literal(&text[at + call.len()..]));
            }
        }
    }
    messages
}

/// The last string literal of a macro call, whose text begins behind the opening parenthesis.
fn last_literal(text: &str) -> Option<String> {
    let mut last = None;
    let mut depth = 1;
    let mut rest = text;
    while depth > 0 {
        let at = rest.find(['(', ')', '"'])?;
        let (found, behind) = (rest.as_bytes()[at], &rest[at + 1..]);
        rest = behind;
        match found {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {
                let end = behind.find('"')?;
                last = Some(behind[..end].to_owned());
                rest = &behind[end + 1..];
            }
        }
    }
    last
}

#[test]
fn the_last_literal_of_a_call_is_its_message() {
    for (call, want) in [
        (r#"a = "b", "the message"); other("x")"#, Some("the message")),
        (r#"%pid, (f("x")), "serving")"#, Some("serving")),
        ("pid)", None),
    ] {
        assert_eq!(last_literal(call).as_deref(), want, "{call}");
    }
}

#[test]
fn log_lines_are_found_however_the_macro_is_named() {
    let text = r#"tracing::info!("a"); warn!(b, "b"); match c { _ => error!("c") } compile_error!("d"); debug!("e")"#;
    assert_eq!(messages(text), ["a", "b", "c"].map(str::to_owned).into());
}

#[test]
fn every_log_line_is_explained() {
    let guide = guide();
    let sources = source::all();
    let ours = sources.iter().filter(|source| source.path.starts_with("src/"));
    let ours = ours.filter(|source| !source.path.starts_with("src/sim") && !source::is_test(&source.path));
    let code = |source: &source::Source| source.text.split("#[cfg(test)]").next().map(messages);
    let messages: BTreeSet<String> = ours.filter_map(code).flatten().collect();
    assert!(messages.contains("serving"), "the messages are not found");
    let missing: Vec<_> =
        messages.iter().filter(|message| !guide.contains(&format!("`{message}`"))).collect();
    assert!(missing.is_empty(), "docs/operations.md does not explain {missing:#?}");
}

/// A flag of SGLang, which our pages name as well; and what stands for any flag.
const OF_OTHERS: &[&str] = &["enable-metrics", "flag"];

/// Flags that stand in backticks, with one name of several letters behind two dashes; not those of cargo.
fn flags_in(page: &str) -> BTreeSet<String> {
    let mut flags = BTreeSet::new();
    for paragraph in page.split("\n\n").filter(|paragraph| !paragraph.trim_start().starts_with("```")) {
        let quotations = paragraph.split('`').skip(1).step_by(2);
        for quoted in quotations.filter(|quoted| !quoted.starts_with("cargo ")) {
            let words = quoted.split(|c: char| c.is_whitespace() || "=,:".contains(c));
            flags.extend(words.filter_map(|word| word.strip_prefix("--")).map(str::to_owned));
        }
    }
    flags.retain(|flag| flag.starts_with(|first: char| first.is_ascii_alphabetic()));
    flags
}

fn declared(command: &clap::Command, flags: &mut BTreeSet<String>) {
    flags.extend(command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)));
    command.get_subcommands().for_each(|subcommand| declared(subcommand, flags));
}

#[test]
fn flags_that_the_pages_name_exist() {
    let mut known: BTreeSet<String> = OF_OTHERS.iter().map(|flag| (*flag).to_owned()).collect();
    let mut command = Args::command();
    command.build();
    declared(&command, &mut known);
    known.extend(FLAGS.iter().flat_map(|flag| [Some(flag.name), flag.camel]).flatten().map(str::to_owned));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).expect("there is a folder");
    let mut pages: Vec<_> = docs.map(|entry| entry.expect("it can be read").path()).collect();
    pages.push(root.join("README.md"));
    let mut unknown = Vec::new();
    let mut n_flags = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|end| end == "md")) {
        let flags = flags_in(&fs::read_to_string(page).expect("the page can be read"));
        n_flags += flags.len();
        let name = page.file_name().expect("it is a file").to_string_lossy();
        unknown.extend(flags.difference(&known).map(|flag| format!("{name}: --{flag}")));
    }
    assert!(n_flags > 50, "the flags are not found");
    assert!(unknown.is_empty(), "there are no flags {unknown:#?}");
}

#[test]
fn whoever_migrates_is_told_of_every_flag_and_plugin() {
    let migrate = page("migrate.md");
    let flags = flags_in(&migrate);
    let missing: Vec<_> = FLAGS.iter().map(|flag| flag.name).filter(|name| !flags.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/migrate.md does not name the flags {missing:#?}");
    let row = migrate.lines().find(|line| line.starts_with("| is taken, and does nothing |")).expect("a row");
    let inert = FLAGS.iter().filter(|flag| matches!(flag.fate, Fate::Inert { .. }));
    assert_eq!(flags_in(row), inert.map(|flag| flag.name.to_owned()).collect(), "what does nothing");

    for plugin in epp_plugins::BUILT_IN {
        for name in [&[plugin.name], plugin.aliases].concat() {
            let rows = migrate.lines().filter(|line| line.contains(&format!("`{name}`")));
            let refused =
                |row: &str| row.trim_end_matches(" |").rsplit("| ").next().unwrap().starts_with("refused");
            let rows: Vec<_> = rows.filter(|row| row.starts_with('|')).collect();
            assert!(!rows.is_empty() && !rows.iter().any(|row| refused(row)), "{name}: {rows:?}");
        }
    }
}

#[test]
fn whoever_migrates_is_told_of_every_metric_of_upstream() {
    let (migrate, operations) = (page("migrate.md"), guide());
    let names: Vec<_> = migrate.split('`').skip(1).step_by(2).collect();
    let told = |family: &str| {
        names.iter().any(|name| match (name.strip_suffix('*'), name.strip_prefix('…')) {
            (Some(begins), _) => !begins.is_empty() && family.starts_with(begins),
            (_, Some(ends)) => family.ends_with(ends),
            _ => *name == family,
        })
    };
    let rows = operations.lines().filter(|line| line.starts_with("| `inference_"));
    let families: Vec<_> = rows
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(families.len() > 15, "the families are not found");
    let missing: Vec<_> = families.iter().filter(|family| !told(family)).collect();
    assert!(missing.is_empty(), "docs/migrate.md does not name {missing:#?}");
}

#[tokio::test]
async fn every_metric_is_named() {
    let guide = guide();
    let page = Hermetic::start(&[(0, 0.1, "")]).await.metrics();
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let in_sources = source::all().into_iter().filter(|source| source.path.starts_with("src/"));
    let own: BTreeSet<String> = in_sources.flat_map(|source| own_metrics(&source.text)).collect();
    assert!(own.contains("epp_scrape_total"), "our metrics are not found");
    let missing: Vec<_> = families
        .map(str::to_owned)
        .chain(own)
        .filter(|family| !guide.contains(&format!("`{family}`")))
        .collect();
    assert!(missing.is_empty(), "docs/operations.md does not name {missing:#?}");
}

/// Names of metrics with our prefix in string literals, also those that are registered only when needed.
fn own_metrics(text: &str) -> BTreeSet<String> {
    let literals = text.split('"').skip(1).step_by(2);
    let name = |literal: &&str| {
        literal.starts_with("epp_")
            && literal.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            && ["_total", "_seconds", "_bytes", "_streams", "_inflight"]
                .iter()
                .any(|end| literal.ends_with(end))
    };
    literals.filter(name).map(str::to_owned).collect()
}

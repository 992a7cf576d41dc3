//! The repository's own rules, as ordinary tests.
//!
//! Every file is part of a crate, short, opens with its purpose, and imports nothing that [`BANS`] forbids it. Comments,
//! literals and test code are free to mention what they like. Says nothing about style that clippy or rustfmt see.

pub(crate) mod source;

use std::collections::BTreeSet;

use source::{Source, is_target_root, module_folder, paths, production_code, submodules};

/// A file longer than this has usually grown a second subject.
const MAX_LINES: usize = 500;

/// Who may not import what. A file that does not exist yet breaks no rule.
const BANS: &[Ban] = &[
    Ban {
        who: &["plugins/*"],
        except: &[],
        what: IMPURE,
        why: "plugins are pure: time, chance and I/O are arguments",
    },
    Ban { who: PURE, except: SHELL, what: IMPURE, why: "the pure half: time, chance and I/O are arguments" },
    Ban {
        who: &["src/*"],
        except: &["src/ext_proc.rs", "src/ext_proc/*", "src/rate_limit.rs", "src/rate_limit/service.rs"],
        what: &["envoy_types"],
        why: "Envoy's messages stay within `ext_proc` and the rate limit service",
    },
    Ban {
        who: &["src/discovery.rs", "src/discovery/*"],
        except: &[],
        what: &["crate::scrape", "crate::kv_events"],
        why: "what feeds the store does not know what else feeds it",
    },
    Ban {
        who: &["src/scrape.rs", "src/scrape/*"],
        except: &[],
        what: &["crate::discovery", "crate::kv_events"],
        why: "what feeds the store does not know what else feeds it",
    },
    Ban {
        who: &["src/kv_events.rs", "src/kv_events/*"],
        except: &[],
        what: &["crate::discovery", "crate::scrape"],
        why: "what feeds the store does not know what else feeds it",
    },
    Ban {
        who: &["src/*"],
        except: &["src/main.rs", "src/commands.rs", "src/commands/*", "src/runtime.rs", "src/runtime/*"],
        what: &["crate::runtime"],
        why: "the runtime wires the parts; no part knows it",
    },
];

const PURE: &[&str] = &[
    "src/admission.rs",
    "src/config/diff.rs",
    "src/config/document.rs",
    "src/config/effective.rs",
    "src/config/releases*",
    "src/config/report.rs",
    "src/config/schema.rs",
    "src/control_headers.rs",
    "src/data_layer.rs",
    "src/model_names.rs",
    "src/rate_limit/limiter*",
    "src/raw_request.rs",
    "src/scheduling.rs",
    "src/scheduling/*",
    "src/stopwatch.rs",
    "src/rejection.rs",
    "src/flow_control/bands.rs",
    "src/ext_proc/exchange.rs",
    "src/ext_proc/exchange/*",
    "src/ext_proc/extractor.rs",
    "src/ext_proc/extractor/*",
    "src/ext_proc/reply.rs",
    "src/discovery/index.rs",
    "src/discovery/index/*",
    "src/leader/elector.rs",
    "src/scrape/engine.rs",
    "src/scrape/engine/*",
    "src/scrape/exposition.rs",
    "src/scrape/exposition/*",
    "src/scrape/gpu.rs",
    "src/scrape/mapping.rs",
    "src/scrape/models.rs",
    "src/scrape/places.rs",
    "src/sim/engine*",
    "src/standalone*",
];

/// What lies beside pure files without being pure.
const SHELL: &[&str] = &[
    "src/standalone/supervise.rs",
    "src/standalone/supervise/admin.rs",
    "src/standalone/supervise/binary.rs",
    "src/standalone/supervise/ports.rs",
    "src/standalone/supervise/process.rs",
    "src/standalone/xds_folder.rs",
];

const IMPURE: &[&str] = &[
    "tokio",
    "kube",
    "tonic",
    "reqwest",
    "hyper",
    "std::env",
    "std::fs",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Files (by path, `*` standing for any ending) and the crates, modules or items they may not mention.
struct Ban {
    who: &'static [&'static str],
    except: &'static [&'static str],
    what: &'static [&'static str],
    why: &'static str,
}

impl Ban {
    fn binds(&self, path: &str) -> bool {
        let named = |patterns: &[&str]| {
            patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => path.starts_with(beginning),
                None => path == *pattern,
            })
        };
        named(self.who) && !named(self.except) && !source::is_test(path)
    }
}

/// Whether a path in the code names what is banned: the thing itself, something in it, or a whole module it is in.
fn names(path: &str, banned: &str) -> bool {
    if !banned.contains("::") {
        // A crate, and the crates beside it (`tokio` and `tokio_stream`).
        let krate = path.split("::").next().unwrap_or_default();
        return krate.strip_prefix(banned).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    }
    let within =
        |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::"));
    path == banned || within(path, banned) || (path.contains("::") && within(banned, path))
}

fn banned_imports(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources {
        let found = paths(&production_code(&source.text));
        for ban in BANS.iter().filter(|ban| ban.binds(&source.path)) {
            for path in found.iter().filter(|path| ban.what.iter().any(|banned| names(path, banned))) {
                problems.push(format!("{}: mentions `{path}`, but {}", source.path, ban.why));
            }
        }
    }
    problems
}

fn unreachable_files(sources: &[Source]) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Source> = sources.iter().filter(|source| is_target_root(&source.path)).collect();
    while let Some(source) = open.pop() {
        if !reached.insert(&source.path) {
            continue;
        }
        for name in submodules(&source.text) {
            let path = format!("{}/{name}.rs", module_folder(&source.path));
            open.extend(sources.iter().filter(|source| source.path == path));
        }
    }
    let lost = sources.iter().filter(|source| !reached.contains(&source.path));
    lost.map(|source| format!("{}: no `mod` line leads here", source.path)).collect()
}

fn shapeless_files(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for Source { path, text } in sources {
        let n_lines = text.lines().count();
        if n_lines > MAX_LINES {
            problems.push(format!("{path}: {n_lines} lines, at most {MAX_LINES}"));
        }
        if !text.starts_with("//! ") {
            problems.push(format!("{path}: does not open with `//!` and its purpose"));
        }
        if path.ends_with("/mod.rs") {
            problems.push(format!("{path}: use `{}.rs`", path.trim_end_matches("/mod.rs")));
        }
    }
    problems
}

#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_file_is_part_of_a_crate() {
    assert_none(&unreachable_files(&source::all()));
}

#[test]
fn files_open_with_their_purpose_and_stay_short() {
    assert_none(&shapeless_files(&source::all()));
}

#[test]
fn nobody_imports_what_is_banned_for_them() {
    assert_none(&banned_imports(&source::all()));
}

#[test]
fn the_import_rule_finds_offenders() {
    for (path, text, want) in [
        ("plugins/scorer/queue.rs", "use tokio::time::Instant;", 1),
        ("plugins/scorer/queue.rs", "use tokio_stream::iter;", 1),
        ("plugins/scorer/queue.rs", "use tokio;", 1),
        ("plugins/scorer/queue.rs", "use std::{\n    env as e,\n    io::{self, Read},\n    fs,\n};", 2),
        ("plugins/scorer/queue.rs", "use std::time::{Duration, Instant};", 1),
        ("plugins/scorer/queue.rs", "use std::time::*;", 1),
        ("plugins/scorer/queue.rs", "use std::time::Duration;\nfn hyper(tokio: Duration) {}", 0),
        ("plugins/scorer/queue.rs", "fn f() -> u8 { std::env::args().count() as u8 }", 1),
        ("plugins/scorer/queue.rs", "// use tokio::x;\n/* tokio::x */ const S: &str = r#\"tokio::\"x\"#;", 0),
        ("plugins/scorer/queue.rs", "const C: char = '\"'; use tokio::x; const D: char = '\"';", 1),
        ("plugins/scorer/queue.rs", "#[cfg(test)]\nmod tests { use std::fs; fn f() {} }", 0),
        ("plugins/scorer/queue.rs", "#[cfg(test)]\nmod tests;\nuse std::fs;", 1),
        ("plugins/scorer/tests.rs", "use std::fs;", 0),
        ("plugins/framework/lib.rs", "pub(crate) use ::reqwest::Client;", 1),
        ("src/sim/engine.rs", "use std::time::SystemTime;", 1),
        ("src/sim/engine/batch.rs", "use std::time::SystemTime;", 1),
        ("src/sim/server.rs", "use std::time::SystemTime;", 0),
        ("src/ext_proc/exchange.rs", "use envoy_types::pb::X;", 0),
        ("src/ext_proc/exchange.rs", "use tonic::Status;", 1),
        ("src/director.rs", "use envoy_types::pb::X;", 1),
        ("src/discovery/file.rs", "use super::super::scrape::Mapping;", 1),
        ("src/discovery/file.rs", "use crate::datastore::Store;", 0),
        ("src/scrape.rs", "use crate::{datastore, discovery::Change};", 1),
        ("src/director.rs", "fn f() { crate::runtime::run(); }", 1),
        ("src/commands/sim.rs", "use crate::runtime;", 0),
    ] {
        let source = Source { path: path.to_owned(), text: text.to_owned() };
        let problems = banned_imports(&[source]);
        assert_eq!(problems.len(), want, "{path}: {text}\n{problems:?}");
    }
}

#[test]
fn the_reach_rule_finds_orphans() {
    let sources = |files: &[(&str, &str)]| -> Vec<Source> {
        files
            .iter()
            .map(|(path, text)| Source { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect()
    };
    let files = sources(&[
        ("src/lib.rs", "//! x\npub mod scrape; // why\n// mod ghost;\n#[cfg(test)]\nmod tests;"),
        ("src/main.rs", ""),
        ("src/scrape.rs", "pub(crate) mod exposition;\nmod r#loop;"),
        ("src/scrape/exposition.rs", "mod inline { }"),
        ("src/scrape/loop.rs", ""),
        ("src/tests.rs", ""),
        ("src/ghost.rs", "mod child;"),
        ("src/ghost/child.rs", ""),
        ("src/scrape/inline.rs", ""),
        ("benches/schedule.rs", ""),
        ("plugins/lib.rs", "mod scorer;"),
        ("plugins/scorer.rs", ""),
        ("plugins/filter.rs", ""),
    ]);
    let lost = ["src/ghost.rs", "src/ghost/child.rs", "src/scrape/inline.rs", "plugins/filter.rs"];
    assert_eq!(unreachable_files(&files), lost.map(|path| format!("{path}: no `mod` line leads here")));
}

#[test]
fn the_shape_rule_finds_offenders() {
    for (path, text, want) in [
        ("src/a.rs", "//! Purpose.\n".to_owned(), 0),
        ("src/a.rs", "use x;\n//! Purpose.\n".to_owned(), 1),
        ("src/a.rs", String::new(), 1),
        ("src/a/mod.rs", "//! Purpose.\n".to_owned(), 1),
        ("src/a.rs", format!("//! Purpose.\n{}", "\n".repeat(499)), 0),
        ("src/a.rs", format!("//! Purpose.\n{}", "\n".repeat(500)), 1),
    ] {
        let problems = shapeless_files(&[Source { path: path.to_owned(), text }]);
        assert_eq!(problems.len(), want, "{path} {problems:?}");
    }
}

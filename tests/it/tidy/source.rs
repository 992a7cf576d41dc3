//! Rust files as text, and the little of their grammar that the rules need: entry point [`all`].
//!
//! Knows comments, literals, test modules, `mod` lines and `use` trees; not macros, nor `#[path]`.

use std::fs;
use std::path::Path;

/// Where our Rust code lies.
const FOLDERS: [&str; 7] =
    ["build", "src", "plugins", "tests", "benches", "fuzz/targets", "fuzz/fuzz_targets"];

/// The roots of our crates, besides each file in a folder of [`TARGET_FOLDERS`].
const ROOTS: [&str; 11] = [
    "build/commit.rs",
    "benches/ext_proc/main.rs",
    "src/lib.rs",
    "src/main.rs",
    "plugins/lib.rs",
    "plugins/build.rs",
    "plugins/examples/src/main.rs",
    "plugins/framework/lib.rs",
    "fuzz/targets/lib.rs",
    "tests/allocations/main.rs",
    "tests/it/main.rs",
];

/// Folders in which Cargo takes each file for a crate of its own.
const TARGET_FOLDERS: [&str; 10] = [
    "plugins/examples/tests",
    "benches",
    "tests",
    "src/bin",
    "plugins/benches",
    "plugins/tests",
    "plugins/framework/benches",
    "plugins/framework/tests",
    "fuzz/fuzz_targets",
    "fuzz/targets/tests",
];

/// One file: its path from the repository's root, with `/`, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Reads every Rust file of the repository.
pub(crate) fn all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders: Vec<String> = FOLDERS.map(str::to_owned).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).into_iter().flatten() {
            let entry = entry.expect("the folder can be read");
            let name = entry.file_name().into_string().expect("names are UTF-8");
            let path = format!("{folder}/{name}");
            if entry.path().is_dir() {
                folders.push(path);
            } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(entry.path()).expect("sources are UTF-8");
                sources.push(Source { path, text });
            }
        }
    }
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "looked in the wrong place");
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Whether the file is the root of a crate.
pub(super) fn is_target_root(path: &str) -> bool {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    ROOTS.contains(&path) || TARGET_FOLDERS.contains(&folder)
}

/// Whether the file holds nothing but tests or benches.
pub(crate) fn is_test(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "benches" | "tests.rs"))
}

/// The folder in which the file's submodules lie.
pub(super) fn module_folder(path: &str) -> &str {
    if is_target_root(path) {
        path.rsplit_once('/').map_or("", |(folder, _)| folder)
    } else {
        path.trim_end_matches(".rs")
    }
}

/// The names of the modules that the file declares and that lie in files of their own.
pub(super) fn submodules(text: &str) -> Vec<String> {
    let code = code(text);
    let declared = code.lines().filter_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("pub").map_or(line, |rest| {
            rest.strip_prefix('(')
                .and_then(|rest| rest.split_once(')'))
                .map_or(rest, |(_, rest)| rest)
                .trim_start()
        });
        line.strip_prefix("mod ")?.trim_end().strip_suffix(';')
    });
    declared.map(|name| name.trim_start_matches("r#").to_owned()).collect()
}

/// The text without comments, literals and whatever follows a `#[cfg(test)]`.
pub(super) fn production_code(text: &str) -> String {
    const TEST: &str = "#[cfg(test)]";
    let code = code(text);
    let mut kept = String::new();
    let mut rest = code.as_str();
    while let Some((before, after)) = rest.split_once(TEST) {
        kept.push_str(before);
        rest = &after[item_end(after)..];
    }
    kept + rest
}

/// Every path of at least two parts in the code, and every path that a `use` imports; those that lead out of a module
/// of ours begin with `crate`.
pub(super) fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let word = |at: usize| statement[..at].chars().next_back().is_none_or(|c| !is_name(c));
        let mut imports = statement.rmatch_indices("use ").filter(|(at, _)| word(*at));
        let (before, tree) = imports.next().map_or((statement, None), |(at, word)| {
            let (before, tree) = statement.split_at(at);
            (before, tree.strip_prefix(word))
        });
        let inline = before.split(|c: char| !is_name(c) && c != ':').map(|path| path.trim_matches(':'));
        found.extend(inline.filter(|path| path.contains("::")).map(str::to_owned));
        if let Some(tree) = tree {
            expand("", tree, &mut found);
        }
    }
    found.iter().map(|path| absolute(path)).collect()
}

fn absolute(path: &str) -> String {
    let mut rest = path;
    while let Some(shorter) =
        ["super::", "crate::", "epp::"].iter().find_map(|start| rest.strip_prefix(start))
    {
        rest = shorter;
    }
    if rest.len() == path.len() { path.to_owned() } else { format!("crate::{rest}") }
}

/// Writes out the paths of a `use` tree.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        let path = format!("{prefix}{path}");
        let path = path.trim_start_matches(':').trim_end_matches("::self").trim_end_matches("::*");
        found.extend(Some(path.to_owned()).filter(|path| !path.is_empty()));
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let group = group.trim_end();
    let group = group.strip_suffix('}').unwrap_or(group);
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                expand(&prefix, &group[start..at], found);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !group[start..].trim().is_empty() {
        expand(&prefix, &group[start..], found);
    }
}

/// Where the item at the beginning of `code` ends: after its `;`, or after its block.
fn item_end(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The text with a blank for each comment and literal; lines stay where they are.
fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        if let Some(end) = literal_end(&chars, at) {
            code.push(' ');
            code.extend(chars[at..end].iter().filter(|c| **c == '\n'));
            at = end;
        } else {
            code.push(chars[at]);
            at += 1;
        }
    }
    code
}

/// Where the comment, string or character that begins at `at` ends, if one does.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let find = |from: usize, what: &[char]| {
        let rest = chars.get(from..).unwrap_or_default();
        rest.windows(what.len()).position(|window| window == what).map_or(chars.len(), |found| from + found)
    };
    let past = |from: usize, what: &[char]| chars.len().min(find(from, what) + what.len());
    match chars[at..] {
        ['/', '/', ..] => Some(find(at, &['\n'])),
        ['/', '*', ..] => Some(past(at + 2, &['*', '/'])),
        ['"', ..] => Some(closing(chars, at, '"')),
        ['\'', '\\', ..] => Some(closing(chars, at, '\'')),
        ['\'', _, '\'', ..] => Some(at + 3),
        ['r', '#' | '"', ..] if at == 0 || !is_name(chars[at - 1]) || chars[at - 1] == 'b' => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            let opens = chars.get(at + 1 + hashes) == Some(&'"');
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            opens.then(|| past(at + 2 + hashes, &end))
        }
        _ => None,
    }
}

/// The place after the next unescaped `quote`.
fn closing(chars: &[char], at: usize, quote: char) -> usize {
    let mut at = at + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    chars.len().min(at + 1)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

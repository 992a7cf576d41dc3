//! Where a file holds configurations, and how their places are told in its lines: [`find`].
//!
//! A file is a configuration, or a Kubernetes manifest or Helm values that hold some, as text or as maps, at any depth.
//! It says nothing of whether they are right. Pure, like all of `config` beside `reload`.

mod anchors;

use self::anchors::Anchors;
use super::node::outline::{Content, Piece, outline};
use super::node::{self, Value};
use super::problem::{Position, Problem, shown_list};
use super::{GIE_API, KIND, LLM_D_API};

/// One configuration in a file.
#[derive(Debug)]
pub struct Found {
    /// The key under which it stands, if it is not the whole file; empty in a list.
    pub key: Option<String>,
    /// `metadata.name` of the object in which it stands.
    pub object: Option<String>,
    /// Where it begins in the file.
    pub at: Position,
    text: String,
    /// What stands before it, so that its places are those of the file.
    before: (usize, usize),
    places: Places,
}

/// How places in a configuration are told in the file's lines.
#[derive(Clone, Copy, Debug)]
enum Places {
    /// Lines are those of the file; columns begin after so many characters.
    Columns(u32),
    /// Nothing but the beginning is known: the text is folded or quoted.
    Beginning,
}

impl Found {
    /// The names by which it is told from others of its file, the shortest first; the last is always its own.
    pub fn names(&self) -> Vec<String> {
        let key = self.key.clone().filter(|key| !key.is_empty());
        let within = self.object.as_ref().zip(key.as_ref()).map(|(object, key)| format!("{object}/{key}"));
        key.into_iter().chain(within).chain([format!("line {}", self.at.line)]).collect()
    }

    /// The configuration, as the loader takes it: with as many empty lines before it as the file has lines there.
    pub fn text(&self) -> String {
        let (lines, columns) = self.before;
        let mut text = "\n".repeat(lines);
        text.extend(std::iter::repeat_n(' ', columns));
        text + &self.text
    }

    /// Puts a problem of this configuration where it is in the file.
    pub fn translate(&self, problem: Problem) -> Problem {
        let (line, column, message) = match self.places {
            // What concerns the whole configuration is told at its beginning.
            Places::Columns(_) if problem.line < self.at.line => {
                (self.at.line, self.at.column, problem.message)
            }
            Places::Columns(before) => (problem.line, problem.column.saturating_add(before), problem.message),
            Places::Beginning => {
                let message = format!("{} (line {} of this text)", problem.message, problem.line);
                (self.at.line, self.at.column, message)
            }
        };
        Problem { severity: problem.severity, line, column, message }
    }
}

/// All configurations of a file in its order, or why there are none; both, where it breaks off.
pub fn find(text: &str) -> (Vec<Found>, Vec<Problem>) {
    let (roots, problem) = outline(text);
    if let Some(problem) = problem.as_ref().filter(|_| text.contains("{{")) {
        let message = format!("{}{TEMPLATE}", problem.message);
        return (Vec::new(), vec![Problem { message, ..problem.clone() }]);
    }
    if roots.iter().any(says_it_is_one) {
        return (vec![whole(text)], Vec::new());
    }
    let mut found = Vec::new();
    let anchors = Anchors::of(text, &roots);
    for root in &roots {
        search(root, (None, None), &anchors, &mut found);
    }
    if let Some(one_more) = found.get(MAX_FOUND) {
        let message = format!("expected at most {MAX_FOUND} configurations in a file");
        let problem = Problem::error(one_more.at, message);
        found.truncate(MAX_FOUND);
        return (found, vec![problem]);
    }
    match problem {
        // What is wrong with it the loader tells.
        Some(_) if found.is_empty() => (vec![whole(text)], Vec::new()),
        Some(problem) => (found, vec![problem]),
        None if !found.is_empty() => (found, Vec::new()),
        None if roots.iter().all(is_null) || roots.iter().any(has_its_fields) => {
            (vec![whole(text)], Vec::new())
        }
        None => (found, vec![nothing_found(&roots, text)]),
    }
}

fn whole(text: &str) -> Found {
    Found {
        key: None,
        object: None,
        at: Position::START,
        text: text.to_owned(),
        before: (0, 0),
        places: Places::Columns(0),
    }
}

/// Most configurations of one file that are looked at.
const MAX_FOUND: usize = 100;

/// What a file with braces of templates probably is.
const TEMPLATE: &str = "; this may be a Helm template, which `helm template` renders first";

fn nothing_found(roots: &[Piece], text: &str) -> Problem {
    let mut kinds: Vec<_> = roots.iter().filter_map(|root| root.get("kind")?.text()).collect();
    kinds.dedup();
    let at = roots.first().map_or(Position::START, |root| root.at);
    let found = match kinds.as_slice() {
        [] => String::new(),
        kinds => format!("; found {}", shown_list(kinds.iter().copied().take(MAX_KINDS))),
    };
    let template = if text.contains("{{") { TEMPLATE } else { "" };
    let message = format!(
        "no `{KIND}` is in this file: looked for `kind: {KIND}` at the top and, as ConfigMaps and Helm values have it, in \
         any map or text below{found}{template}"
    );
    Problem::error(at, message)
}

/// Most kinds of objects that a message lists.
const MAX_KINDS: usize = 10;

fn is_null(root: &Piece) -> bool {
    root.text().is_some_and(|text| text.is_empty() || text == "~" || text == "null")
}

/// Whether a map names our kind, whatever the case.
fn says_it_is_one(map: &Piece) -> bool {
    if let Some(kind) = map.get("kind") {
        kind.text().is_some_and(|kind| kind.eq_ignore_ascii_case(KIND))
    } else {
        let version = map.get("apiVersion").and_then(Piece::text);
        version.is_some_and(|version| [GIE_API, LLM_D_API].contains(&version))
    }
}

/// Whether a map has what only a configuration has.
fn has_its_fields(map: &Piece) -> bool {
    let keys = || map.entries().iter().filter_map(|(key, _)| key.text());
    keys().any(is_its_field)
}

fn is_its_field(key: &str) -> bool {
    ["schedulingProfiles", "plugins"].iter().any(|field| field.eq_ignore_ascii_case(key))
}

/// What a piece stands below: the name of an object, and a key.
type Below<'p> = (Option<&'p str>, Option<&'p str>);

/// Looks below the top of a document.
fn search<'p>(piece: &'p Piece, below: Below<'p>, anchors: &Anchors<'_>, found: &mut Vec<Found>) {
    if found.len() > MAX_FOUND {
        return;
    }
    let (object, key) = below;
    let object = piece.get("metadata").and_then(|metadata| metadata.get("name")?.text()).or(object);
    match &piece.content {
        Content::Map(_) if key.is_some() && says_it_is_one(piece) => {
            found.push(region(piece, below, anchors));
        }
        Content::Map(entries) => {
            for (name, value) in entries {
                search(value, (object, Some(name.text().unwrap_or_default())), anchors, found);
            }
        }
        Content::List(items) => {
            for item in items {
                search(item, (object, Some("")), anchors, found);
            }
        }
        Content::Scalar { text: inner, is_literal } if is_one(inner) => {
            found.push(if *is_literal { block(piece, below, inner) } else { scalar(piece, below, inner) });
        }
        Content::Scalar { .. } | Content::Alias(_) => {}
    }
}

/// Whether a text is a configuration, or would be one if it could be read.
fn is_one(text: &str) -> bool {
    // Words and numbers are most of what there is.
    if !text.contains(['\n', '{']) {
        return false;
    }
    match node::parse(text) {
        Ok(root) => {
            let Value::Map(entries) = &root.value else { return false };
            let has = |key: &str, is: &dyn Fn(&str) -> bool| {
                entries.iter().any(|(known, value)| match (&known.value, &value.value) {
                    (Value::String(known), Value::String(value)) => known == key && is(value),
                    _ => false,
                })
            };
            let plain = || {
                !has("kind", &|_| true)
                    && entries.iter().any(
                        |(key, _)| matches!(&key.value, Value::String(key) if is_its_field(key) && key != "plugins"),
                    )
            };
            has("kind", &|kind| kind.eq_ignore_ascii_case(KIND)) || plain()
        }
        Err(_) => text.lines().any(|line| {
            let (key, value) = line.split_once(':').unwrap_or_default();
            let bare = |text: &str| text.trim().trim_matches(['"', '\'', ',', '{', ' ']).to_owned();
            (bare(key) == "kind" && bare(value).eq_ignore_ascii_case(KIND))
                || bare(key) == "schedulingProfiles"
        }),
    }
}

/// The lines of a block scalar; their indentation is gone.
fn block(piece: &Piece, (object, key): Below<'_>, inner: &str) -> Found {
    // The piece begins with the first line that is not empty.
    let n_empty = inner.bytes().take_while(|&byte| byte == b'\n').count();
    Found {
        key: key.map(str::to_owned),
        object: object.map(str::to_owned),
        at: piece.at,
        text: inner.to_owned(),
        before: ((piece.at.line as usize - 1).saturating_sub(n_empty), 0),
        places: Places::Columns(piece.at.column.saturating_sub(1)),
    }
}

fn scalar(piece: &Piece, (object, key): Below<'_>, inner: &str) -> Found {
    Found {
        key: key.map(str::to_owned),
        object: object.map(str::to_owned),
        at: piece.at,
        text: inner.to_owned(),
        before: (0, 0),
        places: Places::Beginning,
    }
}

/// A map with its indentation.
fn region(piece: &Piece, (object, key): Below<'_>, anchors: &Anchors<'_>) -> Found {
    Found {
        key: key.map(str::to_owned),
        object: object.map(str::to_owned),
        at: piece.at,
        text: anchors.inlined(piece),
        before: (piece.at.line as usize - 1, piece.at.column as usize - 1),
        places: Places::Columns(0),
    }
}

#[cfg(test)]
mod tests;

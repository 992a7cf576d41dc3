//! Files → documents, each with its place in its file. Entry point: [`documents`].
//!
//! A file is YAML or JSON, or a Markdown page with manifests in fenced blocks, in which a shell's here-documents may stand.
//! It knows nothing of what the documents say, but `kind: List`, whose items are documents of their own.

mod markdown;

use super::finding::{Findings, Place};
use crate::config::node::{self, Node, Value};
use crate::config::problem::{Position, Problem};

/// A file as it was read.
#[derive(Clone, Debug)]
pub struct Source {
    /// What messages call it.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// One object or fragment.
#[derive(Debug)]
pub struct Document {
    /// Which file it is in.
    pub file: usize,
    /// Whether the file is a page for people, where examples may be incomplete.
    pub is_page: bool,
    /// Its content; places are those of the file.
    pub root: Node,
}

impl Document {
    /// Where it begins.
    pub fn place(&self) -> Place {
        Place { file: self.file, at: self.root.at }
    }
}

/// Most documents of all files together.
const MAX_DOCUMENTS: usize = 20_000;

/// A part of a file that is YAML of its own.
struct Block<'a> {
    text: std::borrow::Cow<'a, str>,
    /// Lines and columns of the file before it.
    lines: u32,
    columns: u32,
}

/// Reads all documents of all files, in order; empty ones are passed over.
pub fn documents(sources: &[Source], findings: &mut Findings) -> Vec<Document> {
    let mut reading = Reading { file: 0, is_page: false, findings, documents: Vec::new() };
    for (file, source) in sources.iter().enumerate() {
        (reading.file, reading.is_page) = (file, is_page(source));
        let blocks = if reading.is_page { markdown::blocks(&source.text) } else { vec![whole(&source.text)] };
        for block in &blocks {
            for (lines, text) in node::split(&block.text) {
                reading.read(block, lines, text);
            }
        }
        if reading.documents.len() > MAX_DOCUMENTS {
            let message = format!("expected at most {MAX_DOCUMENTS} documents in all files");
            reading.findings.problem(file, None, Problem::error(Position::START, message));
            return Vec::new();
        }
    }
    reading.documents
}

struct Reading<'f> {
    file: usize,
    is_page: bool,
    findings: &'f mut Findings,
    documents: Vec<Document>,
}

impl Reading<'_> {
    /// Reads one document of a block, which has so many lines of the block before it.
    fn read(&mut self, block: &Block<'_>, lines: u32, text: &str) {
        let moved = |at: Position| Position {
            line: at.line.saturating_add(block.lines).saturating_add(lines),
            column: at.column.saturating_add(block.columns),
        };
        match node::parse(text) {
            Ok(mut root) => {
                root.relocate(&moved);
                flatten(self.file, self.is_page, root, &mut self.documents);
            }
            // Some are nested deeper than is read, and none means anything here.
            Err(_) if text.lines().any(|line| line.trim_end() == "kind: CustomResourceDefinition") => {}
            Err(problem) => {
                let at = moved(problem.at());
                let problem = if self.is_page {
                    Problem::warning(at, format!("block skipped, it cannot be read: {}", problem.message))
                } else {
                    Problem::error(at, problem.message)
                };
                self.findings.problem(self.file, None, problem);
            }
        }
    }
}

/// Takes a document, or the items of a `List`.
fn flatten(file: usize, is_page: bool, root: Node, documents: &mut Vec<Document>) {
    if root.value == Value::Null {
        return;
    }
    match root.value {
        Value::Map(mut entries) if is_list(&entries) => {
            let items = entries.iter().position(|(key, _)| is_text(key, "items"));
            let items = items.map(|items| entries.swap_remove(items).1.value);
            let Some(Value::List(items)) = items else { return };
            for item in items {
                flatten(file, is_page, item, documents);
            }
        }
        value => documents.push(Document { file, is_page, root: Node { value, at: root.at } }),
    }
}

fn is_list(entries: &[(Node, Node)]) -> bool {
    let has = |key: &str, value: &str| entries.iter().any(|(k, v)| is_text(k, key) && is_text(v, value));
    has("kind", "List") && has("apiVersion", "v1")
}

fn is_text(node: &Node, text: &str) -> bool {
    matches!(&node.value, Value::String(found) if found == text)
}

fn is_page(source: &Source) -> bool {
    let ending = source.name.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
    let is_data = ending.is_some_and(|ending| ["yaml", "yml", "json"].contains(&ending.as_str()));
    !is_data && markdown::has_fence(&source.text)
}

fn whole(text: &str) -> Block<'_> {
    Block { text: text.into(), lines: 0, columns: 0 }
}

#[cfg(test)]
mod tests;

//! Aliases in a map that is taken out of its file: what they mean outside of it is written in their place. [`Anchors`].

use std::collections::HashMap;
use std::ops::Range;

use crate::config::node::outline::{Content, Piece};

/// Longest text that aliases come to, in bytes, and deepest nesting of what they mean.
const MAX_WRITTEN: usize = 256 << 10;
const MAX_DEPTH: usize = 32;

/// The pieces of a file that have anchors, and its text.
pub(super) struct Anchors<'p> {
    text: &'p str,
    pieces: HashMap<usize, &'p Piece>,
}

impl<'p> Anchors<'p> {
    /// Those of all documents.
    pub(super) fn of(text: &'p str, roots: &'p [Piece]) -> Self {
        let mut pieces = HashMap::new();
        let mut left: Vec<&Piece> = roots.iter().collect();
        while let Some(piece) = left.pop() {
            if piece.anchor != 0 {
                pieces.insert(piece.anchor, piece);
            }
            left.extend(below(piece));
        }
        Self { text, pieces }
    }

    /// A piece as it is written, in as many lines, with what its aliases mean outside of it. Where that is too much
    /// the rest stays, and the loader tells that it is unknown.
    pub(super) fn inlined(&self, piece: &Piece) -> String {
        let (mut text, mut from) = (String::new(), piece.bytes.start);
        let mut aliases = Vec::new();
        gather(piece, &mut aliases);
        for (bytes, anchor) in aliases {
            let Some(meant) = self.pieces.get(&anchor) else { continue };
            let is_within = piece.bytes.start <= meant.bytes.start && meant.bytes.end <= piece.bytes.end;
            if is_within {
                continue;
            }
            let mut flow = String::new();
            if self.write(meant, &mut flow, 0).is_none() || text.len() + flow.len() > MAX_WRITTEN {
                break;
            }
            text.push_str(self.text.get(from..bytes.start).unwrap_or_default());
            text.push_str(&flow);
            from = bytes.end;
        }
        text + self.text.get(from..piece.bytes.end).unwrap_or_default()
    }

    /// Writes a piece in one line; `None` if that is too much.
    fn write(&self, piece: &Piece, flow: &mut String, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH || flow.len() > MAX_WRITTEN {
            return None;
        }
        match &piece.content {
            Content::Scalar { text, .. } => {
                let source = self.text.get(piece.bytes.clone())?.trim_end();
                let is_quoted = source.starts_with(['"', '\'']) && !source.contains('\n');
                // A word or a number is the same in a list or map of one line.
                let is_word =
                    !source.is_empty() && source.chars().all(|c| c.is_alphanumeric() || "-_./<~".contains(c));
                if is_quoted || is_word {
                    flow.push_str(source);
                } else {
                    flow.push_str(&serde_json::Value::from(text.as_str()).to_string());
                }
            }
            Content::Alias(anchor) => self.write(self.pieces.get(anchor)?, flow, depth + 1)?,
            Content::List(items) => {
                flow.push('[');
                for item in items {
                    self.write(item, flow, depth + 1)?;
                    flow.push_str(", ");
                }
                flow.push(']');
            }
            Content::Map(entries) => {
                flow.push('{');
                for (key, value) in entries {
                    self.write(key, flow, depth + 1)?;
                    flow.push_str(": ");
                    self.write(value, flow, depth + 1)?;
                    flow.push_str(", ");
                }
                flow.push('}');
            }
        }
        Some(())
    }
}

fn below(piece: &Piece) -> Vec<&Piece> {
    match &piece.content {
        Content::List(items) => items.iter().collect(),
        Content::Map(entries) => entries.iter().flat_map(|(key, value)| [key, value]).collect(),
        Content::Scalar { .. } | Content::Alias(_) => Vec::new(),
    }
}

/// Aliases within a piece, in the order of the file. How deep it nests the outline has bounded.
fn gather(piece: &Piece, into: &mut Vec<(Range<usize>, usize)>) {
    if let Content::Alias(anchor) = piece.content {
        into.push((piece.bytes.clone(), anchor));
    }
    for inner in below(piece) {
        gather(inner, into);
    }
}

//! A YAML stream as it is written: documents, and where their scalars, lists and maps lie; made by [`outline`].
//!
//! For files that hold something else within: nothing is resolved, aliases are leaves, and what comes before an error
//! stays.

use std::ops::Range;

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::{MAX_BYTES, MAX_MESSAGE};
use crate::config::problem::{Position, Problem};

/// Deepest nesting that is looked into.
const MAX_DEPTH: usize = 64;

/// A value as it is written.
#[derive(Debug)]
pub struct Piece {
    /// Where it begins; for a block scalar, in the line of its `|`.
    pub at: Position,
    /// Where it lies in the text, in bytes.
    pub bytes: Range<usize>,
    /// What it is.
    pub content: Content,
    /// The number of its anchor; 0 if it has none.
    pub anchor: usize,
}

/// What a piece is.
#[derive(Debug)]
pub enum Content {
    /// A scalar, decoded.
    Scalar {
        /// What it says.
        text: String,
        /// Whether it is written as a block behind `|`: its lines are lines of the file.
        is_literal: bool,
    },
    /// A list.
    List(Vec<Piece>),
    /// A map.
    Map(Vec<(Piece, Piece)>),
    /// A reference to the piece with this anchor.
    Alias(usize),
}

impl Piece {
    /// The text, if it is a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The entries, if it is a map; else none.
    pub fn entries(&self) -> &[(Self, Self)] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of `key`, if it is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(known, _)| known.text() == Some(key)).map(|(_, value)| value)
    }
}

/// Reads all documents, up to the first error.
pub fn outline(text: &str) -> (Vec<Piece>, Option<Problem>) {
    let mut roots = Vec::new();
    if text.len() > MAX_BYTES {
        let message = format!("expected at most {MAX_BYTES} bytes, found {}", text.len());
        return (roots, Some(Problem::error(Position::START, message)));
    }
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let said = error.info();
                let said = said.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect::<String>();
                return (roots, Some(Problem::error(position(*error.marker()), said)));
            }
        };
        let piece = match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_literal = style == ScalarStyle::Literal;
                Some(leaf(span, Content::Scalar { text: text.into_owned(), is_literal }, anchor))
            }
            Event::Alias(anchor) => Some(leaf(span, Content::Alias(anchor), 0)),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() >= MAX_DEPTH {
                    let message = format!("expected at most {MAX_DEPTH} levels of nesting");
                    return (roots, Some(Problem::error(position(span.start), message)));
                }
                let (is_map, anchor) = opened(&event);
                open.push(Open { start: span.start, is_map, anchor, pieces: Vec::new() });
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(|it| it.close(span.end)),
            _ => None,
        };
        if let Some(piece) = piece {
            open.last_mut().map_or(&mut roots, |outer| &mut outer.pieces).push(piece);
        }
    }
    (roots, None)
}

/// A list or map whose end has not come.
struct Open {
    start: Marker,
    is_map: bool,
    anchor: usize,
    /// Keys and values by turns, or items.
    pieces: Vec<Piece>,
}

impl Open {
    fn close(self, end: Marker) -> Piece {
        let content = if self.is_map {
            let mut pieces = self.pieces.into_iter();
            Content::Map(std::iter::from_fn(|| Some((pieces.next()?, pieces.next()?))).collect())
        } else {
            Content::List(self.pieces)
        };
        let bytes = offset(self.start)..offset(end);
        Piece { at: position(self.start), bytes, content, anchor: self.anchor }
    }
}

/// Whether what opens is a map, and its anchor.
fn opened(event: &Event<'_>) -> (bool, usize) {
    match event {
        Event::MappingStart(_, anchor, _) => (true, *anchor),
        Event::SequenceStart(_, anchor, _) => (false, *anchor),
        _ => (false, 0),
    }
}

fn leaf(span: Span, content: Content, anchor: usize) -> Piece {
    Piece { at: position(span.start), bytes: offset(span.start)..offset(span.end), content, anchor }
}

fn offset(marker: Marker) -> usize {
    marker.byte_offset().unwrap_or_default()
}

fn position(marker: Marker) -> Position {
    let within = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).max(1);
    Position { line: within(marker.line()), column: within(marker.col() + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
a:
  b: |

    x: 1
  c: >-
    f
  d: {kind: K, p: [1]}
  e:
  - kind: K
    x: é
z: *a
---
|2-
    y
";

    /// Every scalar and alias with its place, by its path.
    fn leaves(piece: &Piece, path: &str, into: &mut Vec<String>) {
        let (line, column) = (piece.at.line, piece.at.column);
        match &piece.content {
            Content::Scalar { text, is_literal } => {
                into.push(format!("{path} {line}:{column} {text:?}{}", if *is_literal { " |" } else { "" }));
            }
            Content::Alias(_) => into.push(format!("{path} {line}:{column} *")),
            Content::List(items) => {
                items.iter().enumerate().for_each(|(n, item)| leaves(item, &format!("{path}[{n}]"), into));
            }
            Content::Map(entries) => {
                let key = |key: &Piece| format!("{path}.{}", key.text().unwrap_or_default());
                for (name, value) in entries {
                    leaves(value, &key(name), into);
                }
            }
        }
    }

    #[test]
    fn leaves_have_places() {
        let text = TEXT.replace("a:\n", "a: &a\n");
        let (roots, problem) = outline(&text);
        assert_eq!(problem, None);
        let mut told = Vec::new();
        for root in &roots {
            leaves(root, "", &mut told);
        }
        let want = [
            ".a.b 4:5 \"\\nx: 1\\n\" |",
            ".a.c 6:5 \"f\"",
            ".a.d.kind 7:13 \"K\"",
            ".a.d.p[0] 7:20 \"1\"",
            ".a.e[0].kind 9:11 \"K\"",
            ".a.e[0].x 10:8 \"é\"",
            ".z 11:4 *",
            " 14:3 \"  y\" |",
        ];
        assert_eq!(told, want);
        let e = roots[0].get("a").unwrap().get("e").unwrap();
        let Content::List(items) = &e.content else { panic!("{e:?}") };
        assert_eq!(&text[items[0].bytes.clone()], "kind: K\n    x: é\n");
    }

    #[test]
    fn errors_have_places_and_leave_what_came_before() {
        let (roots, problem) = outline("a: 1\n---\nb: [\n");
        assert_eq!((roots.len(), problem.map(|problem| problem.line)), (1, Some(3)));
        let (roots, problem) = outline(&["[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1)].concat());
        assert!(roots.is_empty() && problem.is_some_and(|problem| problem.message.contains("nesting")));
        assert!(outline(&" ".repeat(MAX_BYTES + 1)).1.is_some());
    }
}

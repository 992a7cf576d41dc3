//! YAML (or JSON) as a tree of [`Node`]s that know their place; made by [`parse`].
//!
//! The one module that knows the YAML crate. Bounded: size of the text, nesting, aliases, length of a string. Getters
//! push what does not fit into a [`Problems`], so that readers go on; duplicate keys are told when a map is opened by
//! [`Node::fields`]. It knows nothing of what the files are about.

pub mod outline;

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy, Spanned};

use crate::config::problem::{Position, Problem, Problems, did_you_mean, shown, shown_list};

/// Longest text that is read, in bytes.
pub const MAX_BYTES: usize = 8 << 20;

/// Deepest nesting of lists and maps.
const MAX_DEPTH: usize = 32;

/// Longest string, in bytes. With [`MAX_REPLAYED`] it bounds what aliases can copy.
const MAX_STRING_BYTES: usize = 16 << 10;

/// Most nodes that aliases (and merge keys) may repeat, all together.
const MAX_REPLAYED: usize = 10_000;

/// Longest text taken from the YAML crate, in characters.
const MAX_MESSAGE: usize = 200;

/// One value of a file and the place where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it begins; for an alias, where the aliased text begins.
    pub at: Position,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, or nothing at all.
    Null,
    /// `true` or `false`; `yes`, `on` … are strings, as YAML 1.2 has it.
    Boolean(bool),
    /// A number written without fraction or exponent.
    Integer(i128),
    /// Any other number; may be infinite or NaN.
    Float(f64),
    /// A string, quoted or not.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A map as written: duplicate keys and keys that are no strings are still there.
    Map(Vec<(Node, Node)>),
}

/// Reads one document. A text without any value is `null`.
pub fn parse(text: &str) -> Result<Node, Problem> {
    parse_up_to(MAX_BYTES, text)
}

/// The same, of at most so many values: lists, maps, and what is in them.
pub fn parse_up_to(max_nodes: usize, text: &str) -> Result<Node, Problem> {
    if text.len() > MAX_BYTES {
        let message = format!("expected at most {MAX_BYTES} bytes, found {}", text.len());
        return Err(Problem::error(Position::START, message));
    }
    let document = only_document(text).map_err(|line| {
        let message = format!("expected one document, found a second at line {line}");
        Problem::error(Position { line, column: 1 }, message)
    })?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_events: MAX_BYTES,
            max_nodes: max_nodes,
            // What aliases repeat is bounded itself; one anchor may well be used a thousand times.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        // `010` is 8, as it was for the Go decoder.
        legacy_octal_numbers: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        reject_unsupported_tags: true,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(document, options).map_err(|error| {
        let problem = syntax_problem(&error, max_nodes);
        let hint = syntax_hint(&problem, document);
        Problem { message: problem.message + hint, ..problem }
    })
}

/// What a message of the YAML crate usually means.
fn syntax_hint(problem: &Problem, text: &str) -> &'static str {
    let line = text.lines().nth(problem.line as usize - 1).unwrap_or_default();
    let indented_by_tab = line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    if indented_by_tab || problem.message.contains("found a tab") {
        "; indent with spaces, YAML takes no tabs there"
    } else if problem.message.contains("mapping values are not allowed") {
        "; a value with `: ` in it needs quotes, and the keys of a map the same indentation"
    } else if problem.message.contains("illegal placement of ':'") {
        "; is a bracket or a quote before it not closed?"
    } else {
        ""
    }
}

/// The text without the markers that may close it, or the line where a second document begins.
///
/// A line that begins with `---` or `...` is always a marker: no scalar may contain one.
fn only_document(text: &str) -> Result<&str, u32> {
    let (mut begun, mut end, mut offset) = (false, None, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let marker = marker(line);
        if let Some((marker, _)) = marker {
            if begun {
                end.get_or_insert(offset);
            }
            begun |= marker == "---";
        }
        let content = marker.map_or(line, |(_, rest)| rest).trim_start_matches('\u{feff}').trim();
        if !content.is_empty() && !content.starts_with('#') {
            if end.is_some() {
                return Err(number);
            }
            begun |= !line.starts_with('%');
        }
        offset += line.len();
    }
    Ok(end.map_or(text, |end| &text[..end]))
}

/// The marker of documents that a line begins with, and the rest of the line.
fn marker(line: &str) -> Option<(&'static str, &str)> {
    ["---", "..."].into_iter().find_map(|marker| {
        let rest = line.strip_prefix(marker)?;
        (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some((marker, rest))
    })
}

/// The documents of a stream, each with the number of lines before it, so that one that is broken leaves the others.
pub fn split(text: &str) -> Vec<(u32, &str)> {
    let (mut documents, mut begin, mut first, mut offset) = (Vec::new(), 0, 0, 0);
    let (mut has_marker, mut has_content) = (false, false);
    for (number, line) in (0..).zip(text.split_inclusive('\n')) {
        let marker = marker(line);
        if marker.is_some_and(|(marker, _)| marker == "---") {
            if has_content {
                documents.push((first, &text[begin..offset]));
            }
            // Comments and directives before the first marker belong to what comes behind it.
            if has_content || has_marker {
                (begin, first, has_content) = (offset, number, false);
            }
            has_marker = true;
        }
        let content = marker.map_or(line, |(_, rest)| rest).trim();
        has_content |= !content.is_empty() && !content.starts_with(['#', '%']);
        offset += line.len();
    }
    documents.push((first, &text[begin..]));
    documents
}

fn syntax_problem(error: &serde_saphyr::Error, max_nodes: usize) -> Problem {
    use serde_saphyr::budget::BudgetBreach;
    use serde_saphyr::granit_parser::ErrorKind;
    use serde_saphyr::{DefaultMessageFormatter, Error, ExternalMessageSource, MessageFormatter};
    let too_deep = || format!("expected at most {MAX_DEPTH} levels of nesting");
    let at = error.location().map_or(Position::START, position);
    let cause = match error.without_snippet() {
        Error::AliasError { error, .. } => error.without_snippet(),
        other => other,
    };
    let message = match cause {
        Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } => {
            format!("aliases may repeat at most {MAX_REPLAYED} values")
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an alias refers to what contains it".to_owned(),
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(),
        Error::Budget { breach: BudgetBreach::Nodes { .. }, .. } => {
            format!("expected at most {max_nodes} values (lists, maps, and what is in them), found more")
        }
        Error::Budget { breach, .. } => format!("larger than expected: {breach:?}"),
        Error::ExternalMessage { source, msg, .. } => match &**source {
            ExternalMessageSource::Parser(error)
                if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) =>
            {
                too_deep()
            }
            _ => msg.clone(),
        },
        other => DefaultMessageFormatter.format_message(other).into_owned(),
    };
    // The crate's texts may repeat bytes of the file.
    let message = message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect::<String>();
    Problem::error(at, message)
}

fn position(location: serde_saphyr::Location) -> Position {
    let within = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
    Position { line: within(location.line()), column: within(location.column()) }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { value: spanned.value, at: position(spanned.defined) })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        if value.len() > MAX_STRING_BYTES {
            return Err(E::custom(format_args!("expected a string of at most {MAX_STRING_BYTES} bytes")));
        }
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key()? {
            entries.push((key, map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}

/// The string keys of a map, each once.
pub struct Fields<'a> {
    /// Where the map begins.
    pub at: Position,
    entries: Vec<(&'a str, Position, &'a Node)>,
    by_key: HashMap<&'a str, usize>,
}

impl<'a> Fields<'a> {
    /// The value of `key`; `null` counts as absent. Where there is none, one in another case is taken, so that what is in
    /// it is told about as well: that the key itself is unknown is told by [`Self::refuse_unknown`].
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        let folded = || self.entries.iter().position(|(known, ..)| known.eq_ignore_ascii_case(key));
        let (_, _, node) = self.entries[self.by_key.get(key).copied().or_else(folded)?];
        Some(node).filter(|node| node.value != Value::Null)
    }

    /// Keys with their places and values, in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Position, &'a Node)> {
        self.entries.iter().copied()
    }

    /// Tells every key that is not among `known`.
    pub fn refuse_unknown(&self, known: &[&str], problems: &mut Problems) {
        self.refuse_unknown_but(known, &[], problems);
    }

    /// The same, where keys that are often written by mistake have hints of their own: the keys, and what to do instead.
    pub fn refuse_unknown_but(&self, known: &[&str], mistaken: &[(&[&str], &str)], problems: &mut Problems) {
        for &(key, at, _) in self.entries.iter().filter(|(key, ..)| !known.contains(key)) {
            problems.error_with(at, || {
                let lower = key.to_lowercase();
                if let Some((_, instead)) = mistaken.iter().find(|(keys, _)| keys.contains(&lower.as_str())) {
                    return format!("unknown field {}, {instead}", shown(key));
                }
                let hint = did_you_mean(key, known.iter().copied());
                if hint.is_empty() {
                    let known = shown_list(known.iter().copied());
                    format!("unknown field {}, expected one of {known}", shown(key))
                } else {
                    format!("unknown field {}{hint}", shown(key))
                }
            });
        }
    }
}

impl Node {
    /// Names kind and value for a message: ``the string `abc` ``, `a list`.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Boolean(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => format!("{value:?}"),
            Value::String(value) => format!("the string {}", shown(value)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }

    /// Tells that `what` should have been `expected`.
    pub fn mismatch(&self, what: &str, expected: &str, problems: &mut Problems) {
        let quoted = if self.is_quoted(expected) { "; write it without quotes" } else { "" };
        problems.error(self.at, format!("{what}: expected {expected}, found {}{quoted}", self.describe()));
    }

    /// Whether it is a string that says what is expected.
    fn is_quoted(&self, expected: &str) -> bool {
        let Value::String(text) = &self.value else { return false };
        let takes = |words: &[&str]| words.iter().any(|word| expected.starts_with(word));
        match text.as_str() {
            "true" | "false" => takes(&["`true`"]),
            text if text.parse::<i64>().is_ok() => takes(&["an integer", "a number"]),
            text => takes(&["a number"]) && text.parse::<f64>().is_ok_and(f64::is_finite),
        }
    }

    /// The string, or a problem.
    pub fn string(&self, what: &str, problems: &mut Problems) -> Option<&str> {
        match &self.value {
            Value::String(value) => return Some(value),
            Value::Boolean(_) | Value::Integer(_) | Value::Float(_) => {
                self.mismatch(what, "a string (in quotes)", problems);
            }
            _ => self.mismatch(what, "a string", problems),
        }
        None
    }

    /// The whole number, also when it is written with a fraction of zero (`64.0`).
    pub fn whole_number(&self) -> Option<i128> {
        match self.value {
            Value::Integer(value) => Some(value),
            // Above 2^53 a float no longer says which integer was meant.
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            Value::Float(value) if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => {
                Some(value as i128)
            }
            _ => None,
        }
    }

    /// The number, unless it is infinite or NaN.
    pub fn finite_number(&self) -> Option<f64> {
        match self.value {
            Value::Integer(value) => Some(value as f64),
            Value::Float(value) => Some(value).filter(|value| value.is_finite()),
            _ => None,
        }
    }

    /// The number, which may be infinite or NaN, or a problem.
    pub fn number(&self, what: &str, problems: &mut Problems) -> Option<f64> {
        match self.value {
            Value::Integer(value) => return Some(value as f64),
            Value::Float(value) => return Some(value),
            _ => self.mismatch(what, "a number", problems),
        }
        None
    }

    /// The items of the list, or a problem and none.
    pub fn list(&self, what: &str, problems: &mut Problems) -> &[Self] {
        match &self.value {
            Value::List(items) => return items,
            _ => self.mismatch(what, "a list", problems),
        }
        &[]
    }

    /// Opens the map, or a problem. Duplicate keys and keys that are no strings are told; the first of a key counts.
    pub fn fields<'a>(&'a self, what: &str, problems: &mut Problems) -> Option<Fields<'a>> {
        let Value::Map(map) = &self.value else {
            self.mismatch(what, "a map", problems);
            return None;
        };
        let mut fields = Fields { at: self.at, entries: Vec::new(), by_key: HashMap::new() };
        for (key, node) in map {
            let Some(name) = key.string("key", problems) else { continue };
            if let Some(&first) = fields.by_key.get(name) {
                let first = fields.entries[first].1.line;
                problems.error(key.at, format!("duplicate key {}, first given at line {first}", shown(name)));
                continue;
            }
            fields.by_key.insert(name, fields.entries.len());
            fields.entries.push((name, key.at, node));
        }
        Some(fields)
    }

    /// Puts it, and all within, where `moved` says.
    pub fn relocate(&mut self, moved: &impl Fn(Position) -> Position) {
        self.at = moved(self.at);
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.relocate(moved)),
            Value::Map(entries) => entries.iter_mut().for_each(|(key, node)| {
                key.relocate(moved);
                node.relocate(moved);
            }),
            _ => {}
        }
    }

    /// Whether there is nothing in it: `null`, an empty list or an empty map.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;

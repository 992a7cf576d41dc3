//! Whether a request is what its API says it is: a [`Schema`] is data, [`Schema::violation`] judges a text by it.
//!
//! The text is read once and no tree is built; recursion goes as deep as the schema, not as the text. Of a text it tells
//! kinds and positions only, no byte of it. Members that the schema does not know are taken. Of members that come twice
//! each is judged. Scalars are taken as pydantic takes them, by which most model servers read: `"5"` is an integer.

pub(super) mod openai;

use std::fmt;
use std::ops::RangeInclusive;

use super::json::{Kind, Scanner, SyntaxError};

/// What a value has to be.
#[derive(Debug)]
pub(super) enum Schema {
    /// Anything.
    Any,
    /// `null`.
    Null,
    /// `true` or `false`, or a number or word that means it.
    Bool,
    /// A whole number between these, both included.
    Integer { min: i64, max: i64 },
    /// A number between these, both included.
    Number { min: f64, max: f64 },
    /// A string: one of these words, or any if there are none.
    String(&'static [&'static str]),
    /// A list of such elements, at least so many.
    List(&'static Schema, usize),
    /// An object.
    Object(Members),
    /// One of these, which are no choices themselves; of lists and of objects one at most, so that the first byte of a
    /// value says which applies.
    Either(&'static [Schema]),
}

/// A member of an object.
pub(super) type Member = (&'static str, Schema);

/// The members of an object.
#[derive(Debug)]
pub(super) struct Members {
    /// Those that must be there, at most 64.
    pub(super) required: &'static [Member],
    /// Those that may be there, in groups that objects share.
    pub(super) optional: &'static [&'static [Member]],
}

/// The first thing in a text that breaks a schema.
#[derive(Debug)]
pub(super) struct Violation {
    /// Where, as a JSON pointer (RFC 6901).
    pointer: String,
    expected: &'static Schema,
    found: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.pointer, self.expected, self.found)
    }
}

impl Schema {
    /// What breaks this schema in `text`, if anything does. What is no JSON is not judged.
    pub(super) fn violation(&'static self, text: &[u8]) -> Option<Violation> {
        let mut judge = Judge { path: Vec::new(), violation: None };
        let read = judge.value(&mut Scanner::new(text), self);
        judge.violation.filter(|_| read.is_ok())
    }

    fn choices(&'static self) -> &'static [Self] {
        if let Self::Either(choices) = self { choices } else { std::slice::from_ref(self) }
    }

    /// Whether this takes a value that is neither list nor object.
    fn takes(&self, kind: Kind, value: &[u8]) -> bool {
        match self {
            Self::Null => kind == Kind::Null,
            Self::Bool => is_truth(kind, value),
            Self::Integer { min, max } => {
                let range = *min as f64..=*max as f64;
                number(kind, value).is_some_and(|number| number.fract() == 0.0 && range.contains(&number))
            }
            Self::Number { min, max } => {
                number(kind, value).is_some_and(|number| (*min..=*max).contains(&number))
            }
            Self::String([]) => kind == Kind::String,
            Self::String(words) => short_text(kind, value).is_some_and(|text| words.contains(&&*text)),
            Self::Any | Self::List(..) | Self::Object(_) | Self::Either(_) => false,
        }
    }

    /// Whether some values of this kind are what this is for.
    fn is_for(&self, kind: Kind) -> bool {
        match self {
            Self::Any => true,
            Self::Null => kind == Kind::Null,
            Self::Bool => kind == Kind::Bool,
            Self::Integer { .. } | Self::Number { .. } => kind == Kind::Number,
            Self::String(_) => kind == Kind::String,
            Self::List(..) => kind == Kind::List,
            Self::Object(_) => kind == Kind::Object,
            Self::Either(choices) => choices.iter().any(|choice| choice.is_for(kind)),
        }
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any value"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("a boolean"),
            Self::Integer { min, max } => {
                f.write_str("an integer")?;
                let (min, max) = ((*min > i64::MIN).then_some(min), (*max < i64::MAX).then_some(max));
                write_bounds(f, min, max)
            }
            Self::Number { min, max } => {
                f.write_str("a number")?;
                let bound = |bound: &f64| bound.is_finite().then_some(*bound);
                write_bounds(f, bound(min), bound(max))
            }
            Self::String([]) => f.write_str("a string"),
            Self::String(words) => {
                f.write_str("one of ")?;
                let words = words.iter().map(|word| format!("\"{word}\""));
                f.write_str(&words.collect::<Vec<_>>().join(", "))
            }
            Self::List(_, 0) => f.write_str("a list"),
            Self::List(_, min) => write!(f, "a list of at least {min}"),
            Self::Object(_) => f.write_str("an object"),
            Self::Either(choices) => {
                for (at, choice) in choices.iter().enumerate() {
                    let is_last = at + 1 == choices.len();
                    f.write_str(if at == 0 {
                        ""
                    } else if is_last {
                        " or "
                    } else {
                        ", "
                    })?;
                    choice.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

fn write_bounds<T: fmt::Display>(f: &mut fmt::Formatter<'_>, min: Option<T>, max: Option<T>) -> fmt::Result {
    match (min, max) {
        (Some(min), Some(max)) => write!(f, " from {min} to {max}"),
        (Some(min), None) => write!(f, " of at least {min}"),
        (None, Some(max)) => write!(f, " of at most {max}"),
        (None, None) => Ok(()),
    }
}

/// A step from a value to one in it.
#[derive(Clone, Copy)]
enum Step {
    Member(&'static str),
    Element(usize),
}

/// Where in a text a judgement is, and what was found.
struct Judge {
    path: Vec<Step>,
    violation: Option<Violation>,
}

type Read = Result<(), SyntaxError>;

impl Judge {
    fn value(&mut self, scanner: &mut Scanner<'_>, schema: &'static Schema) -> Read {
        let kind = scanner.kind()?;
        let choices = schema.choices();
        if self.violation.is_some() || choices.iter().any(|choice| matches!(choice, Schema::Any)) {
            return scanner.skip().map(|_| ());
        }
        let choice = choices.iter().find(|choice| choice.is_for(kind));
        match choice {
            Some(Schema::Object(members)) => return self.object(scanner, members),
            Some(Schema::List(of, min)) => {
                if self.list(scanner, of)? < *min {
                    self.report(schema, "a shorter one");
                }
                return Ok(());
            }
            _ => {}
        }
        let span = scanner.skip()?;
        let value = &scanner.text()[span];
        if !choices.iter().any(|choice| choice.takes(kind, value)) {
            self.report(schema, name(kind, choice.is_some()));
        }
        Ok(())
    }

    fn object(&mut self, scanner: &mut Scanner<'_>, members: &'static Members) -> Read {
        let mut missing = 0u64;
        for at in 0..members.required.len() {
            missing |= 1 << at;
        }
        scanner.object(|scanner, key| {
            let is_key = |member: &&Member| member.0 == key;
            let required = members.required.iter().position(|member| member.0 == key);
            let member = match required {
                Some(at) => {
                    missing &= !(1 << at);
                    Some(&members.required[at])
                }
                None => members.optional.iter().find_map(|group| group.iter().find(is_key)),
            };
            let Some((name, schema)) = member else { return scanner.skip().map(|_| ()) };
            self.within(Step::Member(name), |judge| judge.value(scanner, schema))
        })?;
        if let Some((name, schema)) = members.required.get(missing.trailing_zeros() as usize) {
            self.within(Step::Member(name), |judge| judge.report(schema, "nothing"));
        }
        Ok(())
    }

    /// Judges the elements of a list; says how many there are.
    fn list(&mut self, scanner: &mut Scanner<'_>, of: &'static Schema) -> Result<usize, SyntaxError> {
        let mut n = 0;
        scanner.list(|scanner| {
            n += 1;
            self.within(Step::Element(n - 1), |judge| judge.value(scanner, of))
        })?;
        Ok(n)
    }

    fn within<T>(&mut self, step: Step, judge: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let judged = judge(self);
        self.path.pop();
        judged
    }

    /// Tells of the value at hand, unless something was told before.
    fn report(&mut self, expected: &'static Schema, found: &'static str) {
        let pointer = || {
            let steps = self.path.iter().map(|step| match step {
                Step::Member(name) => format!("/{name}"),
                Step::Element(at) => format!("/{at}"),
            });
            steps.collect()
        };
        if self.violation.is_none() {
            self.violation = Some(Violation { pointer: pointer(), expected, found });
        }
    }
}

/// What is said of a value that is not taken; `another` where others of its kind would be.
fn name(kind: Kind, another: bool) -> &'static str {
    match (kind, another) {
        (Kind::Object, _) => "an object",
        (Kind::List, _) => "a list",
        (Kind::String, true) => "another string",
        (Kind::String, false) => "a string",
        (Kind::Number, true) => "another number",
        (Kind::Number, false) => "a number",
        (Kind::Bool, _) => "a boolean",
        (Kind::Null, _) => "null",
    }
}

/// Whether a value says yes or no.
fn is_truth(kind: Kind, value: &[u8]) -> bool {
    const WORDS: [&str; 12] = ["true", "false", "1", "0", "yes", "no", "on", "off", "t", "f", "y", "n"];
    match kind {
        Kind::Bool => true,
        Kind::Number => number(kind, value).is_some_and(|number| [0.0, 1.0].contains(&number)),
        _ => short_text(kind, value).is_some_and(|text| WORDS.contains(&&*text.to_ascii_lowercase())),
    }
}

/// The number that a value stands for, if it does.
fn number(kind: Kind, value: &[u8]) -> Option<f64> {
    match kind {
        Kind::Number => std::str::from_utf8(value).ok()?.parse().ok(),
        Kind::Bool => Some(if value == b"true" { 1.0 } else { 0.0 }),
        _ => short_text(kind, value)?.trim().replace('_', "").parse().ok(),
    }
}

/// The content of a string that is short enough to be a word or a number.
fn short_text(kind: Kind, value: &[u8]) -> Option<String> {
    const LENGTHS: RangeInclusive<usize> = 2..=256;
    if kind != Kind::String || !LENGTHS.contains(&value.len()) {
        return None;
    }
    serde_json::from_slice(value).ok()
}

#[cfg(test)]
mod tests;

//! The words of a command line, in Go's syntax or GNU's → flags with values in one form. [`read`] is the entry point.
//!
//! It knows how flags are written, not what they do: what there is comes in a [`Grammar`].

use std::collections::BTreeMap;

use super::flags::{Kind, boolean};
use crate::config::problem::{did_you_mean, shown};

/// What may stand on the command line.
#[derive(Debug, Default)]
pub(super) struct Grammar {
    flags: BTreeMap<String, Known>,
    subcommands: Vec<String>,
}

/// A flag.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Its name today.
    pub(super) flag: String,
    /// How its value is written.
    pub(super) kind: Kind,
    /// Whether all of several count, not the last alone.
    pub(super) repeats: bool,
}

impl Grammar {
    /// Adds a flag under a name.
    pub(super) fn add(&mut self, name: &str, known: Known) {
        self.flags.insert(name.to_owned(), known);
    }

    /// Adds a subcommand.
    pub(super) fn add_subcommand(&mut self, name: &str) {
        self.subcommands.push(name.to_owned());
    }

    /// The flag of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Known> {
        self.flags.get(name)
    }
}

/// A flag as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// The flag's name today.
    pub(super) flag: String,
    /// The name as written, without dashes.
    pub(super) name: String,
    /// The name as written.
    pub(super) written: String,
    /// The value in its one form.
    pub(super) value: String,
}

impl Given {
    /// Whether the name is one of v0.5.1's.
    pub(super) fn is_camel_case(&self) -> bool {
        self.name.contains(|c: char| c.is_ascii_uppercase())
    }
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// To serve, with these flags, each once: the last of several counts, unless it is one that repeats.
    Serve {
        /// The flags.
        given: Vec<Given>,
        /// What its writer should know.
        notes: Vec<String>,
    },
    /// Help: long or short.
    Help {
        /// Whether in full.
        long: bool,
    },
    /// The version.
    Version,
}

/// Why a command line cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SyntaxError {
    /// There is no such flag.
    #[error("unknown flag {written}{hint}")]
    Unknown {
        /// The flag.
        written: String,
        /// `, did you mean …?` or nothing.
        hint: String,
    },
    /// Nothing follows, or the next flag does.
    #[error("{written} needs a value, found {found}")]
    NoValue {
        /// The flag.
        written: String,
        /// What is in its place.
        found: String,
    },
    /// The value is not what it should be.
    #[error("invalid value {value} for {written}: {expected}")]
    BadValue {
        /// The flag.
        written: String,
        /// The value.
        value: String,
        /// What was expected.
        expected: String,
    },
    /// Go would stop reading here, and the value would be the opposite of what is written.
    #[error("{written} takes no separate value: write {written}={value}")]
    SeparateBool {
        /// The flag.
        written: String,
        /// The word behind it.
        value: String,
    },
    /// Both names of one flag, with different values.
    #[error(
        "{first} is {first_value} and {second} is {second_value}, which are the same flag: remove one of them"
    )]
    Conflict {
        /// One spelling.
        first: String,
        /// Its value.
        first_value: String,
        /// The other spelling.
        second: String,
        /// Its value.
        second_value: String,
    },
    /// A subcommand that is not the first word.
    #[error("the subcommand {0} must come first, and takes its own flags")]
    LateSubcommand(String),
}

/// Reads the words after the program's name.
pub(super) fn read(words: &[String], grammar: &Grammar) -> Result<Line, SyntaxError> {
    let mut reader = Reader { grammar, given: Vec::new(), notes: Vec::new() };
    let mut rest = words.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        if word == "--" {
            rest.by_ref().for_each(|word| reader.ignored(word));
            break;
        }
        let Some((name, inline)) = split(word) else {
            reader.positional(word)?;
            continue;
        };
        match name {
            "h" => return Ok(Line::Help { long: false }),
            "help" => return Ok(Line::Help { long: true }),
            "version" | "V" => return Ok(Line::Version),
            _ => reader.flag(word, (name, inline), &mut rest)?,
        }
    }
    let given = without_twins(reader.given)?;
    Ok(Line::Serve { given, notes: reader.notes })
}

/// `-name`, `--name`, `-name=value`, `--name=value`, and `-v4`; `None` for words that are no flags.
fn split(word: &str) -> Option<(&str, Option<&str>)> {
    let long = word.strip_prefix("--");
    let flag = long.or_else(|| word.strip_prefix('-')).filter(|flag| !flag.is_empty())?;
    let digits = flag.strip_prefix('v').filter(|rest| !rest.is_empty());
    match digits.filter(|rest| long.is_none() && rest.bytes().all(|byte| byte.is_ascii_digit())) {
        Some(digits) => Some(("v", Some(digits))),
        None => Some(flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)))),
    }
}

struct Reader<'a> {
    grammar: &'a Grammar,
    given: Vec<Given>,
    notes: Vec<String>,
}

impl Reader<'_> {
    fn flag<'w>(
        &mut self,
        word: &str,
        (name, inline): (&str, Option<&'w str>),
        rest: &mut (impl Iterator<Item = &'w str> + Clone),
    ) -> Result<(), SyntaxError> {
        let written = word[..word.len() - inline.map_or(0, str::len)].trim_end_matches('=').to_owned();
        let Some(known) = self.grammar.get(name) else {
            let hint = did_you_mean(name, self.grammar.flags.keys().map(String::as_str));
            return Err(SyntaxError::Unknown { written, hint });
        };
        let mut given =
            Given { flag: known.flag.clone(), name: name.to_owned(), written, value: String::new() };
        let value = match (inline, known.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => self.bare_bool(&given, rest)?,
            (None, _) => self.next_word(&given, rest)?,
        };
        given.value = known.kind.normalize(value).map_err(|expected| SyntaxError::BadValue {
            written: given.written.clone(),
            value: shown(value),
            expected,
        })?;
        self.given.retain(|before| known.repeats || before.name != given.name);
        self.given.push(given);
        Ok(())
    }

    /// `true`; or the truth value behind the flag, which Go would take for the end of the flags.
    fn bare_bool<'w>(
        &mut self,
        given: &Given,
        rest: &mut (impl Iterator<Item = &'w str> + Clone),
    ) -> Result<&'w str, SyntaxError> {
        let Some(value) = rest.clone().next().filter(|word| boolean(word).is_some()) else {
            return Ok("true");
        };
        rest.next();
        let written = given.written.clone();
        if given.is_camel_case() {
            return Err(SyntaxError::SeparateBool { written, value: value.to_owned() });
        }
        self.notes.push(format!(
            "{written} {value} is taken as {written}={value}; the Go EPP ignores it and every flag after it"
        ));
        Ok(value)
    }

    fn next_word<'w>(
        &self,
        given: &Given,
        rest: &mut impl Iterator<Item = &'w str>,
    ) -> Result<&'w str, SyntaxError> {
        let is_flag = |word: &str| split(word).is_some_and(|(name, _)| self.grammar.get(name).is_some());
        let found = match rest.next() {
            Some(word) if is_flag(word) => format!("the flag {word}"),
            Some(word) => return Ok(word),
            None => "the end of the line".to_owned(),
        };
        Err(SyntaxError::NoValue { written: given.written.clone(), found })
    }

    fn positional(&mut self, word: &str) -> Result<(), SyntaxError> {
        if self.grammar.subcommands.iter().any(|name| name == word) {
            return Err(SyntaxError::LateSubcommand(word.to_owned()));
        }
        self.ignored(word);
        Ok(())
    }

    fn ignored(&mut self, word: &str) {
        self.notes.push(format!("{} is no flag and is ignored", shown(word)));
    }
}

/// Leaves one of two names of the same flag, if they agree.
fn without_twins(given: Vec<Given>) -> Result<Vec<Given>, SyntaxError> {
    let mut kept: Vec<Given> = Vec::with_capacity(given.len());
    for given in given {
        let twin = kept.iter().position(|other| other.flag == given.flag && other.name != given.name);
        match twin {
            None => kept.push(given),
            Some(at) if kept[at].value == given.value => {
                // The old name still says which generation wrote the line.
                if given.is_camel_case() {
                    kept[at] = given;
                }
            }
            Some(at) => {
                let first = &kept[at];
                return Err(SyntaxError::Conflict {
                    first: first.written.clone(),
                    first_value: shown(&first.value),
                    second: given.written,
                    second_value: shown(&given.value),
                });
            }
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests;

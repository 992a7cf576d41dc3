//! What is wrong with a file that somebody wrote, and where: [`Problem`], one line of text each.
//!
//! Readers of files push into [`Problems`], so that one run tells everything. Values are quoted through [`shown`] and
//! near misses found through [`did_you_mean`]. Nothing here knows YAML or stops a process.

use std::fmt;

/// A place in a text, counted in characters from line 1, column 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

impl Position {
    /// The first character.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// Whether a problem makes the file unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken, but somebody should look at it.
    Warning,
    /// What another version would do with the file; nothing is wrong with it here.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// One thing that is wrong, with its place. Displayed as `LINE:COL: error: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// One sentence: lowercase, no full stop, no control characters.
    pub message: String,
}

impl Problem {
    /// Makes an error at `at`.
    pub fn error(at: Position, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, line: at.line, column: at.column, message: message.into() }
    }

    /// Makes a warning at `at`.
    pub fn warning(at: Position, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(at, message) }
    }

    /// Makes a note at `at`.
    pub fn note(at: Position, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(at, message) }
    }

    /// Where it is.
    pub fn at(&self) -> Position {
        Position { line: self.line, column: self.column }
    }

    /// Whether the file is refused because of this.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Renders the problem as `FILE:LINE:COL: error: message`, which editors can jump to.
    pub fn in_file(&self, file: &str) -> String {
        format!("{file}:{self}")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.line, self.column, self.severity, self.message)
    }
}

/// Most problems that are kept word by word; the rest is counted.
const MAX_PROBLEMS: usize = 100;

/// Collects problems in the order they are found; bounded, whatever the file.
#[derive(Debug, Default)]
pub struct Problems {
    kept: Vec<Problem>,
    omitted: usize,
    errors: usize,
}

impl Problems {
    /// Adds an error at `at`.
    pub fn error(&mut self, at: Position, message: impl Into<String>) {
        self.push(Problem::error(at, message));
    }

    /// Adds a warning at `at`.
    pub fn warning(&mut self, at: Position, message: impl Into<String>) {
        self.push(Problem::warning(at, message));
    }

    /// Adds an error whose text is costly to make.
    pub fn error_with(&mut self, at: Position, message: impl FnOnce() -> String) {
        self.push_with(Severity::Error, at, message);
    }

    /// Adds a problem; its text is made only if it is kept.
    pub fn push_with(&mut self, severity: Severity, at: Position, message: impl FnOnce() -> String) {
        self.errors += usize::from(severity == Severity::Error);
        if self.kept.len() < MAX_PROBLEMS {
            let message = message();
            self.kept.push(Problem { severity, line: at.line, column: at.column, message });
        } else {
            self.omitted += 1;
        }
    }

    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        self.push_with(problem.severity, problem.at(), || problem.message);
    }

    /// Whether an error was added, kept or not.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors were added, kept or not.
    pub fn n_errors(&self) -> usize {
        self.errors
    }

    /// The problems, in file order. Where some were only counted, a last one says how many; it is an error if any
    /// error was added.
    pub fn into_vec(mut self) -> Vec<Problem> {
        self.kept.sort_by_key(|problem| (problem.line, problem.column));
        if let (1.., Some(last)) = (self.omitted, self.kept.last()) {
            let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
            let message = format!("{} more problems are not shown", self.omitted);
            self.kept.push(Problem { severity, line: last.line, column: last.column, message });
        }
        self.kept
    }
}

/// Most characters of a value that are repeated in a message.
const MAX_SHOWN: usize = 80;

/// Quotes `text` for a message: at most 80 characters of it, control characters escaped.
pub fn shown(text: &str) -> String {
    let mut quoted = String::from("`");
    let mut characters = text.chars();
    for character in characters.by_ref().take(MAX_SHOWN) {
        if character.is_control() {
            quoted.extend(character.escape_default());
        } else {
            quoted.push(character);
        }
    }
    quoted.push_str(if characters.next().is_some() { "…`" } else { "`" });
    quoted
}

/// Quotes each of `words`: `` `a`, `b` ``.
pub fn shown_list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// Fewest characters of a word that says what was meant: a shorter one is near to every other short one.
const MIN_GUESSED: usize = 3;

/// Says `, did you mean …?` with the one of `known` that is nearest to `word`, or nothing when none is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(word, known);
    near.map_or_else(String::new, |candidate| format!(", did you mean {}?", shown(candidate)))
}

/// The one of `known` that was probably meant by `word`.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if !(MIN_GUESSED..=MAX_SHOWN).contains(&word.chars().count()) {
        return None;
    }
    let word_folded = word.to_lowercase();
    let (distance, candidate) = known
        .into_iter()
        .filter(|candidate| candidate.len() <= 2 * MAX_SHOWN)
        .map(|candidate| (edits(&word_folded, &candidate.to_lowercase()), candidate))
        .min()?;
    (distance <= 1 + word.len().min(candidate.len()) / 4).then_some(candidate)
}

/// Number of characters to insert, remove or replace between two words (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, from_char) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to_char) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from_char != to_char);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_read_as_file_line_column() {
        let problem = Problem::warning(Position { line: 3, column: 9 }, "`kind` is missing");
        assert_eq!(problem.in_file("epp.yaml"), "epp.yaml:3:9: warning: `kind` is missing");
    }

    #[test]
    fn near_misses_are_suggested() {
        let known = ["queue-scorer", "max-score-picker", "pluginRef", "v", "name"];
        for (word, want) in [
            ("queue-scorr", ", did you mean `queue-scorer`?"),
            ("queuescorer", ", did you mean `queue-scorer`?"),
            ("PLUGINREF", ", did you mean `pluginRef`?"),
            ("plover", ""),
            ("x", ""),
            ("vx", ""),
            ("nam", ", did you mean `name`?"),
            ("", ""),
        ] {
            assert_eq!(did_you_mean(word, known), want, "{word}");
        }
        assert_eq!(did_you_mean(&"queue-scorer".repeat(1000), known), "");
    }

    #[test]
    fn edits_are_counted_as_levenshtein_does() {
        for (from, to, want) in [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("é", "e", 1)] {
            assert_eq!(edits(from, to), want, "{from} {to}");
        }
    }

    #[test]
    fn shown_values_are_short_and_printable() {
        assert_eq!(shown("a\n\u{1b}[31m"), "`a\\n\\u{1b}[31m`");
        assert_eq!(shown(&"é".repeat(81)), format!("`{}…`", "é".repeat(80)));
    }

    #[test]
    fn problems_are_bounded_and_never_lose_an_error() {
        let mut problems = Problems::default();
        for line in 1..=MAX_PROBLEMS {
            problems.warning(Position { line: u32::try_from(line).unwrap(), column: 1 }, "w");
        }
        assert!(!problems.has_errors());
        problems.error(Position::START, "e");
        problems.error(Position::START, "e");
        assert!(problems.has_errors());
        let problems = problems.into_vec();
        assert_eq!(problems.len(), MAX_PROBLEMS + 1);
        assert_eq!(problems[MAX_PROBLEMS].to_string(), "100:1: error: 2 more problems are not shown");
    }
}

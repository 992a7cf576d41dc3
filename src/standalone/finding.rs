//! What is told of manifests: a [`Finding`] has a [`Level`], a place in a file, and the object that it is about.

use crate::config::problem::{Position, Problem, Severity};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing can be made of the manifests.
    Error,
    /// A part of them answers with a fixed status, or is left out; the rest works.
    Degraded,
    /// It works, and somebody should look at it.
    Warning,
    /// Something has no effect here.
    Notice,
}

impl Level {
    /// All levels, the worst first.
    pub const ALL: [Self; 4] = [Self::Error, Self::Degraded, Self::Warning, Self::Notice];

    /// The word in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Degraded => "degraded",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }

    fn of(severity: Severity) -> Self {
        match severity {
            Severity::Error => Self::Error,
            Severity::Warning => Self::Warning,
            Severity::Note => Self::Notice,
        }
    }
}

/// A place in one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which file, counted from 0.
    pub file: usize,
    /// Where in it.
    pub at: Position,
}

impl Place {
    /// What is in none of the files: it comes of how they are used.
    pub const NOWHERE: Self = Self { file: usize::MAX, at: Position::START };
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Where it is.
    pub place: Place,
    /// The object, as `Kind namespace/name`, if it is about one.
    pub object: Option<String>,
    /// One sentence: lowercase, no full stop.
    pub message: String,
}

/// Most findings that are kept word by word.
const MAX_KEPT: usize = 1000;

/// Collects findings; bounded, whatever the files.
#[derive(Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    counts: [usize; Level::ALL.len()],
}

impl Findings {
    /// Adds one.
    pub fn push(&mut self, finding: Finding) {
        self.counts[finding.level as usize] += 1;
        if self.kept.len() < MAX_KEPT {
            self.kept.push(finding);
        }
    }

    /// Adds one about an object.
    pub fn tell(&mut self, level: Level, place: Place, object: &str, message: impl Into<String>) {
        self.push(Finding { level, place, object: Some(object.to_owned()), message: message.into() });
    }

    /// Adds a problem of one file.
    pub fn problem(&mut self, file: usize, object: Option<&str>, problem: Problem) {
        let place = Place { file, at: problem.at() };
        let level = Level::of(problem.severity);
        self.push(Finding { level, place, object: object.map(str::to_owned), message: problem.message });
    }

    /// How many of a level were added, kept or not.
    pub fn count(&self, level: Level) -> usize {
        self.counts[level as usize]
    }

    /// How many were added and not kept.
    pub fn omitted(&self) -> usize {
        self.counts.iter().sum::<usize>() - self.kept.len()
    }

    /// The findings, in the order of files and lines.
    pub fn sort(&mut self) -> &[Finding] {
        self.kept.sort_by_key(|finding| (finding.place, finding.level));
        &self.kept
    }
}

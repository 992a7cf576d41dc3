//! What is told of the configurations in a file, and how: lines for people, JSON for programs. Entry point: [`check`].

use std::fmt::Write as _;

use epp_framework::plugin::{PluginType, Release};
use serde_json::{Value, json};

use super::build::{self, Composition};
use super::document::{self, Found};
use super::problem::{Problem, Severity};
use super::releases;

/// One line that is told.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The file, as messages call it.
    pub file: String,
    /// What and where.
    pub problem: Problem,
    /// The release of the Go EPP that this is about, if it is not about us.
    pub release: Option<Release>,
}

/// How much was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files that were read.
    pub files: usize,
    /// Configurations in them.
    pub configurations: usize,
    /// Problems that make one unusable.
    pub errors: usize,
    /// Those that do not.
    pub warnings: usize,
}

/// Loads one configuration of a file; problems have their places in the file.
pub fn load(found: &Found, types: &'static [PluginType]) -> (Option<Composition>, Vec<Problem>) {
    let (composition, problems) = build::load(&found.text(), types);
    (composition, problems.into_iter().map(|problem| found.translate(problem)).collect())
}

/// Everything that is to be told of a file, in its order, and beside it what `versions` would do with it.
pub fn check(
    file: &str,
    text: &str,
    versions: &[Release],
    types: &'static [PluginType],
    tally: &mut Tally,
) -> Vec<Finding> {
    let (all, problems) = document::find(text);
    let mut findings = Vec::new();
    let mut tell = |problem: Problem, release| {
        findings.push(Finding { file: file.to_owned(), problem, release });
    };
    for problem in problems {
        tell(problem, None);
    }
    for found in &all {
        load(found, types).1.into_iter().for_each(|problem| tell(problem, None));
        let text = found.text();
        for &release in versions {
            let notes = releases::judge(release, &text, types);
            for note in notes {
                tell(found.translate(note), Some(release));
            }
        }
    }
    findings.sort_by_key(|finding| finding.problem.at());
    let n = |severity| findings.iter().filter(|finding| finding.problem.severity == severity).count();
    tally.files += 1;
    tally.configurations += all.len();
    tally.errors += n(Severity::Error);
    tally.warnings += n(Severity::Warning);
    findings
}

/// A line for each finding, as editors can jump to it.
pub fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { file, problem, release } in findings {
        let Problem { severity, line, column, message } = problem;
        let version = release.map_or_else(String::new, |release| format!("{} ", releases::title(release)));
        let _ = writeln!(text, "{file}:{line}:{column}: {severity}: {version}{message}");
    }
    text
}

/// The line that sums up.
pub fn summary(tally: &Tally) -> String {
    let Tally { files, configurations, errors, warnings } = *tally;
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut text = count(configurations, "configuration");
    if (files, configurations) != (1, 1) {
        let _ = write!(text, " in {}", count(files, "file"));
    }
    let result = match (errors, warnings) {
        (0, 0) => "no problems".to_owned(),
        (0, warnings) => count(warnings, "warning"),
        (errors, 0) => count(errors, "error"),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    };
    format!("{text}: {result}\n")
}

/// An array of objects, one for each finding, and one for each file that could not be read: its name, and why.
pub fn json(findings: &[Finding], unread: &[(String, String)]) -> String {
    let object = |Finding { file, problem, release }: &Finding| {
        let mut object = json!({
            "file": file,
            "line": problem.line,
            "column": problem.column,
            "severity": problem.severity.to_string(),
            "message": problem.message,
        });
        if let Some(release) = release {
            object["version"] = releases::name(*release).into();
            object["release"] = releases::title(*release).into();
        }
        object
    };
    let error = Severity::Error.to_string();
    let unread = unread.iter().map(|(file, why)| json!({"file": file, "severity": error, "message": why}));
    let array = Value::Array(findings.iter().map(object).chain(unread).collect());
    format!("{array:#}\n")
}

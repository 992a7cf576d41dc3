//! What is told of manifests, and how: lines for people, JSON for programs.

mod explain;

use std::fmt::Write as _;

use serde_json::json;

use super::finding::{Finding, Findings, Level, Place};
use super::input::Source;
use super::topology::{Condition, Topology};

pub use self::explain::explanation;

/// A line for each finding, as editors can jump to it.
pub fn lines(findings: &mut Findings, sources: &[Source]) -> String {
    let mut text = String::new();
    for Finding { level, place, object, message } in findings.sort() {
        let file = file(sources, place.file);
        let (line, column, level) = (place.at.line, place.at.column, level.word());
        let object = object.as_ref().map_or_else(String::new, |object| format!("{object}: "));
        if *place == Place::NOWHERE {
            let _ = writeln!(text, "{level}: {object}{message}");
            continue;
        }
        let _ = writeln!(text, "{file}:{line}:{column}: {level}: {object}{message}");
    }
    if let n @ 1.. = findings.omitted() {
        let _ = writeln!(text, "{n} more are not shown");
    }
    text
}

fn file(sources: &[Source], file: usize) -> &str {
    sources.get(file).map_or("", |source| &source.name)
}

/// The line that sums up.
pub fn summary(findings: &Findings, n_documents: usize, n_files: usize) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut told = Vec::new();
    for level in Level::ALL {
        match findings.count(level) {
            0 => {}
            n if level == Level::Degraded => told.push(format!("{n} degraded")),
            n => told.push(count(n, level.word())),
        }
    }
    let told = if told.is_empty() { "no problems".to_owned() } else { told.join(", ") };
    format!("{} in {}: {told}\n", count(n_documents, "object"), count(n_files, "file"))
}

/// The conditions as a table.
pub fn conditions(topology: &Topology) -> String {
    let mut rows = vec![["OBJECT", "OF", "CONDITION", "STATUS", "REASON"].map(str::to_owned)];
    for Condition { object, parent, kind, holds, reason } in &topology.conditions {
        let parent = if parent.is_empty() { "-" } else { parent };
        let holds = if *holds { "True" } else { "False" };
        rows.push([object, parent, kind, holds, reason].map(str::to_owned));
    }
    if rows.len() == 1 {
        return String::new();
    }
    let width = |n: usize| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Everything as one object.
pub fn json(findings: &mut Findings, sources: &[Source], topology: &Topology, explain: bool) -> String {
    let finding = |it: &Finding| {
        json!({
            "file": file(sources, it.place.file),
            "line": it.place.at.line,
            "column": it.place.at.column,
            "severity": it.level.word(),
            "object": it.object,
            "message": it.message,
        })
    };
    let condition = |it: &Condition| {
        json!({
            "object": it.object,
            "of": Some(&it.parent).filter(|parent| !parent.is_empty()),
            "type": it.kind,
            "status": if it.holds { "True" } else { "False" },
            "reason": it.reason,
        })
    };
    let mut all = json!({
        "findings": findings.sort().iter().map(finding).collect::<Vec<_>>(),
        "omitted": findings.omitted(),
        "conditions": topology.conditions.iter().map(condition).collect::<Vec<_>>(),
    });
    if explain {
        all["gateways"] = explain::gateways(topology);
        all["pools"] = explain::pools(topology);
    }
    format!("{all:#}\n")
}

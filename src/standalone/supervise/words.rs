//! What Envoy prints: [`Lines`] makes lines of bytes, [`Line::read`] reads one, and [`Words`] keeps the last.
//!
//! Bounded: the length of a line, and how many are kept.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// How Envoy is told to write its log, with `--log-format-escaped`: one line for each entry.
pub const LOG_FORMAT: &str = "[%l][%n] %v";

/// Longest line, in bytes; what is beyond is left out.
const MAX_LINE: usize = 4096;

/// How many lines are kept.
const KEPT: usize = 50;

/// What it says of files that it does not take.
const REFUSALS: [&str; 2] = ["Filesystem config update rejected: ", "Filesystem config update failure: "];

/// What it says of a port that somebody else has.
const IN_USE: &str = "Address already in use";

/// Bytes → lines.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Takes bytes, and tells the lines that end within them.
    pub fn push(&mut self, mut bytes: &[u8], mut tell: impl FnMut(&str)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.keep(&bytes[..end]);
            self.end(&mut tell);
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// Tells what came behind the last end of a line.
    pub fn end(&mut self, mut tell: impl FnMut(&str)) {
        let line = String::from_utf8_lossy(&self.begun);
        let line = line.trim_end();
        if !line.is_empty() {
            tell(line);
        }
        self.begun.clear();
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE - self.begun.len();
        self.begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// `trace` and `debug`.
    Debug,
    /// `info`.
    Info,
    /// `warning`.
    Warning,
    /// `error` and `critical`.
    Error,
}

/// One line of Envoy's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// How much it matters.
    pub weight: Weight,
    /// Which part of Envoy says it; empty for lines that are no entries.
    pub component: &'a str,
    /// What it says.
    pub said: &'a str,
}

impl<'a> Line<'a> {
    /// Reads a line in [`LOG_FORMAT`]. Any other is a warning: such are written by what is about to die.
    pub fn read(line: &'a str) -> Self {
        Self::entry(line).unwrap_or(Self { weight: Weight::Warning, component: "", said: line })
    }

    fn entry(line: &'a str) -> Option<Self> {
        let (level, rest) = line.strip_prefix('[')?.split_once("][")?;
        let (component, said) = rest.split_once("] ")?;
        let weight = match level {
            "trace" | "debug" => Weight::Debug,
            "info" => Weight::Info,
            "warning" => Weight::Warning,
            "error" | "critical" => Weight::Error,
            _ => return None,
        };
        Some(Self { weight, component, said })
    }

    /// Why it does not take a file, if it says so.
    pub fn refusal(self) -> Option<&'a str> {
        REFUSALS.iter().find_map(|beginning| self.said.strip_prefix(beginning))
    }
}

/// The text with the escapes of `--log-format-escaped` undone, on one line.
pub fn unescaped(said: &str) -> String {
    let plain = said.replace("\\n", " ").replace("\\'", "'").replace("\\\"", "\"");
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The address that somebody else has, if that is what these lines say.
pub fn address_in_use<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<String> {
    lines.into_iter().find_map(|line| {
        let before = unescaped(line.split_once(IN_USE)?.0);
        // cannot bind '127.0.0.1:80': Address already in use
        let address = before.trim_end_matches([':', ' ', '\'']).rsplit([' ', '\'']).next()?;
        Some(address.to_owned())
    })
}

/// The last lines of Envoy's log, and the last of those that say why it does not take a file.
#[derive(Debug, Default)]
pub struct Words {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<String>,
    refusals: VecDeque<String>,
    /// How many refusals there were.
    refused: u64,
}

impl Words {
    /// Another life begins: its last words are its own.
    pub(super) fn begin(&self) {
        self.inner.lock().lines.clear();
    }

    /// Keeps a line.
    pub(super) fn heard(&self, line: &str) {
        let mut inner = self.inner.lock();
        if let Some(why) = Line::read(line).refusal() {
            inner.refused += 1;
            keep(&mut inner.refusals, unescaped(why));
        }
        keep(&mut inner.lines, line.to_owned());
    }

    /// The last lines of this life, at most 50, oldest first.
    pub fn last(&self) -> Vec<String> {
        self.inner.lock().lines.iter().cloned().collect()
    }

    /// How many files were refused so far.
    pub fn refused(&self) -> u64 {
        self.inner.lock().refused
    }

    /// Why files were refused since there were so many, as far as that is still kept.
    pub fn refusals_since(&self, refused: u64) -> Vec<String> {
        let inner = self.inner.lock();
        let new = usize::try_from(inner.refused.saturating_sub(refused)).unwrap_or(KEPT);
        let old = inner.refusals.len().saturating_sub(new);
        inner.refusals.iter().skip(old).cloned().collect()
    }
}

fn keep(lines: &mut VecDeque<String>, line: String) {
    if lines.len() == KEPT {
        lines.pop_front();
    }
    lines.push_back(line);
}

#[cfg(test)]
mod tests;

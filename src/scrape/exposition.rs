//! Reads wanted samples off a page in the Prometheus text format (0.0.4; `OpenMetrics` pages pass too).
//!
//! Entry point: [`scan`]. One pass over the bytes; a line whose name is not wanted costs a look at its head and the
//! search for its end. Samples are told apart by name alone: HELP, TYPE and the order of families do not matter.
//! Exemplars are dropped. A broken line is skipped and counted, the page goes on. What the samples mean
//! is not decided here.

use std::borrow::Cow;

use smallvec::SmallVec;

/// The sample names that a caller wants, made ready for a quick look at the head of each line.
#[derive(Clone, Debug)]
pub struct WantedNames {
    names: Vec<String>,
    /// Length of the prefix that all names share; each name goes on for at least a byte after it.
    shared: usize,
    /// The bytes that may follow the shared prefix.
    follow: [bool; 256],
}

impl WantedNames {
    /// Wants `names`; none may be empty or named twice.
    pub fn new(names: Vec<String>) -> Self {
        let first = names.first().map_or("", String::as_str);
        let common = |name: &String| first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        let longest = names.iter().map(|name| name.len().saturating_sub(1)).min().unwrap_or(0);
        let shared = names.iter().map(common).min().unwrap_or(0).min(longest);
        let mut follow = [false; 256];
        for name in &names {
            follow[usize::from(name.as_bytes()[shared])] = true;
        }
        Self { names, shared, follow }
    }

    /// The wanted names, in the order given; [`Sample::name`] is an index into them.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Index of the wanted name that `line` begins with.
    fn at_head_of(&self, line: &[u8]) -> Option<usize> {
        let &next = line.get(self.shared)?;
        if !self.follow[usize::from(next)] {
            return None;
        }
        self.names.iter().position(|name| {
            line.starts_with(name.as_bytes()) && !line.get(name.len()).is_some_and(|&byte| is_name_byte(byte))
        })
    }
}

/// One sample with a wanted name.
#[derive(Clone, Debug)]
pub struct Sample<'p> {
    /// Index into [`WantedNames::names`].
    pub name: usize,
    /// Its labels.
    pub labels: Labels<'p>,
    /// Its value; may be NaN or infinite.
    pub value: f64,
    /// When it was taken, if the page says: milliseconds in the text format, seconds in `OpenMetrics`. May be NaN.
    pub timestamp: Option<f64>,
}

/// The labels of a sample, as the one walk that checked them found them; values are decoded only when asked for.
#[derive(Clone, Debug, Default)]
pub struct Labels<'p>(SmallVec<[(&'p str, LabelValue<'p>); 8]>);

impl<'p> Labels<'p> {
    /// Name and value of each label, in the page's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'p str, LabelValue<'p>)> {
        self.0.iter().copied()
    }

    /// The values of the labels `names`, in that order; the first where a label is named twice.
    pub fn pick<const N: usize>(&self, names: [&str; N]) -> [Option<LabelValue<'p>>; N] {
        let mut picked = [None; N];
        for (label, value) in self.iter() {
            if let Some(at) = names.iter().position(|name| *name == label) {
                picked[at] = picked[at].or(Some(value));
            }
        }
        picked
    }
}

/// The value of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelValue<'p>(&'p str);

impl<'p> LabelValue<'p> {
    /// The value as it stands on the page, escapes and all.
    pub fn raw(self) -> &'p str {
        self.0
    }

    /// The value; of the escapes only `\\`, `\"` and `\n` are undone, others stay as they are.
    pub fn text(self) -> Cow<'p, str> {
        if memchr::memchr(b'\\', self.0.as_bytes()).is_none() {
            return Cow::Borrowed(self.0);
        }
        let mut text = String::with_capacity(self.0.len());
        let mut chars = self.0.chars();
        while let Some(char) = chars.next() {
            if char != '\\' {
                text.push(char);
                continue;
            }
            match chars.next() {
                Some('n') => text.push('\n'),
                Some(escaped @ ('\\' | '"')) => text.push(escaped),
                other => {
                    text.push('\\');
                    text.extend(other);
                }
            }
        }
        Cow::Owned(text)
    }
}

/// Starts a pass over `page`.
pub fn scan<'p, 'w>(page: &'p [u8], wanted: &'w WantedNames) -> Samples<'p, 'w> {
    Samples { page, start: 0, newlines: memchr::memchr_iter(b'\n', page), wanted, skipped: 0 }
}

/// The wanted samples of a page, in its order.
#[derive(Debug)]
pub struct Samples<'p, 'w> {
    page: &'p [u8],
    start: usize,
    newlines: memchr::Memchr<'p>,
    wanted: &'w WantedNames,
    skipped: u32,
}

impl<'p> Samples<'p, '_> {
    /// Broken lines so far; only lines with a wanted name are looked at closely enough to tell.
    pub fn skipped(&self) -> u32 {
        self.skipped
    }

    fn next_line(&mut self) -> Option<&'p [u8]> {
        let start = self.start;
        let end = match self.newlines.next() {
            Some(end) => end,
            None if start < self.page.len() => self.page.len(),
            None => return None,
        };
        self.start = end + 1;
        Some(&self.page[start..end])
    }
}

impl<'p> Iterator for Samples<'p, '_> {
    type Item = Sample<'p>;

    fn next(&mut self) -> Option<Sample<'p>> {
        loop {
            let mut line = self.next_line()?;
            if let [b' ' | b'\t', ..] = line {
                line = line.trim_ascii_start();
            }
            let Some(name) = self.wanted.at_head_of(line) else { continue };
            let after_name = &line[self.wanted.names[name].len()..];
            match read_sample(after_name) {
                Ok((labels, Reading { value, timestamp })) => {
                    return Some(Sample { name, labels, value, timestamp });
                }
                Err(BrokenLine) => self.skipped = self.skipped.saturating_add(1),
            }
        }
    }
}

/// A line that has a wanted name, but is no sample.
struct BrokenLine;

/// What follows the labels.
struct Reading {
    value: f64,
    timestamp: Option<f64>,
}

/// Reads what follows the name: labels, value, timestamp, and what is dropped after them.
fn read_sample(after_name: &[u8]) -> Result<(Labels<'_>, Reading), BrokenLine> {
    let after_name = after_name.strip_suffix(b"\r").unwrap_or(after_name);
    let after_name = std::str::from_utf8(after_name).map_err(|_| BrokenLine)?;
    let rest = skip_blanks(after_name);
    let mut labels = Labels::default();
    let rest = match rest.strip_prefix('{') {
        Some(mut rest) => {
            while let Some(label) = next_label(&mut rest)? {
                labels.0.push(label);
            }
            rest
        }
        // The first word is the value only if something parts it from the name.
        None if rest.len() == after_name.len() => return Err(BrokenLine),
        None => rest,
    };
    Ok((labels, read_values(rest)?))
}

/// Reads the value and the timestamp, checks that only an exemplar follows, and drops that.
fn read_values(text: &str) -> Result<Reading, BrokenLine> {
    let mut words = text.split([' ', '\t']).filter(|word| !word.is_empty());
    let value = number(words.next().ok_or(BrokenLine)?)?;
    let Some(word) = words.next().filter(|word| !word.starts_with('#')) else {
        return Ok(Reading { value, timestamp: None });
    };
    let timestamp = Some(number(word)?);
    match words.next() {
        Some(word) if !word.starts_with('#') => Err(BrokenLine),
        _ => Ok(Reading { value, timestamp }),
    }
}

fn number(word: &str) -> Result<f64, BrokenLine> {
    fast_float2::parse(word).map_err(|_| BrokenLine)
}

/// Takes one label off `rest`, which stands inside braces; takes the closing brace and gives `None` after the last.
fn next_label<'p>(rest: &mut &'p str) -> Result<Option<(&'p str, LabelValue<'p>)>, BrokenLine> {
    let text = skip_blanks(rest);
    if let Some(after) = text.strip_prefix('}') {
        *rest = after;
        return Ok(None);
    }
    let end = text.bytes().position(|byte| !LABEL_BYTES[usize::from(byte)]).ok_or(BrokenLine)?;
    let (name, text) = text.split_at(end);
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() {
        return Err(BrokenLine);
    }
    let text = skip_blanks(text).strip_prefix('=').ok_or(BrokenLine)?;
    let text = skip_blanks(text).strip_prefix('"').ok_or(BrokenLine)?;
    let (value, text) = text.split_at(closing_quote(text.as_bytes()).ok_or(BrokenLine)?);
    let text = skip_blanks(&text[1..]);
    *rest = match text.as_bytes().first() {
        Some(b',') => &text[1..],
        Some(b'}') => text,
        _ => return Err(BrokenLine),
    };
    Ok(Some((name, LabelValue(value))))
}

/// Position of the first quote that no backslash precedes. Values are short: a search by words would not pay.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn skip_blanks(text: &str) -> &str {
    match text.as_bytes() {
        // Rare, and kept out of the way of the rest.
        [b' ' | b'\t', ..] => text.trim_start_matches([' ', '\t']),
        _ => text,
    }
}

/// The bytes of label names. A table, since each byte of each label of a wanted line goes through it.
const LABEL_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_';
        byte += 1;
    }
    table
};

fn is_name_byte(byte: u8) -> bool {
    LABEL_BYTES[usize::from(byte)] || byte == b':'
}

#[cfg(test)]
mod tests;

//! Reads `usage` from answers while their bytes pass by: events of a stream, or one JSON body.
//!
//! Entry point: [`UsageReader`]. Feed the chunks as they come, however they are cut; memory is bounded by
//! [`MAX_LINE_BYTES`] for a line and for an event of a stream, and by [`TAIL_BYTES`] for a JSON body, whose `usage` stands
//! near the end. The spellings of completions, chat, responses and messages are read. What cannot be read is no usage,
//! never an error; compressed answers are not decompressed.

use epp_framework::answer::Usage;
use memchr::memmem;
use serde_json::value::RawValue;

use super::json::{each_leading_member, each_member};

/// Longest line and longest event of a stream that are read, in bytes; longer ones are skipped.
pub const MAX_LINE_BYTES: usize = 256 * 1024;

/// How much of the end of a JSON body is kept, in bytes.
pub const TAIL_BYTES: usize = 64 * 1024;

/// Reads usage from one answer.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about the lines of a stream")]
pub struct UsageReader {
    streaming: bool,
    /// The unfinished line of a stream, or the tail of a JSON body.
    pending: Vec<u8>,
    skipping_line: bool,
    /// The last line ended with a carriage return; a line feed right after it belongs to that end.
    after_return: bool,
    /// Whether a line was read: only before the first may a byte order mark stand.
    begun: bool,
    /// The data of the unfinished event.
    event: Vec<u8>,
    counts: Counts,
}

impl UsageReader {
    /// Makes a reader of an event stream or of a JSON body.
    pub fn new(streaming: bool) -> Self {
        Self {
            streaming,
            pending: Vec::new(),
            skipping_line: false,
            after_return: false,
            begun: false,
            event: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Takes the next bytes of the answer.
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.streaming { self.feed_stream(chunk) } else { self.feed_tail(chunk) }
    }

    /// Ends the answer and returns the usage in it; of a stream, what its events said last.
    pub fn finish(&mut self) -> Option<Usage> {
        let pending = std::mem::take(&mut self.pending);
        if self.streaming {
            self.read_line(&pending);
            self.end_event();
        } else if let Some(counts) = counts_in_tail(&pending[pending.len().saturating_sub(TAIL_BYTES)..]) {
            self.counts = counts;
        }
        self.counts.usage()
    }

    fn feed_stream(&mut self, mut chunk: &[u8]) {
        loop {
            if !chunk.is_empty() && std::mem::take(&mut self.after_return) {
                chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', chunk) else { break };
            let (line, rest) = chunk.split_at(end);
            self.after_return = rest[0] == b'\r';
            chunk = &rest[1..];
            if std::mem::take(&mut self.skipping_line) {
                continue;
            }
            if self.pending.is_empty() {
                self.read_line(line);
            } else {
                let mut whole = std::mem::take(&mut self.pending);
                whole.extend_from_slice(line);
                self.read_line(&whole);
            }
        }
        if self.skipping_line {
            return;
        }
        if self.pending.len() + chunk.len() > MAX_LINE_BYTES {
            self.pending = Vec::new();
            self.skipping_line = true;
            self.begun = true;
        } else {
            self.pending.extend_from_slice(chunk);
        }
    }

    fn read_line(&mut self, line: &[u8]) {
        let begun = std::mem::replace(&mut self.begun, true);
        // It may have come in one piece.
        if line.len() > MAX_LINE_BYTES {
            return;
        }
        let line = match line.strip_prefix("\u{feff}".as_bytes()) {
            Some(line) if !begun => line,
            _ => line,
        };
        if line.is_empty() {
            self.end_event();
        } else if let Some(data) = line.strip_prefix(b"data:") {
            if self.event.len() + data.len() > MAX_LINE_BYTES {
                // What is left of it cannot be read as JSON.
                self.event = Vec::new();
                return;
            }
            self.event.extend_from_slice(data);
            self.event.push(b'\n');
        }
    }

    fn end_event(&mut self) {
        // Most events have no usage; they cost one search.
        if memmem::find(&self.event, b"\"usage\"").is_some()
            && let Some(counts) = counts_in_event(&self.event)
        {
            self.counts.update(counts);
        }
        self.event.clear();
    }

    fn feed_tail(&mut self, chunk: &[u8]) {
        let chunk = &chunk[chunk.len().saturating_sub(TAIL_BYTES)..];
        let excess = (self.pending.len() + chunk.len()).saturating_sub(2 * TAIL_BYTES);
        if excess > 0 {
            // Cut down to one tail at once, so that small chunks do not shift it each time.
            let keep_from = self.pending.len().saturating_sub(TAIL_BYTES);
            self.pending.drain(..keep_from);
        }
        self.pending.extend_from_slice(chunk);
    }
}

/// What usage objects said; `None` where none did.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    /// Part of `prompt`.
    cached: Option<u64>,
    /// Part of `completion`.
    reasoning: Option<u64>,
    /// Prompt tokens that `prompt` lacks: the messages API counts those read from and written to the cache apart.
    cache_read: Option<u64>,
    cache_created: Option<u64>,
}

impl Counts {
    /// Reads the usage object that `text` begins with. Of duplicate keys the last wins.
    fn read(text: &[u8]) -> Option<Self> {
        let mut counts = Self::default();
        each_leading_member(text, |key, value| match key {
            "prompt_tokens" | "input_tokens" => counts.prompt = count(value),
            "completion_tokens" | "output_tokens" => counts.completion = count(value),
            "total_tokens" => counts.total = count(value),
            "reasoning_tokens" => counts.reasoning = count(value),
            "cache_read_input_tokens" => counts.cache_read = count(value),
            "cache_creation_input_tokens" => counts.cache_created = count(value),
            "prompt_tokens_details" | "input_tokens_details" => {
                counts.cached = member(value, "cached_tokens").and_then(count);
            }
            "completion_tokens_details" | "output_tokens_details" => {
                counts.reasoning = member(value, "reasoning_tokens").and_then(count);
            }
            _ => {}
        })?;
        Some(counts)
    }

    /// Takes over what a later usage object says.
    fn update(&mut self, later: Self) {
        self.prompt = later.prompt.or(self.prompt);
        self.completion = later.completion.or(self.completion);
        self.total = later.total.or(self.total);
        self.cached = later.cached.or(self.cached);
        self.reasoning = later.reasoning.or(self.reasoning);
        self.cache_read = later.cache_read.or(self.cache_read);
        self.cache_created = later.cache_created.or(self.cache_created);
    }

    fn usage(self) -> Option<Usage> {
        let prompt = [self.prompt, self.cache_read, self.cache_created].into_iter().flatten();
        let usage = Usage {
            prompt_tokens: prompt.reduce(u64::saturating_add),
            completion_tokens: self.completion,
            total_tokens: self.total,
            cached_tokens: self.cached.or(self.cache_read),
            cache_creation_tokens: self.cache_created,
            reasoning_tokens: self.reasoning,
        };
        (usage != Usage::default()).then_some(usage)
    }
}

/// Largest count that is believed: all below it are exact in any JSON writer.
const MAX_COUNT: u64 = 1 << 53;

/// A count, also when written as `"5"` or `5.0`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "only whole numbers in range are cast"
)]
fn count(raw: &RawValue) -> Option<u64> {
    let raw = raw.get();
    let text = raw.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(raw);
    let whole = || {
        let value: f64 = text.parse().ok()?;
        (value.fract() == 0.0 && (0.0..=MAX_COUNT as f64).contains(&value)).then_some(value as u64)
    };
    text.parse().ok().or_else(whole).filter(|&count| count <= MAX_COUNT)
}

/// The member `key` of a JSON object; `None` also when it is no object.
fn member<'a>(object: &'a RawValue, key: &str) -> Option<&'a RawValue> {
    let mut found = None;
    each_member(object.get(), |name, value| {
        if name == key {
            found = Some(value);
        }
    })?;
    found
}

/// The counts that the data of an event carries: in its `usage`, or in that of the response or message it is about.
fn counts_in_event(data: &[u8]) -> Option<Counts> {
    let (mut usage, mut kind, mut about) = (None, "", None);
    each_leading_member(data, |key, value| match key {
        "usage" => usage = Some(value),
        "type" => kind = value.get(),
        "response" | "message" => about = Some(value),
        _ => {}
    })?;
    let carries =
        ["\"response.completed\"", "\"response.incomplete\"", "\"response.failed\"", "\"message_start\""];
    if carries.contains(&kind) {
        usage = about.and_then(|about| member(about, "usage")).or(usage);
    }
    Counts::read(usage?.get().as_bytes())
}

/// Finds the last `"usage": {…}` that is a key. Inside a string its first quote would be escaped.
fn counts_in_tail(tail: &[u8]) -> Option<Counts> {
    for at in memmem::rfind_iter(tail, b"\"usage\"") {
        if at > 0 && tail[at - 1] == b'\\' {
            continue;
        }
        let value = tail[at + b"\"usage\"".len()..].trim_ascii_start();
        let Some(value) = value.strip_prefix(b":") else { continue };
        return Counts::read(value);
    }
    None
}

#[cfg(test)]
mod tests;

//! Reads what JSON answers tell of themselves while their bytes pass by: events, lines, or one body.
//!
//! Entry point: [`JsonAnswer`]. Feed the chunks as they come, however they are cut; memory is bounded by
//! [`MAX_LINE_BYTES`] for a line and for an event of a stream, and by twice [`TAIL_BYTES`] for a JSON body. Compressed
//! answers are not for it.

pub use super::events::MAX_LINE_BYTES;

use epp_framework::parsing::{Answer, AnswerEnd, AnswerHead, AnswerReader};
use memchr::memmem;

use super::events::{EventReader, LineReader, Text};
use super::usage::{self, Counts};

/// How much of the end of a JSON body is kept, in bytes.
pub const TAIL_BYTES: usize = 64 * 1024;

/// How much of an answer without a type is looked at to tell what it is, in bytes.
const MAX_BEGINNING: usize = 1024;

/// How many bytes that are no blanks tell it.
const N_TELLING: usize = 16;

/// Reads one answer.
#[derive(Debug)]
pub struct JsonAnswer(Framing);

/// How an answer is put together.
#[derive(Debug)]
enum Framing {
    /// It has no type, and too few bytes came to tell.
    Unknown(Vec<u8>),
    /// Server-sent events.
    Events(EventReader, Stream),
    /// A JSON object per line.
    Lines(LineReader, Stream),
    /// One JSON text.
    Body(Body),
    /// Nothing that could be read.
    Opaque,
}

impl JsonAnswer {
    /// Makes the reader of an answer with this head.
    pub fn new(head: &AnswerHead<'_>) -> Self {
        let kind = head.content_type.split(';').next().unwrap_or_default().trim();
        let is = |known: &str| kind.eq_ignore_ascii_case(known);
        let lines =
            ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
        let suffix = kind.len().saturating_sub("+json".len());
        let is_json = is("application/json")
            || kind.get(suffix..).is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"));
        Self(if kind.is_empty() {
            Framing::Unknown(Vec::new())
        } else if is("text/event-stream") {
            Framing::Events(EventReader::default(), Stream::default())
        } else if lines.into_iter().any(is) {
            Framing::Lines(LineReader::default(), Stream::default())
        } else if is_json {
            Framing::Body(Body::default())
        } else {
            Framing::Opaque
        })
    }

    /// Decides what an answer without a type is, by how it begins.
    fn decide(&mut self, beginning: &[u8]) {
        let text = beginning.trim_ascii_start();
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        let fields = [&b"data:"[..], b"event:", b"id:", b"retry:", b":"];
        self.0 = if text.starts_with(b"{") || text.starts_with(b"[") {
            Framing::Body(Body::default())
        } else if fields.iter().any(|field| text.starts_with(field)) {
            Framing::Events(EventReader::default(), Stream::default())
        } else {
            Framing::Opaque
        };
    }
}

impl AnswerReader for JsonAnswer {
    fn feed(&mut self, bytes: &[u8]) -> bool {
        match &mut self.0 {
            Framing::Unknown(beginning) => {
                beginning.extend_from_slice(&bytes[..bytes.len().min(MAX_BEGINNING)]);
                let is_enough = beginning.trim_ascii_start().len() >= N_TELLING;
                if !is_enough && beginning.len() < MAX_BEGINNING {
                    return false;
                }
                let n_before = beginning.len() - bytes.len().min(MAX_BEGINNING);
                let beginning = std::mem::take(beginning);
                self.decide(&beginning);
                self.feed(&beginning[..n_before]) | self.feed(bytes)
            }
            Framing::Events(events, stream) => {
                events.feed(bytes, |name, data| stream.event(name, data));
                stream.take_output()
            }
            Framing::Lines(lines, stream) => {
                lines.feed(bytes, |line| stream.event(b"", line));
                stream.take_output()
            }
            Framing::Body(body) => {
                body.feed(bytes);
                false
            }
            Framing::Opaque => false,
        }
    }

    fn tells_output(&self) -> bool {
        !matches!(self.0, Framing::Body(_) | Framing::Opaque)
    }

    fn finish(&mut self) -> Answer {
        if let Framing::Unknown(beginning) = &mut self.0 {
            let beginning = std::mem::take(beginning);
            self.decide(&beginning);
            self.feed(&beginning);
        }
        match std::mem::replace(&mut self.0, Framing::Opaque) {
            Framing::Events(mut events, mut stream) => {
                events.finish(|name, data| stream.event(name, data));
                stream.finish()
            }
            Framing::Lines(mut lines, mut stream) => {
                lines.finish(|line| stream.event(b"", line));
                stream.finish()
            }
            Framing::Body(body) => body.finish(),
            Framing::Unknown(_) | Framing::Opaque => Answer::default(),
        }
    }
}

/// What the events of an answer told so far.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about the events so far")]
struct Stream {
    counts: Counts,
    /// Whether output was in what came last.
    output: bool,
    begun: bool,
    ended: bool,
    failed: bool,
}

impl Stream {
    /// Takes an event: its name, which may be empty, and its data.
    fn event(&mut self, name: &[u8], text: Text<'_>) {
        let (data, counts) = match text {
            Text::Whole(data) => (data.trim_ascii(), usage::in_event(data)),
            Text::Tail(end) => (end.trim_ascii(), usage::in_tail(end)),
        };
        if data == b"[DONE]" {
            self.ended = true;
            return;
        }
        // The responses and messages APIs name their events; other servers only write the name into the data.
        let kind = if name.is_empty() { kind_of(data) } else { name };
        let reason = value_of(data, b"\"finish_reason\"");
        let aborted =
            reason.is_some_and(|reason| reason.starts_with(b"\"abort\"") || reason.starts_with(b"\"error\""));
        let failed = matches!(kind, b"error" | b"response.failed");
        self.failed |= failed || aborted || data.starts_with(b"{\"error\"");
        self.ended |= matches!(kind, b"message_stop" | b"response.completed" | b"response.incomplete")
            || reason.is_some_and(|reason| matches!(reason, [b'"' | b'{', ..]))
            || value_of(data, b"\"done\"").is_some_and(|value| value.starts_with(b"true"));
        self.output |= self.begun && !data.is_empty() || begins_output(kind, data);
        self.begun |= self.output;
        if let Some(counts) = counts {
            self.counts.update(counts);
        }
    }

    /// Whether output came since the last call.
    fn take_output(&mut self) -> bool {
        std::mem::take(&mut self.output)
    }

    fn finish(self) -> Answer {
        let end = match self {
            Self { failed: true, .. } => AnswerEnd::Failed,
            Self { ended: true, .. } => AnswerEnd::Complete,
            _ => AnswerEnd::Truncated,
        };
        Answer { usage: self.counts.usage(), end }
    }
}

/// The `type` of an event's object, without its quotes; empty if it has none.
fn kind_of(data: &[u8]) -> &[u8] {
    // Most events of chats have none; they cost a search.
    if memmem::find(data, b"\"type\"").is_none() {
        return b"";
    }
    let mut kind = &b""[..];
    usage::leading_members(data, |scanner, key| {
        let value = scanner.skip()?;
        if key == "type" {
            let value = &scanner.text()[value];
            kind = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or_default();
        }
        Ok(())
    });
    kind
}

/// Whether an event shows the model's first output: neither the role that chats begin with, nor what the other APIs say
/// before the prompt is read.
fn begins_output(kind: &[u8], data: &[u8]) -> bool {
    if matches!(
        kind,
        b"message_start"
            | b"ping"
            | b"error"
            | b"response.created"
            | b"response.in_progress"
            | b"response.queued"
    ) {
        return false;
    }
    let has = |name: &[u8]| memmem::find(data, name).is_some();
    let says = |name: &[u8]| value_of(data, name).is_some_and(|value| !value.starts_with(b"null"));
    if has(b"\"delta\"") {
        let content = value_of(data, b"\"content\"")
            .is_some_and(|value| !value.starts_with(b"null") && !value.starts_with(b"\"\""));
        let others = [
            &b"\"reasoning\""[..],
            b"\"reasoning_content\"",
            b"\"tool_calls\"",
            b"\"refusal\"",
            b"\"audio\"",
        ];
        return !has(b"\"role\"") || content || others.into_iter().any(says);
    }
    [&b"\"text\""[..], b"\"token_ids\"", b"\"output_ids\"", b"\"message\"", b"\"response\""]
        .into_iter()
        .any(has)
}

/// What follows the first `name` and its colon. Inside of a string its quotes would be escaped.
fn value_of<'a>(data: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = memmem::find(data, name)?;
    data[at + name.len()..].trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start)
}

/// What is known of a JSON body: whether it began as one, how it ends, and the usage that came before the end.
#[derive(Debug, Default)]
struct Body {
    /// Its first byte that is no blank.
    first: Option<u8>,
    tail: Vec<u8>,
    /// What was found in bytes that are no longer kept.
    before: Counts,
}

impl Body {
    fn feed(&mut self, chunk: &[u8]) {
        self.first = self.first.or_else(|| chunk.trim_ascii_start().first().copied());
        for part in chunk.chunks(TAIL_BYTES) {
            if self.tail.len() + part.len() > 2 * TAIL_BYTES {
                // Some servers write long lists behind `usage`.
                self.before = usage::in_tail(&self.tail).unwrap_or(self.before);
                // Cut down to one tail at once, so that small chunks do not shift it each time.
                self.tail.drain(..self.tail.len() - TAIL_BYTES);
            }
            self.tail.extend_from_slice(part);
        }
    }

    fn finish(self) -> Answer {
        let end = match (self.first, self.tail.trim_ascii_end().last()) {
            // A text is JSON too.
            (None, _) | (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) | (Some(b'"'), Some(b'"')) => {
                AnswerEnd::Complete
            }
            (Some(b'{' | b'['), _) => AnswerEnd::Truncated,
            _ => AnswerEnd::Unreadable,
        };
        let counts = usage::in_tail(&self.tail).unwrap_or(self.before);
        Answer { usage: counts.usage(), end }
    }
}

#[cfg(test)]
mod tests;

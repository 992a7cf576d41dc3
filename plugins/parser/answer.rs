//! Reads what JSON answers tell of themselves while their bytes pass by: events, lines, or one body.
//!
//! Entry point: [`JsonAnswer`]. Feed the chunks as they come, however they are cut; memory is bounded by
//! [`MAX_LINE_BYTES`] for a line and for an event of a stream, and by [`TAIL_BYTES`] for a JSON body, whose `usage` stands
//! near its end. Compressed answers are not for it.

pub use super::events::MAX_LINE_BYTES;

use epp_framework::parsing::{Answer, AnswerEnd, AnswerHead, AnswerReader};
use memchr::memmem;

use super::events::{EventReader, LineReader};
use super::usage::{self, Counts};

/// How much of the end of a JSON body is kept, in bytes.
pub const TAIL_BYTES: usize = 64 * 1024;

/// Most blanks that an answer of unknown kind may begin with, in bytes.
const MAX_BLANKS: usize = 1024;

/// Reads one answer.
#[derive(Debug)]
pub struct JsonAnswer(Framing);

/// How an answer is put together.
#[derive(Debug)]
enum Framing {
    /// Its first byte that is no blank will tell; these are before it.
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
        let is = |kind: &str| {
            head.content_type
                .trim_start()
                .get(..kind.len())
                .is_some_and(|text| text.eq_ignore_ascii_case(kind))
        };
        let lines =
            ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
        Self(if is("text/event-stream") {
            Framing::Events(EventReader::default(), Stream::default())
        } else if lines.into_iter().any(is) {
            Framing::Lines(LineReader::default(), Stream::default())
        } else if is("application/json") {
            Framing::Body(Body::default())
        } else {
            Framing::Unknown(Vec::new())
        })
    }
}

impl AnswerReader for JsonAnswer {
    fn feed(&mut self, bytes: &[u8]) -> bool {
        if let Framing::Unknown(blanks) = &mut self.0 {
            let first = bytes.trim_ascii_start().first();
            if first.is_none() && blanks.len() + bytes.len() <= MAX_BLANKS {
                blanks.extend_from_slice(bytes);
                return false;
            }
            let blanks = std::mem::take(blanks);
            self.0 = match first {
                Some(b'{' | b'[') => Framing::Body(Body::default()),
                Some(b':' | b'd' | b'e' | b'i' | b'r' | 0xEF) => {
                    Framing::Events(EventReader::default(), Stream::default())
                }
                _ => Framing::Opaque,
            };
            return self.feed(&blanks) | self.feed(bytes);
        }
        match &mut self.0 {
            Framing::Events(events, stream) => {
                events.feed(bytes, |data, is_error| stream.event(data, is_error));
                stream.take_output()
            }
            Framing::Lines(lines, stream) => {
                lines.feed(bytes, |line| stream.event(line.unwrap_or_default(), false));
                stream.take_output()
            }
            Framing::Body(body) => {
                body.feed(bytes);
                false
            }
            Framing::Unknown(_) | Framing::Opaque => false,
        }
    }

    fn finish(&mut self) -> Answer {
        match std::mem::replace(&mut self.0, Framing::Opaque) {
            Framing::Events(mut events, mut stream) => {
                events.finish(|data, is_error| stream.event(data, is_error));
                stream.finish()
            }
            Framing::Lines(mut lines, mut stream) => {
                lines.finish(|line| stream.event(line, false));
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
    fn event(&mut self, data: &[u8], is_error: bool) {
        let data = data.trim_ascii();
        if self.ended && data.is_empty() {
            return;
        }
        if data == b"[DONE]" {
            self.ended = true;
            return;
        }
        if is_error || data.starts_with(b"{\"error\"") || has(data, b"\"type\"", b"error") {
            self.failed = true;
        }
        self.ended |= ends(data);
        self.output |= self.begun && !data.is_empty() || begins_output(data);
        self.begun |= self.output;
        if let Some(counts) = usage::in_event(data) {
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

/// Whether an event shows the model's first output: neither the role that chats begin with, nor what the other APIs say
/// before the prompt is read.
fn begins_output(data: &[u8]) -> bool {
    let empty = |name: &[u8]| has(data, name, b"") || has_null(data, name);
    if memmem::find(data, b"\"delta\"").is_some() {
        let is_role = memmem::find(data, b"\"role\"").is_some();
        let others = [&b"\"reasoning"[..], b"\"tool_calls\"", b"\"refusal\"", b"\"audio\""];
        let other = || others.iter().any(|name| memmem::find(data, name).is_some() && !has_null(data, name));
        return !is_role || !empty(b"\"content\"") || other();
    }
    let texts = [&b"\"text\""[..], b"\"token_ids\"", b"\"output_ids\"", b"\"message\"", b"\"response\""];
    let opens = [&b"message_start"[..], b"response.created", b"response.in_progress", b"response.queued"];
    let is_open = opens.iter().any(|open| has(data, b"\"type\"", open));
    !is_open && texts.iter().any(|name| memmem::find(data, name).is_some())
}

/// Whether an event says that the model has finished.
fn ends(data: &[u8]) -> bool {
    let types = [&b"message_stop"[..], b"response.completed", b"response.incomplete", b"response.failed"];
    value_of(data, b"\"finish_reason\"").is_some_and(|value| matches!(value, [b'"' | b'{', ..]))
        || value_of(data, b"\"done\"").is_some_and(|value| value.starts_with(b"true"))
        || types.iter().any(|kind| has(data, b"\"type\"", kind))
}

/// Whether the first member `name` (with its quotes) is the string `text`, or with an empty `text` an empty string.
fn has(data: &[u8], name: &[u8], text: &[u8]) -> bool {
    let rest = value_of(data, name).and_then(|value| value.strip_prefix(b"\"")?.strip_prefix(text));
    rest.is_some_and(|rest| rest.starts_with(b"\""))
}

fn has_null(data: &[u8], name: &[u8]) -> bool {
    value_of(data, name).is_some_and(|value| value.starts_with(b"null"))
}

/// What follows the first `name` and its colon. Inside of a string its quotes would be escaped.
fn value_of<'a>(data: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = memmem::find(data, name)?;
    data[at + name.len()..].trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start)
}

/// What is known of a JSON body: whether it began as one, and how it ends.
#[derive(Debug, Default)]
struct Body {
    /// Its first byte that is no blank.
    first: Option<u8>,
    tail: Vec<u8>,
}

impl Body {
    fn feed(&mut self, chunk: &[u8]) {
        self.first = self.first.or_else(|| chunk.trim_ascii_start().first().copied());
        let chunk = &chunk[chunk.len().saturating_sub(TAIL_BYTES)..];
        if self.tail.len() + chunk.len() > 2 * TAIL_BYTES {
            // Cut down to one tail at once, so that small chunks do not shift it each time.
            self.tail.drain(..self.tail.len() - TAIL_BYTES.min(self.tail.len()));
        }
        self.tail.extend_from_slice(chunk);
    }

    fn finish(self) -> Answer {
        let tail = &self.tail[self.tail.len().saturating_sub(TAIL_BYTES)..];
        let end = match (self.first, tail.trim_ascii_end().last()) {
            // A text is JSON too.
            (None, _) | (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) | (Some(b'"'), Some(b'"')) => {
                AnswerEnd::Complete
            }
            (Some(b'{' | b'['), _) => AnswerEnd::Truncated,
            _ => AnswerEnd::Unreadable,
        };
        Answer { usage: usage::in_tail(tail).and_then(Counts::usage), end }
    }
}

#[cfg(test)]
mod tests;

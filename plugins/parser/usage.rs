//! Reads `usage` from answers while their bytes pass by: events of a stream, or one JSON body.
//!
//! Feed the chunks as they come, however they are cut; memory is bounded by [`MAX_LINE_BYTES`] for a stream and by
//! [`TAIL_BYTES`] for a JSON body, whose `usage` stands near the end. What cannot be read is no usage, never an error.

use memchr::memmem;
use serde::Deserialize;

/// Longest line of a stream that is read, in bytes; longer ones are skipped.
pub const MAX_LINE_BYTES: usize = 256 * 1024;

/// How much of the end of a JSON body is kept, in bytes.
pub const TAIL_BYTES: usize = 64 * 1024;

/// Token counts that a model server reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Output tokens.
    pub completion_tokens: u64,
    /// Prompt tokens that came from the server's prefix cache.
    pub cached_tokens: u64,
}

/// Reads usage from one answer.
#[derive(Debug)]
pub struct UsageReader {
    streaming: bool,
    /// The unfinished line of a stream, or the tail of a JSON body.
    pending: Vec<u8>,
    skipping_line: bool,
    usage: Option<Usage>,
}

impl UsageReader {
    /// Makes a reader of an event stream or of a JSON body.
    pub fn new(streaming: bool) -> Self {
        Self { streaming, pending: Vec::new(), skipping_line: false, usage: None }
    }

    /// Takes the next bytes of the answer.
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.streaming { self.feed_stream(chunk) } else { self.feed_tail(chunk) }
    }

    /// Ends the answer and returns the last usage in it.
    pub fn finish(&mut self) -> Option<Usage> {
        let pending = std::mem::take(&mut self.pending);
        if self.streaming {
            self.read_line(&pending);
        } else if let Some(usage) = usage_in_tail(&pending) {
            self.usage = Some(usage);
        }
        self.usage
    }

    fn feed_stream(&mut self, mut chunk: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', chunk) {
            let (line, rest) = chunk.split_at(end);
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
        } else {
            self.pending.extend_from_slice(chunk);
        }
    }

    fn read_line(&mut self, line: &[u8]) {
        let Some(event) = line.strip_prefix(b"data:") else { return };
        // Most events have no usage; they cost one search.
        if memmem::find(event, b"\"usage\"").is_none() {
            return;
        }
        if let Ok(Event { usage: Some(usage) }) = serde_json::from_slice(event) {
            self.usage = Some(usage.into());
        }
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

#[derive(Deserialize)]
struct Event {
    usage: Option<UsageJson>,
}

#[derive(Deserialize)]
struct UsageJson {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptTokensDetails>,
}

#[derive(Deserialize)]
struct PromptTokensDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

impl From<UsageJson> for Usage {
    fn from(json: UsageJson) -> Self {
        Self {
            prompt_tokens: json.prompt_tokens.unwrap_or(0),
            completion_tokens: json.completion_tokens.unwrap_or(0),
            cached_tokens: json.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0),
        }
    }
}

/// Finds the last `"usage": {…}` that is a key. Inside a string its first quote would be escaped.
fn usage_in_tail(tail: &[u8]) -> Option<Usage> {
    for at in memmem::rfind_iter(tail, b"\"usage\"") {
        if at > 0 && tail[at - 1] == b'\\' {
            continue;
        }
        let value = tail[at + b"\"usage\"".len()..].trim_ascii_start();
        let Some(value) = value.strip_prefix(b":") else { continue };
        let mut values = serde_json::Deserializer::from_slice(value).into_iter::<UsageJson>();
        return values.next()?.ok().map(Usage::from);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\"\"}}]}\n\n",
        ": keep-alive\n\n",
        "data: {\"choices\":[],\"usage\":null}\r\n\r\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"total_tokens\":17,\"completion_tokens\":10,",
        "\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\ndata: [DONE]\n\n",
    );
    const USAGE: Usage = Usage { prompt_tokens: 7, completion_tokens: 10, cached_tokens: 4 };

    #[test]
    fn a_stream_may_be_cut_anywhere() {
        for size in 1..STREAM.len() {
            let mut reader = UsageReader::new(true);
            STREAM.as_bytes().chunks(size).for_each(|chunk| reader.feed(chunk));
            assert_eq!(reader.finish(), Some(USAGE), "chunks of {size}");
        }
    }

    /// Rows 69, 70 and 75 of the functional specification.
    #[test]
    fn rows_69_70_75_json_answers() {
        for (row, body, want) in [
            (
                "69",
                r#"{"usage": {"prompt_tokens":11,"total_tokens":111,"completion_tokens":100}}"#,
                Some((11, 100)),
            ),
            ("70", r#"{"choices":[]}"#, None),
            ("75", r#"{"usage":"oops"}"#, None),
            ("inside a string", r#"{"content":"\"usage\":{\"prompt_tokens\":999}"}"#, None),
            ("null", r#"{"usage":null}"#, None),
            ("embeddings", r#"{"data":[],"usage":{"prompt_tokens":5}}"#, Some((5, 0))),
        ] {
            let mut reader = UsageReader::new(false);
            body.as_bytes().chunks(3).for_each(|chunk| reader.feed(chunk));
            let found = reader.finish().map(|usage| (usage.prompt_tokens, usage.completion_tokens));
            assert_eq!(found, want, "row {row}");
        }
    }

    #[test]
    fn memory_is_bounded_and_the_end_of_a_long_body_is_kept() {
        let mut reader = UsageReader::new(false);
        (0..10_000).for_each(|_| reader.feed(&[b'x'; 100]));
        reader.feed(br#"","usage":{"prompt_tokens":5}}"#);
        assert!(reader.pending.len() <= 2 * TAIL_BYTES);
        assert_eq!(reader.finish().map(|usage| usage.prompt_tokens), Some(5));

        let mut reader = UsageReader::new(true);
        reader.feed(b"data: ");
        (0..10_000).for_each(|_| reader.feed(&[b'x'; 100]));
        assert!(reader.pending.len() <= MAX_LINE_BYTES);
        reader.feed(b"\n");
        reader.feed(STREAM.as_bytes());
        assert_eq!(reader.finish(), Some(USAGE));
    }
}

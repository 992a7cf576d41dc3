//! Lines and server-sent events out of bytes that come cut anywhere. Entry points: [`LineReader`] and [`EventReader`].
//!
//! Lines end with `\n`, `\r\n` or `\r`, as the HTML standard's event streams have them. Memory is bounded: of a longer line
//! than [`MAX_LINE_BYTES`] the end is kept, and so it is of a longer event.

use super::answer::TAIL_BYTES;

/// Longest line and longest event that are read whole, in bytes.
pub const MAX_LINE_BYTES: usize = 256 * 1024;

/// A line or the data of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// The last [`TAIL_BYTES`] of one that is too long.
    Tail(&'a [u8]),
}

impl<'a> Text<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        if bytes.len() > MAX_LINE_BYTES { Self::Tail(tail(bytes)) } else { Self::Whole(bytes) }
    }
}

fn tail(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(TAIL_BYTES)..]
}

/// Cuts a stream into lines.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    /// The line that has no end yet, or the end of it.
    pending: Vec<u8>,
    too_long: bool,
    /// The last line ended with a carriage return; a line feed right after it belongs to that end.
    after_return: bool,
}

impl LineReader {
    /// Takes the next bytes and gives each line that they end, without its end.
    pub(super) fn feed(&mut self, mut chunk: &[u8], mut on_line: impl FnMut(Text<'_>)) {
        loop {
            if !chunk.is_empty() && std::mem::take(&mut self.after_return) {
                chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', chunk) else { break };
            let (line, rest) = chunk.split_at(end);
            self.after_return = rest[0] == b'\r';
            chunk = &rest[1..];
            if self.pending.is_empty() {
                on_line(Text::of(line));
            } else {
                self.hold(line);
                self.end_line(&mut on_line);
            }
        }
        self.hold(chunk);
    }

    /// Ends the stream: gives the line that had no end, if there is one.
    pub(super) fn finish(&mut self, mut on_line: impl FnMut(Text<'_>)) {
        if !self.pending.is_empty() {
            self.end_line(&mut on_line);
        }
    }

    fn end_line(&mut self, on_line: &mut impl FnMut(Text<'_>)) {
        if std::mem::take(&mut self.too_long) {
            on_line(Text::Tail(tail(&self.pending)));
            self.pending = Vec::new();
        } else {
            on_line(Text::of(&self.pending));
            self.pending.clear();
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.too_long |= self.pending.len() + bytes.len() > MAX_LINE_BYTES;
        let bytes = if self.too_long { tail(bytes) } else { bytes };
        if self.too_long && self.pending.len() + bytes.len() > 2 * TAIL_BYTES {
            // Down to one tail at once, so that small chunks do not shift it each time.
            self.pending.drain(..self.pending.len().saturating_sub(TAIL_BYTES));
        }
        self.pending.extend_from_slice(bytes);
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(super) fn n_held(&self) -> usize {
        self.pending.len()
    }
}

/// Puts the lines of a stream together to events.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    lines: LineReader,
    event: Event,
}

/// Longest name of an event that matters, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// The event that is being read.
#[derive(Debug, Default)]
struct Event {
    /// Whether a line was read: only before the first may a byte order mark stand.
    begun: bool,
    name: Vec<u8>,
    data: Vec<u8>,
    too_long: bool,
}

impl EventReader {
    /// Takes the next bytes; gives the name and the data of each event that they end.
    pub(super) fn feed(&mut self, chunk: &[u8], mut on_event: impl FnMut(&[u8], Text<'_>)) {
        let Self { lines, event } = self;
        lines.feed(chunk, |line| event.line(line, &mut on_event));
    }

    /// Ends the stream, and with it the last event.
    pub(super) fn finish(&mut self, mut on_event: impl FnMut(&[u8], Text<'_>)) {
        let Self { lines, event } = self;
        lines.finish(|line| event.line(line, &mut on_event));
        event.end(&mut on_event);
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(super) fn n_held(&self) -> usize {
        self.lines.n_held().max(self.event.data.len())
    }
}

impl Event {
    fn line(&mut self, line: Text<'_>, on_event: &mut impl FnMut(&[u8], Text<'_>)) {
        let begun = std::mem::replace(&mut self.begun, true);
        let mut line = match line {
            Text::Whole(line) => line,
            // Nothing else is ever as long as the data of an event.
            Text::Tail(end) => {
                self.too_long = true;
                self.data = end.to_vec();
                return;
            }
        };
        if !begun {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            self.end(on_event);
        } else if let Some(data) = line.strip_prefix(b"data:") {
            self.data.extend_from_slice(data);
            self.data.push(b'\n');
            if self.data.len() > MAX_LINE_BYTES + 1 {
                self.too_long = true;
                self.data.drain(..self.data.len() - TAIL_BYTES);
            }
        } else if let Some(name) = line.strip_prefix(b"event:") {
            self.name.clear();
            self.name.extend(name.trim_ascii().iter().take(MAX_NAME_BYTES));
        }
    }

    fn end(&mut self, on_event: &mut impl FnMut(&[u8], Text<'_>)) {
        if !self.data.is_empty() || !self.name.is_empty() {
            let data = if self.too_long { Text::Tail(tail(&self.data)) } else { Text::Whole(&self.data) };
            on_event(&self.name, data);
        }
        self.data.clear();
        self.name.clear();
        self.too_long = false;
    }
}

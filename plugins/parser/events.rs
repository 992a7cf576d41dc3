//! Lines and server-sent events out of bytes that come cut anywhere. Entry point: [`LineReader`].
//!
//! Lines end with `\n`, `\r\n` or `\r`, as the HTML standard's event streams have them. Memory is bounded: a longer line
//! than [`MAX_LINE_BYTES`] is skipped, and so is what an event has beyond that.

/// Longest line and longest event that are read, in bytes.
pub const MAX_LINE_BYTES: usize = 256 * 1024;

/// Cuts a stream into lines.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    /// The line that has no end yet.
    pending: Vec<u8>,
    skipping: bool,
    /// The last line ended with a carriage return; a line feed right after it belongs to that end.
    after_return: bool,
}

impl LineReader {
    /// Takes the next bytes and gives each line that they end, without its end; `None` stands for one too long.
    pub(super) fn feed(&mut self, mut chunk: &[u8], mut on_line: impl FnMut(Option<&[u8]>)) {
        loop {
            if !chunk.is_empty() && std::mem::take(&mut self.after_return) {
                chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', chunk) else { break };
            let (line, rest) = chunk.split_at(end);
            self.after_return = rest[0] == b'\r';
            chunk = &rest[1..];
            if std::mem::take(&mut self.skipping) {
                on_line(None);
            } else if self.pending.is_empty() {
                on_line(Some(line).filter(|line| line.len() <= MAX_LINE_BYTES));
            } else {
                self.pending.extend_from_slice(line);
                on_line(Some(&self.pending[..]).filter(|line| line.len() <= MAX_LINE_BYTES));
                self.pending.clear();
            }
        }
        if self.skipping {
            return;
        }
        if self.pending.len() + chunk.len() > MAX_LINE_BYTES {
            self.pending = Vec::new();
            self.skipping = true;
        } else {
            self.pending.extend_from_slice(chunk);
        }
    }

    /// Ends the stream: gives the line that had no end, if there is one.
    pub(super) fn finish(&mut self, on_line: impl FnOnce(&[u8])) {
        let pending = std::mem::take(&mut self.pending);
        if !std::mem::take(&mut self.skipping) && !pending.is_empty() {
            on_line(&pending);
        }
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

/// The event that is being read.
#[derive(Debug, Default)]
struct Event {
    /// Whether a line was read: only before the first may a byte order mark stand.
    begun: bool,
    /// Whether the event is called an error.
    is_error: bool,
    too_long: bool,
    data: Vec<u8>,
}

impl EventReader {
    /// Takes the next bytes; gives the data of each event that they end, and whether the event is called an error.
    pub(super) fn feed(&mut self, chunk: &[u8], mut on_event: impl FnMut(&[u8], bool)) {
        let Self { lines, event } = self;
        lines.feed(chunk, |line| event.line(line, &mut on_event));
    }

    /// Ends the stream, and with it the last event.
    pub(super) fn finish(&mut self, mut on_event: impl FnMut(&[u8], bool)) {
        let Self { lines, event } = self;
        lines.finish(|line| event.line(Some(line), &mut on_event));
        event.end(&mut on_event);
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(super) fn n_held(&self) -> usize {
        self.lines.n_held().max(self.event.data.len())
    }
}

impl Event {
    fn line(&mut self, line: Option<&[u8]>, on_event: &mut impl FnMut(&[u8], bool)) {
        let begun = std::mem::replace(&mut self.begun, true);
        let Some(mut line) = line else { return };
        if !begun {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            self.end(on_event);
        } else if let Some(data) = line.strip_prefix(b"data:") {
            self.too_long |= self.data.len() + data.len() > MAX_LINE_BYTES;
            if self.too_long {
                self.data = Vec::new();
                return;
            }
            self.data.extend_from_slice(data);
            self.data.push(b'\n');
        } else if let Some(name) = line.strip_prefix(b"event:") {
            self.is_error = name.trim_ascii() == b"error";
        }
    }

    fn end(&mut self, on_event: &mut impl FnMut(&[u8], bool)) {
        if !self.data.is_empty() || self.is_error {
            on_event(&self.data, self.is_error);
        }
        self.data.clear();
        (self.is_error, self.too_long) = (false, false);
    }
}

//! Maps the model's name in an answer back to the one that the client asked for, while the bytes pass.
//!
//! Entry point: [`ModelNames`]. JSON bodies, event streams and NDJSON are all the same to it, however they are cut: it
//! knows a member `"model"` by its bytes alone, at any depth. In JSON a quote inside a string stands behind a
//! backslash, so what looks like the member and is only text cannot be mistaken for it. A key that is written with
//! escapes (`"mod\u0065l"`) is not found; no server writes one. Compressed answers pass as they are.

use std::mem;
use std::sync::LazyLock;

use memchr::{memmem, memrchr};

/// The member's key, as every server writes it.
const KEY: &[u8] = b"\"model\"";

static FINDER: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(KEY));

/// Rewrites one answer: wherever the value of `"model"` is the target's name, it becomes the client's. Every other byte
/// stays, and so do the order and the spacing.
///
/// Nothing is held back but the beginning of a value that may be the target's name, which is less than six times as
/// long as that.
#[derive(Debug)]
pub struct ModelNames {
    target: String,
    /// The client's name as it stands between the quotes of a JSON string.
    replacement: Vec<u8>,
    state: State,
    /// What was held back: the value as far as it came.
    held: Vec<u8>,
    /// The byte before `held` and what comes behind it.
    before: u8,
}

/// What the next byte may be a part of.
#[derive(Clone, Copy, Debug)]
enum State {
    /// The key, of which the last bytes were so many.
    Key { matched: usize },
    /// The colon behind the key.
    Colon,
    /// The quote that begins the value.
    Quote,
    /// The value, which began at `start`; before `read` it is the target's name as far as `matched` bytes of that.
    Value { start: usize, read: usize, matched: usize },
}

const SEEKING: State = State::Key { matched: 0 };

impl ModelNames {
    /// Makes the rewriter of one answer. `None` if there is nothing to do: a name is empty, or both are the same.
    pub fn new(target: &str, client: &str) -> Option<Self> {
        if target.is_empty() || client.is_empty() || target == client {
            return None;
        }
        let mut replacement = serde_json::to_vec(client).expect("strings can be written as JSON");
        replacement.pop();
        replacement.remove(0);
        Some(Self { target: target.to_owned(), replacement, state: SEEKING, held: Vec::new(), before: b'\n' })
    }

    /// Takes the next bytes and gives those that can go on. A chunk in which nothing is replaced is not copied, unless
    /// something was held back before it.
    pub fn feed(&mut self, mut chunk: Vec<u8>) -> Vec<u8> {
        if !self.held.is_empty() {
            let mut bytes = mem::take(&mut self.held);
            bytes.append(&mut chunk);
            chunk = bytes;
        }
        let mut written = Vec::new();
        let (mut at, mut copied) = (0, 0);
        while at < chunk.len() {
            if let State::Value { start, read, matched } = self.state {
                (self.state, at) = match compare(&self.target, matched, &chunk, read) {
                    Compared::Same { end } => {
                        written.reserve(chunk.len() - copied + self.replacement.len());
                        written.extend_from_slice(&chunk[copied..start]);
                        written.extend_from_slice(&self.replacement);
                        copied = end;
                        (SEEKING, end + 1)
                    }
                    Compared::Different { at } => (SEEKING, at),
                    Compared::Unfinished { read, matched } => {
                        (State::Value { start, read, matched }, chunk.len())
                    }
                };
            } else {
                at = self.step(&chunk, at);
            }
        }
        self.hold_back(&mut chunk);
        if copied == 0 {
            return chunk;
        }
        written.extend_from_slice(&chunk[copied..]);
        written
    }

    /// Ends the answer and gives what was held back.
    pub fn finish(&mut self) -> Vec<u8> {
        self.state = SEEKING;
        mem::take(&mut self.held)
    }

    /// Goes on from `at` outside of a value; says how far it came.
    fn step(&mut self, chunk: &[u8], at: usize) -> usize {
        let byte = chunk[at];
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.state {
            State::Key { matched: 0 } => return self.seek(chunk, at),
            State::Key { matched } if byte == KEY[matched] => {
                let matched = matched + 1;
                self.state = if matched == KEY.len() { State::Colon } else { State::Key { matched } };
            }
            State::Colon | State::Quote if is_space => {}
            State::Colon if byte == b':' => self.state = State::Quote,
            State::Quote if byte == b'"' => {
                let start = at + 1;
                self.state = State::Value { start, read: start, matched: 0 };
            }
            _ => {
                self.state = SEEKING;
                return at;
            }
        }
        at + 1
    }

    /// Looks for the key from `from` on; says how far it came.
    fn seek(&mut self, chunk: &[u8], mut from: usize) -> usize {
        let escaped = |at: usize| if at == 0 { self.before == b'\\' } else { chunk[at - 1] == b'\\' };
        while let Some(found) = FINDER.find(&chunk[from..]) {
            let at = from + found;
            if !escaped(at) {
                self.state = State::Colon;
                return at + KEY.len();
            }
            from = at + 1;
        }
        // A key that is cut has one quote, its first byte.
        let tail = from.max(chunk.len().saturating_sub(KEY.len() - 1));
        if let Some(quote) = memrchr(b'"', &chunk[tail..])
            && KEY.starts_with(&chunk[tail + quote..])
            && !escaped(tail + quote)
        {
            self.state = State::Key { matched: chunk.len() - tail - quote };
        }
        chunk.len()
    }

    /// Cuts a value that is not whole off the end of `chunk`, and remembers what is before the next bytes.
    fn hold_back(&mut self, chunk: &mut Vec<u8>) {
        if let State::Value { start, read, .. } = &mut self.state {
            self.held = if *start == 0 { mem::take(chunk) } else { chunk.split_off(*start) };
            *read -= mem::take(start);
        }
        self.before = chunk.last().copied().unwrap_or(self.before);
    }
}

enum Compared {
    /// The value is the name; its closing quote is at `end`.
    Same { end: usize },
    /// It is not; what was read before `at` holds no key.
    Different { at: usize },
    /// It is the name up to `matched` and as far as it was read.
    Unfinished { read: usize, matched: usize },
}

/// Compares the value, of which `bytes` up to `read` are the name up to `matched`.
fn compare(name: &str, mut matched: usize, bytes: &[u8], mut read: usize) -> Compared {
    loop {
        let plain = plain_prefix(&name.as_bytes()[matched..], &bytes[read..]);
        (read, matched) = (read + plain, matched + plain);
        let rest = &name.as_bytes()[matched..];
        let (length, same) = match bytes[read..] {
            [] => return Compared::Unfinished { read, matched },
            [b'"', ..] if rest.is_empty() => return Compared::Same { end: read },
            _ if rest.is_empty() => return Compared::Different { at: read },
            [b'\\'] => return Compared::Unfinished { read, matched },
            [b'\\', b'u', ..] => {
                // There is none behind half a character, which is no JSON.
                let wanted = name.get(matched..).and_then(|rest| rest.chars().next());
                match wanted.and_then(|wanted| escape_of(wanted, &bytes[read..])) {
                    Some(Escape::Whole { length, same }) => (length, same),
                    Some(Escape::Cut) => return Compared::Unfinished { read, matched },
                    None => return Compared::Different { at: read },
                }
            }
            [b'\\', letter, ..] if unescaped(letter) == Some(rest[0]) => (2, 1),
            _ => return Compared::Different { at: read },
        };
        (read, matched) = (read + length, matched + same);
    }
}

/// How long both are the same and nothing needs an escape.
fn plain_prefix(name: &[u8], bytes: &[u8]) -> usize {
    let plain = |&(name, byte): &(&u8, &u8)| name == byte && !matches!(name, b'"' | b'\\' | 0..b' ');
    name.iter().zip(bytes).take_while(plain).count()
}

fn unescaped(letter: u8) -> Option<u8> {
    Some(match letter {
        b'"' | b'\\' | b'/' => letter,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

enum Escape {
    /// It is `length` bytes long and stands for `same` bytes of the name.
    Whole {
        length: usize,
        same: usize,
    },
    Cut,
}

/// Whether `bytes` begin with `wanted` as `\uXXXX`, of which beyond the first plane there are two.
fn escape_of(wanted: char, bytes: &[u8]) -> Option<Escape> {
    let mut units = [0; 2];
    let mut length = 0;
    for unit in wanted.encode_utf16(&mut units) {
        for (at, want) in format!("\\u{unit:04x}").bytes().enumerate() {
            match bytes.get(length + at) {
                None => return Some(Escape::Cut),
                // Of an escape only the digits may be capitals.
                Some(byte) if *byte == want || (at > 1 && byte.to_ascii_lowercase() == want) => {}
                Some(_) => return None,
            }
        }
        length += 6;
    }
    Some(Escape::Whole { length, same: wanted.len_utf8() })
}

#[cfg(test)]
mod tests;

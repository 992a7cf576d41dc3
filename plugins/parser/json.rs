//! Reads JSON in one pass, without decoding what nobody wants: what the body readers stand on.
//!
//! A [`Scanner`] moves over the bytes value by value and checks them as it goes, values that are skipped included: what
//! it accepts is JSON. Strings and skipped values come as spans. Nesting is bounded by [`MAX_DEPTH`] and takes no
//! recursion of its own. Of a text that breaks off it reads what is there, see [`Scanner::of_beginning`].

mod scalars;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use epp_framework::prompt::unescape;

/// Deepest nesting of lists and objects that is read.
pub const MAX_DEPTH: usize = 512;

/// Why a text is no JSON, worded as Go's `encoding/json` does, whose texts clients of the Go EPP know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where, in bytes from the beginning.
    pub at: usize,
    /// What is there; `None` at the end of the text.
    found: Option<u8>,
    /// What was being read.
    while_reading: &'static str,
}

impl SyntaxError {
    /// Whether the text ended too early, so that more of it might make it right.
    pub fn is_end(&self) -> bool {
        self.found.is_none()
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found {
            None => f.write_str("unexpected end of JSON input"),
            Some(_) if self.while_reading == TOO_DEEP => write!(f, "exceeded max depth of {MAX_DEPTH}"),
            Some(b'"') => write!(f, "invalid character '\"' {}", self.while_reading),
            Some(found) => write!(f, "invalid character {:?} {}", char::from(found), self.while_reading),
        }
    }
}

impl std::error::Error for SyntaxError {}

const VALUE: &str = "looking for beginning of value";
const TOO_DEEP: &str = "nested too deep";

type Read<T> = Result<T, SyntaxError>;

/// What a value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{`.
    Object,
    /// `[`.
    List,
    /// `"`.
    String,
    /// `-` or a digit.
    Number,
    /// `t` or `f`.
    Bool,
    /// `n`.
    Null,
}

/// A string as it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its content, without the quotes.
    pub span: Range<usize>,
    /// Whether there are escapes in it.
    pub escaped: bool,
    /// Length of the content once decoded, in bytes; half a surrogate pair becomes U+FFFD.
    pub n_bytes: usize,
}

/// A place in a JSON text.
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    /// Whether the text is only the beginning of one.
    cut: bool,
    /// Whether the text ended within the last string.
    broke_off: bool,
}

impl<'a> Scanner<'a> {
    /// At the beginning of a text, which should be UTF-8: bytes beyond ASCII are not looked at.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0, cut: false, broke_off: false }
    }

    /// The same of a text of which more may follow: a string that breaks off is given as far as it goes, and then, as
    /// after everything that breaks off, the next step fails with an error that [is the end](SyntaxError::is_end).
    pub fn of_beginning(text: &'a [u8]) -> Self {
        Self { cut: true, ..Self::new(text) }
    }

    /// Whether the string that was read last had no end.
    pub fn broke_off(&self) -> bool {
        self.broke_off
    }

    /// The text.
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Where the next byte is read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What comes next; moves past blanks.
    pub fn kind(&mut self) -> Read<Kind> {
        match self.peek(VALUE)? {
            b'{' => Ok(Kind::Object),
            b'[' => Ok(Kind::List),
            b'"' => Ok(Kind::String),
            b'-' | b'0'..=b'9' => Ok(Kind::Number),
            b't' | b'f' => Ok(Kind::Bool),
            b'n' => Ok(Kind::Null),
            _ => Err(self.error(VALUE)),
        }
    }

    /// Reads an object, calling `member` with each key, its escapes decoded; `member` must read exactly the value.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, &str) -> Read<()>) -> Read<()> {
        self.enter(b'{')?;
        if self.peek(KEY)? == b'}' {
            {
                self.leave();
                return Ok(());
            }
        }
        loop {
            if self.peek(KEY)? != b'"' {
                return Err(self.error(KEY));
            }
            let key = self.string()?;
            if self.broke_off {
                return Err(self.error(KEY));
            }
            self.expect(b':', "after object key")?;
            match self.decode(&key) {
                Cow::Borrowed(key) => member(self, key)?,
                Cow::Owned(key) => member(self, &key)?,
            }
            match self.peek("after object key:value pair")? {
                b',' => self.at += 1,
                b'}' => {
                    self.leave();
                    return Ok(());
                }
                _ => return Err(self.error("after object key:value pair")),
            }
        }
    }

    /// Reads a list, calling `element` before each of its elements, which must read exactly that.
    pub fn list(&mut self, mut element: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        self.enter(b'[')?;
        if self.peek(VALUE)? == b']' {
            {
                self.leave();
                return Ok(());
            }
        }
        loop {
            element(self)?;
            match self.peek("after array element")? {
                b',' => self.at += 1,
                b']' => {
                    self.leave();
                    return Ok(());
                }
                _ => return Err(self.error("after array element")),
            }
        }
    }

    /// Moves past a value of any kind; gives the bytes that it takes.
    pub fn skip(&mut self) -> Read<Range<usize>> {
        self.kind()?;
        let start = self.at;
        // One bit per open level: whether it is an object.
        let mut levels = [0u64; MAX_DEPTH / 64 + 1];
        let floor = self.depth;
        loop {
            let kind = self.kind()?;
            if let Kind::Object | Kind::List = kind {
                let (open, close) = if kind == Kind::Object { (b'{', b'}') } else { (b'[', b']') };
                self.enter(open)?;
                let level = self.depth - floor;
                let bit = 1 << (level % 64);
                levels[level / 64] = (levels[level / 64] & !bit) | if kind == Kind::Object { bit } else { 0 };
                if self.peek(if kind == Kind::Object { KEY } else { VALUE })? == close {
                    self.leave();
                } else {
                    if kind == Kind::Object {
                        self.skip_key()?;
                    }
                    continue;
                }
            } else {
                self.scalar(kind)?;
            }
            // After a value: what closes is left, until there is another value or nothing is open.
            loop {
                if self.depth == floor {
                    return Ok(start..self.at);
                }
                let level = self.depth - floor;
                let in_object = levels[level / 64] >> (level % 64) & 1 == 1;
                let context = if in_object { "after object key:value pair" } else { "after array element" };
                match (self.peek(context)?, in_object) {
                    (b'}', true) | (b']', false) => self.leave(),
                    (b',', true) => {
                        self.at += 1;
                        self.skip_key()?;
                        break;
                    }
                    (b',', false) => {
                        self.at += 1;
                        break;
                    }
                    _ => return Err(self.error(context)),
                }
            }
        }
    }

    /// Reads the string that comes next.
    pub fn string(&mut self) -> Read<Text> {
        if self.peek(VALUE)? != b'"' {
            return Err(self.error(VALUE));
        }
        self.at += 1;
        let start = self.at;
        let (mut escaped, mut saved) = (false, 0);
        loop {
            self.at += n_plain(&self.text[self.at..]);
            match self.text.get(self.at) {
                Some(b'"') => {
                    let span = start..self.at;
                    self.at += 1;
                    return Ok(Text { n_bytes: span.len() - saved, span, escaped });
                }
                Some(b'\\') => match self.escape() {
                    Ok(n_saved) => {
                        escaped = true;
                        saved += n_saved;
                    }
                    Err(error) if !(self.cut && error.is_end()) => return Err(error),
                    // What is left of the escape is no part of the string.
                    Err(_) => return Ok(self.broken_off(start..self.at, escaped, saved)),
                },
                None if self.cut => return Ok(self.broken_off(start..self.at, escaped, saved)),
                _ => return Err(self.error("in string literal")),
            }
        }
    }

    /// The content of a string of this text.
    pub fn decode(&self, text: &Text) -> Cow<'a, str> {
        let raw = &self.text[text.span.clone()];
        if !text.escaped
            && let Ok(plain) = std::str::from_utf8(raw)
        {
            return Cow::Borrowed(plain);
        }
        let mut decoded = Vec::with_capacity(text.n_bytes);
        let _ = unescape(raw, &mut |run| {
            decoded.extend_from_slice(run);
            std::ops::ControlFlow::Continue(())
        });
        Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
    }

    /// Nothing but blanks may follow.
    pub fn end(&mut self) -> Read<()> {
        self.blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(self.error("after top-level value")) }
    }

    fn broken_off(&mut self, span: Range<usize>, escaped: bool, saved: usize) -> Text {
        self.broke_off = true;
        self.at = self.text.len();
        Text { n_bytes: span.len() - saved, span, escaped }
    }

    /// Moves past an escape; says by how many bytes it is longer than what it stands for.
    fn escape(&mut self) -> Read<usize> {
        const ESCAPE: &str = "in string escape code";
        let start = self.at;
        let fail = |scanner: &mut Self, at: usize, why| {
            let error = SyntaxError { at, found: scanner.text.get(at).copied(), while_reading: why };
            scanner.at = start;
            Err(error)
        };
        match self.text.get(start + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(1)
            }
            Some(b'u') => {
                let first = match self.hex(start + 2) {
                    Ok(first) => first,
                    Err(at) => return fail(self, at, "in \\u hexadecimal character escape"),
                };
                self.at += 6;
                let n_bytes = match first {
                    0..0x80 => 1,
                    0x80..0x800 => 2,
                    0xD800..0xDC00 => match self.low_surrogate() {
                        Some(()) => return Ok(12 - 4),
                        None if self.may_be_pair() => {
                            return fail(self, self.text.len(), ESCAPE);
                        }
                        None => 3,
                    },
                    _ => 3,
                };
                Ok(6 - n_bytes)
            }
            _ => fail(self, start + 1, ESCAPE),
        }
    }

    /// Moves past the second half of a surrogate pair, if that is what comes next.
    fn low_surrogate(&mut self) -> Option<()> {
        let is_escape = self.text[self.at..].starts_with(b"\\u");
        let low = self.hex(self.at + 2).ok().filter(|low| is_escape && (0xDC00..0xE000).contains(low));
        low.map(|_| self.at += 6)
    }

    /// Whether the text breaks off where the second half of a surrogate pair may follow.
    fn may_be_pair(&self) -> bool {
        let rest = &self.text[self.at..];
        self.cut
            && rest.len() < 6
            && rest.iter().zip(0..).all(|(byte, at)| match at {
                0 => *byte == b'\\',
                1 => *byte == b'u',
                2 => matches!(byte, b'd' | b'D'),
                3 => matches!(byte, b'c'..=b'f' | b'C'..=b'F'),
                _ => byte.is_ascii_hexdigit(),
            })
    }

    /// The four hexadecimal digits at `at`, or where there is none.
    fn hex(&self, at: usize) -> Result<u32, usize> {
        (at..at + 4).try_fold(0, |value, at| {
            let digit = self.text.get(at).and_then(|&byte| char::from(byte).to_digit(16));
            digit.map(|digit| value << 4 | digit).ok_or(at)
        })
    }

    fn skip_key(&mut self) -> Read<()> {
        if self.peek(KEY)? != b'"' {
            return Err(self.error(KEY));
        }
        self.string()?;
        if self.broke_off {
            return Err(self.error(KEY));
        }
        self.expect(b':', "after object key")
    }

    fn scalar(&mut self, kind: Kind) -> Read<()> {
        match kind {
            Kind::String => self.string().map(|_| ()),
            Kind::Number => self.number(),
            _ => self.literal(),
        }
    }

    fn enter(&mut self, open: u8) -> Read<()> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(TOO_DEEP));
        }
        self.expect(open, VALUE)?;
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    fn expect(&mut self, byte: u8, context: &'static str) -> Read<()> {
        if self.peek(context)? != byte {
            return Err(self.error(context));
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte that is no blank; moves up to it.
    fn peek(&mut self, context: &'static str) -> Read<u8> {
        self.blanks();
        self.text.get(self.at).copied().ok_or_else(|| self.error(context))
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    fn error(&self, while_reading: &'static str) -> SyntaxError {
        SyntaxError { at: self.at, found: self.text.get(self.at).copied(), while_reading }
    }
}

const KEY: &str = "looking for beginning of object key string";

/// How many bytes from the beginning of `bytes` stand for themselves in a string.
#[expect(clippy::needless_bitwise_bool, reason = "the compiler makes vector instructions of it")]
fn n_plain(bytes: &[u8]) -> usize {
    let special = |byte: u8| (byte == b'"') | (byte == b'\\') | (byte < 0x20);
    let mut n = 0;
    for chunk in bytes.as_chunks::<32>().0 {
        if chunk.iter().fold(false, |found, &byte| found | special(byte)) {
            break;
        }
        n += 32;
    }
    let rest = &bytes[n..];
    n + rest.iter().position(|&byte| special(byte)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;

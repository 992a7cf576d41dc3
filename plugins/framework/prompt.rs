//! The prompt of a request: pieces that lie in the request's body and are read where they lie.
//!
//! A [`Prompt`] owns no text. [`Prompt::read`] gives its bytes run by run and decodes escapes on the way, for as long as
//! somebody wants more: who looks at the first blocks of a long prompt pays for those.

use std::fmt;
use std::ops::{ControlFlow, Range};

use bytes::Bytes;

/// Bytes of prompt text that are taken for one token where no tokenizer ran.
pub const BYTES_PER_TOKEN: usize = 4;

/// The part of a request that decides which blocks of a model server's cache it can reuse.
#[derive(Clone, Default)]
pub struct Prompt {
    body: Bytes,
    pieces: Vec<Piece>,
    n_bytes: usize,
    n_tokens: u64,
}

/// A stretch of a prompt. Ranges are of the request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text that stands between others.
    Fixed(&'static str),
    /// Bytes of the body as they are.
    Raw(Range<usize>),
    /// The content of a JSON string with escapes.
    Escaped(Range<usize>),
    /// A JSON list of token ids, or of lists of them.
    TokenList(Range<usize>),
    /// Token ids.
    Tokens(Vec<u32>),
    /// An image, a sound, a video or a file.
    Media(MediaItem),
}

/// Something in a prompt that is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaItem {
    /// What it is.
    pub kind: MediaKind,
    /// Digest of the bytes that describe or hold it.
    pub digest: u64,
}

/// What a [`MediaItem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// An image.
    Image,
    /// A sound.
    Audio,
    /// A video.
    Video,
    /// Something else, such as a file.
    Other,
}

impl Prompt {
    /// An empty prompt over `body`, in which its pieces lie.
    pub fn of(body: Bytes) -> Self {
        Self { body, ..Self::default() }
    }

    /// A prompt of `text` alone.
    pub fn text(text: impl Into<Bytes>) -> Self {
        let body: Bytes = text.into();
        let mut prompt = Self::of(body.clone());
        prompt.push(Piece::Raw(0..body.len()), body.len());
        prompt
    }

    /// Adds a piece that stands for `n_bytes` of text.
    pub fn push(&mut self, piece: Piece, n_bytes: usize) {
        self.pieces.push(piece);
        self.n_bytes += n_bytes;
    }

    /// Adds a piece that stands for `n_tokens` tokens.
    pub fn push_tokens(&mut self, piece: Piece, n_tokens: u64) {
        self.pieces.push(piece);
        self.n_tokens += n_tokens;
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Its length in tokens: those that were given, and an estimate of those that its text will be.
    pub fn n_tokens(&self) -> u64 {
        self.n_tokens + self.n_bytes.div_ceil(BYTES_PER_TOKEN) as u64
    }

    /// What in it is no text, in order.
    pub fn media(&self) -> impl Iterator<Item = MediaItem> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Media(item) => Some(*item),
            _ => None,
        })
    }

    /// Gives the bytes that prefix hashing chains over, from the beginning and run by run, until `take` breaks: text
    /// decoded, four little-endian bytes per token id, eight per media item.
    pub fn read(&self, mut take: impl FnMut(&[u8]) -> ControlFlow<()>) {
        // It says only who stopped.
        let _ = self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Fixed(text) => take(text.as_bytes()),
            Piece::Raw(at) => take(&self.body[at.clone()]),
            Piece::Escaped(at) => unescape(&self.body[at.clone()], &mut take),
            Piece::TokenList(at) => read_token_list(&self.body[at.clone()], &mut take),
            Piece::Tokens(ids) => ids.iter().try_for_each(|id| take(&id.to_le_bytes())),
            Piece::Media(item) => take(&item.digest.to_le_bytes()),
        });
    }

    /// All of those bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.n_bytes);
        self.read(|run| {
            all.extend_from_slice(run);
            ControlFlow::Continue(())
        });
        all
    }
}

impl fmt::Debug for Prompt {
    /// Where it is, never what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pieces, n_bytes, n_tokens, .. } = self;
        write!(f, "Prompt of {} pieces, {n_bytes} bytes of text, {n_tokens} tokens", pieces.len())
    }
}

/// Decodes the content of a JSON string run by run. Half a surrogate pair, which no text can hold, becomes U+FFFD, and
/// so does what is no escape.
pub fn unescape(content: &[u8], take: &mut impl FnMut(&[u8]) -> ControlFlow<()>) -> ControlFlow<()> {
    // Escapes are often a few bytes apart: short runs are given together.
    let mut gathered = [0; 512];
    let mut n = 0;
    let mut rest = content;
    while !rest.is_empty() {
        let plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        let (run, escape) = rest.split_at(plain);
        if run.len() > gathered.len() - n {
            take(&gathered[..n])?;
            n = 0;
        }
        if run.len() > gathered.len() {
            take(run)?;
        } else {
            gathered[n..n + run.len()].copy_from_slice(run);
            n += run.len();
        }
        if escape.is_empty() {
            break;
        }
        if gathered.len() - n < 4 {
            take(&gathered[..n])?;
            n = 0;
        }
        let (char, length) = read_escape(escape);
        n += char.encode_utf8(&mut gathered[n..]).len();
        rest = &escape[length..];
    }
    if n > 0 { take(&gathered[..n]) } else { ControlFlow::Continue(()) }
}

/// The character of the escape that `bytes` begins with, and the escape's length.
fn read_escape(bytes: &[u8]) -> (char, usize) {
    let simple = match bytes.get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(&same @ (b'"' | b'\\' | b'/')) => char::from(same),
        Some(b'u') => return read_unicode_escape(bytes),
        _ => return (char::REPLACEMENT_CHARACTER, bytes.len().min(2)),
    };
    (simple, 2)
}

fn read_unicode_escape(bytes: &[u8]) -> (char, usize) {
    let hex = |at: usize| {
        let digits = std::str::from_utf8(bytes.get(at..at + 4)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(first) = hex(2) else { return (char::REPLACEMENT_CHARACTER, bytes.len().min(2)) };
    let low = || hex(8).filter(|low| bytes[6..].starts_with(b"\\u") && (0xDC00..0xE000).contains(low));
    if let (0xD800..0xDC00, Some(low)) = (first, low()) {
        let both = 0x10000 + ((first - 0xD800) << 10) + (low - 0xDC00);
        return (char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER), 12);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6)
}

/// Gives the numbers of a JSON list, each as four little-endian bytes. One that no `u32` can hold is left out.
fn read_token_list(list: &[u8], take: &mut impl FnMut(&[u8]) -> ControlFlow<()>) -> ControlFlow<()> {
    let numbers = list.split(|byte| !byte.is_ascii_digit()).filter(|number| !number.is_empty());
    for number in numbers {
        let id = number
            .iter()
            .try_fold(0u32, |id, digit| id.checked_mul(10)?.checked_add(u32::from(digit - b'0')));
        if let Some(id) = id {
            take(&id.to_le_bytes())?;
        }
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_where_they_lie() {
        for (content, want) in [
            ("", ""),
            ("plain", "plain"),
            (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r"a\u0041\u00e9\u4e2d", "aA\u{e9}\u{4e2d}"),
            (r"\ud83d\ude00!", "\u{1f600}!"),
            (r"half\ud800 of\udfff it", "half\u{fffd} of\u{fffd} it"),
            (r"\ud800\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (r"\ud800\u0041", "\u{fffd}A"),
            (r"no escape: \q \u12", "no escape: \u{fffd} \u{fffd}12"),
            (r"at its end \", "at its end \u{fffd}"),
        ] {
            let mut prompt = Prompt::of(Bytes::from(content.to_owned()));
            prompt.push(Piece::Escaped(0..content.len()), want.len());
            assert_eq!(String::from_utf8(prompt.to_vec()).unwrap(), want, "{content}");
        }
    }

    #[test]
    fn pieces_are_read_in_order_until_nobody_wants_more() {
        let body = Bytes::from_static(b"abc [1, [70000,4294967296]]");
        let mut prompt = Prompt::of(body);
        prompt.push(Piece::Fixed("<"), 1);
        prompt.push(Piece::Raw(0..3), 3);
        prompt.push_tokens(Piece::TokenList(4..27), 2);
        prompt.push_tokens(Piece::Tokens(vec![2]), 1);
        let item = MediaItem { kind: MediaKind::Image, digest: 9 };
        prompt.push(Piece::Media(item), 8);
        let want =
            [&b"<abc"[..], &[1, 0, 0, 0], &[0x70, 0x11, 1, 0], &[2, 0, 0, 0], &[9, 0, 0, 0, 0, 0, 0, 0]];
        assert_eq!(prompt.to_vec(), want.concat());
        assert_eq!((prompt.n_tokens(), prompt.media().collect::<Vec<_>>()), (3 + 3, vec![item]));
        let mut runs = Vec::new();
        prompt.read(|run| {
            runs.push(run.to_vec());
            if runs.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(runs, [b"<".to_vec(), b"abc".to_vec(), vec![1, 0, 0, 0]]);
        assert!(!format!("{prompt:?}").contains("abc"), "what it says is nobody's business");
    }
}

//! Prompts as they are read: texts, token ids, messages and their parts → the pieces of a [`Prompt`].
//!
//! A [`Section`] is filled while its member is read, so that of a body that breaks off the beginning is there.

use std::ops::Range;

use bytes::Bytes;
use epp_framework::prompt::{MediaItem, MediaKind, Piece, Prompt};
use xxhash_rust::xxh3::xxh3_64;

use super::json::{Kind, Scanner, SyntaxError, Text};

type Read = Result<(), SyntaxError>;

/// Most messages, parts and texts of a prompt that are looked into; those beyond are no part of it.
const MAX_ELEMENTS: usize = 1 << 16;

/// Some pieces in order, each with its length in bytes of text, or in tokens if that is what it holds.
#[derive(Debug, Default)]
pub(super) struct Contents(Vec<(Piece, usize)>);

/// A member that a prompt can be in.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// What it says.
    pub(super) contents: Contents,
    /// What it is.
    pub(super) found: Found,
    n_elements: usize,
}

/// What a [`Section`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Found {
    /// Not there.
    #[default]
    Nothing,
    /// `null`.
    Null,
    /// A list or a text, but empty.
    Empty,
    /// What it should be.
    Good,
    /// Something else.
    Wrong,
}

impl Contents {
    /// Makes the prompt of some contents in their order, which lie in `body`.
    pub(super) fn prompt<const N: usize>(body: &Bytes, contents: [Self; N]) -> Prompt {
        let mut prompt = Prompt::of(body.clone());
        for (piece, length) in contents.into_iter().flat_map(|contents| contents.0) {
            match piece {
                Piece::TokenList(_) | Piece::Tokens(_) => prompt.push_tokens(piece, length as u64),
                _ => prompt.push(piece, length),
            }
        }
        prompt
    }

    /// Whether nothing was read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn fixed(&mut self, text: &'static str) {
        self.0.push((Piece::Fixed(text), text.len()));
    }

    fn text(&mut self, text: &Text) {
        let span = text.span.clone();
        let piece = if text.escaped { Piece::Escaped(span) } else { Piece::Raw(span) };
        self.0.push((piece, text.n_bytes));
    }

    fn span(&mut self, span: Range<usize>) {
        let length = span.len();
        self.0.push((Piece::Raw(span), length));
    }

    /// Becomes the value that comes next, as it is written.
    pub(super) fn read_raw(&mut self, scanner: &mut Scanner<'_>) -> Read {
        self.0.clear();
        scanner.kind()?;
        let start = scanner.position();
        let read = scanner.skip();
        self.span(start..scanner.position());
        read.map(|_| ())
    }

    fn media(&mut self, kind: MediaKind, bytes: &[u8]) {
        let item = MediaItem { kind, digest: xxh3_64(bytes) };
        self.0.push((Piece::Media(item), size_of_val(&item.digest)));
    }
}

impl Section {
    /// Reads a member that is a string.
    pub(super) fn read_string(&mut self, scanner: &mut Scanner<'_>) -> Read {
        if scanner.kind()? == Kind::String { self.read_text(scanner) } else { self.read_other(scanner) }
    }

    /// Reads a member that is a string, a list of strings, of token ids, or of lists of token ids.
    pub(super) fn read_texts(&mut self, scanner: &mut Scanner<'_>) -> Read {
        match scanner.kind()? {
            Kind::String => self.read_text(scanner),
            Kind::List => self.read_list(scanner, true),
            _ => self.read_other(scanner),
        }
    }

    /// Reads a member that is a list of token ids, each of which fits 32 bits.
    pub(super) fn read_tokens(&mut self, scanner: &mut Scanner<'_>) -> Read {
        match scanner.kind()? {
            Kind::List => self.read_list(scanner, false),
            _ => self.read_other(scanner),
        }
    }

    /// Reads a member that is a list of messages, as chats have them. What is no message, an object with a role and
    /// with content, is left out; with `keep_others` it is taken as it is written.
    pub(super) fn read_messages(&mut self, scanner: &mut Scanner<'_>, keep_others: bool) -> Read {
        if scanner.kind()? != Kind::List {
            return self.read_other(scanner);
        }
        *self = Self { found: Found::Empty, ..Self::default() };
        let mut message = Message::default();
        scanner.list(|scanner| {
            self.found = Found::Good;
            let kind = scanner.kind()?;
            let start = scanner.position();
            if !self.admit() {
                return scanner.skip().map(|_| ());
            }
            let read =
                if kind == Kind::Object { message.read(scanner, self) } else { scanner.skip().map(|_| ()) };
            if !message.move_into(&mut self.contents, read.is_ok()) && keep_others && read.is_ok() {
                self.contents.span(start..scanner.position());
            }
            read
        })
    }

    /// Reads a message's content: a string, or a list of parts.
    pub(super) fn read_content(&mut self, scanner: &mut Scanner<'_>) -> Read {
        *self = Self { n_elements: self.n_elements, ..Self::default() };
        match scanner.kind()? {
            Kind::String => self.read_text(scanner),
            Kind::List => {
                self.found = Found::Good;
                scanner.list(|scanner| {
                    if self.admit() { self.read_part(scanner, true) } else { scanner.skip().map(|_| ()) }
                })
            }
            _ => self.read_other(scanner),
        }
    }

    /// Whether one more element may be looked into.
    fn admit(&mut self) -> bool {
        self.n_elements += 1;
        self.n_elements <= MAX_ELEMENTS
    }

    fn read_text(&mut self, scanner: &mut Scanner<'_>) -> Read {
        let text = scanner.string()?;
        self.found = if text.span.is_empty() { Found::Empty } else { Found::Good };
        self.contents = Contents::default();
        self.contents.text(&text);
        Ok(())
    }

    fn read_other(&mut self, scanner: &mut Scanner<'_>) -> Read {
        let found = if scanner.kind()? == Kind::Null { Found::Null } else { Found::Wrong };
        *self = Self { found, n_elements: self.n_elements, ..Self::default() };
        scanner.skip().map(|_| ())
    }

    /// Strings, if `texts` says so; token ids; or lists of token ids.
    fn read_list(&mut self, scanner: &mut Scanner<'_>, texts: bool) -> Read {
        *self = Self { found: Found::Empty, ..Self::default() };
        scanner.kind()?;
        let start = scanner.position();
        let (mut n_texts, mut n_tokens, mut n_others, mut end) = (0usize, 0usize, 0usize, start);
        let mut token = |scanner: &mut Scanner<'_>| {
            *if is_token(scanner)? { &mut n_tokens } else { &mut n_others } += 1;
            end = scanner.position();
            Ok(())
        };
        let read = scanner.list(|scanner| match scanner.kind()? {
            Kind::String if texts => {
                let text = scanner.string()?;
                if self.admit() {
                    if n_texts > 0 {
                        self.contents.fixed(" ");
                    }
                    self.contents.text(&text);
                }
                n_texts += 1;
                Ok(())
            }
            Kind::List if texts => scanner.list(&mut token),
            _ => token(scanner),
        });
        if n_tokens > 0 {
            self.contents.0.push((Piece::TokenList(start..end), n_tokens));
        }
        self.found = match (n_texts, n_tokens, n_others) {
            (0, 0, 0) => Found::Empty,
            (0, _, 0) | (_, 0, 0) => Found::Good,
            _ => Found::Wrong,
        };
        if self.found == Found::Wrong {
            self.contents = Contents::default();
        }
        read
    }

    fn read_part(&mut self, scanner: &mut Scanner<'_>, nested: bool) -> Read {
        let kind = scanner.kind()?;
        let start = scanner.position();
        if kind != Kind::Object {
            // No part at all; v1.0.1 leaves it out.
            return scanner.skip().map(|_| ());
        }
        let (before, mut media, mut texts) = (self.contents.0.len(), None, 0);
        let read = scanner.object(|scanner, key| match key {
            "type" => {
                let name = super::envelope::string(scanner)?.unwrap_or_default();
                media = media_kind(&name);
                Ok(())
            }
            "text" if scanner.kind()? == Kind::String => {
                self.contents.0.truncate(before);
                texts += 1;
                let text = scanner.string()?;
                self.contents.text(&text);
                Ok(())
            }
            // What a tool answered, in the messages API.
            "content" if nested && matches!(scanner.kind()?, Kind::String | Kind::List) => {
                self.contents.0.truncate(before);
                texts += 1;
                self.read_nested(scanner)
            }
            _ => scanner.skip().map(|_| ()),
        });
        let whole = start..scanner.position();
        read?;
        match media {
            // Media tell prompts apart by their digest; their bytes need not be hashed block by block.
            Some(kind) => {
                self.contents.0.truncate(before);
                self.contents.media(kind, &scanner.text()[whole]);
            }
            None if texts == 0 => self.contents.span(whole),
            None => {}
        }
        Ok(())
    }

    fn read_nested(&mut self, scanner: &mut Scanner<'_>) -> Read {
        if scanner.kind()? == Kind::String {
            let text = scanner.string()?;
            self.contents.text(&text);
            return Ok(());
        }
        scanner.list(
            |scanner| if self.admit() { self.read_part(scanner, false) } else { scanner.skip().map(|_| ()) },
        )
    }
}

fn media_kind(name: &str) -> Option<MediaKind> {
    match name {
        "image_url" | "input_image" | "image" | "image_pil" | "image_embeds" => Some(MediaKind::Image),
        "input_audio" | "audio_url" | "audio" => Some(MediaKind::Audio),
        "video_url" | "input_video" | "video" => Some(MediaKind::Video),
        "file" | "input_file" | "document" => Some(MediaKind::Other),
        _ => None,
    }
}

/// Moves past a value; says whether it is a number that a token can have.
fn is_token(scanner: &mut Scanner<'_>) -> Result<bool, SyntaxError> {
    let value = scanner.skip()?;
    let value = &scanner.text()[value];
    // `-0` is a number, but no id.
    let digits = value.iter().all(u8::is_ascii_digit);
    Ok(digits && std::str::from_utf8(value).is_ok_and(|digits| digits.parse::<u32>().is_ok()))
}

/// One message of a chat.
#[derive(Debug, Default)]
struct Message {
    role: Option<Text>,
    content: Section,
    calls: Contents,
}

impl Message {
    fn read(&mut self, scanner: &mut Scanner<'_>, chat: &mut Section) -> Read {
        self.content.n_elements = chat.n_elements;
        let read = scanner.object(|scanner, key| match key {
            "role" if scanner.kind()? == Kind::String => scanner.string().map(|role| self.role = Some(role)),
            "role" => {
                self.role = None;
                scanner.skip().map(|_| ())
            }
            "content" => self.content.read_content(scanner),
            "tool_calls" | "function_call" if scanner.kind()? != Kind::Null => self.calls.read_raw(scanner),
            _ => scanner.skip().map(|_| ()),
        });
        chat.n_elements = self.content.n_elements;
        read
    }

    /// Appends the message in `ChatML`, if it is one, or its beginning, if it is not `whole`; is empty afterwards.
    fn move_into(&mut self, chat: &mut Contents, whole: bool) -> bool {
        let role = self.role.take();
        let (mut content, mut calls) =
            (std::mem::take(&mut self.content.contents.0), std::mem::take(&mut self.calls.0));
        let found = std::mem::take(&mut self.content.found);
        let has_content = matches!(found, Found::Good | Found::Empty) || !calls.is_empty();
        let Some(role) = role.filter(|_| has_content) else { return false };
        chat.fixed("<|im_start|>");
        chat.text(&role);
        chat.fixed("\n");
        chat.0.append(&mut content);
        chat.0.append(&mut calls);
        if whole {
            chat.fixed("<|im_end|>\n");
        }
        // Their memory serves the next message.
        (self.content.contents.0, self.calls.0) = (content, calls);
        true
    }
}

//! What the picker knows of a client's request.

use std::borrow::Cow;

use crate::slot::SlotValues;

/// The part of a request that decides which blocks of a model server's cache it can reuse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Prompt {
    /// The request has none that the parser understands.
    #[default]
    None,
    /// Text; chat messages are joined as `ChatML`, several prompts by one space.
    Text(String),
    /// Token ids that the client sent.
    Tokens(Vec<u32>),
}

/// Bytes of prompt text that are taken for one token where no tokenizer ran.
pub const BYTES_PER_TOKEN: usize = 4;

impl Prompt {
    /// The bytes that prefix hashing chains over: the text, or four little-endian bytes per token.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::None => Cow::Borrowed(&[]),
            Self::Text(text) => Cow::Borrowed(text.as_bytes()),
            Self::Tokens(tokens) => Cow::Owned(tokens.iter().flat_map(|token| token.to_le_bytes()).collect()),
        }
    }
}

/// The headers of a request that some plugin asked for, by `request_headers`; most configurations ask for none.
#[derive(Default)]
pub struct Headers(Vec<(&'static str, String)>);

impl Headers {
    /// The value of the header `name` (lower case), if a plugin asked for it and the request has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

impl FromIterator<(&'static str, String)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'static str, String)>>(headers: I) -> Self {
        Self(headers.into_iter().collect())
    }
}

impl std::fmt::Debug for Headers {
    /// Names only: values belong to clients.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// One request, as plugins see it. Its prompt is never logged or recorded.
#[derive(Debug, Default)]
pub struct InferenceRequest {
    /// `x-request-id`, or a UUID made here. Chosen by the client, so not unique.
    pub request_id: String,
    /// Model that the client asked for.
    pub model: String,
    /// Model that the server is asked for: after rewriting.
    pub target_model: String,
    /// The prompt; of a very long one the beginning.
    pub prompt: Prompt,
    /// Tokens of the whole prompt, estimated where no tokenizer ran.
    pub prompt_tokens: u64,
    /// Priority of the request's objective; negative means sheddable.
    pub priority: i32,
    /// Headers that plugins asked for.
    pub headers: Headers,
    /// Values that plugins leave for one another.
    pub slots: SlotValues,
}

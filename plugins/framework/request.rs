//! What the picker knows of a client's request.

use std::sync::Arc;

use crate::prompt::Prompt;
use crate::slot::SlotValues;

/// The headers of a request that some plugin asked for, by `request_headers`; most configurations ask for none.
#[derive(Default)]
pub struct Headers(Vec<(Arc<str>, String)>);

impl Headers {
    /// The value of the header `name` (lower case), if a plugin asked for it and the request has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.as_str())
    }
}

impl<N: Into<Arc<str>>> FromIterator<(N, String)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, String)>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name.into(), value)).collect())
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
    /// Model that the client asked for; empty if the request names none.
    pub model: String,
    /// Model that the server is asked for: after rewriting.
    pub target_model: String,
    /// The prompt; of a very long one the beginning.
    pub prompt: Prompt,
    /// Tokens of the whole prompt, estimated where no tokenizer ran.
    pub prompt_tokens: u64,
    /// What keeps the caches of clients apart: equal prompts with other salts share no cache.
    pub cache_salt: Option<String>,
    /// Whether the answer is asked for piece by piece.
    pub stream: bool,
    /// Upper bound of output tokens, as the client gave it.
    pub max_tokens: Option<u64>,
    /// Priority of the request's objective; negative means sheddable.
    pub priority: i32,
    /// Whom the request counts for where requests wait for their turn; empty if nobody says.
    pub fairness_id: String,
    /// Headers that plugins asked for.
    pub headers: Headers,
    /// Values that plugins leave for one another.
    pub slots: SlotValues,
}

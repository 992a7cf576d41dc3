//! Bodies of `/v1/messages` and `/v1/messages/count_tokens`, as Anthropic has them.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::prompt::{Capped, MAX_MESSAGES, Message, Prompt, content};
use super::{Call, Form, engine, missing, output};
use crate::sim::server::error::ApiError;

#[derive(Deserialize)]
struct Body<'a> {
    model: Option<String>,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<Capped<Message<'a>, MAX_MESSAGES>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    max_tokens: Option<u32>,
    stream: Option<bool>,
}

impl Body<'_> {
    fn prompt(&self) -> Result<Prompt, ApiError> {
        let messages = self.messages.as_ref().ok_or_else(|| missing("messages"))?;
        let mut prompt = Prompt::new(self.tools);
        if self.system.is_some() {
            prompt.push_turn("system", &content(self.system)?);
        }
        for message in &messages.0 {
            prompt.push(message)?;
        }
        Ok(prompt)
    }
}

impl Call {
    /// Reads a body of `/v1/messages`.
    pub(in crate::sim::server) fn message(body: &[u8], limit: u32) -> Result<Self, ApiError> {
        let body: Body<'_> = serde_json::from_slice(body)?;
        let prompt = body.prompt()?.tokens(limit);
        let asked = body.max_tokens.ok_or_else(|| missing("max_tokens"))?;
        let (max_tokens, finish) = output(Some(asked), &prompt, limit);
        Ok(Self {
            model: body.model,
            engine: engine(prompt, max_tokens)?,
            finish,
            form: Form::Message,
            is_stream: body.stream == Some(true),
        })
    }
}

/// The model and the number of prompt tokens, however many, of a body of `/v1/messages/count_tokens`.
pub(in crate::sim::server) fn count(body: &[u8]) -> Result<(Option<String>, usize), ApiError> {
    let body: Body<'_> = serde_json::from_slice(body)?;
    let n_tokens = body.prompt()?.tokens(u32::MAX).len();
    Ok((body.model, n_tokens))
}

//! Bodies of Ollama's `/api/chat`, which streams unless told not to.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::prompt::{Capped, MAX_MESSAGES, Message, Prompt};
use super::{Call, Form, engine, missing, output};
use crate::sim::server::error::ApiError;

#[derive(Deserialize)]
struct Body<'a> {
    model: Option<String>,
    #[serde(borrow)]
    messages: Option<Capped<Message<'a>, MAX_MESSAGES>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    stream: Option<bool>,
    #[serde(default)]
    options: Options,
}

#[derive(Default, Deserialize)]
struct Options {
    /// Below zero: no limit.
    num_predict: Option<i64>,
}

impl Call {
    /// Reads a body of `/api/chat`.
    pub(in crate::sim::server) fn ollama(body: &[u8], limit: u32) -> Result<Self, ApiError> {
        let body: Body<'_> = serde_json::from_slice(body)?;
        let messages = body.messages.ok_or_else(|| missing("messages"))?;
        let mut prompt = Prompt::new(body.tools);
        for message in &messages.0 {
            prompt.push(message)?;
        }
        let prompt = prompt.tokens(limit);
        let asked = body.options.num_predict.filter(|n| *n >= 0);
        let asked = asked.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let (max_tokens, finish) = output(asked, &prompt, limit);
        Ok(Self {
            model: body.model,
            engine: engine(prompt, max_tokens)?,
            finish,
            form: Form::Ollama,
            is_stream: body.stream != Some(false),
        })
    }
}

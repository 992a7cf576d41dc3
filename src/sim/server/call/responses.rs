//! Bodies of `/v1/responses`. No response is kept, so none can be continued.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::prompt::{Capped, MAX_MESSAGES, Message, Prompt, content};
use super::{Call, Form, bad, engine, missing, output};
use crate::sim::server::error::ApiError;

#[derive(Deserialize)]
struct Body<'a> {
    model: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    instructions: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    previous_response_id: Option<String>,
    max_output_tokens: Option<u32>,
    stream: Option<bool>,
}

impl Call {
    /// Reads a body of `/v1/responses`.
    pub(in crate::sim::server) fn response(body: &[u8], limit: u32) -> Result<Self, ApiError> {
        let body: Body<'_> = serde_json::from_slice(body)?;
        if let Some(id) = body.previous_response_id {
            return Err(ApiError::UnknownResponse(id));
        }
        let input = body.input.ok_or_else(|| missing("input"))?;
        let mut prompt = Prompt::new(body.tools);
        if let Some(instructions) = &body.instructions {
            prompt.push_turn("system", instructions);
        }
        match input.get().as_bytes().first() {
            Some(b'"') => prompt.push_turn("user", &content(Some(input))?),
            Some(b'[') => push_items(&mut prompt, input)?,
            _ => return Err(bad("input", "`input` must be a string or a list of items")),
        }
        let prompt = prompt.tokens(limit);
        let (max_tokens, finish) = output(body.max_output_tokens, &prompt, limit);
        Ok(Self {
            model: body.model,
            engine: engine(prompt, max_tokens)?,
            finish,
            form: Form::Response { max_output_tokens: body.max_output_tokens },
            is_stream: body.stream == Some(true),
        })
    }
}

/// Messages become turns; other items (calls of tools, their results) are turns as they were written.
fn push_items(prompt: &mut Prompt, input: &RawValue) -> Result<(), ApiError> {
    let items: Capped<&RawValue, MAX_MESSAGES> = serde_json::from_str(input.get())?;
    for item in items.0 {
        match serde_json::from_str::<Message<'_>>(item.get()) {
            Ok(message) => prompt.push(&message)?,
            Err(_no_message) => prompt.push_turn("tool", item.get()),
        }
    }
    Ok(())
}

//! `/v1/chat/completions/render` and `/v1/completions/render`: what the engine would be given, without giving it. Entry
//! point: [`render`]. What comes back is a body for `/inference/v1/generate`. Real servers have these routes only when
//! asked to (`--enable-scale-out`).

use serde_json::{Value, json};

use super::call::{Call, Form};
use super::error::ApiError;
use crate::sim::engine::SubmitError;

/// The rendered request; a list of one for completions, which may have several prompts.
pub(super) fn render(call: &Call, model: &str, request_id: &str, limit: u32) -> Result<Value, ApiError> {
    let (token_ids, max_tokens) = (&call.engine.prompt_tokens, call.engine.max_tokens);
    if token_ids.is_empty() {
        return Err(SubmitError::EmptyPrompt.into());
    }
    if token_ids.len() as u64 + u64::from(max_tokens) > u64::from(limit) {
        return Err(SubmitError::TooLong { n_prompt: token_ids.len(), max_tokens, limit }.into());
    }
    let request = json!({
        "request_id": request_id, "token_ids": token_ids, "token_offsets": null, "features": null,
        "content_parts": null,
        "sampling_params": {
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "temperature": 1.0,
            "top_p": 1.0, "min_p": 0.0, "stop": [], "stop_token_ids": [], "max_tokens": max_tokens,
            "output_kind": 2, "skip_clone": true, "bad_words": [], "skip_reading_prefix_cache": false,
        },
        "model": model, "reasoning_ended": null, "reasoning_parser_kwargs": null, "return_token_ids": null,
        "output_mode": "tokens", "stream": false, "stream_options": null, "cache_salt": null, "priority": 0,
        "kv_transfer_params": null, "ec_transfer_params": null,
    });
    Ok(match call.form {
        Form::Completion(_) => json!([request]),
        _ => request,
    })
}

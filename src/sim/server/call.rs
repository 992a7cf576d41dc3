//! Reads the bodies of the routes that generate into a [`Call`]. Entry points: [`Call::chat`], [`Call::completion`],
//! [`Call::response`], [`Call::message`], [`Call::ollama`] and [`Call::tokens`]. A prompt longer than the given limit is
//! cut just above it, for the engine to refuse.
//!
//! Fields that the simulation has no use for are accepted and ignored, as vLLM ignores those it does not know.

pub(super) mod messages;
mod ollama;
pub(super) mod prompt;
mod responses;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::ApiError;
use super::record::Finish;
use crate::sim::engine::{EngineRequest, hash};
use prompt::{Capped, MAX_MESSAGES, MAX_TOKEN_IDS, Message, Prompt, one_prompt};

const DEFAULT_COMPLETION_TOKENS: u32 = 16;
/// How long a chat answer is when the caller sets no limit: the model "had said all" then.
const DEFAULT_CHAT_TOKENS: u32 = 64;

/// What a caller wants, ready for the engine.
#[derive(Debug)]
pub(super) struct Call {
    /// The name as the caller wrote it; `None` means the base model.
    pub(super) model: Option<String>,
    pub(super) engine: EngineRequest,
    pub(super) finish: Finish,
    pub(super) form: Form,
    pub(super) is_stream: bool,
}

/// In which API's words the answer is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Chat(StreamUsage),
    Completion(StreamUsage),
    /// OpenAI's Responses.
    Response {
        max_output_tokens: Option<u32>,
    },
    /// Anthropic's Messages.
    Message,
    Ollama,
    /// Token ids in place of text.
    Tokens(StreamUsage),
}

/// What a stream tells of its usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct StreamUsage {
    pub(super) include_usage: bool,
    pub(super) continuous_usage_stats: bool,
}

/// A body of one of vLLM's own routes or of OpenAI's older ones, which share most fields.
#[derive(Deserialize)]
struct Body<'a> {
    model: Option<String>,
    #[serde(borrow)]
    messages: Option<Capped<Message<'a>, MAX_MESSAGES>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    token_ids: Option<Capped<u32, MAX_TOKEN_IDS>>,
    sampling_params: Option<SamplingParams>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    ignore_eos: Option<bool>,
    n: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamUsage>,
    cache_salt: Option<String>,
}

#[derive(Deserialize)]
struct SamplingParams {
    max_tokens: Option<u32>,
}

impl Call {
    /// Reads a body of `/v1/chat/completions`.
    pub(super) fn chat(body: &[u8], limit: u32) -> Result<Self, ApiError> {
        let body: Body<'_> = serde_json::from_slice(body)?;
        let messages = body.messages.as_ref().ok_or_else(|| missing("messages"))?;
        let mut prompt = Prompt::new(body.tools);
        for message in &messages.0 {
            prompt.push(message)?;
        }
        let prompt = prompt.tokens(limit);
        let (max_tokens, mut finish) = output(body.max_completion_tokens.or(body.max_tokens), &prompt, limit);
        if body.ignore_eos == Some(true) {
            finish = Finish::Length;
        }
        Self::of(body, engine(prompt, max_tokens)?, finish, Form::Chat)
    }

    /// Reads a body of `/v1/completions`.
    pub(super) fn completion(body: &[u8], limit: u32) -> Result<Self, ApiError> {
        let body: Body<'_> = serde_json::from_slice(body)?;
        let prompt = body.prompt.ok_or_else(|| missing("prompt"))?;
        let prompt = one_prompt("prompt", prompt.get(), limit)?;
        let engine = engine(prompt, body.max_tokens.unwrap_or(DEFAULT_COMPLETION_TOKENS))?;
        Self::of(body, engine, Finish::Length, Form::Completion)
    }

    /// Reads a body of `/inference/v1/generate`. Ids are not cut.
    pub(super) fn tokens(body: &[u8], _limit: u32) -> Result<Self, ApiError> {
        let mut body: Body<'_> = serde_json::from_slice(body)?;
        let prompt = body.token_ids.take().ok_or_else(|| missing("token_ids"))?.0;
        let sampling = body.sampling_params.as_ref().ok_or_else(|| missing("sampling_params"))?;
        let engine = engine(prompt, sampling.max_tokens.unwrap_or(DEFAULT_COMPLETION_TOKENS))?;
        Self::of(body, engine, Finish::Length, Form::Tokens)
    }

    fn of(
        body: Body<'_>,
        mut engine: EngineRequest,
        finish: Finish,
        form: fn(StreamUsage) -> Form,
    ) -> Result<Self, ApiError> {
        let is_stream = body.stream == Some(true);
        if body.stream_options.is_some() && !is_stream {
            return Err(bad("stream_options", "Stream options can only be defined when `stream=True`."));
        }
        if body.n.is_some_and(|n| n != 1) {
            return Err(bad("n", "this simulation gives one choice, expected n to be 1"));
        }
        engine.salt = body.cache_salt.as_deref().map_or(0, hash::of_text);
        let form = form(body.stream_options.unwrap_or_default());
        Ok(Self { model: body.model, engine, finish, form, is_stream })
    }
}

/// How many tokens to generate, and why the answer ends there.
fn output(asked: Option<u32>, prompt: &[u32], limit: u32) -> (u32, Finish) {
    let n_left = limit.saturating_sub(u32::try_from(prompt.len()).unwrap_or(u32::MAX)).max(1);
    match asked {
        Some(max_tokens) => (max_tokens, Finish::Length),
        None => (DEFAULT_CHAT_TOKENS.min(n_left), Finish::Stop),
    }
}

fn engine(prompt_tokens: Vec<u32>, max_tokens: u32) -> Result<EngineRequest, ApiError> {
    if max_tokens == 0 {
        return Err(bad("max_tokens", "max_tokens is 0, expected at least 1"));
    }
    Ok(EngineRequest { prompt_tokens, max_tokens, salt: 0 })
}

pub(super) fn missing(param: &'static str) -> ApiError {
    bad(param, &format!("field `{param}` is missing"))
}

pub(super) fn bad(param: &'static str, message: &str) -> ApiError {
    ApiError::BadValue { param, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::text;

    type Read = fn(&[u8], u32) -> Result<Call, ApiError>;

    #[test]
    fn token_limits_and_ends_follow_the_fields() {
        let messages = r#""messages":[{"role":"user","content":"a"}]"#;
        for (name, read, body, want) in [
            ("a default that the model chose", Call::chat as Read, messages.to_owned(), (64, Finish::Stop)),
            (
                "a default without an end",
                Call::chat,
                format!(r#"{messages},"ignore_eos":true"#),
                (64, Finish::Length),
            ),
            ("the old field", Call::chat, format!(r#"{messages},"max_tokens":5"#), (5, Finish::Length)),
            (
                "the new field wins",
                Call::chat,
                format!(r#"{messages},"max_tokens":5,"max_completion_tokens":7"#),
                (7, Finish::Length),
            ),
            (
                "null is as good as nothing",
                Call::chat,
                format!(r#"{messages},"max_tokens":null"#),
                (64, Finish::Stop),
            ),
            ("a completion", Call::completion, r#""prompt":"a""#.to_owned(), (16, Finish::Length)),
            ("a response", Call::response, r#""input":"a""#.to_owned(), (64, Finish::Stop)),
            (
                "a short response",
                Call::response,
                r#""input":"a","max_output_tokens":3"#.to_owned(),
                (3, Finish::Length),
            ),
            ("a message", Call::message, format!(r#"{messages},"max_tokens":5"#), (5, Finish::Length)),
            ("Ollama", Call::ollama, messages.to_owned(), (64, Finish::Stop)),
            (
                "Ollama with a limit",
                Call::ollama,
                format!(r#"{messages},"options":{{"num_predict":4}}"#),
                (4, Finish::Length),
            ),
            (
                "Ollama without",
                Call::ollama,
                format!(r#"{messages},"options":{{"num_predict":-1}}"#),
                (64, Finish::Stop),
            ),
            (
                "tokens",
                Call::tokens,
                r#""token_ids":[1],"sampling_params":{}"#.to_owned(),
                (16, Finish::Length),
            ),
        ] {
            let call = read(format!("{{{body}}}").as_bytes(), 1000).unwrap();
            assert_eq!((call.engine.max_tokens, call.finish), want, "{name}");
        }
    }

    #[test]
    fn a_conversation_is_the_same_prompt_in_every_api() {
        let user = r#"{"role":"user","content":"a river"}"#;
        let turns = "<|im_start|>user\na river<|im_end|>\n<|im_start|>assistant\n";
        let system = "<|im_start|>system\nbe kind<|im_end|>\n";
        let with = |rest: &str| format!("{system}{rest}");
        let cases: [(&str, Read, String, String); 9] = [
            ("chat", Call::chat, format!(r#"{{"messages":[{user}]}}"#), turns.to_owned()),
            ("a message", Call::message, format!(r#"{{"max_tokens":1,"messages":[{user}]}}"#), turns.to_owned()),
            ("Ollama", Call::ollama, format!(r#"{{"messages":[{user}]}}"#), turns.to_owned()),
            ("a response", Call::response, r#"{"input":"a river"}"#.to_owned(), turns.to_owned()),
            ("a response to items", Call::response, format!(r#"{{"input":[{user}]}}"#), turns.to_owned()),
            (
                "a response to parts",
                Call::response,
                r#"{"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"a river"}]}]}"#
                    .to_owned(),
                turns.to_owned(),
            ),
            (
                "chat with a system turn",
                Call::chat,
                format!(r#"{{"messages":[{{"role":"system","content":"be kind"}},{user}]}}"#),
                with(turns),
            ),
            (
                "a message with a system text in blocks",
                Call::message,
                format!(r#"{{"max_tokens":1,"system":[{{"type":"text","text":"be kind"}}],"messages":[{user}]}}"#),
                with(turns),
            ),
            (
                "a response with instructions",
                Call::response,
                r#"{"instructions":"be kind","input":"a river"}"#.to_owned(),
                with(turns),
            ),
        ];
        for (name, read, body, want) in cases {
            let got = read(body.as_bytes(), 1000).unwrap().engine.prompt_tokens;
            assert_eq!(got, text::tokens(&want).collect::<Vec<u32>>(), "{name}");
        }
    }

    #[test]
    fn what_is_no_message_is_read_as_it_was_written() {
        let item = r#"{"type":"function_call_output","call_id":"c","output":"7"}"#;
        let call = Call::response(format!(r#"{{"input":[{item}]}}"#).as_bytes(), 1000).unwrap();
        let want = format!("<|im_start|>tool\n{item}<|im_end|>\n<|im_start|>assistant\n");
        assert_eq!(call.engine.prompt_tokens, text::tokens(&want).collect::<Vec<u32>>());
    }
}

//! Reads the bodies of `/v1/chat/completions` and `/v1/completions` into a [`Call`]. Entry points: [`Call::chat`] and
//! [`Call::completion`].
//!
//! Lists are read up to a limit, so that a small body cannot become a large structure. Fields that the simulation has
//! no use for are accepted and ignored, as vLLM ignores those it does not know.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::ApiError;
use super::record::Finish;
use crate::sim::engine::{EngineRequest, hash};
use crate::sim::text;

const DEFAULT_COMPLETION_TOKENS: u32 = 16;
/// How long a chat answer is when the caller sets no limit: the model "had said all" then.
const DEFAULT_CHAT_TOKENS: u32 = 64;
const MAX_TOKEN_IDS: usize = 1 << 22;
const MAX_MESSAGES: usize = 1 << 16;
const MAX_PARTS: usize = 1 << 16;

/// What a caller wants, ready for the engine.
#[derive(Debug)]
pub(super) struct Call {
    /// The name as the caller wrote it; `None` means the base model.
    pub(super) model: Option<String>,
    pub(super) engine: EngineRequest,
    pub(super) finish: Finish,
    pub(super) is_chat: bool,
    pub(super) stream: Option<StreamUsage>,
}

/// What a stream tells of its usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct StreamUsage {
    pub(super) include_usage: bool,
    pub(super) continuous_usage_stats: bool,
}

#[derive(Deserialize)]
struct Body<'a> {
    model: Option<String>,
    #[serde(borrow)]
    messages: Option<Capped<Message<'a>, MAX_MESSAGES>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    ignore_eos: Option<bool>,
    n: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamUsage>,
    cache_salt: Option<String>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Cow<'a, str>,
}

impl Call {
    /// Reads a chat body; prompts longer than `limit` tokens are cut just above it, for the engine to refuse.
    pub(super) fn chat(body: &[u8], limit: u32) -> Result<Self, ApiError> {
        let body: Body<'_> = serde_json::from_slice(body)?;
        let messages = body.messages.as_ref().ok_or_else(|| missing("messages"))?;
        let mut prompt = String::new();
        if let Some(tools) = body.tools.filter(|tools| tools.get() != "null") {
            text::push_turn(&mut prompt, "system", tools.get());
        }
        for message in &messages.0 {
            text::push_turn(&mut prompt, &message.role, &content(message)?);
        }
        text::push_answer_start(&mut prompt);
        let prompt_tokens: Vec<u32> = text::tokens(&prompt).take(above(limit)).collect();
        let n_left = limit.saturating_sub(u32::try_from(prompt_tokens.len()).unwrap_or(u32::MAX)).max(1);
        let asked = body.max_completion_tokens.or(body.max_tokens);
        let finish =
            if asked.is_none() && body.ignore_eos != Some(true) { Finish::Stop } else { Finish::Length };
        let max_tokens = asked.unwrap_or(DEFAULT_CHAT_TOKENS.min(n_left));
        Self::build(body, prompt_tokens, max_tokens, finish).map(|call| Self { is_chat: true, ..call })
    }

    /// Reads a completion body; the same limit applies.
    pub(super) fn completion(body: &[u8], limit: u32) -> Result<Self, ApiError> {
        let body: Body<'_> = serde_json::from_slice(body)?;
        let prompt = body.prompt.ok_or_else(|| missing("prompt"))?;
        let prompt_tokens = prompt_tokens(prompt.get(), limit)?;
        let max_tokens = body.max_tokens.unwrap_or(DEFAULT_COMPLETION_TOKENS);
        Self::build(body, prompt_tokens, max_tokens, Finish::Length)
    }

    fn build(
        body: Body<'_>,
        prompt_tokens: Vec<u32>,
        max_tokens: u32,
        finish: Finish,
    ) -> Result<Self, ApiError> {
        let is_stream = body.stream == Some(true);
        if body.stream_options.is_some() && !is_stream {
            return Err(bad("stream_options", "Stream options can only be defined when `stream=True`."));
        }
        if body.n.is_some_and(|n| n != 1) {
            return Err(bad("n", "this simulation gives one choice, expected n to be 1"));
        }
        let salt = body.cache_salt.as_deref().map_or(0, hash::of_text);
        Ok(Self {
            model: body.model,
            engine: EngineRequest { prompt_tokens, max_tokens, salt },
            finish,
            is_chat: false,
            stream: is_stream.then(|| body.stream_options.unwrap_or_default()),
        })
    }
}

fn above(limit: u32) -> usize {
    limit as usize + 1
}

fn missing(param: &'static str) -> ApiError {
    bad(param, &format!("field `{param}` is missing"))
}

fn bad(param: &'static str, message: &str) -> ApiError {
    ApiError::BadValue { param, message: message.to_owned() }
}

/// The text of a message: a string, the text parts of a list, or what else there is as it was written.
fn content<'a>(message: &Message<'a>) -> Result<Cow<'a, str>, ApiError> {
    let written = message.content.map_or("null", RawValue::get);
    let calls = message.tool_calls.map_or("", RawValue::get);
    let mut text = match written.as_bytes().first() {
        Some(b'"') => string(written)?,
        Some(b'[') => {
            let parts: Capped<&'a RawValue, MAX_PARTS> = serde_json::from_str(written)?;
            let mut text = String::new();
            for part in parts.0 {
                match serde_json::from_str::<Part<'_>>(part.get()) {
                    Ok(Part { text: said }) if !said.is_empty() => text.push_str(&said),
                    _ => text.push_str(part.get()),
                }
            }
            Cow::Owned(text)
        }
        _ if written == "null" => Cow::Borrowed(""),
        _ => return Err(bad("messages", "`content` must be a string, a list of parts or null")),
    };
    if !calls.is_empty() && calls != "null" {
        text.to_mut().push_str(calls);
    }
    Ok(text)
}

/// A string, a list of one string, a list of token ids, or a list of one such list.
fn prompt_tokens(written: &str, limit: u32) -> Result<Vec<u32>, ApiError> {
    let of_text = |text: &str| text::tokens(text).take(above(limit)).collect();
    let ids = |ids: Capped<u32, MAX_TOKEN_IDS>| ids.0;
    let inner = || written[1..].trim_ascii_start().as_bytes().first().copied();
    match (written.as_bytes().first(), written.len() > 1) {
        (Some(b'"'), _) => Ok(of_text(&string(written)?)),
        (Some(b'['), true) if inner() == Some(b'"') => {
            let [text] = one::<String>(written)?;
            Ok(of_text(&text))
        }
        (Some(b'['), true) if inner() == Some(b'[') => one(written).map(|[list]| ids(list)),
        (Some(b'['), true) => Ok(ids(serde_json::from_str(written)?)),
        _ => Err(bad("prompt", "`prompt` must be a string or a list of token ids")),
    }
}

fn one<'a, T: Deserialize<'a>>(written: &'a str) -> Result<[T; 1], ApiError> {
    serde_json::from_str(written)
        .map_err(|_error| bad("prompt", "this simulation takes one prompt per request"))
}

fn string(written: &str) -> Result<Cow<'_, str>, ApiError> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(serde_json::from_str::<Text<'_>>(written)?.0)
}

/// A list of at most `N` items; reading a longer one fails at the first item too many.
struct Capped<T, const N: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Capped<T, N> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(CappedVisitor::<T, N>(PhantomData))
    }
}

struct CappedVisitor<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for CappedVisitor<T, N> {
    type Value = Capped<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {N} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() == N {
                return Err(A::Error::invalid_length(N + 1, &self));
            }
            items.push(item);
        }
        Ok(Capped(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<u32> {
        text::tokens(text).collect()
    }

    #[test]
    fn prompts_come_as_text_or_tokens() {
        for (name, written, want) in [
            ("a string", r#""a river""#, Some(tokens("a river"))),
            ("a list of one string", r#"[ "a river" ]"#, Some(tokens("a river"))),
            ("token ids", "[1, 2,3]", Some(vec![1, 2, 3])),
            ("a list of one list of ids", "[[1,2]]", Some(vec![1, 2])),
            ("no ids", "[]", Some(vec![])),
            ("two strings", r#"["a","b"]"#, None),
            ("two lists", "[[1],[2]]", None),
            ("a negative id", "[-1]", None),
            ("a number", "7", None),
            ("an object", "{}", None),
        ] {
            assert_eq!(prompt_tokens(written, 100).ok(), want, "{name}");
        }
    }

    #[test]
    fn a_prompt_is_read_to_just_above_the_limit() {
        let long = format!("\"{}\"", "word ".repeat(1000));
        assert_eq!(prompt_tokens(&long, 10).unwrap().len(), 11);
    }

    #[test]
    fn messages_are_rendered_in_every_form_of_content() {
        let body = br#"{"messages":[{"role":"user","content":"a"},
            {"role":"assistant","content":null,"tool_calls":[1]},
            {"role":"user","content":[{"type":"text","text":"b"},{"type":"image_url","x":"y"}]}]}"#;
        let want = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[1]<|im_end|>\n<|im_start|>user\nb\
                    {\"type\":\"image_url\",\"x\":\"y\"}<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(Call::chat(body, 1000).unwrap().engine.prompt_tokens, tokens(want));
    }

    #[test]
    fn token_limits_and_ends_follow_the_fields() {
        for (name, fields, want) in [
            ("a default that the model chose", "", (64, Finish::Stop)),
            ("a default without an end", r#","ignore_eos":true"#, (64, Finish::Length)),
            ("the old field", r#","max_tokens":5"#, (5, Finish::Length)),
            ("the new field wins", r#","max_tokens":5,"max_completion_tokens":7"#, (7, Finish::Length)),
            ("null is as good as nothing", r#","max_tokens":null"#, (64, Finish::Stop)),
        ] {
            let body = format!(r#"{{"messages":[]{fields}}}"#);
            let call = Call::chat(body.as_bytes(), 1000).unwrap();
            assert_eq!((call.engine.max_tokens, call.finish), want, "{name}");
        }
        let completion = Call::completion(br#"{"prompt":"a"}"#, 1000).unwrap();
        assert_eq!((completion.engine.max_tokens, completion.finish), (16, Finish::Length));
    }
}

//! Request and answer bodies: the readers of `plugins/parser` against `serde_json::Value`, and the block hashes.

use epp_framework::request::{BYTES_PER_TOKEN, Prompt};
use epp_plugins::parser::openai::{self, ParseError, ParsedBody};
use epp_plugins::prefix::block_hash;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::usage;

/// Reads `input` as the body of a request, and of an answer.
pub fn run(input: &[u8]) {
    let parsed = openai::parse(input);
    if let Ok(parsed) = &parsed {
        check_span(input, parsed);
        check_hashes(parsed);
    }
    match serde_json::from_slice(input) {
        Ok(Value::Object(object)) => check_fields(&object, parsed.as_ref().map_err(|error| *error)),
        Ok(_) => assert_eq!(parsed, Err(ParseError::NotAnObject)),
        // The parser skips what it does not need, so it takes more; but nothing that is not JSON.
        Err(_) if parsed != Err(ParseError::NotAnObject) => {
            assert!(serde_json::from_slice::<IgnoredAny>(input).is_ok(), "no JSON: {parsed:?}");
        }
        Err(_) => {}
    }
    usage::check(input);
}

/// The model's place is that of its JSON string: another string put there changes the model and nothing else.
fn check_span(body: &[u8], parsed: &ParsedBody) {
    let span = parsed.model_span.clone();
    let model: String = serde_json::from_slice(&body[span.clone()]).expect("the span is a JSON string");
    assert_eq!(model, parsed.model);
    let rewritten = [&body[..span.start], br#""another \" model""#, &body[span.end..]].concat();
    if let Ok(mut value) = serde_json::from_slice::<Value>(body) {
        value["model"] = "another \" model".into();
        assert_eq!(serde_json::from_slice::<Value>(&rewritten).ok(), Some(value));
    }
}

fn check_fields(object: &Map<String, Value>, parsed: Result<&ParsedBody, ParseError>) {
    let expected = read(object);
    assert_eq!(parsed.err(), expected.as_ref().err().copied());
    let (Ok(parsed), Ok((prompt, n_tokens))) = (parsed, expected) else { return };
    assert_eq!(Some(parsed.model.as_str()), object["model"].as_str());
    let bound = ["max_completion_tokens", "max_tokens"].into_iter().filter_map(|key| object.get(key));
    let bound = bound.filter(|value| !value.is_null()).map(Value::as_u64).next();
    assert_eq!(parsed.max_tokens, bound.flatten());
    match (&parsed.prompt, prompt) {
        (Prompt::Text(found), Expected::Text { text, exact: false }) => {
            assert_eq!(found.len(), text.len());
        }
        (Prompt::Text(found), Expected::Text { text, .. }) => assert_eq!(*found, text),
        (Prompt::Tokens(found), Expected::Tokens(tokens)) => assert_eq!(*found, tokens),
        (found, expected) => panic!("{found:?}, expected {expected:?}"),
    }
    assert_eq!(parsed.prompt_tokens, n_tokens as u64);
}

/// The prompt that a body should have.
#[derive(Debug)]
enum Expected {
    /// `exact` is false when digests of media are in it, which the value cannot tell.
    Text {
        text: String,
        exact: bool,
    },
    Tokens(Vec<u32>),
}

/// The prompt and its length in tokens, or why there is none; in the order in which errors are checked.
fn read(object: &Map<String, Value>) -> Result<(Expected, usize), ParseError> {
    object.get("model").and_then(Value::as_str).ok_or(ParseError::ModelMissing)?;
    let prompt = match (object.get("messages"), object.get("prompt")) {
        (Some(Value::Array(messages)), _) if messages.is_empty() => return Err(ParseError::MessagesEmpty),
        (Some(Value::Array(messages)), _) => chat(messages),
        (Some(_), _) => return Err(ParseError::MessagesNotAList),
        (None, Some(prompt)) => completion(prompt).ok_or(ParseError::PromptNotAString)?,
        (None, None) => return Err(ParseError::PromptMissing),
    };
    let n_tokens = match &prompt {
        Expected::Text { text, .. } => text.len().div_ceil(BYTES_PER_TOKEN),
        Expected::Tokens(tokens) => tokens.len(),
    };
    Ok((prompt, n_tokens))
}

/// A string, strings, token ids, or lists of token ids.
fn completion(prompt: &Value) -> Option<Expected> {
    let text = |text: String| Expected::Text { text, exact: true };
    let list = match prompt {
        Value::String(prompt) => return Some(text(prompt.clone())),
        Value::Array(list) => list,
        _ => return None,
    };
    let strings: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
    if let Some(strings) = strings.filter(|strings| !strings.is_empty()) {
        return Some(text(strings.join(" ")));
    }
    let token = |value: &Value| u32::try_from(value.as_u64()?).ok();
    let tokens = |value: &Value| match value {
        Value::Array(inner) => inner.iter().map(token).collect::<Option<Vec<u32>>>(),
        single => Some(vec![token(single)?]),
    };
    let tokens = list.iter().map(tokens).collect::<Option<Vec<_>>>()?.concat();
    (!tokens.is_empty()).then_some(Expected::Tokens(tokens))
}

/// `ChatML` of the messages that have a role and content.
fn chat(messages: &[Value]) -> Expected {
    let (mut text, mut exact) = (String::new(), true);
    for message in messages {
        let (Some(role), Some(content)) =
            (message.get("role").and_then(Value::as_str), message.get("content"))
        else {
            continue;
        };
        let content = match content {
            Value::String(content) => content.clone(),
            Value::Array(parts) => {
                parts.iter().filter(|part| part.is_object()).fold(String::new(), |all, part| {
                    let part = part.get("text").and_then(Value::as_str);
                    exact &= part.is_some();
                    all + part.unwrap_or("<|0123456789abcdef|>")
                })
            }
            _ => continue,
        };
        text.extend(["<|im_start|>", role, "\n", &content, "<|im_end|>\n"]);
    }
    Expected::Text { text, exact }
}

/// Hashes stand for whole blocks from the beginning: those of a beginning are a beginning of the hashes.
fn check_hashes(parsed: &ParsedBody) {
    let bytes = parsed.prompt.bytes();
    for block_size in [1, 16, 64] {
        let whole = block_hash::chain(&parsed.model, &bytes, block_size, 200);
        assert_eq!(whole.len(), (bytes.len() / block_size).min(200));
        let half = block_hash::chain(&parsed.model, &bytes[..bytes.len() / 2], block_size, 100);
        assert!(whole.starts_with(&half), "blocks of {block_size}");
    }
}

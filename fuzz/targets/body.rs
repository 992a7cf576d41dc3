//! Request and answer bodies: the parsers of `plugins/parser` against `serde_json::Value`, and the block hashes.

use std::sync::{Arc, OnceLock};

use epp_framework::parsing::{AnswerHead, ModelPlace, ParseError, ParsedRequest, Parser, RequestBody};
use epp_framework::prompt::{BYTES_PER_TOKEN, Prompt};
use epp_plugins::prefix::block_hash;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::cuts::Choices;
use crate::{parsers, usage};

/// Reads `input` as the body of a request, and of an answer.
pub fn run(input: &[u8]) {
    check_openai(input);
    check_all(input);
    usage::check(input);
}

/// A request whose path nobody knows is read by its members.
fn check_openai(input: &[u8]) {
    static OPENAI: OnceLock<Arc<dyn Parser>> = OnceLock::new();
    let openai = OPENAI.get_or_init(|| parsers::of("openai-parser"));
    let bytes = input.to_vec().into();
    let parsed = openai.parse(&RequestBody { path: "", bytes: &bytes, whole: true });
    if let Ok(parsed) = &parsed {
        check_place(input, parsed);
        check_hashes(parsed);
    }
    match serde_json::from_slice(input) {
        Ok(Value::Object(object)) => {
            if let Ok(parsed) = parsed {
                check_fields(&object, &parsed);
            } else {
                let text = String::from_utf8_lossy(input);
                assert!(text.matches(['[', '{']).count() > 512, "refused: {parsed:?}");
            }
        }
        Ok(_) => assert!(matches!(parsed, Err(ParseError::NotAnObject(_)))),
        // The parser skips what it does not need, so it takes more; but nothing that is not JSON.
        Err(_) if parsed.is_ok() => {
            assert!(serde_json::from_slice::<IgnoredAny>(input).is_ok(), "no JSON: {parsed:?}");
        }
        Err(_) => {}
    }
}

/// Every parser reads everything, whole or cut, and says nothing of a cut one that the whole one would not say.
fn check_all(input: &[u8]) {
    static ALL: OnceLock<Vec<Arc<dyn Parser>>> = OnceLock::new();
    let mut choices = Choices::of(input);
    let cut = choices.below(input.len() + 1);
    for parser in ALL.get_or_init(parsers::all) {
        let paths = parser.paths();
        let path = if paths.is_empty() { "" } else { paths[choices.below(paths.len())] };
        let method = ["Generate", "Embed", "ChatCompletions", "Other"][choices.below(4)];
        let path = &path.replace('*', method);
        check_answer(parser.as_ref(), path, input, &mut choices);
        let read =
            |bytes: &[u8], whole| parser.parse(&RequestBody { path, bytes: &bytes.to_vec().into(), whole });
        let whole = read(input, true);
        let beginning = read(&input[..cut], false).unwrap_or_default();
        assert_eq!(beginning.fault, None, "what was not seen whole cannot be found faulty");
        if let Ok(whole) = whole {
            whole.prompt.to_vec();
            if let ModelPlace::Value(range) = &whole.model_place {
                assert!(input.get(range.clone()).is_some());
            }
        }
        beginning.prompt.to_vec();
    }
}

/// What an answer tells does not depend on how it is cut.
fn check_answer(parser: &dyn Parser, path: &str, input: &[u8], choices: &mut Choices) {
    let content_type =
        ["", "application/json", "text/event-stream", "application/x-ndjson"][choices.below(4)];
    let head = AnswerHead { content_type };
    let Some(mut whole) = parser.answer(path, &head) else { return };
    let mut cut = parser.answer(path, &head).expect("as before");
    whole.feed(input);
    for chunk in choices.cut(input, 50) {
        cut.feed(chunk);
    }
    assert_eq!(cut.finish(), whole.finish(), "{path}, {content_type}");
}

/// The model's place is that of its JSON value: another string put there changes the model and nothing else.
fn check_place(body: &[u8], parsed: &ParsedRequest) {
    if let (ModelPlace::Value(span), Some(known)) = (&parsed.model_place, &parsed.model)
        && let Ok(model) = serde_json::from_slice::<String>(&body[span.clone()])
    {
        assert_eq!(&model, known);
    }
    let another = "another \" model";
    let (range, bytes) = parsed.model_place.splice(another).expect("an object has a place for a model");
    let rewritten = [&body[..range.start], &bytes, &body[range.end..]].concat();
    if let Ok(mut value) = serde_json::from_slice::<Value>(body) {
        value["model"] = another.into();
        assert_eq!(serde_json::from_slice::<Value>(&rewritten).ok(), Some(value));
    }
}

fn check_fields(object: &Map<String, Value>, parsed: &ParsedRequest) {
    assert_eq!(parsed.model.as_deref(), object.get("model").and_then(Value::as_str));
    let expected = read(object);
    assert_eq!(parsed.fault.as_ref().and_then(|fault| fault.legacy), expected.as_ref().err().copied());
    let count = |key: &str| object.get(key).and_then(Value::as_u64).filter(|count| *count <= 1 << 53);
    // Numbers with a fraction or an exponent are for the unit tests.
    let plain = ["max_tokens", "max_output_tokens", "max_completion_tokens"]
        .iter()
        .all(|key| !object.get(*key).is_some_and(Value::is_f64));
    if plain {
        let bound = count("max_completion_tokens").or(count("max_output_tokens")).or(count("max_tokens"));
        assert_eq!(parsed.max_tokens, bound);
    }
    let Ok((prompt, n_tokens)) = expected else { return };
    match prompt {
        Expected::Text { text, exact: true } => assert_eq!(parsed.prompt.to_vec(), text.as_bytes()),
        Expected::Text { .. } => {}
        Expected::Tokens(tokens) => {
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            assert_eq!(parsed.prompt.to_vec(), bytes);
        }
    }
    if let Some(n_tokens) = n_tokens {
        assert_eq!(parsed.prompt.n_tokens(), n_tokens as u64);
    }
}

/// The prompt that a body should have.
#[derive(Debug)]
enum Expected {
    /// `exact` is false when there is something in it that is no text, of which the value cannot tell the bytes.
    Text {
        text: String,
        exact: bool,
    },
    Tokens(Vec<u32>),
}

/// The prompt and its length in tokens, or why there is none in the words of v1.0.1.
fn read(object: &Map<String, Value>) -> Result<(Expected, Option<usize>), &'static str> {
    let prompt = match (object.get("messages"), object.get("prompt")) {
        (Some(Value::Array(messages)), _) if messages.is_empty() => return Err("messages is empty"),
        (Some(Value::Array(messages)), _) => chat(messages),
        (Some(_), _) => return Err("messages is not a list"),
        (None, Some(prompt)) => completion(prompt).ok_or("prompt is not a string")?,
        (None, None) => return Err("prompt not found in request"),
    };
    let n_tokens = match &prompt {
        Expected::Text { text, exact } => exact.then_some(text.len().div_ceil(BYTES_PER_TOKEN)),
        Expected::Tokens(tokens) => Some(tokens.len()),
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
            exact &= !message.is_object();
            continue;
        };
        exact &= message.get("tool_calls").is_none() && message.get("function_call").is_none();
        let content = match content {
            Value::String(content) => content.clone(),
            Value::Array(parts) => parts.iter().fold(String::new(), |all, part| {
                let plain = part.get("text").and_then(Value::as_str);
                // What is no object is left out; a type may make a medium of what has a text.
                exact &= !part.is_object()
                    || plain.is_some() && part.get("type").is_none() && part.get("content").is_none();
                all + plain.unwrap_or_default()
            }),
            _ => continue,
        };
        text.extend(["<|im_start|>", role, "\n", &content, "<|im_end|>\n"]);
    }
    Expected::Text { text, exact }
}

/// Hashes stand for whole blocks from the beginning: those of a beginning are a beginning of the hashes.
fn check_hashes(parsed: &ParsedRequest) {
    let bytes = parsed.prompt.to_vec();
    for block_size in [1, 16, 64] {
        let chain = |prompt: &Prompt, max| block_hash::chain("m", None, prompt, block_size, max);
        let whole = chain(&parsed.prompt, 200);
        assert_eq!(whole, chain(&Prompt::text(bytes.clone()), 200), "pieces do not show");
        assert_eq!(whole.len(), (bytes.len() / block_size).min(200));
        let half = chain(&Prompt::text(bytes[..bytes.len() / 2].to_vec()), 100);
        assert!(whole.starts_with(&half), "blocks of {block_size}");
    }
}

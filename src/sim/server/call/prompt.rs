//! Prompts as bodies hold them: messages with their forms of content, texts, token ids. Entry points: [`Prompt`] and
//! [`prompts`]. Lists are read up to a limit, so that a small body cannot become a large structure.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::bad;
use crate::sim::server::error::ApiError;
use crate::sim::text;

pub(super) const MAX_TOKEN_IDS: usize = 1 << 22;
pub(super) const MAX_MESSAGES: usize = 1 << 16;
const MAX_PARTS: usize = 1 << 16;
/// As many as OpenAI takes in one request.
const MAX_PROMPTS: usize = 2048;

/// One turn of a conversation.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
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

/// A conversation, being written in the one template of the simulation.
#[derive(Debug)]
pub(super) struct Prompt(String);

impl Prompt {
    /// Begins with the tools, as they were written.
    pub(super) fn new(tools: Option<&RawValue>) -> Self {
        let mut prompt = String::new();
        if let Some(tools) = tools.filter(|tools| tools.get() != "null") {
            text::push_turn(&mut prompt, "system", tools.get());
        }
        Self(prompt)
    }

    pub(super) fn push(&mut self, message: &Message<'_>) -> Result<(), ApiError> {
        let mut said = content(message.content)?;
        if let Some(calls) = message.tool_calls.filter(|calls| calls.get() != "null") {
            said.to_mut().push_str(calls.get());
        }
        self.push_turn(&message.role, &said);
        Ok(())
    }

    pub(super) fn push_turn(&mut self, role: &str, said: &str) {
        text::push_turn(&mut self.0, role, said);
    }

    /// Its tokens, cut just above `limit`.
    pub(super) fn tokens(mut self, limit: u32) -> Vec<u32> {
        text::push_answer_start(&mut self.0);
        of_text(&self.0, limit)
    }
}

fn of_text(text: &str, limit: u32) -> Vec<u32> {
    text::tokens(text).take(limit as usize + 1).collect()
}

/// A string, the text parts of a list, or what else is in the list as it was written.
pub(super) fn content(written: Option<&RawValue>) -> Result<Cow<'_, str>, ApiError> {
    let written = written.map_or("null", RawValue::get);
    match written.as_bytes().first() {
        Some(b'"') => string(written),
        Some(b'[') => {
            let parts: Capped<&RawValue, MAX_PARTS> = serde_json::from_str(written)?;
            let mut text = String::new();
            for part in parts.0 {
                match serde_json::from_str::<Part<'_>>(part.get()) {
                    Ok(Part { text: said }) if !said.is_empty() => text.push_str(&said),
                    _ => text.push_str(part.get()),
                }
            }
            Ok(Cow::Owned(text))
        }
        _ if written == "null" => Ok(Cow::Borrowed("")),
        _ => Err(bad("messages", "`content` must be a string, a list of parts or null")),
    }
}

/// The tokens of a string, of a list of strings, of token ids (one prompt), or of a list of such lists. Texts are cut
/// just above `limit`. `param` names the field.
pub(in crate::sim::server) fn prompts(
    param: &'static str,
    written: &str,
    limit: u32,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let inner = || written[1..].trim_ascii_start().as_bytes().first().copied();
    match (written.as_bytes().first(), written.len() > 1) {
        (Some(b'"'), _) => Ok(vec![of_text(&string(written)?, limit)]),
        (Some(b'['), true) if inner() == Some(b'"') => {
            let texts: Capped<String, MAX_PROMPTS> = serde_json::from_str(written)?;
            Ok(texts.0.iter().map(|text| of_text(text, limit)).collect())
        }
        (Some(b'['), true) if inner() == Some(b'[') => {
            let lists: Capped<Capped<u32, MAX_TOKEN_IDS>, MAX_PROMPTS> = serde_json::from_str(written)?;
            Ok(lists.0.into_iter().map(|ids| ids.0).collect())
        }
        (Some(b'['), true) => {
            let ids: Capped<u32, MAX_TOKEN_IDS> = serde_json::from_str(written)?;
            Ok(vec![ids.0])
        }
        _ => Err(bad(param, &format!("`{param}` must be a string or a list of token ids"))),
    }
}

pub(super) fn one_prompt(param: &'static str, written: &str, limit: u32) -> Result<Vec<u32>, ApiError> {
    match <[_; 1]>::try_from(prompts(param, written, limit)?) {
        Ok([prompt]) => Ok(prompt),
        Err(_several) => Err(bad(param, "this simulation takes one prompt per request")),
    }
}

fn string(written: &str) -> Result<Cow<'_, str>, ApiError> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(serde_json::from_str::<Text<'_>>(written)?.0)
}

/// A list of at most `N` items; reading a longer one fails at the first item too many.
pub(super) struct Capped<T, const N: usize>(pub(super) Vec<T>);

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
    use crate::sim::server::call::Call;

    fn tokens(text: &str) -> Vec<u32> {
        text::tokens(text).collect()
    }

    #[test]
    fn prompts_come_as_text_or_tokens() {
        for (name, written, want) in [
            ("a string", r#""a river""#, Some(vec![tokens("a river")])),
            ("a list of one string", r#"[ "a river" ]"#, Some(vec![tokens("a river")])),
            ("token ids", "[1, 2,3]", Some(vec![vec![1, 2, 3]])),
            ("a list of one list of ids", "[[1,2]]", Some(vec![vec![1, 2]])),
            ("no ids", "[]", Some(vec![vec![]])),
            ("two strings", r#"["a","b"]"#, Some(vec![tokens("a"), tokens("b")])),
            ("two lists", "[[1],[2,3]]", Some(vec![vec![1], vec![2, 3]])),
            ("a negative id", "[-1]", None),
            ("a string and a number", r#"["a",3]"#, None),
            ("a number", "7", None),
            ("an object", "{}", None),
        ] {
            assert_eq!(prompts("prompt", written, 100).ok(), want, "{name}");
            let one = want.filter(|prompts| prompts.len() == 1).map(|prompts| prompts[0].clone());
            assert_eq!(one_prompt("prompt", written, 100).ok(), one, "{name}");
        }
        let too_many = format!("[{}\"a\"]", "\"a\",".repeat(MAX_PROMPTS));
        assert!(prompts("prompt", &too_many, 100).is_err());
    }

    #[test]
    fn a_prompt_is_read_to_just_above_the_limit() {
        let long = format!("\"{}\"", "word ".repeat(1000));
        assert_eq!(one_prompt("prompt", &long, 10).unwrap().len(), 11);
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
}

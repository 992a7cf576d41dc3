//! Reads `OpenAI` completions and chat bodies as v1.0.1 does, plus the array forms. One entry point: [`parse`].
//!
//! Only what routing needs is decoded; everything else is skipped over in one pass, and nothing is re-encoded: the
//! model's place in the bytes is returned, so that a rewrite can splice it. Of a long prompt the beginning is kept and
//! the rest counted; lists are read as they stream by, so a hostile body costs one pass and no more memory than that.

use std::ops::Range;

use epp_framework::request::{BYTES_PER_TOKEN, Prompt};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use super::json::{self, each_element};

/// What a request body says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedBody {
    /// `model`.
    pub model: String,
    /// Place of the model's JSON string in the body, quotes included.
    pub model_span: Range<usize>,
    /// Upper bound of output tokens: `max_completion_tokens`, else `max_tokens`.
    pub max_tokens: Option<u64>,
    /// The prompt; the beginning of it when it is very long.
    pub prompt: Prompt,
    /// Tokens of the whole prompt, estimated for text.
    pub prompt_tokens: u64,
}

/// Why a body cannot be routed. Checked in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not UTF-8 JSON, or not an object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// No string `model`.
    #[error("the body has no string `model`")]
    ModelMissing,
    /// Neither `prompt` nor `messages`.
    #[error("the body has neither `prompt` nor `messages`")]
    PromptMissing,
    /// `prompt` is neither a string nor a list of strings or of token ids.
    #[error("`prompt` is neither a string nor a list of strings or token ids")]
    PromptNotAString,
    /// `messages` is not a list.
    #[error("`messages` is not a list")]
    MessagesNotAList,
    /// `messages` is empty.
    #[error("`messages` is empty")]
    MessagesEmpty,
}

/// Reads a body. Of duplicate keys the last wins, as in the model servers.
pub fn parse(body: &[u8]) -> Result<ParsedBody, ParseError> {
    let text = std::str::from_utf8(body).map_err(|_| ParseError::NotAnObject)?;
    let top = TopLevel::read(text).ok_or(ParseError::NotAnObject)?;
    let model_json = top.model.ok_or(ParseError::ModelMissing)?.get();
    let model = serde_json::from_str::<String>(model_json).map_err(|_| ParseError::ModelMissing)?;
    // A raw value borrows from the body, so its address tells its place.
    let start = model_json.as_ptr().addr() - body.as_ptr().addr();
    let (prompt, prompt_tokens) = match (top.messages, top.prompt) {
        (Some(messages), _) => read_messages(messages)?,
        (None, Some(prompt)) => read_prompt(prompt)?,
        (None, None) => return Err(ParseError::PromptMissing),
    };
    let given = |bound: &&RawValue| bound.get() != "null";
    let bound = top.max_completion_tokens.filter(given).or(top.max_tokens);
    Ok(ParsedBody {
        model,
        model_span: start..start + model_json.len(),
        max_tokens: bound.and_then(|raw| raw.get().parse().ok()),
        prompt,
        prompt_tokens,
    })
}

/// The members of the body that matter, undecoded.
#[derive(Default)]
struct TopLevel<'a> {
    model: Option<&'a RawValue>,
    prompt: Option<&'a RawValue>,
    messages: Option<&'a RawValue>,
    max_tokens: Option<&'a RawValue>,
    max_completion_tokens: Option<&'a RawValue>,
}

impl<'a> TopLevel<'a> {
    fn read(body: &'a str) -> Option<Self> {
        let mut top = Self::default();
        json::each_member(body, |key, value| {
            let place = match key {
                "model" => &mut top.model,
                "prompt" => &mut top.prompt,
                "messages" => &mut top.messages,
                "max_tokens" => &mut top.max_tokens,
                "max_completion_tokens" => &mut top.max_completion_tokens,
                _ => return,
            };
            *place = Some(value);
        })?;
        Some(top)
    }
}

/// Most prompt text kept, in bytes. Prefix matching needs the beginning only.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// Most token ids kept.
const MAX_TOKENS: usize = 1 << 20;

/// Most messages, parts and prompts that are looked into; those beyond are not part of the prompt.
const MAX_ELEMENTS: usize = 1 << 16;

/// A prompt as it is read: text up to a limit, and how long it would have been.
#[derive(Default)]
struct PromptText {
    text: String,
    n_bytes: usize,
    n_elements: usize,
}

impl PromptText {
    fn push(&mut self, piece: &str) {
        self.n_bytes += piece.len();
        let room = MAX_TEXT_BYTES.saturating_sub(self.text.len()).min(piece.len());
        let fits = (0..=room).rev().find(|&at| piece.is_char_boundary(at)).unwrap_or(0);
        self.text.push_str(&piece[..fits]);
    }

    /// Whether one more element may be looked into.
    fn admit(&mut self) -> bool {
        self.n_elements += 1;
        self.n_elements <= MAX_ELEMENTS
    }

    fn finish(self) -> (Prompt, u64) {
        let n_tokens = self.n_bytes.div_ceil(BYTES_PER_TOKEN) as u64;
        (Prompt::Text(self.text), n_tokens)
    }
}

fn read_prompt(raw: &RawValue) -> Result<(Prompt, u64), ParseError> {
    let mut prompt = PromptText::default();
    if raw.get().starts_with('"') {
        prompt.push(&json::text(raw).ok_or(ParseError::PromptNotAString)?);
        return Ok(prompt.finish());
    }
    if let Some(tokens) = read_tokens(raw.get()) {
        return Ok(tokens);
    }
    let mut all_strings = true;
    each_element(raw.get(), |element| {
        let Some(text) = json::text(element) else {
            all_strings = false;
            return false;
        };
        if prompt.n_elements > 0 {
            prompt.push(" ");
        }
        prompt.push(&text);
        prompt.admit()
    })
    .filter(|()| all_strings && prompt.n_elements > 0)
    .ok_or(ParseError::PromptNotAString)?;
    Ok(prompt.finish())
}

/// Reads a list of token ids, or of lists of them, joined. `raw` is JSON, so only its characters need a look.
fn read_tokens(raw: &str) -> Option<(Prompt, u64)> {
    let mut depth = 0;
    for byte in raw.bytes() {
        match byte {
            b'[' if depth < 2 => depth += 1,
            b']' => depth -= 1,
            b'0'..=b'9' | b',' | b' ' | b'\n' | b'\r' | b'\t' if depth > 0 => {}
            _ => return None,
        }
    }
    let mut tokens = Vec::new();
    let mut n_tokens = 0;
    for number in raw.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty()) {
        let token = number.parse().ok()?;
        n_tokens += 1;
        if tokens.len() < MAX_TOKENS {
            tokens.push(token);
        }
    }
    (n_tokens > 0).then_some((Prompt::Tokens(tokens), n_tokens))
}

/// Joins messages as `ChatML`. Entries that are not objects with a string role are left out, as v1.0.1 does.
fn read_messages(raw: &RawValue) -> Result<(Prompt, u64), ParseError> {
    let mut prompt = PromptText::default();
    each_element(raw.get(), |message| {
        let (mut role, mut content) = (None, None);
        let is_object = json::each_member(message.get(), |key, value| match key {
            "role" => role = json::text(value),
            "content" => content = Some(value),
            _ => {}
        });
        if is_object.is_some()
            && let (Some(role), Some(content)) = (role, content)
            && content.get().starts_with(['"', '['])
        {
            prompt.push("<|im_start|>");
            prompt.push(&role);
            prompt.push("\n");
            push_content(&mut prompt, content);
            prompt.push("<|im_end|>\n");
        }
        prompt.admit()
    })
    .ok_or(ParseError::MessagesNotAList)?;
    if prompt.n_elements == 0 { Err(ParseError::MessagesEmpty) } else { Ok(prompt.finish()) }
}

/// Appends a message's content: a string, or a list of parts. What is no object in that list is left out.
fn push_content(prompt: &mut PromptText, content: &RawValue) {
    if let Some(text) = json::text(content) {
        prompt.push(&text);
        return;
    }
    each_element(content.get(), |part| {
        let mut text = None;
        let is_object = json::each_member(part.get(), |key, value| {
            if key == "text" {
                text = json::text(value);
            }
        });
        if is_object.is_some() {
            match text {
                Some(text) => prompt.push(&text),
                // Media tell prompts apart by their digest; their bytes need not be hashed block by block.
                None => prompt.push(&format!("<|{:016x}|>", xxh3_64(part.get().as_bytes()))),
            }
        }
        prompt.admit()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(body: &str) -> Result<Prompt, ParseError> {
        parse(body.as_bytes()).map(|parsed| parsed.prompt)
    }

    /// Rows 51 to 57 of the functional specification. Where they differ from v1.0.1 we stay with it: an empty `prompt`
    /// text is the model server's to refuse (56), and nothing is put between the parts of a message (57).
    #[test]
    fn rows_51_to_57_prompts_are_read() {
        for (row, body, want) in [
            (
                "51",
                r#"{"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":"b\n"}]}"#,
                "<|im_start|>system\na<|im_end|>\n<|im_start|>user\nb\n<|im_end|>\n",
            ),
            ("52", r#"{"model":"m","prompt":"test prompt"}"#, "test prompt"),
            ("54", r#"{"model":"m","prompt":["a","b"]}"#, "a b"),
            ("56", r#"{"model":"m","prompt":""}"#, ""),
            (
                "57 text parts",
                r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}"#,
                "<|im_start|>user\nab<|im_end|>\n",
            ),
            (
                "58: entries that are no messages are left out",
                r#"{"model":"m","messages":[1,{"role":2,"content":"x"},{"role":"user","content":{}},{"role":"user","content":"b"}]}"#,
                "<|im_start|>user\nb<|im_end|>\n",
            ),
        ] {
            assert_eq!(prompt(body), Ok(Prompt::Text(want.into())), "row {row}");
        }
        for (row, body) in [
            ("55", r#"{"model":"m","prompt":[1,2,3]}"#),
            ("55, lists", r#"{"model":"m","prompt":[[1],[2,3]]}"#),
        ] {
            assert_eq!(prompt(body), Ok(Prompt::Tokens(vec![1, 2, 3])), "row {row}");
        }
        for kind in ["image_url", "input_audio", "video_url"] {
            let part = format!(r#"{{"type":"{kind}","{kind}":{{"url":"x"}}}}"#);
            let content = format!(r#"[{{"type":"text","text":"a"}},{part},{{"type":"text","text":"b"}}]"#);
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#);
            let digest = xxh3_64(part.as_bytes());
            let want = format!("<|im_start|>user\na<|{digest:016x}|>b<|im_end|>\n");
            assert_eq!(prompt(&body), Ok(Prompt::Text(want)), "row 57, {kind}");
        }
    }

    /// As in Go. Python's clients send them when they cut text that a browser gave them.
    #[test]
    fn half_a_surrogate_pair_spoils_neither_prompt_nor_body() {
        let halved = Prompt::Text("a\u{fffd}\u{fffd}\u{fffd}b".into());
        for body in [
            r#"{"model":"m","prompt":"a\ud800b"}"#,
            r#"{"model":"m","prompt":["a\udfffb"]}"#,
            r#"{"\ud800":"\ud800","model":"m","prompt":"a\uD83Db"}"#,
        ] {
            assert_eq!(prompt(body).as_ref(), Ok(&halved), "{body}");
        }
        let chat = r#"{"model":"m","messages":[{"role":"user","content":"a\ud800b"},{"role":"user","content":[{"text":"\ud83d\ude00\ud800"}]}]}"#;
        let want = "<|im_start|>user\na\u{fffd}\u{fffd}\u{fffd}b<|im_end|>\n<|im_start|>user\n\u{1f600}\u{fffd}\u{fffd}\u{fffd}<|im_end|>\n";
        assert_eq!(prompt(chat), Ok(Prompt::Text(want.into())));
        assert_eq!(prompt(r#"{"model":"\ud800","prompt":"a"}"#), Err(ParseError::ModelMissing));
        // No JSON at all, with or without such a half.
        for body in
            ["{\"a\0\":1,\"model\":\"m\",\"prompt\":\"a\"}", "{\"model\":\"m\",\"prompt\":\"\\ud800\n\"}"]
        {
            assert_eq!(prompt(body), Err(ParseError::NotAnObject), "{body:?}");
        }
    }

    #[test]
    fn odd_keys_spoil_no_message() {
        for (row, messages, want) in [
            ("the last role counts", r#"[{"role":"a","content":"b","role":"user"}]"#, "b"),
            ("the last content counts", r#"[{"role":"user","content":"a","content":"b"}]"#, "b"),
            ("a repeated key of no concern", r#"[{"n":1,"role":"user","content":"b","n":2}]"#, "b"),
            ("half a surrogate pair", r#"[{"\ud800":1,"role":"user","content":"b"}]"#, "b"),
            ("the last text counts", r#"[{"role":"user","content":[{"text":"a","text":"b"}]}]"#, "b"),
            ("half a pair in a part", r#"[{"role":"user","content":[{"text":"b","\udfff":1}]}]"#, "b"),
        ] {
            let want = Prompt::Text(format!("<|im_start|>user\n{want}<|im_end|>\n"));
            assert_eq!(prompt(&format!(r#"{{"model":"m","messages":{messages}}}"#)), Ok(want), "{row}");
        }
    }

    /// Rows 53, 56 and 59, and more.
    #[test]
    fn rows_53_56_59_and_other_bodies_that_cannot_be_routed() {
        use ParseError::{
            MessagesEmpty, MessagesNotAList, ModelMissing, NotAnObject, PromptMissing, PromptNotAString,
        };
        let deep = format!(r#"{{"model":"m","prompt":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        for (body, want) in [
            (r#"{"model":"m","prompt":[{"a":1}]}"#, PromptNotAString),
            (r#"{"model":"m","prompt":123}"#, PromptNotAString),
            (r#"{"model":"m","prompt":[]}"#, PromptNotAString),
            (r#"{"model":"m","messages":{"a":1}}"#, MessagesNotAList),
            (r#"{"model":"m","messages":"invalid"}"#, MessagesNotAList),
            (r#"{"model":"m","messages":[]}"#, MessagesEmpty),
            (r#"{"model":"m"}"#, PromptMissing),
            (r#"{"hello":"world"}"#, ModelMissing),
            (r#"{"model":7,"prompt":"a"}"#, ModelMissing),
            (r#"{"model":null,"prompt":"a"}"#, ModelMissing),
            ("no healthy upstream", NotAnObject),
            ("[1]", NotAnObject),
            ("\"model\"", NotAnObject),
            ("", NotAnObject),
            (r#"{"model":"m","prompt":"a"} x"#, NotAnObject),
            (r#"{"model":"m","prompt":"a"#, NotAnObject),
            (&deep, PromptNotAString),
        ] {
            assert_eq!(prompt(body), Err(want), "{}", &body[..body.len().min(60)]);
        }
        assert_eq!(parse(b"{\"model\":\"m\",\"prompt\":\"\xff\"}"), Err(NotAnObject));
        assert_eq!(parse(b"{\"model\":\"m\",\"prompt\":\"a\",\"x\":\"\xff\"}"), Err(NotAnObject));
    }

    #[test]
    fn values_nested_20000_deep_are_skipped_where_they_do_not_matter() {
        let deep =
            format!(r#"{{"x":{}{},"model":"m","prompt":"p"}}"#, "[".repeat(20_000), "]".repeat(20_000));
        assert_eq!(prompt(&deep), Ok(Prompt::Text("p".into())));
    }

    #[test]
    fn the_model_is_found_where_it_stands() {
        for (body, model, span) in [
            (r#"{"model":"m","prompt":"p"}"#, "m", r#""m""#),
            (r#"{ "prompt" : "p" , "model" : "a\"b" }"#, "a\"b", r#""a\"b""#),
            (r#"{"model":"first","prompt":"p","mod\u0065l":"last"}"#, "last", r#""last""#),
        ] {
            let parsed = parse(body.as_bytes()).unwrap();
            assert_eq!((parsed.model.as_str(), &body[parsed.model_span]), (model, span));
        }
    }

    #[test]
    fn bounds_are_read_leniently() {
        for (members, want) in [
            (r#""max_tokens":5"#, Some(5)),
            (r#""max_tokens":5,"max_completion_tokens":null"#, Some(5)),
            (r#""max_tokens":5,"max_completion_tokens":7"#, Some(7)),
            (r#""max_tokens":-1"#, None),
            (r#""max_tokens":"5""#, None),
        ] {
            let parsed = parse(format!(r#"{{"model":"m","prompt":"p",{members}}}"#).as_bytes()).unwrap();
            assert_eq!(parsed.max_tokens, want, "{members}");
        }
    }

    /// A hostile body costs one pass: what is kept is bounded, whatever the lists hold.
    #[test]
    fn long_lists_and_long_texts_are_counted_and_kept_in_part() {
        let list = |element: &str, n: usize| format!("[{}]", vec![element; n].join(","));
        let n = 2 * MAX_TOKENS;
        for (name, member, kept, n_tokens) in [
            ("tokens", format!(r#""prompt":{}"#, list("1", n)), 4 * MAX_TOKENS, n),
            ("lists of tokens", format!(r#""prompt":{}"#, list("[1]", n)), 4 * MAX_TOKENS, n),
            ("empty prompts", format!(r#""prompt":{}"#, list("\"\"", n)), MAX_ELEMENTS, MAX_ELEMENTS / 4 + 1),
            ("a long prompt", format!(r#""prompt":"{}""#, "é".repeat(3 << 20)), MAX_TEXT_BYTES, 6 << 18),
            ("no messages", format!(r#""messages":{}"#, list("1", n)), 0, 0),
            ("no parts", format!(r#""messages":[{{"role":"u","content":{}}}]"#, list("1", n)), 25, 7),
            (
                "media",
                format!(r#""messages":[{{"role":"u","content":{}}}]"#, list("{}", n)),
                20 << 16,
                5 << 16,
            ),
        ] {
            let parsed = parse(format!(r#"{{"model":"m",{member}}}"#).as_bytes()).unwrap();
            let (length, about) =
                (parsed.prompt.bytes().len(), kept.abs_diff(parsed.prompt.bytes().len()) <= 64);
            assert!(about && length <= MAX_TEXT_BYTES, "{name}: {length} bytes kept, expected about {kept}");
            let tokens = usize::try_from(parsed.prompt_tokens).unwrap();
            assert!(tokens.abs_diff(n_tokens) <= 16, "{name}: {tokens} tokens, expected about {n_tokens}");
        }
    }

    #[test]
    fn media_tell_prompts_apart() {
        let body = |url: &str| {
            format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]}}"#
            )
        };
        assert_ne!(prompt(&body("a")), prompt(&body("b")));
        assert_eq!(prompt(&body("a")), prompt(&body("a")));
    }
}

//! The parsers: the rows of the specification, bodies that break off, and bodies that are none.

use epp_framework::parsing::{Fault, ModelPlace, ParseError, ParsedRequest, RequestBody};
use epp_framework::plugin::{Kind, PluginType};
use epp_framework::prompt::{MediaItem, MediaKind};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::testing::built;

mod samples;

fn parse_with(built_in: &PluginType, path: &str, body: &[u8]) -> Result<ParsedRequest, ParseError> {
    let bytes = body.to_vec().into();
    built(built_in, "{}").parser.unwrap().parse(&RequestBody { path, bytes: &bytes, whole: true })
}

fn text_of(parsed: &ParsedRequest) -> String {
    String::from_utf8(parsed.prompt.to_vec()).unwrap()
}

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// Rows 51 to 57, 60, 61 and 64 of the functional specification. Where they differ from v1.0.1 we stay with it: an empty
/// `prompt` text is the model server's to refuse (56), and nothing is put between the parts of a message (57).
#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the table")]
fn rows_51_to_57_60_61_64_prompts_are_read() {
    let user = "<|im_start|>user\n";
    for (row, path, body, want) in [
        (
            "51",
            "",
            r#"{"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":"b\n"}]}"#,
            "<|im_start|>system\na<|im_end|>\n<|im_start|>user\nb\n<|im_end|>\n".to_owned(),
        ),
        ("52", "", r#"{"model":"m","prompt":"test prompt"}"#, "test prompt".to_owned()),
        ("54", COMPLETIONS, r#"{"model":"m","prompt":["a","b"]}"#, "a b".to_owned()),
        ("56", COMPLETIONS, r#"{"model":"m","prompt":""}"#, String::new()),
        (
            "57 text parts",
            CHAT,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}"#,
            format!("{user}ab<|im_end|>\n"),
        ),
        (
            "58: entries that are no messages are left out",
            CHAT,
            r#"{"model":"m","messages":[1,{"role":2,"content":"x"},{"role":"user","content":{}},{"role":"user","content":"b"}]}"#,
            format!("{user}b<|im_end|>\n"),
        ),
        ("61", "", r#"{"model":"m","prompt":"a"}"#, "a".to_owned()),
        (
            "64",
            "/v1/chat/completions/render",
            r#"{"model":"m","messages":[{"role":"user","content":"b"}]}"#,
            format!("{user}b<|im_end|>\n"),
        ),
        (
            "64, slash",
            "/v1/chat/completions/",
            r#"{"model":"m","messages":[{"content":"b","role":"user"}]}"#,
            format!("{user}b<|im_end|>\n"),
        ),
        ("the last key counts", COMPLETIONS, r#"{"model":"m","prompt":"a","prompt":"b"}"#, "b".to_owned()),
        (
            "the last messages count",
            CHAT,
            r#"{"model":"m","messages":[{"role":"a","content":"b"}],"messages":[{"role":"user","content":"b","content":"c"}]}"#,
            format!("{user}c<|im_end|>\n"),
        ),
        (
            "half a surrogate pair",
            CHAT,
            r#"{"model":"m","messages":[{"\ud800":1,"role":"user","content":"a\ud800\ud83d\ude00b"}]}"#,
            format!("{user}a\u{fffd}\u{1f600}b<|im_end|>\n"),
        ),
        (
            "responses with items",
            "/v1/responses",
            r#"{"model":"m","instructions":"I","input":[{"role":"user","content":[{"type":"input_text","text":"t"}]},{"type":"function_call_output","output":"o"}]}"#,
            format!(
                r#"I{user}t<|im_end|>
{{"type":"function_call_output","output":"o"}}"#
            ),
        ),
        (
            "conversations",
            "/v1/conversations",
            r#"{"model":"m","items":[{"role":"user","content":"b"}]}"#,
            format!("{user}b<|im_end|>\n"),
        ),
    ] {
        let parsed = parse_with(&openai::TYPE, path, body.as_bytes()).expect(row);
        assert_eq!((text_of(&parsed), parsed.fault), (want, None), "row {row}");
        assert_eq!(parsed.model.as_deref(), Some("m"), "row {row}");
    }
    for (row, body) in
        [("55", r#"{"model":"m","prompt":[1,2,3]}"#), ("55, lists", r#"{"model":"m","prompt":[[1],[2,3]]}"#)]
    {
        let parsed = parse_with(&openai::TYPE, COMPLETIONS, body.as_bytes()).unwrap();
        assert_eq!(parsed.prompt.to_vec(), [1u32, 2, 3].map(u32::to_le_bytes).concat(), "row {row}");
        assert_eq!((parsed.prompt.n_tokens(), parsed.fault), (3, None), "row {row}");
    }
    for (kind, want) in
        [("image_url", MediaKind::Image), ("input_audio", MediaKind::Audio), ("video_url", MediaKind::Video)]
    {
        let part = format!(r#"{{"type":"{kind}","{kind}":{{"url":"x"}}}}"#);
        let content = format!(r#"[{{"type":"text","text":"a"}},{part},{{"type":"text","text":"b"}}]"#);
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#);
        let parsed = parse_with(&openai::TYPE, CHAT, body.as_bytes()).unwrap();
        let item = MediaItem { kind: want, digest: xxh3_64(part.as_bytes()) };
        assert_eq!(parsed.prompt.media().collect::<Vec<_>>(), [item], "row 57, {kind}");
        let mut text = format!("{user}a").into_bytes();
        text.extend(item.digest.to_le_bytes());
        text.extend(b"b<|im_end|>\n");
        assert_eq!(parsed.prompt.to_vec(), text, "row 57, {kind}");
    }
}

/// Rows 53, 56, 59, 62, 63, 66 and 67: the words are those of v1.5 and llm-d; v1.0.1's stand behind them.
#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the table")]
fn rows_53_56_59_62_63_66_67_what_an_api_cannot_be_without() {
    const COMPLETION: &str = "invalid completions request: must have prompt field";
    const MESSAGES: &str = "invalid chat completions request: must have valid messages field";
    let generate = "/inference/v1/generate";
    for (row, built_in, path, body, want, legacy) in [
        (
            "53",
            openai::TYPE,
            "",
            r#"{"model":"m","prompt":[{"a":1}]}"#,
            COMPLETION,
            Some("prompt is not a string"),
        ),
        ("53", openai::TYPE, "", r#"{"model":"m","prompt":123}"#, COMPLETION, Some("prompt is not a string")),
        (
            "53",
            openai::TYPE,
            "",
            r#"{"model":"m","messages":{"a":1}}"#,
            MESSAGES,
            Some("messages is not a list"),
        ),
        (
            "53",
            openai::TYPE,
            "",
            r#"{"model":"m","messages":"invalid"}"#,
            MESSAGES,
            Some("messages is not a list"),
        ),
        ("53", openai::TYPE, "", r#"{"model":"m"}"#, COMPLETION, Some("prompt not found in request")),
        (
            "54 of servers",
            openai::TYPE,
            COMPLETIONS,
            r#"{"model":"m","prompt":["a",3]}"#,
            COMPLETION,
            Some("prompt is not a string"),
        ),
        (
            "56",
            openai::TYPE,
            COMPLETIONS,
            r#"{"model":"m","prompt":[]}"#,
            COMPLETION,
            Some("prompt is not a string"),
        ),
        ("59", openai::TYPE, CHAT, r#"{"model":"m","messages":[]}"#, MESSAGES, Some("messages is empty")),
        (
            "chat",
            openai::TYPE,
            CHAT,
            r#"{"model":"m","prompt":"a"}"#,
            MESSAGES,
            Some("prompt not found in request"),
        ),
        (
            "62",
            openai::TYPE,
            "/v1/responses",
            r#"{"model":"m"}"#,
            "invalid responses request: must have input field",
            None,
        ),
        (
            "62",
            openai::TYPE,
            "/v1/responses",
            r#"{"model":"m","input":null}"#,
            "invalid responses request: must have input field",
            None,
        ),
        (
            "62",
            openai::TYPE,
            "/v1/conversations",
            r#"{"model":"m","items":[]}"#,
            "invalid conversations request: must have items field",
            None,
        ),
        (
            "62",
            openai::TYPE,
            "/v1/embeddings",
            r#"{"model":"m","input":null}"#,
            "invalid embeddings request: must have input field",
            None,
        ),
        (
            "63",
            openai::TYPE,
            "/v1/images/generations",
            r#"{"prompt":""}"#,
            "invalid images generations request: must have prompt field",
            None,
        ),
        (
            "messages",
            anthropic::TYPE,
            "/v1/messages",
            r#"{"model":"m","messages":[]}"#,
            "invalid messages request: must have at least one message",
            None,
        ),
        (
            "66",
            token_ids::VLLM,
            generate,
            r#"{"token_ids":[-1]}"#,
            "invalid generate request: token_ids must be a list of integers from 0 to 4294967295",
            None,
        ),
        (
            "66",
            token_ids::VLLM,
            generate,
            r#"{"token_ids":[]}"#,
            "invalid generate request: token_ids must be a non-empty list",
            None,
        ),
        (
            "67",
            token_ids::SGLANG,
            "/generate",
            r#"{"input_ids":[[1],[2]]}"#,
            "invalid generate request: input_ids must be a list of integers from 0 to 4294967295",
            None,
        ),
        (
            "67",
            token_ids::SGLANG,
            "/generate",
            r#"{"input_ids":[-1]}"#,
            "invalid generate request: input_ids must be a list of integers from 0 to 4294967295",
            None,
        ),
        (
            "67",
            token_ids::SGLANG,
            "/generate",
            r#"{"input_ids":[1.5]}"#,
            "invalid generate request: input_ids must be a list of integers from 0 to 4294967295",
            None,
        ),
        (
            "67",
            token_ids::SGLANG,
            "/generate",
            r#"{"text":"a"}"#,
            "invalid generate request: input_ids must be a non-empty list",
            None,
        ),
        (
            "67",
            token_ids::SGLANG,
            "/generate",
            r#"{"input_ids":[1],"extra_key":["a"]}"#,
            "invalid generate request: extra_key must be a string",
            None,
        ),
    ] {
        let parsed = parse_with(&built_in, path, body.as_bytes()).unwrap();
        let want = Some(Fault { message: want.into(), legacy });
        assert_eq!(parsed.fault, want, "row {row}: {body}");
    }
}

#[test]
fn rows_65_and_68_and_other_members() {
    let count_tokens = "/v1/messages/count_tokens";
    for body in ["", "no JSON", "{}"] {
        let parsed = parse_with(&anthropic::TYPE, count_tokens, body.as_bytes()).expect("row 65");
        assert!(!parsed.needs_model && parsed.fault.is_none() && parsed.prompt.is_empty(), "row 65");
    }
    for (bounds, want) in [
        (r#""max_tokens":7,"max_completion_tokens":5"#, Some(5)),
        (r#""max_completion_tokens":5,"max_tokens":7"#, Some(5)),
        (r#""max_tokens":0"#, Some(0)),
        (r#""max_tokens":-1"#, None),
        (r#""max_completion_tokens":-1,"max_tokens":7"#, Some(7)),
        (r#""max_completion_tokens":null,"max_tokens":7"#, Some(7)),
        (r#""max_tokens":7.0"#, Some(7)),
        (r#""max_tokens":7.5"#, None),
        (r#""max_tokens":"7""#, None),
    ] {
        let body = format!(r#"{{"model":"m","messages":[{{}}],{bounds}}}"#);
        let parsed = parse_with(&openai::TYPE, CHAT, body.as_bytes()).unwrap();
        assert_eq!(parsed.max_tokens, want, "row 68: {bounds}");
    }
    for (stream, want) in
        [("true", true), ("1", true), (r#""True""#, true), ("false", false), ("0", false), ("null", false)]
    {
        let body = format!(r#"{{"model":"m","stream":{stream},"prompt":"a"}}"#);
        assert_eq!(parse_with(&openai::TYPE, "", body.as_bytes()).unwrap().stream, want, "{stream}");
    }
    let body = br#"{"token_ids":[1,2],"features":{"mm_hashes":{"image":["h"]}},"cache_salt":"s","sampling_params":{"n":1,"max_tokens":9}}"#;
    let vllm = parse_with(&token_ids::VLLM, "/inference/v1/generate", body).unwrap();
    assert_eq!((vllm.max_tokens, vllm.cache_salt.as_deref(), vllm.needs_model), (Some(9), Some("s"), false));
    assert!(vllm.prompt.to_vec().starts_with(br#"{"mm_hashes""#));
    let body = br#"{"input_ids":[1,2],"extra_key":"s","stream":true,"sampling_params":{"max_new_tokens":9}}"#;
    let sglang = parse_with(&token_ids::SGLANG, "/generate", body).unwrap();
    assert_eq!((sglang.max_tokens, sglang.cache_salt.as_deref(), sglang.stream), (Some(9), Some("s"), true));
}

/// A body costs memory in proportion to its bytes, whatever it repeats.
#[test]
fn of_repeated_members_the_last_counts_and_nothing_else_is_kept() {
    let tools = vec![r#""tools":0"#; 1000].join(",");
    let body = format!(
        r#"{{"model":"m",{tools},"tools":7,"messages":[{{"role":"u","tool_calls":0,"tool_calls":8}}]}}"#
    );
    let parsed = parse_with(&openai::TYPE, CHAT, body.as_bytes()).unwrap();
    assert_eq!(text_of(&parsed), "7<|im_start|>u\n8<|im_end|>\n");
    let long = format!(r#"{{"model":"{}","prompt":"a"}}"#, "m".repeat(5000));
    let parsed = parse_with(&openai::TYPE, COMPLETIONS, long.as_bytes()).unwrap();
    assert_eq!(parsed.model, None, "no model has such a name");
}

#[test]
fn a_claim_is_the_end_of_a_path_or_all_of_it() {
    for (claim, path, want) in [
        ("chat/completions", "/v1/chat/completions", true),
        ("chat/completions", "/v1/chat/completions/", true),
        ("completions", "/v1/mycompletions", false),
        ("/generate", "/generate", true),
        ("/generate", "/api/generate", false),
        ("a.B/*", "/a.B/C", true),
        ("a.B/*", "/x.a.B/C", false),
        ("a.B/*", "/a.B", false),
    ] {
        assert_eq!(claims(claim, path), want, "{claim} {path}");
    }
}

/// What vLLM takes beyond the API.
#[test]
fn embeddings_stand_for_a_prompt_and_a_chat_can_be_embedded() {
    for (path, body, text) in [
        (COMPLETIONS, r#"{"model":"m","prompt_embeds":"AAAA"}"#, ""),
        (COMPLETIONS, r#"{"model":"m","prompt":null,"prompt_embeds":["AAAA"]}"#, ""),
        (
            "/v1/embeddings",
            r#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#,
            "<|im_start|>user\na<|im_end|>\n",
        ),
    ] {
        let parsed = parse_with(&openai::TYPE, path, body.as_bytes()).unwrap();
        assert_eq!((text_of(&parsed).as_str(), parsed.fault), (text, None), "{body}");
    }
}

/// The model's place, wherever it is; `null` and nothing at all leave a place for one.
#[test]
fn a_model_can_be_put_in_its_place() {
    for (body, model, want) in [
        (r#"{"model" : "a" , "prompt":"b"}"#, Some("a"), r#"{"model" : "x\"" , "prompt":"b"}"#),
        (r#"{"prompt":"b","model":"a\u002f"}"#, Some("a/"), r#"{"prompt":"b","model":"x\""}"#),
        (
            r#"{"model":"a","prompt":"b","model":"c"}"#,
            Some("c"),
            r#"{"model":"a","prompt":"b","model":"x\""}"#,
        ),
        (r#"{"mod\u0065l":"a","prompt":"b"}"#, Some("a"), r#"{"mod\u0065l":"x\"","prompt":"b"}"#),
        (r#"{"prompt":"b"}"#, None, r#"{"model":"x\"","prompt":"b"}"#),
        (" { } ", None, r#" {"model":"x\"" } "#),
        (r#"{"model":null,"prompt":"b"}"#, None, r#"{"model":"x\"","prompt":"b"}"#),
        (r#"{"model":{"a":[1]},"prompt":"b"}"#, None, r#"{"model":"x\"","prompt":"b"}"#),
    ] {
        let parsed = parse_with(&openai::TYPE, "", body.as_bytes()).unwrap();
        assert_eq!(parsed.model.as_deref(), model, "{body}");
        let (range, bytes) = parsed.model_place.splice("x\"").unwrap();
        let spliced = [&body.as_bytes()[..range.start], &bytes, &body.as_bytes()[range.end..]].concat();
        assert_eq!(String::from_utf8(spliced).unwrap(), want, "{body}");
    }
}

#[test]
fn what_is_no_json_object_is_refused_unless_nobody_asked_for_one() {
    let deep = format!(r#"{{"model":"m","prompt":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    for body in [
        &b"no healthy upstream"[..],
        b"[1]",
        b"\"model\"",
        b"",
        br#"{"model":"m","prompt":"a"} x"#,
        br#"{"model":"m","prompt":"a"#,
        b"{\"model\":\"m\",\"prompt\":\"\xff\"}",
        deep.as_bytes(),
    ] {
        for built_in in [openai::TYPE, anthropic::TYPE, token_ids::VLLM, token_ids::SGLANG] {
            let read = parse_with(&built_in, "", body);
            assert!(matches!(read, Err(ParseError::NotAnObject(_))), "{}: {read:?}", built_in.name);
        }
        for built_in in [generic::TYPE, passthrough::TYPE] {
            let read = parse_with(&built_in, "", body).unwrap();
            assert!(read.model.is_none() && read.fault.is_none(), "{}", built_in.name);
        }
    }
}

fn parse_beginning(body: &[u8]) -> (Option<String>, ModelPlace, Vec<u8>) {
    let bytes = body.to_vec().into();
    let parser = built(&openai::TYPE, "{}").parser.unwrap();
    let parsed = parser.parse(&RequestBody { path: "", bytes: &bytes, whole: false }).unwrap_or_default();
    assert_eq!(parsed.fault, None, "what was not seen whole cannot be found faulty");
    (parsed.model, parsed.model_place, parsed.prompt.to_vec())
}

#[test]
fn what_is_there_of_a_beginning_is_read() {
    for (body, model, prompt) in [
        ("", None, ""),
        ("no object", None, ""),
        ("}", None, ""),
        ("{", None, ""),
        (r#" {"model":"m""#, Some("m"), ""),
        (r#"{"model":"m"#, None, ""),
        (r#"{"model":"m","pro"#, Some("m"), ""),
        (r#"{"model":"m","prompt":"#, Some("m"), ""),
        (r#"{"model":"m","prompt":"a b"#, Some("m"), "a b"),
        (r#"{"model":"m","prompt":"a\\"#, Some("m"), "a\\"),
        (r#"{"model":"m","prompt":"a\"#, Some("m"), "a"),
        (r#"{"model":"m","prompt":"a\u00e9\u00"#, Some("m"), "a\u{e9}"),
        (r#"{"model":"m","prompt":"a\ud83d\ude0"#, Some("m"), "a"),
        (r#"{"model":"m","prompt":"a\ud83d"#, Some("m"), "a"),
        (r#"{"model":"m","prompt":"a\ud83d\ude00b"#, Some("m"), "a\u{1f600}b"),
        (r#"{"prompt":"\ud800\ud83d\ude00","model":"m","n":1"#, Some("m"), "\u{fffd}\u{1f600}"),
        (r#"{"prompt":"a","model":"m","n":1"#, Some("m"), "a"),
        (r#"{"model":"m","prompt":[1,2,3"#, Some("m"), "\u{1}\0\0\0\u{2}\0\0\0"),
        (
            r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"#,
            None,
            "<|im_start|>user\na<|im_end|>\n<|im_start|>user\nb",
        ),
        (r#"{"model":"m","prompt":"whole"}"#, Some("m"), "whole"),
    ] {
        let (found, place, text) = parse_beginning(body.as_bytes());
        assert_eq!((found.as_deref(), String::from_utf8(text).unwrap().as_str()), (model, prompt), "{body}");
        assert_eq!(matches!(place, ModelPlace::Value(_)), model.is_some(), "{body}");
    }
    assert_eq!(parse_beginning(b"{\"prompt\":\"a\xc3").2, b"a", "half a character");
}

proptest! {
    /// However long the beginning, what is read of it is the beginning of what the whole body says.
    #[test]
    fn a_beginning_reads_as_a_beginning(prompt in "\\PC{0,40}", at in any::<usize>()) {
        let prompt_json = serde_json::to_string(&prompt).unwrap();
        let chat = format!(r#"{{"n":[1,{{"a":null}}],"messages":[{{"role":"user","content":[{{"type":"text","text":{prompt_json}}}]}}],"model":"m"}}"#);
        let completion = format!(r#"{{"n":[1,{{"a":null}}],"prompt":{prompt_json},"model":"m"}}"#);
        for body in [chat, completion] {
            let whole = parse_with(&openai::TYPE, "", body.as_bytes()).unwrap().prompt.to_vec();
            let beginning = parse_beginning(&body.as_bytes()[..at % (body.len() + 1)]).2;
            prop_assert!(whole.starts_with(&beginning));
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let tokens: Vec<u8> = body.iter().map(|byte| b"{}[],:\"\\u1a a"[usize::from(byte % 13)]).collect();
        for body in [body, tokens] {
            parse_beginning(&body);
            for built_in in crate::BUILT_IN.iter().filter(|built_in| built_in.kinds.contains(&Kind::Parser)) {
                let _ = parse_with(built_in, "", &body);
            }
        }
    }
}

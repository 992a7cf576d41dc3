//! The schemas through the parser, the rows of the specification first.

use epp_framework::parsing::{ParseError, ParsedRequest, RequestBody};

use super::*;
use crate::parser::json::MAX_DEPTH;
use crate::testing::built;

mod generated;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const CONVERSATIONS: &str = "/v1/conversations";
const EMBEDDINGS: &str = "/v1/embeddings";
const IMAGES: &str = "/v1/images/generations";

const ALL: [&Schema; 6] = [
    &openai::CHAT,
    &openai::COMPLETIONS,
    &openai::RESPONSES,
    &openai::CONVERSATIONS,
    &openai::EMBEDDINGS,
    &openai::IMAGES,
];

fn parse(parameters: &str, path: &str, body: &str, whole: bool) -> Result<ParsedRequest, ParseError> {
    let parser = built(&crate::parser::openai::TYPE, parameters).parser.unwrap();
    parser.parse(&RequestBody { path, bytes: &body.to_owned().into(), whole })
}

/// Why a request is refused, in both wordings.
fn fault(path: &str, body: &str) -> Option<(String, Option<&'static str>)> {
    let parsed = parse(r#"{"validate":true}"#, path, body, true).unwrap();
    parsed.fault.map(|fault| (fault.message.into_owned(), fault.legacy))
}

/// A chat with these members beside its model and its one message.
fn chat(members: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"a"}}],{members}}}"#)
}

/// A chat with these messages.
fn messages(messages: &str) -> String {
    format!(r#"{{"model":"m","messages":{messages}}}"#)
}

/// Row 58 and those like it. Each is taken if nobody asked for validation.
#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the table")]
fn row_58_what_breaks_the_schema_is_refused() {
    let completion = |members: &str| format!(r#"{{"model":"m","prompt":"a",{members}}}"#);
    for (row, path, body, want) in [
        (
            "58",
            CHAT,
            messages(r#"[{"role":"user"},{"role":5,"content":"a"}]"#),
            "/messages/1/role: expected a string, found a number",
        ),
        (
            "58",
            CHAT,
            messages(r#"[{"role":"user","content":5}]"#),
            "/messages/0/content: expected a string, a list or null, found a number",
        ),
        (
            "58: content is an object",
            CHAT,
            messages(r#"[{"role":"user","content":{"text":"a"}}]"#),
            "/messages/0/content: expected a string, a list or null, found an object",
        ),
        ("58", CHAT, chat(r#""tools":{}"#), "/tools: expected a list or null, found an object"),
        ("58", CHAT, chat(r#""documents":"a""#), "/documents: expected a list or null, found a string"),
        (
            "58",
            CHAT,
            chat(r#""chat_template":5"#),
            "/chat_template: expected a string or null, found a number",
        ),
        (
            "58",
            CHAT,
            chat(r#""return_assistant_tokens_mask":"a""#),
            "/return_assistant_tokens_mask: expected a boolean, found a string",
        ),
        (
            "58",
            CHAT,
            chat(r#""continue_final_message":null"#),
            "/continue_final_message: expected a boolean, found null",
        ),
        (
            "58",
            CHAT,
            chat(r#""add_generation_prompt":[]"#),
            "/add_generation_prompt: expected a boolean, found a list",
        ),
        (
            "58",
            CHAT,
            chat(r#""chat_template_kwargs":[]"#),
            "/chat_template_kwargs: expected an object or null, found a list",
        ),
        (
            "no role",
            CHAT,
            messages(r#"[{"content":"a"}]"#),
            "/messages/0/role: expected a string, found nothing",
        ),
        ("no message", CHAT, messages("[5]"), "/messages/0: expected an object, found a number"),
        (
            "a part",
            CHAT,
            messages(r#"[{"role":"user","content":["a",{"type":"text","text":5}]}]"#),
            "/messages/0/content/1/text: expected a string or null, found a number",
        ),
        (
            "an image",
            CHAT,
            messages(r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":5}}]}]"#),
            "/messages/0/content/0/image_url/url: expected a string or null, found a number",
        ),
        (
            "a tool",
            CHAT,
            chat(r#""tools":[{"function":{}}]"#),
            "/tools/0/function/name: expected a string, found nothing",
        ),
        (
            "a word",
            CHAT,
            chat(r#""tool_choice":"any""#),
            r#"/tool_choice: expected one of "none", "auto", "required", an object or null, found another string"#,
        ),
        (
            "a fraction",
            CHAT,
            chat(r#""max_tokens":7.5"#),
            "/max_tokens: expected an integer or null, found another number",
        ),
        (
            "no number",
            CHAT,
            chat(r#""max_tokens":"many""#),
            "/max_tokens: expected an integer or null, found a string",
        ),
        (
            "out of range",
            CHAT,
            chat(r#""n":0"#),
            "/n: expected an integer of at least 1 or null, found another number",
        ),
        (
            "out of range",
            CHAT,
            chat(r#""temperature":-0.1"#),
            "/temperature: expected a number of at least 0 or null, found another number",
        ),
        (
            "out of range",
            CHAT,
            chat(r#""top_p":1.1"#),
            "/top_p: expected a number from 0 to 1 or null, found another number",
        ),
        ("stream", CHAT, chat(r#""stream":2"#), "/stream: expected a boolean or null, found a number"),
        (
            "stream",
            COMPLETIONS,
            completion(r#""stream":"a""#),
            "/stream: expected a boolean or null, found a string",
        ),
        (
            "stream_options",
            COMPLETIONS,
            completion(r#""stream_options":{"include_usage":{}}"#),
            "/stream_options/include_usage: expected a boolean or null, found an object",
        ),
        ("stop", COMPLETIONS, completion(r#""stop":["a",1]"#), "/stop/1: expected a string, found a number"),
        (
            "the first of two",
            COMPLETIONS,
            completion(r#""n":0,"top_p":2"#),
            "/n: expected an integer of at least 1 or null, found another number",
        ),
        (
            "an earlier one of two alike",
            COMPLETIONS,
            completion(r#""echo":5,"echo":true"#),
            "/echo: expected a boolean or null, found a number",
        ),
        (
            "an escaped name",
            COMPLETIONS,
            completion(r#""ech\u006f":5"#),
            "/echo: expected a boolean or null, found a number",
        ),
        (
            "responses",
            RESPONSES,
            r#"{"model":"m","input":5}"#.to_owned(),
            "/input: expected a string or a list, found a number",
        ),
        (
            "responses",
            RESPONSES,
            r#"{"model":"m","input":[{"role":5}]}"#.to_owned(),
            "/input/0/role: expected a string or null, found a number",
        ),
        (
            "conversations",
            CONVERSATIONS,
            r#"{"model":"m","items":["a"]}"#.to_owned(),
            "/items/0: expected an object, found a string",
        ),
        (
            "embeddings",
            EMBEDDINGS,
            r#"{"model":"m","input":"a","encoding_format":1}"#.to_owned(),
            "/encoding_format: expected a string, found a number",
        ),
    ] {
        let api = match path {
            CHAT => "chat completions",
            COMPLETIONS => "completions",
            _ => path.rsplit('/').next().unwrap(),
        };
        let want = (format!("invalid {api} request: {want}"), None);
        assert_eq!(fault(path, &body), Some(want), "row {row}: {body}");
        assert_eq!(parse("{}", path, &body, true).unwrap().fault, None, "row {row}, unasked: {body}");
        assert_eq!(
            parse(r#"{"validate":true}"#, path, &body, false).unwrap().fault,
            None,
            "row {row}, in part: {body}"
        );
    }
}

/// Rows 56, 59 and 61 to 63: what is worded already stays so, an empty text included; a path that nobody knows is read
/// by the members.
#[test]
fn rows_56_59_61_62_63_known_faults_keep_their_words() {
    let prompt = "invalid completions request: must have prompt field";
    for (row, path, body, want, legacy) in [
        ("56", COMPLETIONS, r#"{"model":"m","prompt":"","n":0}"#, prompt, None),
        ("56", COMPLETIONS, r#"{"model":"m","prompt":"","prompt_embeds":[]}"#, prompt, None),
        ("56", COMPLETIONS, r#"{"model":"m","prompt":[],"n":0}"#, prompt, Some("prompt is not a string")),
        (
            "59",
            CHAT,
            r#"{"model":"m","messages":[],"n":0}"#,
            "invalid chat completions request: must have valid messages field",
            Some("messages is empty"),
        ),
        ("61", "", r#"{"model":"m","prompt":""}"#, prompt, None),
        (
            "61",
            "",
            r#"{"model":"m","prompt":"a","n":0}"#,
            "invalid completions request: /n: expected an integer of at least 1 or null, found another number",
            None,
        ),
        (
            "61: messages",
            "",
            r#"{"model":"m","messages":[{"content":"a"}]}"#,
            "invalid chat completions request: /messages/0/role: expected a string, found nothing",
            None,
        ),
        ("62", RESPONSES, r#"{"model":"m","n":0}"#, "invalid responses request: must have input field", None),
        (
            "63",
            IMAGES,
            r#"{"model":"m","prompt":""}"#,
            "invalid images generations request: must have prompt field",
            None,
        ),
    ] {
        assert_eq!(fault(path, body), Some((want.to_owned(), legacy)), "row {row}: {body}");
    }
}

/// What vLLM takes: `null`, scalars that pydantic reads as others, members that nobody knows, and whole requests.
#[test]
fn what_model_servers_take_is_taken() {
    let samples = [
        (CHAT, include_str!("../../../tests/it/fixtures/model_servers/samples/req-chat-basic.json")),
        (
            CHAT,
            include_str!("../../../tests/it/fixtures/model_servers/samples/req-chat-multimodal-tools.json"),
        ),
        (CHAT, include_str!("../../../tests/it/fixtures/model_servers/samples/req-chat-pd-prefill.json")),
        (
            COMPLETIONS,
            include_str!("../../../tests/it/fixtures/model_servers/samples/req-completions-token-ids.json"),
        ),
        (EMBEDDINGS, include_str!("../../../tests/it/fixtures/model_servers/samples/req-embeddings.json")),
        (RESPONSES, include_str!("../../../tests/it/fixtures/model_servers/samples/req-responses.json")),
        (COMPLETIONS, r#"{"model":"m","prompt":"","prompt_embeds":"AAAA"}"#),
        (COMPLETIONS, r#"{"model":"m","prompt":["a","b"]}"#),
        (COMPLETIONS, r#"{"model":"m","prompt":[1,2,3]}"#),
        (IMAGES, r#"{"model":"m","prompt":"a","n":"no number"}"#),
        (CONVERSATIONS, r#"{"model":"m","items":[{"role":"user","content":[5]}]}"#),
        (RESPONSES, r#"{"model":"m","input":[{"type":"function_call_output","output":"o"}],"tools":[{}]}"#),
    ];
    for (path, body) in samples {
        assert_eq!(fault(path, body), None, "{body}");
    }
    for members in [
        r#""stream":null,"max_tokens":null,"tools":null,"stop":null,"user":null,"chat_template":null"#,
        r#""stream":1,"echo":0.0,"ignore_eos":"Yes","skip_special_tokens":"off","logprobs":"F""#,
        r#""max_tokens":"5","top_k":5.0,"n":5e0,"seed":" 1_000 ","temperature":"0.5","top_p":true"#,
        r#""max_tokens":-1,"max_completion_tokens":0"#,
        r#""messagez":5,"a/b~c":{"role":5},"":null"#,
        r#""tool_choice":{"type":"function"},"tools":[{"type":"function","function":{"name":"f"}}]"#,
        r#""response_format":{"type":"json_schema","json_schema":{}},"stop":"a","stop_token_ids":[1]"#,
    ] {
        assert_eq!(fault(CHAT, &chat(members)), None, "{members}");
    }
    for content in [
        "null",
        r#"["a"]"#,
        r#"[{"image_url":"u"},{"image_url":null},{"image_url":{},"uuid":"i"}]"#,
        r#"[{"type":"file","file":{}},{"type":"thinking","thinking":"t"},{"type":"refusal","refusal":"r"}]"#,
    ] {
        let body = messages(&format!(r#"[{{"role":"assistant","content":{content}}}]"#));
        assert_eq!(fault(CHAT, &body), None, "{content}");
    }
}

#[test]
fn lists_that_are_too_short_are_told() {
    for (text, want) in [
        (r#"{"messages":[]}"#, "/messages: expected a list of at least 1, found a shorter one"),
        ("{}", "/messages: expected a list of at least 1, found nothing"),
        ("5", ": expected an object, found a number"),
    ] {
        let violation = openai::CHAT.violation(text.as_bytes()).map(|violation| violation.to_string());
        assert_eq!(violation.as_deref(), Some(want), "{text}");
    }
}

#[test]
fn long_and_deep_requests_are_judged() {
    let text = "lorem ipsum \\n ".repeat(70_000);
    let ids = "4711,".repeat(250_000);
    let long = |role: &str| messages(&format!(r#"[{{"role":"user","content":"{text}"}},{{"role":{role}}}]"#));
    assert!(text.len() > 1 << 20 && ids.len() > 1 << 20);
    assert_eq!(fault(CHAT, &long("\"user\"")), None);
    let (message, _) = fault(CHAT, &long("5")).unwrap();
    assert!(message.ends_with("/messages/1/role: expected a string, found a number"), "{message}");
    let prompt = |last: &str| format!(r#"{{"model":"m","prompt":[{ids}{last}]}}"#);
    assert_eq!(fault(COMPLETIONS, &prompt("7")), None);
    let judged = openai::COMPLETIONS.violation(prompt("-7").as_bytes()).unwrap().to_string();
    assert!(judged.starts_with("/prompt/250000: expected "), "{judged}");

    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(fault(CHAT, &chat(&format!(r#""a":{}"#, nested(MAX_DEPTH - 1)))), None);
    let (message, _) = fault(CHAT, &chat(&format!(r#""stop":{}"#, nested(MAX_DEPTH - 1)))).unwrap();
    assert!(message.ends_with("/stop/0: expected a string, found a list"), "{message}");
    let read = parse(r#"{"validate":true}"#, CHAT, &chat(&format!(r#""stop":{}"#, nested(MAX_DEPTH))), true);
    assert!(matches!(read, Err(ParseError::NotAnObject(_))), "{read:?}");
    assert!(openai::CHAT.violation(br#"{"messages":5,"#).is_none(), "what is no JSON is not judged");
}

/// What the tables must keep to, so that one look at a value says which schema applies and pointers need no escapes.
#[test]
fn the_tables_are_sound() {
    fn check(schema: &'static Schema) {
        match schema {
            Schema::Either(choices) => {
                let count = |is: fn(&Schema) -> bool| choices.iter().filter(|choice| is(choice)).count();
                assert!(count(|choice| matches!(choice, Schema::List(..))) <= 1, "{schema}");
                assert!(count(|choice| matches!(choice, Schema::Object(_))) <= 1, "{schema}");
                assert_eq!(count(|choice| matches!(choice, Schema::Either(_))), 0, "{schema}");
                choices.iter().for_each(check);
            }
            Schema::List(of, _) => check(of),
            Schema::Object(Members { required, optional }) => {
                assert!(required.len() <= 64);
                let mut names = std::collections::BTreeSet::new();
                for (name, schema) in optional.iter().copied().chain([*required]).flatten() {
                    assert!(names.insert(name), "{name} is there twice");
                    assert!(!name.contains(['/', '~']), "{name}");
                    check(schema);
                }
            }
            _ => {}
        }
    }
    ALL.into_iter().for_each(check);
}

//! Usage in bodies and streams: the rows of the specification, the samples of model servers, and the bounds.

use epp_framework::answer::Usage;

use super::*;

const STREAM: &str = concat!(
    "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\"\"}}]}\n\n",
    ": keep-alive\n\n",
    "data: {\"choices\":[],\"usage\":null}\r\n\r\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"total_tokens\":17,\"completion_tokens\":10,",
    "\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\ndata: [DONE]\n\n",
);
const USAGE: Usage = Usage {
    prompt_tokens: Some(7),
    completion_tokens: Some(10),
    total_tokens: Some(17),
    cached_tokens: Some(4),
    cache_creation_tokens: None,
    reasoning_tokens: None,
};

fn reader(streaming: bool) -> JsonAnswer {
    let content_type = if streaming { "text/event-stream; charset=utf-8" } else { "application/json" };
    JsonAnswer::new(&AnswerHead { content_type })
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    for size in 1..STREAM.len() {
        let mut reader = reader(true);
        STREAM.as_bytes().chunks(size).for_each(|chunk| {
            reader.feed(chunk);
        });
        assert_eq!(reader.finish().usage, Some(USAGE), "chunks of {size}");
    }
}

/// Prompt, output and cached tokens; zero where nothing was said of them.
fn read(streaming: bool, answer: &[u8], size: usize) -> Option<(u64, u64, u64)> {
    let mut reader = reader(streaming);
    answer.chunks(size).for_each(|chunk| {
        reader.feed(chunk);
    });
    let usage = reader.finish().usage?;
    let counts = [usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens];
    let [prompt, completion, cached] = counts.map(Option::unwrap_or_default);
    Some((prompt, completion, cached))
}

/// Rows 69 to 75 of the functional specification, as one body.
#[test]
fn rows_69_to_75_bodies() {
    for (row, body, want) in [
        (
            "69",
            r#"{"usage": {"prompt_tokens":11,"total_tokens":111,"completion_tokens":100}}"#,
            Some((11, 100, 0)),
        ),
        ("70", r#"{"choices":[]}"#, None),
        (
            "72",
            r#"{"object":"response","usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}"#,
            Some((3, 4, 0)),
        ),
        (
            "74",
            r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"audio_tokens":0,"cached_tokens":8}}}"#,
            Some((9, 0, 8)),
        ),
        (
            "74, responses",
            r#"{"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":8}}}"#,
            Some((9, 0, 8)),
        ),
        ("75", r#"{"usage":"oops"}"#, None),
        ("75, a string", r#"{"usage":{"prompt_tokens":"1024"}}"#, Some((1024, 0, 0))),
        ("75, details", r#"{"usage":{"prompt_tokens":5,"prompt_tokens_details":0}}"#, Some((5, 0, 0))),
        ("inside a string", r#"{"content":"\"usage\":{\"prompt_tokens\":999}"}"#, None),
        ("null", r#"{"usage":null}"#, None),
        ("empty", r#"{"usage":{}}"#, None),
        ("nothing at all", "", None),
        ("embeddings", r#"{"data":[],"usage":{"prompt_tokens":5}}"#, Some((5, 0, 0))),
        ("a null count", r#"{"usage":{"prompt_tokens":5,"completion_tokens":null}}"#, Some((5, 0, 0))),
        ("fractions", r#"{"usage":{"prompt_tokens":5.0,"completion_tokens":2e1}}"#, Some((5, 20, 0))),
        ("no counts", r#"{"usage":{"prompt_tokens":-5,"completion_tokens":1.5,"input_tokens":[1]}}"#, None),
        ("too large", r#"{"usage":{"prompt_tokens":9007199254740993,"completion_tokens":1e300}}"#, None),
        (
            "twice",
            r#"{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":2,"prompt_tokens":3}}"#,
            Some((3, 0, 0)),
        ),
        (
            "null details",
            r#"{"usage":{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":null}}}"#,
            Some((1, 0, 0)),
        ),
        ("blanks", "\n  {\n\"usage\" : { \"prompt_tokens\" : 5 }\n}\n", Some((5, 0, 0))),
        ("cut", r#"{"usage":{"prompt_tokens":5,"#, None),
    ] {
        for size in [1, 3, 1000] {
            assert_eq!(read(false, body.as_bytes(), size), want, "row {row}, chunks of {size}");
        }
    }
}

/// Rows 70 to 77 of the functional specification, as streams. In row 76 the prompt counts the cached tokens too: the
/// messages API tells them apart from its `input_tokens`.
#[test]
fn rows_70_to_77_streams() {
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10}}"#;
    let about = |kind: &str| {
        format!(r#"{{"type":"{kind}","response":{{"usage":{{"input_tokens":3,"output_tokens":4}}}}}}"#)
    };
    let completed = about("response.completed");
    for (row, stream, want) in [
        ("70", "data: {\"choices\":[]}\n\ndata: [DONE]\n\n".to_owned(), None),
        ("71", format!("data: {usage}\n\ndata: [DONE]\n\n"), Some((7, 10, 0))),
        ("73", format!("event: response.completed\ndata: {completed}\n\n"), Some((3, 4, 0))),
        ("73, incomplete", format!("data: {}\n\n", about("response.incomplete")), Some((3, 4, 0))),
        ("73, other types", format!("data: {}\n\n", about("response.created")), None),
        (
            "76",
            concat!(
                r#"data: {"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":5}}}"#,
                "\n\n",
                r#"data: {"type":"message_delta","usage":{"output_tokens":7}}"#,
                "\n\n"
            )
            .to_owned(),
            Some((15, 7, 5)),
        ),
        ("77", format!("data: {{\"usage\": oops\n\ndata: {usage}\n\n"), Some((7, 10, 0))),
        ("the last wins", format!("data: {{\"usage\":{{\"prompt_tokens\":1}}}}\n\ndata: {usage}\n\n"), Some((7, 10, 0))),
        ("null does not win", format!("data: {usage}\n\ndata: {{\"usage\":null}}\n\n"), Some((7, 10, 0))),
        ("returns", format!("data: {usage}\r\rdata: [DONE]\r\r"), Some((7, 10, 0))),
        ("returns and feeds", format!("data: {usage}\r\n\r\ndata: [DONE]\r\n\r\n"), Some((7, 10, 0))),
        ("two lines", format!("data: {}\r\ndata: {}\r\n\r\n", &usage[..14], &usage[14..]), Some((7, 10, 0))),
        ("a mark first", format!("\u{feff}data: {usage}\n\n"), Some((7, 10, 0))),
        ("a mark later", format!(":\n\n\u{feff}data: {usage}\n\n"), None),
        ("no end", format!("data: {usage}"), Some((7, 10, 0))),
        ("cut", format!("data: {}", &usage[..60]), None),
    ] {
        for size in [1, 3, 1000] {
            assert_eq!(read(true, stream.as_bytes(), size), want, "row {row}, chunks of {size}");
        }
    }
}

/// What is too long, or too far from the end, is so however the answer was cut.
#[test]
fn limits_do_not_depend_on_how_an_answer_is_cut() {
    let usage = "\"usage\":{\"prompt_tokens\":5}}";
    let line = |n_bytes: usize| format!("data: {{{}{usage}\n\n", " ".repeat(n_bytes - 6 - 1 - usage.len()));
    let body = |n_bytes: usize| format!("{{{usage}{}", " ".repeat(n_bytes - usage.len()));
    let marked = format!(":{}\n\u{feff}data: {{{usage}\n\n", " ".repeat(MAX_LINE_BYTES));
    for (name, streaming, answer, want) in [
        ("the longest line", true, line(MAX_LINE_BYTES), Some((5, 0, 0))),
        ("a longer line, whose end is read", true, line(MAX_LINE_BYTES + 1), Some((5, 0, 0))),
        ("a mark after a longer line", true, marked, None),
        ("the beginning of the tail", false, body(TAIL_BYTES), Some((5, 0, 0))),
        ("before the tail", false, body(TAIL_BYTES + 1), Some((5, 0, 0))),
        ("long before the tail", false, body(10 * TAIL_BYTES), Some((5, 0, 0))),
    ] {
        for size in [1000, MAX_LINE_BYTES - 1, usize::MAX] {
            assert_eq!(read(streaming, answer.as_bytes(), size), want, "{name}, chunks of {size}");
        }
    }
}

#[test]
fn memory_is_bounded_and_the_end_of_a_long_body_is_kept() {
    let mut body = Body::default();
    (0..10_000).for_each(|_| body.feed(&[b'x'; 100]));
    body.feed(br#"","usage":{"prompt_tokens":5}}"#);
    assert!(body.tail.len() <= 2 * TAIL_BYTES);
    assert_eq!(body.finish().usage.and_then(|usage| usage.prompt_tokens), Some(5));

    let mut events = EventReader::default();
    let mut n_events = 0;
    let mut feed = |bytes: &[u8]| {
        events.feed(bytes, |_, data| {
            assert!(matches!(data, Text::Tail(end) if end.len() == TAIL_BYTES));
            n_events += 1;
        });
    };
    feed(b"data: ");
    (0..10_000).for_each(|_| feed(&[b'x'; 100]));
    feed(b"\n\n");
    (0..100_000).for_each(|_| feed(b"data: {\"usage\":\n"));
    feed(b"\n");
    assert_eq!(n_events, 2, "of what is too long the end is given");
    assert!(events.n_held() <= MAX_LINE_BYTES);
    let mut stream = Stream::default();
    events.feed(STREAM.as_bytes(), |name, data| stream.event(name, data));
    assert_eq!(stream.finish().usage, Some(USAGE));
}

/// What a client can have a server put behind `usage`, or write into its long lines, hides no tokens.
#[test]
fn usage_is_found_wherever_it_stands() {
    let usage = "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}";
    let ids = vec!["12345"; 100_000].join(",");
    let behind = format!("{{\"choices\":[],{usage},\"prompt_token_ids\":[{ids}]}}");
    let another = format!("{{{usage},\"metadata\":{{\"usage\":\"1\"}}}}");
    let echo = "a".repeat(MAX_LINE_BYTES);
    let completed = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"instructions\":\"{echo}\",{usage}}}}}\n\n"
    );
    for (name, streaming, answer) in
        [("behind", false, behind), ("another member", false, another), ("a long line", true, completed)]
    {
        for size in [1000, 100_000, usize::MAX] {
            let mut reader = reader(streaming);
            answer.as_bytes().chunks(size).for_each(|chunk| {
                reader.feed(chunk);
            });
            let Answer { usage, end } = reader.finish();
            let usage = usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens));
            assert_eq!((usage, end), (Some((Some(5), Some(2))), AnswerEnd::Complete), "{name}, {size}");
        }
    }
}

#[test]
fn lines_and_other_spellings_are_read() {
    let ollama = concat!(
        r#"{"model":"m","message":{"content":"\"eval_count\":7"},"done":false}"#,
        "\n",
        r#"{"model":"m","done":true,"prompt_eval_count":12,"eval_count":3}"#,
        "\n"
    );
    let sglang = concat!(
        "data: {\"text\":\"a\",\"meta_info\":{\"prompt_tokens\":5,\"completion_tokens\":1,\"finish_reason\":null}}\n\n",
        "data: {\"text\":\"ab\",\"meta_info\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"cached_tokens\":4,",
        "\"finish_reason\":{\"type\":\"stop\"}}}\n\ndata: [DONE]\n\n"
    );
    for (name, content_type, answer, want) in [
        ("43: lines", "application/x-ndjson", ollama, (Some(12), Some(3), None)),
        ("44: no prompt", "application/x-ndjson", r#"{"done":true,"eval_count":3}"#, (None, Some(3), None)),
        ("Ollama at once", "application/json", ollama.lines().last().unwrap(), (Some(12), Some(3), None)),
        ("SGLang", "text/event-stream", sglang, (Some(5), Some(2), Some(4))),
        (
            "SGLang at once",
            "application/json",
            r#"{"text":"a","meta_info":{"prompt_tokens":5,"completion_tokens":1}}"#,
            (Some(5), Some(1), None),
        ),
        ("41: capitals", "Text/Event-Stream", STREAM, (Some(7), Some(10), Some(4))),
        ("41: no type", "", STREAM, (Some(7), Some(10), Some(4))),
        ("41: no type, a body", "", r#" {"usage":{"prompt_tokens":1}}"#, (Some(1), None, None)),
    ] {
        for size in [1, 5, 1000] {
            let mut reader = JsonAnswer::new(&AnswerHead { content_type });
            answer.as_bytes().chunks(size).for_each(|chunk| {
                reader.feed(chunk);
            });
            let Answer { usage, end } = reader.finish();
            let usage = usage.unwrap_or_else(|| panic!("{name}"));
            assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens), want, "{name}");
            assert_eq!(end, AnswerEnd::Complete, "{name}");
        }
    }
}

/// Rows 15 to 21, 36 to 38, 47 and 50 of the parser vectors of model servers.
#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the table")]
fn how_an_answer_ended_is_told_by_the_answer() {
    use AnswerEnd::{Complete, Failed, Truncated, Unreadable};
    let json = "application/json";
    let sse = "text/event-stream";
    for (row, content_type, answer, want) in [
        (
            "15",
            sse,
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":\"data: [DONE]\\n\\n\"}}]}\n\n",
            Truncated,
        ),
        ("16", sse, "data: {\"choices\":[{\"delta\":{\"content\":\"[DONE]\"}}]}\n\n", Truncated),
        ("17", sse, "data: [DONE]", Complete),
        ("18", sse, "data:[DONE]\n\n", Complete),
        ("18, blanks", sse, "data:  [DONE] \n\n", Complete),
        ("19", sse, "data: {\"choices\":[{\"delta\":{},\"finish_reason\": \"stop\"}]}\n\n", Complete),
        (
            "20",
            sse,
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n",
            Truncated,
        ),
        ("21", sse, "data: [DONE]\n\ngarbage\n\n", Complete),
        ("36", sse, "event: error\ndata: {\"type\":\"error\",\"error\":{}}\n\n", Failed),
        ("37", sse, "data: {\"error\":{\"code\":503}}\n\ndata: [DONE]\n\n", Failed),
        ("38", sse, "event: ping\ndata: {\"type\": \"ping\"}\n\ndata: [DONE]\n\n", Complete),
        ("47", sse, "data: {\"type\":\"response.failed\",\"response\":{\"usage\":null}}\n\n", Failed),
        (
            "2.9: aborted",
            sse,
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"abort\"}]}\n\ndata: [DONE]\n\n",
            Failed,
        ),
        (
            "vLLM writes the type last",
            sse,
            concat!(
                "data: {\"response\":{\"output\":[{\"content\":[{\"type\":\"output_text\"}],\"type\":\"message\"}]},",
                "\"sequence_number\":9,\"type\":\"response.completed\"}\n\n"
            ),
            Complete,
        ),
        (
            "what a client wrote is not the type",
            sse,
            concat!(
                "event: response.completed\ndata: {\"response\":{\"metadata\":{\"type\":\"error\"}},",
                "\"type\":\"response.completed\"}\n\n"
            ),
            Complete,
        ),
        ("bytes of another type", "application/octet-stream", "data of no stream", Complete),
        ("no type, no field", "", "dark matter is no JSON", Complete),
        ("50", json, "", Complete),
        ("10 of 10.1", json, "no healthy upstream", Unreadable),
        ("a body that breaks off", json, "{\"a\":", Truncated),
        ("a list", json, "[1]\n", Complete),
        ("another type", "text/html", "<html>", Complete),
    ] {
        let mut reader = JsonAnswer::new(&AnswerHead { content_type });
        reader.feed(answer.as_bytes());
        assert_eq!(reader.finish().end, want, "row {row}");
    }
}

/// Rows 27, 28 and 35 of the same vectors: what is the first output.
#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the table")]
fn the_first_output_is_neither_a_role_nor_a_comment() {
    for (row, events, first) in [
        ("27, text", vec!["data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"], Some(0)),
        (
            "27, reasoning",
            vec![
                "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
                "data: {\"choices\":[{\"delta\":{\"reasoning\":\"a\"}}]}\n\n",
            ],
            Some(1),
        ),
        (
            "28",
            vec![
                "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n",
                "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{}]}}]}\n\n",
            ],
            Some(1),
        ),
        (
            "role and text at once",
            vec!["data: {\"choices\":[{\"delta\":{\"role\":\"a\",\"content\":\"b\"}}]}\n\n"],
            Some(0),
        ),
        ("35", vec![": keep-alive\n\n", "data: {\"choices\":[{\"text\":\"a\"}]}\n\n"], Some(1)),
        (
            "responses",
            vec![
                "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\n",
                "data: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n",
            ],
            Some(1),
        ),
        (
            "messages",
            vec![
                "data: {\"type\":\"message_start\",\"message\":{}}\n\n",
                "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"a\"}}\n\n",
            ],
            Some(1),
        ),
        (
            "responses that echo tools",
            vec![
                "data: {\"response\":{\"tools\":[{\"type\":\"function\"}]},\"type\":\"response.created\"}\n\n",
                "data: {\"delta\":\"a\",\"type\":\"response.output_text.delta\"}\n\n",
            ],
            Some(1),
        ),
        (
            "SGLang's role",
            vec![
                "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":null}}]}\n\n",
                "data: {\"choices\":[{\"delta\":{\"content\":\"a\",\"reasoning_content\":null}}]}\n\n",
            ],
            Some(1),
        ),
        ("only the end", vec!["data: [DONE]\n\n"], None),
        ("half an event", vec!["data: {\"choices\":[{\"text\":\"a\"", "}]}\n\n"], Some(1)),
    ] {
        let mut reader = reader(true);
        let found = events.iter().position(|event| reader.feed(event.as_bytes()));
        assert_eq!(found, first, "row {row}");
    }
}

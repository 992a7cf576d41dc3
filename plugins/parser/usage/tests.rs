//! Usage in bodies and streams: the rows of the specification, the samples of model servers, and the bounds.

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

#[test]
fn a_stream_may_be_cut_anywhere() {
    for size in 1..STREAM.len() {
        let mut reader = UsageReader::new(true);
        STREAM.as_bytes().chunks(size).for_each(|chunk| reader.feed(chunk));
        assert_eq!(reader.finish(), Some(USAGE), "chunks of {size}");
    }
}

/// Prompt, output and cached tokens; zero where nothing was said of them.
fn read(streaming: bool, answer: &[u8], size: usize) -> Option<(u64, u64, u64)> {
    let mut reader = UsageReader::new(streaming);
    answer.chunks(size).for_each(|chunk| reader.feed(chunk));
    let usage = reader.finish()?;
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
        ("a longer line", true, line(MAX_LINE_BYTES + 1), None),
        ("a mark after a longer line", true, marked, None),
        ("the beginning of the tail", false, body(TAIL_BYTES), Some((5, 0, 0))),
        ("before the tail", false, body(TAIL_BYTES + 1), None),
    ] {
        for size in [1000, MAX_LINE_BYTES - 1, usize::MAX] {
            assert_eq!(read(streaming, answer.as_bytes(), size), want, "{name}, chunks of {size}");
        }
    }
}

#[test]
fn memory_is_bounded_and_the_end_of_a_long_body_is_kept() {
    let mut reader = UsageReader::new(false);
    (0..10_000).for_each(|_| reader.feed(&[b'x'; 100]));
    reader.feed(br#"","usage":{"prompt_tokens":5}}"#);
    assert!(reader.pending.len() <= 2 * TAIL_BYTES);
    assert_eq!(reader.finish().and_then(|usage| usage.prompt_tokens), Some(5));

    let mut reader = UsageReader::new(true);
    reader.feed(b"data: ");
    (0..10_000).for_each(|_| reader.feed(&[b'x'; 100]));
    assert!(reader.pending.len() <= MAX_LINE_BYTES);
    reader.feed(b"\n");
    reader.feed(b"\n");
    (0..100_000).for_each(|_| reader.feed(b"data: {\"usage\":\n"));
    assert!(reader.event.len() <= MAX_LINE_BYTES + 1);
    reader.feed(b"\n");
    reader.feed(STREAM.as_bytes());
    assert_eq!(reader.finish(), Some(USAGE));
}

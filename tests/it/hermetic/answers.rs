//! Rows 9 to 13, 48 and 69 to 79 of the functional specification: what becomes of answers.
//!
//! Where the Go EPP holds a JSON answer back until its end, to read it, ours goes on chunk by chunk, each answered at
//! once with the same bytes: a client waits for nothing, and memory does not grow with an answer.

use envoy_types::pb::envoy::service::ext_proc::v3::{ProcessingResponse, processing_response::Response};
use epp::director::Rules;

use super::{body, header, headers, streamed};
use crate::support::hermetic::{Hermetic, request_body, response_body, response_headers};

#[tokio::test]
async fn rows_9_10_11_responses_pass_unchanged() {
    let json = r#"{"choices":[],"usage":{"completion_tokens":100,"prompt_tokens":11,"total_tokens":111}}"#;
    for (row, pieces) in [
        ("9", &[(&json[..20], false), (&json[20..], true)][..]),
        ("10", &[("no healthy upstream", true)]),
        ("11", &[(json, false), ("", true)]),
    ] {
        let epp = Hermetic::start(&[(4, 0.2, "")]).await;
        let mut messages = vec![response_headers(&[("content-type", "application/json")])];
        messages.extend(pieces.iter().map(|(piece, end)| response_body(piece, *end)));
        let (answers, end) = epp.exchange(messages).await;
        assert!(end.is_ok(), "row {row}: {end:?}");
        let Some(Response::ResponseHeaders(headers)) = &answers[0].response else { panic!("{answers:?}") };
        let mutation = headers.response.as_ref().and_then(|common| common.header_mutation.as_ref());
        let set: Vec<_> = mutation.expect("headers").set_headers.iter().map(header).collect();
        assert_eq!(set, [("x-went-into-resp-headers".to_owned(), "true".to_owned())], "row {row}");
        let found: Vec<_> = answers[1..].iter().map(streamed).collect();
        let want: Vec<_> = pieces.iter().map(|(piece, end)| (piece.as_bytes(), *end)).collect();
        assert_eq!(found, want, "row {row}");
    }
}

#[tokio::test]
async fn row_12_usage_of_a_stream_is_counted() {
    let epp = Hermetic::start(&[]).await;
    let event = "data: {\"choices\":[{\"text\":\"a\"}],\"usage\":null}\n\n";
    let last = "data: {\"usage\":{\"prompt_tokens\":7,\"total_tokens\":17,\"completion_tokens\":10}}\n\ndata: [DONE]\n\n";
    let mut chunks = vec![event; 5];
    chunks.extend([last, ""]);
    let mut messages = vec![response_headers(&[("content-type", "text/event-stream"), ("status", "200")])];
    messages.extend(chunks.iter().map(|chunk| response_body(chunk, chunk.is_empty())));
    let (answers, end) = epp.exchange(messages).await;
    assert!(end.is_ok(), "{end:?}");
    let found: Vec<_> = answers[1..].iter().map(streamed).collect();
    let want: Vec<_> = chunks.iter().map(|chunk| (chunk.as_bytes(), chunk.is_empty())).collect();
    assert_eq!(found, want);
    for line in
        ["_count{model_name=\"\",target_model_name=\"\"} 1", "_sum{model_name=\"\",target_model_name=\"\"} 7"]
    {
        assert!(
            epp.metrics().contains(&format!("inference_model_input_tokens{line}\n")),
            "{}",
            epp.metrics()
        );
    }
    let bucket = "inference_model_input_tokens_bucket{model_name=\"\",target_model_name=\"\",le=\"8\"} 1\n";
    assert!(epp.metrics().contains(bucket));
}

/// The specification cuts the stream so that chunks are lines without an end. A stream means the same however it is cut,
/// so as one it is broken, and no server sends it: it passes, and only with its line ends it is counted. The family has
/// v1.0.1's name; later versions call it `inference_objective_input_tokens`.
#[tokio::test]
async fn row_13_usage_is_counted_beside_the_end_of_the_stream() {
    let usage = r#"{"usage":{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10}}"#;
    for (line_end, want) in [("\n\n", [7, 10, 0]), ("", [0, 0, 0])] {
        let epp = Hermetic::start(&[(4, 0.2, "")]).await;
        let chunks = [
            format!("data: {{}}{line_end}"),
            format!("data: {usage}\ndata: [DONE]{line_end}"),
            String::new(),
        ];
        let mut messages = vec![response_headers(&[("content-type", EVENTS), ("status", "200")])];
        messages.extend(chunks.iter().map(|chunk| response_body(chunk, chunk.is_empty())));
        let (answers, end) = epp.exchange(messages).await;
        assert!(end.is_ok(), "{end:?}");
        let found: Vec<_> = answers[1..].iter().map(streamed).collect();
        let passed: Vec<_> = chunks.iter().map(|chunk| (chunk.as_bytes(), chunk.is_empty())).collect();
        assert_eq!(found, passed);
        assert_eq!(counted(&epp), want, "{line_end:?}: {}", epp.metrics());
    }
}

/// Prompt, output and cached tokens that were counted for answers without a request.
fn counted(epp: &Hermetic) -> [u64; 3] {
    let page = epp.metrics();
    ["inference_model_input_tokens", "inference_model_output_tokens", "epp_cached_tokens"].map(|family| {
        let series = format!("{family}_sum{{model_name=\"\",target_model_name=\"\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&series));
        line.expect(family).parse().expect("a whole number")
    })
}

/// Envoy keeps every header that is not named, so the mark is all there is to say; v1.0.1 and later versions send all
/// headers back but those of their own.
#[tokio::test]
async fn row_48_answers_headers_are_neither_echoed_nor_removed() {
    let epp = Hermetic::start(&[(4, 0.2, "")]).await;
    let sent = [
        (":status", "200"),
        ("content-type", "application/json"),
        ("content-length", "2"),
        ("x-user-data", "kept"),
        ("x-request-id", "r"),
        ("x-gateway-destination-endpoint", "1.1.1.1:666"),
        ("x-gateway-inference-objective", "my-model"),
        ("x-went-into-resp-headers", "false"),
    ];
    let (answers, end) = epp.exchange(vec![response_headers(&sent), response_body("{}", true)]).await;
    assert!(end.is_ok(), "{end:?}");
    let Some(Response::ResponseHeaders(headers)) = &answers[0].response else { panic!("{answers:?}") };
    let mutation = headers.response.as_ref().and_then(|common| common.header_mutation.as_ref());
    let mutation = mutation.expect("headers are set");
    let mark: Vec<_> = mutation.set_headers.iter().map(header).collect();
    assert_eq!(mark, [("x-went-into-resp-headers".to_owned(), "true".to_owned())]);
    assert!(mutation.remove_headers.is_empty(), "{:?}", mutation.remove_headers);
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// In row 76 the prompt counts the cached tokens too, as all other APIs do; llm-d counts 10. In row 75 a count that is a
/// text is one, as in llm-d, where the versions before it crash.
#[tokio::test]
async fn rows_69_to_77_usage_is_counted_and_no_byte_changes() {
    let response = |kind: &str| {
        let usage = r#"{"input_tokens":3,"output_tokens":4}"#;
        format!("data: {{\"type\":\"{kind}\",\"response\":{{\"usage\":{usage}}}}}\n\n")
    };
    let object = |kind: &str| {
        format!(r#"{{"object":"{kind}","usage":{{"input_tokens":3,"output_tokens":4,"total_tokens":7}}}}"#)
    };
    let usage = r#"{"usage":{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10}}"#;
    let opened =
        r#"{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":5}}}"#;
    let messages = format!(
        "data: {opened}\n\ndata: {{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":7}}}}\n\n"
    );
    let cached = |names: [&str; 3]| {
        let [prompt, output, details] = names;
        format!(r#"{{"usage":{{"{prompt}":9,"{output}":1,"{details}":{{"cached_tokens":8}}}}}}"#)
    };
    let chat = r#"{"choices":[],"usage":{"prompt_tokens":11,"total_tokens":111,"completion_tokens":100}}"#;
    for (row, content_type, answer, want) in [
        ("69", JSON, chat.to_owned(), [11, 100, 0]),
        ("70", EVENTS, "data: {\"choices\":[]}\n\ndata: [DONE]\n\n".to_owned(), [0, 0, 0]),
        ("71", EVENTS, format!("data: {usage}\n\ndata: [DONE]\n\n"), [7, 10, 0]),
        ("72, a response", JSON, object("response"), [3, 4, 0]),
        ("72, a conversation", JSON, object("conversation"), [3, 4, 0]),
        ("73", EVENTS, response("response.completed"), [3, 4, 0]),
        ("73, another type", EVENTS, response("response.created"), [0, 0, 0]),
        ("74", JSON, cached(["prompt_tokens", "completion_tokens", "prompt_tokens_details"]), [9, 1, 8]),
        ("74", JSON, cached(["input_tokens", "output_tokens", "input_tokens_details"]), [9, 1, 8]),
        ("75, oops", JSON, r#"{"usage":"oops"}"#.to_owned(), [0, 0, 0]),
        ("75, a text", JSON, r#"{"usage":{"prompt_tokens":"1024"}}"#.to_owned(), [1024, 0, 0]),
        (
            "75, details",
            JSON,
            r#"{"usage":{"prompt_tokens":5,"prompt_tokens_details":0}}"#.to_owned(),
            [5, 0, 0],
        ),
        ("76", EVENTS, messages, [15, 7, 5]),
        ("77", EVENTS, format!("data: {{\"usage\": oops\n\ndata: {usage}\n\n"), [7, 10, 0]),
    ] {
        for size in [1, 50, answer.len()] {
            let case = format!("row {row}, chunks of {size}");
            let epp = Hermetic::start(&[(4, 0.2, "")]).await;
            let mut sent = vec![response_headers(&[("content-type", content_type), ("status", "200")])];
            sent.extend(answer.as_bytes().chunks(size).map(|chunk| response_body(chunk, false)));
            sent.push(response_body("", true));
            let (answers, end) = epp.exchange(sent).await;
            assert!(end.is_ok(), "{case}: {end:?}");
            assert_eq!(answers.len(), 2 + answer.len().div_ceil(size), "{case}: one answer for each message");
            assert_eq!(answer_body(&answers), answer, "{case}");
            assert_eq!(counted(&epp), want, "{case}");
        }
    }
}

/// The answer's body as it goes on, of all answers.
fn answer_body(answers: &[ProcessingResponse]) -> String {
    let is_body = |answer: &&ProcessingResponse| matches!(answer.response, Some(Response::ResponseBody(_)));
    let pieces = answers.iter().filter(is_body).map(|answer| streamed(answer).0);
    String::from_utf8(pieces.collect::<Vec<_>>().concat()).expect("UTF-8")
}

/// v1.0.1 does not map names back, later versions always do: here `--rewrite-response-model` decides.
#[tokio::test]
async fn rows_78_and_79_names_are_mapped_back_if_asked_for() {
    let (target, client) = ("vllm-backend-01", "gpt-4-proxy");
    let plain = r#"{"model":"vllm-backend-01","n":1}"#;
    let event = "data: {\"id\":\"1\",\"model\":\"vllm-backend-01\",\"choices\":[]}\n\n";
    for (row, asked, rewrite, mapped, content_type, answer) in [
        ("78", client, target, true, JSON, plain),
        ("78, spaced", client, target, true, JSON, r#"{"model": "vllm-backend-01"}"#),
        ("78, an event", client, target, true, EVENTS, event),
        ("79, the same names", target, target, false, JSON, plain),
        ("79, an empty target", client, "", false, JSON, plain),
        ("79, no model", client, target, false, JSON, r#"{"id":"vllm-backend-01"}"#),
        ("79, the end of a stream", client, target, false, EVENTS, "data: [DONE]\n\n"),
    ] {
        for rewrite_response_model in [true, false] {
            let rules = Rules { rewrite_response_model, ..Rules::default() };
            let epp = Hermetic::with_rules(&[(4, 0.2, "")], rules).await;
            let want =
                if mapped && rewrite_response_model { answer.replace(target, client) } else { answer.into() };
            for size in [1, 7, answer.len()] {
                let case = format!("row {row}, chunks of {size}, mapping {rewrite_response_model}");
                let mut messages = vec![headers("my-model", rewrite), request_body(body(asked, "p"), true)];
                messages.push(response_headers(&[("content-type", content_type), (":status", "200")]));
                messages.extend(answer.as_bytes().chunks(size).map(|chunk| response_body(chunk, false)));
                messages.push(response_body("", true));
                let (answers, end) = epp.exchange(messages).await;
                assert!(end.is_ok(), "{case}: {end:?}");
                assert_eq!(answer_body(&answers), want, "{case}");
                let (_, ended) = streamed(answers.last().expect("there are answers"));
                assert!(ended, "{case}");
            }
        }
    }
}

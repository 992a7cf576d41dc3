//! Answers of every kind through a real Envoy: none is changed by a byte, whatever it is, and each is counted for what it
//! was.

use std::fmt::Write as _;

use http::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};

use crate::support::envoy::Envoy;
use crate::support::envoy_config::{BodyMode, EnvoySetup};
use crate::support::epp::{Epp, EppSetup};
use crate::support::raw_upstream::{RawUpstream, Script};
use crate::support::{Protocol, client, eventually};

mod model_names;
mod request_bodies;

const BODY: &str = r#"{"model":"m","prompt":"p"}"#;

/// `{"usage":{"prompt_tokens":7,"completion_tokens":10}}`, compressed.
const GZIP: &[u8] = include_bytes!("fixtures/usage.json.gz");

/// An answer in HTTP/1.1 whose length is told.
fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    [format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n").as_bytes(), body]
        .concat()
}

/// An answer in these chunks, with trailers if there are any.
fn in_chunks(head: &str, chunks: &[&str], trailers: &str) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {head}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
    for chunk in chunks {
        write!(bytes, "{:x}\r\n{chunk}\r\n", chunk.len()).expect("strings take all");
    }
    (bytes + "0\r\n" + trailers + "\r\n").into_bytes()
}

/// How many answers to requests for `m` ended so.
async fn ended(epp: &Epp, outcome: &str) -> f64 {
    let labels = format!("model_name=\"m\",outcome=\"{outcome}\",target_model_name=\"m\"");
    epp.metric(&format!("epp_answers_total{{{labels}}}")).await.unwrap_or(0.0)
}

/// How many answers passed unread for this reason.
async fn unread(epp: &Epp, direction: &str, reason: &str) -> f64 {
    let labels = format!("direction=\"{direction}\",reason=\"{reason}\"");
    epp.metric(&format!("epp_unread_bodies_total{{{labels}}}")).await.unwrap_or(0.0)
}

/// An answer, and what is to become of it.
struct Case {
    name: &'static str,
    says: Vec<u8>,
    status: u16,
    body: Vec<u8>,
    outcome: &'static str,
    /// Why it passes unread, if it does.
    unread: Option<&'static str>,
}

fn case(name: &'static str, says: Vec<u8>, status: u16, body: &[u8], outcome: &'static str) -> Case {
    Case { name, says, status, body: body.to_vec(), outcome, unread: None }
}

const JSON: &str = "200 OK\r\ncontent-type: application/json";
const EVENTS: &str = "200 OK\r\ncontent-type: text/event-stream";

/// Answers in one piece, and without any.
fn bodies() -> Vec<Case> {
    let usage = br#"{"usage":{"prompt_tokens":7,"completion_tokens":10}}"#;
    let interim =
        |status: &str| [format!("HTTP/1.1 {status}\r\n\r\n").as_bytes(), &answer(JSON, b"{}")].concat();
    let error = br#"{"error":{"message":"out of memory"}}"#;
    let error_page = b"<html><body>502</body></html>";
    let garbage = b"\x00\xff{]no json at all";
    let compressed = format!("{JSON}\r\ncontent-encoding: gzip");
    let unread = |case: Case, why| Case { unread: Some(why), ..case };
    vec![
        case("JSON", answer(JSON, usage), 200, usage, "complete"),
        case("204", b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_vec(), 204, b"", "complete"),
        case("an empty body", answer(JSON, b""), 200, b"", "complete"),
        case("no chunk", in_chunks(JSON, &[], ""), 200, b"", "complete"),
        case("no chunk, trailers", in_chunks(JSON, &[], "x-a: 1\r\n"), 200, b"", "complete"),
        case("100 before it", interim("100 Continue"), 200, b"{}", "complete"),
        case("103 before it", interim("103 Early Hints\r\nlink: </a>"), 200, b"{}", "complete"),
        case("500 JSON", answer("500 x\r\ncontent-type: application/json", error), 500, error, "failed"),
        case("502 HTML", answer("502 x\r\ncontent-type: text/html", error_page), 502, error_page, "failed"),
        case("half a JSON", answer(JSON, b"{\"usage\":"), 200, b"{\"usage\":", "truncated"),
        unread(case("garbage", answer(JSON, garbage), 200, garbage, "complete"), "unreadable"),
        unread(case("compressed", answer(&compressed, GZIP), 200, GZIP, "complete"), "compressed"),
        unread(case("compressed and not said", answer(JSON, GZIP), 200, GZIP, "complete"), "unreadable"),
    ]
}

/// Answers in events.
fn streams() -> Vec<Case> {
    let stream = [r#"data: {"choices":[{"text":"a"}]}"#, "\n\ndata: [DONE]\n\n"];
    let broken = ["data: {\"choices\":[{\"te\n\n", "data: xt}\n\ndata: \u{7f}\n\ndata: [DONE]\n\n"];
    let unfinished = ["data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":null}]}\n\n"];
    let failing = ["data: {\"choices\":[{\"text\":\"a\"}]}\n\n", "data: {\"error\":{\"code\":500}}\n\n"];
    let events = |name, chunks: &[&str], trailers, outcome| {
        case(name, in_chunks(EVENTS, chunks, trailers), 200, chunks.concat().as_bytes(), outcome)
    };
    vec![
        events("a stream", &stream, "", "complete"),
        events("a stream, trailers", &stream, "x-a: 1\r\n", "complete"),
        events("broken events", &broken, "", "complete"),
        events("no last event", &unfinished, "", "truncated"),
        events("an error as event", &failing, "", "failed"),
    ]
}

/// Every kind of answer in this mode.
async fn every_answer_in(mode: BodyMode) {
    let upstream = RawUpstream::start(Script::default());
    let epp = Epp::start(&[upstream.addr()]).await;
    let envoy = Envoy::start(EnvoySetup { response_body: mode, ..EnvoySetup::new(epp.ext_proc) }).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for Case { name, says, status, body, outcome, unread: why } in bodies().into_iter().chain(streams()) {
            let case = format!("{mode:?} {protocol:?} {name}");
            let encoded = String::from_utf8_lossy(&says).contains("content-encoding");
            let before =
                (ended(&epp, outcome).await, unread(&epp, "response", why.unwrap_or_default()).await);
            upstream.says(Script::answer(says));
            let sent = client(protocol).post(envoy.http()).body(BODY).send().await;
            let got = sent.unwrap_or_else(|error| panic!("{case}: {error} {}", envoy.access_log()));
            assert_eq!(got.status().as_u16(), status, "{case}: {}", envoy.access_log());
            assert_eq!(got.headers().contains_key(CONTENT_ENCODING), encoded, "{case}");
            assert_eq!(got.bytes().await.expect(&case), body, "{case}");
            epp.wait_until_idle().await;
            assert!(
                (ended(&epp, outcome).await - before.0 - 1.0).abs() < 0.5,
                "{case}: {}",
                epp.get("/metrics").await
            );
            let n_unread = unread(&epp, "response", why.unwrap_or_default()).await - before.1;
            assert!((n_unread - f64::from(u8::from(why.is_some()))).abs() < 0.5, "{case}: {n_unread} unread");
        }
    }
    envoy.assert_clean().await;
}

#[tokio::test]
async fn every_answer_passes_in_duplex_mode() {
    every_answer_in(BodyMode::Duplex).await;
}

#[tokio::test]
async fn every_answer_passes_in_buffered_mode() {
    every_answer_in(BodyMode::Buffered).await;
}

#[tokio::test]
async fn every_answer_passes_in_partly_buffered_mode() {
    every_answer_in(BodyMode::Partial).await;
}

#[tokio::test]
async fn every_answer_passes_in_streamed_mode() {
    every_answer_in(BodyMode::Streamed).await;
}

/// Without a body there is no model; the length is a fact about another answer.
#[tokio::test]
async fn head_has_headers_alone() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1234\r\nconnection: close\r\n\r\n";
    let upstream = RawUpstream::start(Script::answer(*head));
    for args in [vec![], vec!["--rewrite-response-model".to_owned()]] {
        let epp = Epp::with(EppSetup { args, ..EppSetup::new(&[upstream.addr()]) }).await;
        // In the others Envoy 1.40 takes the length off every answer that it shows.
        let kept = [BodyMode::Buffered, BodyMode::None];
        for mode in [BodyMode::Duplex, BodyMode::Streamed, BodyMode::Partial].into_iter().chain(kept) {
            let envoy =
                Envoy::start(EnvoySetup { response_body: mode, ..EnvoySetup::new(epp.ext_proc) }).await;
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let case = format!("{mode:?} {protocol:?}");
                let sent = client(protocol).request(Method::HEAD, format!("{}/v1/models", envoy.http()));
                let got = sent.send().await.unwrap();
                assert_eq!(got.status(), 200, "{case}: {}", envoy.access_log());
                let length = got.headers().get(CONTENT_LENGTH).map(|length| length.to_str().unwrap());
                assert_eq!(length, kept.contains(&mode).then_some("1234"), "{case}");
                assert_eq!(got.headers()["x-went-into-resp-headers"], "true", "{case}");
                assert_eq!(got.bytes().await.unwrap(), "", "{case}");
            }
            envoy.assert_clean().await;
        }
        epp.wait_until_idle().await;
    }
}

/// The server refuses what it has not read.
#[tokio::test]
async fn an_answer_may_come_before_the_request_is_whole() {
    let at_once = answer("413 x\r\ncontent-type: application/json", br#"{"error":"too long"}"#);
    let upstream = RawUpstream::start(Script { at_once, pieces: Vec::new() });
    let epp = Epp::start(&[upstream.addr()]).await;
    let long = format!(r#"{{"model":"m","prompt":"{}"}}"#, "0123456789".repeat(500_000));
    for request_body in [BodyMode::Duplex, BodyMode::Ahead, BodyMode::Streamed, BodyMode::None] {
        let setup = EnvoySetup { request_body, retries: false, ..EnvoySetup::new(epp.ext_proc) };
        let envoy = Envoy::start(setup).await;
        let got = client(Protocol::Http2).post(envoy.http()).body(long.clone()).send().await.unwrap();
        assert_eq!(got.status(), 413, "{request_body:?}: {}", envoy.access_log());
        assert_eq!(got.text().await.unwrap(), r#"{"error":"too long"}"#, "{request_body:?}");
        epp.wait_until_idle().await;
        envoy.assert_clean().await;
    }
    assert!(ended(&epp, "failed").await >= 1.0, "{}", epp.get("/metrics").await);
}

/// `usage` is the server's word, and may be anything.
#[tokio::test]
async fn a_usage_of_any_type_costs_nothing() {
    let upstream = RawUpstream::start(Script::default());
    let epp = Epp::start(&[upstream.addr()]).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let counts =
        ["-1", "1.5", "1e400", "[]", "{}", "null", "true", "\"\"", "\"x\"", "18446744073709551616", &deep];
    let members = ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"];
    let of_members =
        members.iter().flat_map(|name| counts.iter().map(move |count| format!("{{\"{name}\":{count}}}")));
    let usages: Vec<_> = of_members.chain(counts.iter().map(|&usage| usage.to_owned())).collect();
    let client = client(Protocol::Http2);
    for usage in &usages {
        let json = format!(r#"{{"choices":[],"usage":{usage}}}"#);
        let event = format!("data: {json}\n\ndata: [DONE]\n\n");
        for (kind, body) in [("application/json", json.as_str()), ("text/event-stream", &event)] {
            upstream
                .says(Script::answer(answer(&format!("200 OK\r\ncontent-type: {kind}"), body.as_bytes())));
            let got = client.post(envoy.http()).body(BODY).send().await.unwrap();
            assert_eq!(got.headers()[CONTENT_TYPE], kind);
            assert!(got.text().await.unwrap() == body, "{kind}: {usage:.80}");
        }
    }
    epp.wait_until_idle().await;
    envoy.assert_clean().await;
    let page = epp.get("/metrics").await;
    for family in ["inference_model_input_tokens", "inference_model_output_tokens", "epp_cached_tokens"] {
        let counted = format!("{family}_count{{model_name=\"m\",target_model_name=\"m\"}} 0\n");
        assert!(page.contains(&counted), "{page}");
    }
    assert!(page.contains("\nepp_request_cost_errors_total 0\n"), "{page}");
    let n_answers = f64::from(u32::try_from(2 * usages.len()).expect("few"));
    assert!((ended(&epp, "complete").await - n_answers).abs() < 0.5, "{page}");
}

/// Whoever breaks it off, and when.
#[tokio::test]
async fn answers_that_break_off_are_counted_and_their_first_token_is_timed() {
    let upstream = RawUpstream::start(Script::default());
    let epp = Epp::start(&[upstream.addr()]).await;
    let envoy = Envoy::start(EnvoySetup { retries: false, ..EnvoySetup::new(epp.ext_proc) }).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let event = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
    let begun = format!("{head}{:x}\r\n{event}\r\n", event.len());
    let first_token = "epp_time_to_first_token_seconds_count{model_name=\"m\",target_model_name=\"m\"}";
    let timed = async || epp.metric(first_token).await.unwrap_or(0.0);
    // The server closes within the body.
    upstream.says(Script { at_once: Vec::new(), pieces: vec![begun.into_bytes(), Vec::new()] });
    upstream.release(1);
    let mut got = client(Protocol::Http1).post(envoy.http()).body(BODY).send().await.unwrap();
    assert_eq!(got.chunk().await.unwrap().unwrap(), event);
    upstream.release(2);
    assert!(got.bytes().await.is_err(), "it breaks off for the client as well");
    epp.wait_until_idle().await;
    assert_eq!((ended(&epp, "aborted").await, timed().await), (1.0, 1.0), "{}", epp.get("/metrics").await);
    // The client leaves.
    upstream.release(1);
    let mut got = client(Protocol::Http1).post(envoy.http()).body(BODY).send().await.unwrap();
    assert_eq!(got.chunk().await.unwrap().unwrap(), event);
    eventually("the first token was seen", async || (timed().await > 1.5).then_some(())).await;
    drop(got);
    epp.wait_until_idle().await;
    assert_eq!((ended(&epp, "aborted").await, timed().await), (2.0, 2.0), "{}", epp.get("/metrics").await);
    envoy.assert_clean().await;
}

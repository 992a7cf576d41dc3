//! Section 10.11 of the functional specification: what no suite of the Go EPP tests, over `ext_proc` alone.
//!
//! Certificates that change, leaders that hand over, pools that come again, definitions that are absent, lists that are
//! forbidden, health that is watched and who may see metrics are in `tls`, `kube_leader`, `kube_discovery`, `kube_api`,
//! `health` and `metrics_port`.

use std::net::{IpAddr, Ipv6Addr};

use envoy_types::pb::envoy::service::ext_proc::v3::{
    ProcessingRequest, ProcessingResponse, processing_response::Response,
};
use epp::ext_proc::Limits;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{THREE, body, headers, routed, streamed};
use crate::support::eventually;
use crate::support::hermetic::{
    FOUR_SCORERS, Hermetic, PoolSetup, request_body, request_headers, request_trailers, response_body,
    response_headers, response_trailers, with_subset,
};

#[tokio::test]
async fn a_request_body_may_end_by_trailers() {
    let epp = Hermetic::start(THREE).await;
    let whole = body("my-model", "p");
    let (first, second) = whole.split_at(20);
    for pieces in [&[whole.as_str()][..], &[first, second], &[&whole, ""]] {
        let mut messages = vec![headers("my-model", "my-model-12345")];
        messages.extend(pieces.iter().map(|piece| request_body(piece, false)));
        messages.push(request_trailers());
        let (mut answers, end) = epp.exchange(messages).await;
        assert!(end.is_ok(), "{pieces:?}: {end:?}");
        let last = answers.pop().expect("there are answers");
        assert!(matches!(last.response, Some(Response::RequestTrailers(_))), "{pieces:?}: {last:?}");
        assert!(!streamed(answers.last().expect("a body")).1, "{pieces:?}: the trailers end it");
        let routed = routed(answers);
        assert_eq!(routed.destination, "192.168.1.2:8000", "{pieces:?}");
        assert_eq!(routed.body, body("my-model-12345", "p"), "{pieces:?}");
    }
    assert_eq!(epp.held(), (0, 0, 0));
}

/// All messages are sent before any answer is read.
#[tokio::test]
async fn a_burst_of_one_byte_chunks_is_one_body() {
    let epp = Hermetic::start(THREE).await;
    let whole = body("my-model", &"caf\u{e9} ".repeat(500));
    let n = whole.len();
    let mut messages = vec![headers("my-model", "my-model-12345")];
    messages.extend(whole.as_bytes().chunks(1).enumerate().map(|(at, byte)| request_body(byte, at + 1 == n)));
    let (answers, end) = epp.exchange(messages).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(answers.len(), 2, "the pick and one piece");
    let routed = routed(answers);
    assert_eq!(routed.body, whole.replacen("\"my-model\"", "\"my-model-12345\"", 1));
    assert_eq!(routed.set["content-length"], routed.body.len().to_string());
}

#[tokio::test]
async fn ten_megabytes_pass_in_pieces_that_envoy_takes() {
    let whole = body("my-model", &"0123456789".repeat(1 << 20));
    for size in [60_000, whole.len()] {
        let epp = Hermetic::with_limits(THREE, Limits::default()).await;
        let mut messages = vec![headers("my-model", "my-model-12345")];
        messages.extend(whole.as_bytes().chunks(size).map(|piece| request_body(piece, false)));
        messages.push(request_body("", true));
        let (answers, end) = epp.exchange(messages).await;
        assert!(end.is_ok(), "{end:?}");
        assert!(answers[1..].iter().all(|answer| streamed(answer).0.len() <= 62_000), "chunks of {size}");
        let routed = routed(answers);
        assert!(routed.body == body("my-model-12345", &"0123456789".repeat(1 << 20)), "chunks of {size}");
    }
}

/// No re-encoding would leave these alone. Of two keys the last counts, as it does for the model servers; the first one
/// stays, for nobody reads it.
#[tokio::test]
async fn odd_bodies_pass_byte_for_byte() {
    for (name, sent, model, want) in [
        (
            "letters beyond ASCII, as bytes and as escapes",
            r#"{"model":"m","prompt":"café 日本 😀 \u00e9 \ud83d\ude00 <&>"}"#,
            "m",
            r#"{"model":"t","prompt":"café 日本 😀 \u00e9 \ud83d\ude00 <&>"}"#,
        ),
        (
            "numbers beyond 2^53",
            r#"{"model":"m","prompt":"p","seed":9007199254740993,"x":1.0,"y":1e400,"z":-0}"#,
            "m",
            r#"{"model":"t","prompt":"p","seed":9007199254740993,"x":1.0,"y":1e400,"z":-0}"#,
        ),
        (
            "two models",
            r#"{"model":"first","prompt":"p","model":"last"}"#,
            "last",
            r#"{"model":"first","prompt":"p","model":"t"}"#,
        ),
        (
            "a model in letters beyond ASCII",
            r#"{"prompt":"p","model":"mod\u00e8le"}"#,
            "modèle",
            r#"{"prompt":"p","model":"t"}"#,
        ),
    ] {
        for (target, want, to) in [("", sent, model), ("t", want, "t")] {
            let epp = Hermetic::start(THREE).await;
            let (answers, end) = epp.exchange(vec![headers("o", target), request_body(sent, true)]).await;
            assert!(end.is_ok(), "{name}: {end:?}");
            assert_eq!(routed(answers).body, want, "{name}");
            let counted = format!(
                "inference_model_request_total{{model_name=\"{model}\",target_model_name=\"{to}\"}} 1\n"
            );
            assert!(epp.metrics().contains(&counted), "{name}: {}", epp.metrics());
        }
    }
}

/// A stream that stays open until it is dropped.
struct Open {
    _answers: Streaming<ProcessingResponse>,
    _end: Sender<ProcessingRequest>,
}

/// A stream on which these messages were sent, and so many answers came.
async fn open(epp: &Hermetic, messages: Vec<ProcessingRequest>, n_answers: usize) -> Open {
    let (end, rest) = channel(1);
    let sent = tokio_stream::iter(messages).chain(ReceiverStream::new(rest));
    let mut answers = epp.client.clone().process(sent).await.expect("the stream is accepted").into_inner();
    for _ in 0..n_answers {
        answers.message().await.expect("no error").expect("an answer");
    }
    Open { _answers: answers, _end: end }
}

/// Requests under way for the model `m`, as the metric says.
fn running(epp: &Hermetic) -> bool {
    let page = epp.metrics();
    let line =
        page.lines().find(|line| line.starts_with("inference_model_running_requests{model_name=\"m\"}"));
    line.is_some_and(|line| !line.ends_with(" 0"))
}

#[tokio::test]
async fn a_stream_that_is_cancelled_gives_back_what_it_holds() {
    let epp = Hermetic::start(THREE).await;
    let request = || vec![headers("o", ""), request_body(body("m", "p"), true)];
    let answer = [
        response_headers(&[("content-type", "text/event-stream"), (":status", "200")]),
        response_body("data: {\"choices\":[{\"text\":\"a\"}]}\n\n", false),
    ];
    for (name, n_sent, n_answers) in [
        ("between the answers to headers and body", 0, 1),
        ("before the response", 0, 2),
        ("between response headers and body", 1, 3),
        ("within the response body", 2, 4),
    ] {
        let messages = request().into_iter().chain(answer[..n_sent].iter().cloned()).collect();
        let stream = open(&epp, messages, n_answers).await;
        assert_eq!((epp.held().0, running(&epp)), (1, true), "{name}");
        drop(stream);
        eventually(name, async || (epp.held() == (0, 0, 0) && !running(&epp)).then_some(())).await;
    }
    let aborted = "epp_answers_total{model_name=\"m\",outcome=\"aborted\",target_model_name=\"m\"} 4\n";
    assert!(epp.metrics().contains(aborted), "{}", epp.metrics());
}

#[tokio::test]
async fn two_streams_with_one_request_id_are_two_requests() {
    let epp = Hermetic::start(THREE).await;
    let request = || vec![headers("o", ""), request_body(body("m", "p"), true)];
    let first = open(&epp, request(), 2).await;
    let second = open(&epp, request(), 2).await;
    assert_eq!((epp.held().0, epp.held().2), (2, 2));
    drop(first);
    eventually("one of them ends", async || (epp.held().2 == 1).then_some(())).await;
    assert_eq!((epp.held().0, running(&epp)), (1, true), "the other one still runs");
    drop(second);
    eventually("both have ended", async || (epp.held() == (0, 0, 0)).then_some(())).await;
    assert!(!running(&epp));
}

#[tokio::test]
async fn a_response_may_end_by_trailers() {
    let epp = Hermetic::start(THREE).await;
    let usage = r#"{"usage":{"prompt_tokens":7,"completion_tokens":10}}"#;
    let messages = vec![
        headers("o", ""),
        request_body(body("m", "p"), true),
        response_headers(&[("content-type", "application/json"), (":status", "200")]),
        response_body(&usage[..9], false),
        response_body(&usage[9..], false),
        response_trailers(),
    ];
    let (answers, end) = epp.exchange(messages).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(answers.len(), 6, "one answer for each message");
    let found: Vec<_> = answers[3..5].iter().map(streamed).collect();
    assert_eq!(found, [(&usage.as_bytes()[..9], false), (&usage.as_bytes()[9..], false)]);
    assert!(matches!(answers[5].response, Some(Response::ResponseTrailers(_))), "{:?}", answers[5]);
    let labels = "model_name=\"m\",target_model_name=\"m\"";
    for line in [
        format!("inference_model_output_tokens_sum{{{labels}}} 10\n"),
        format!("inference_model_request_duration_seconds_count{{{labels}}} 1\n"),
        "epp_answers_total{model_name=\"m\",outcome=\"complete\",target_model_name=\"m\"} 1\n".to_owned(),
    ] {
        assert!(epp.metrics().contains(&line), "{line}{}", epp.metrics());
    }
    assert_eq!(epp.held(), (0, 0, 0));
}

/// Header and metadata have brackets, as Envoy reads them; a hint may have them or not.
#[tokio::test]
async fn pods_of_ipv6_are_told_and_hinted_at() {
    let address = |i| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::try_from(i + 1).expect("few")));
    let pool = || PoolSetup { address, ..PoolSetup::new(FOUR_SCORERS) };
    for (hint, want) in [
        (None, 2),
        (Some("fd00::3"), 3),
        (Some("[fd00::3]"), 3),
        (Some("[fd00::1]:8000"), 1),
        (Some("[fd00:0:0::0001]:8000"), 1),
    ] {
        let epp = Hermetic::with_pool(THREE, pool(), epp::director::Rules::default()).await;
        for bodiless in [false, true] {
            let mut messages = vec![request_headers(&[], bodiless)];
            messages.extend((!bodiless).then(|| request_body(body("m", "p"), true)));
            let hinted = |message| match hint {
                Some(hint) => with_subset(message, &[hint]),
                None => message,
            };
            let (answers, end) = epp.exchange(messages.into_iter().map(hinted).collect()).await;
            assert!(end.is_ok(), "{hint:?}: {end:?}");
            let routed = routed(answers);
            assert_eq!(routed.set["x-gateway-destination-endpoint"], routed.destination, "{hint:?}");
            if bodiless && hint.is_none() {
                assert!(routed.destination.starts_with("[fd00::"), "any of them: {}", routed.destination);
            } else {
                assert_eq!(routed.destination, format!("[fd00::{want}]:8000"), "{hint:?}");
            }
        }
    }
}

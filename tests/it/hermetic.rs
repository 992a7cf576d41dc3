//! Rows of the functional specification, 10.1 and 10.7: an `ext_proc` stream in, its answers out, over given loads.

use std::collections::BTreeMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    CommonResponse, ProcessingRequest, ProcessingResponse, body_mutation::Mutation,
    processing_response::Response,
};
use envoy_types::pb::google::protobuf::value::Kind;
use epp::datastore::RequestRules;
use epp::director::Rules;
use epp::ext_proc::Limits;

use crate::support::eventually;
use crate::support::hermetic::{
    FOUR_SCORERS, Hermetic, Pod, PoolSetup, request_body, request_headers, with_hint, with_subset,
};

mod answers;
mod edges;
mod versions;

/// The fixture's request: objective and model `model`, rewritten to `target`.
fn req(prompt: &str, model: &str, target: &str) -> Vec<ProcessingRequest> {
    vec![headers(model, target), request_body(body(model, prompt), true)]
}

fn headers(objective: &str, target: &str) -> ProcessingRequest {
    let headers = [
        ("hi", "mom"),
        ("x-gateway-inference-objective", objective),
        ("x-gateway-model-name-rewrite", target),
        ("x-request-id", "test-request-id"),
    ];
    request_headers(&headers, false)
}

fn body(model: &str, prompt: &str) -> String {
    format!(r#"{{"max_tokens":100,"model":"{model}","prompt":"{prompt}","temperature":0}}"#)
}

/// What the answers to a request said: set headers, removed headers, metadata, body.
struct Routed {
    set: BTreeMap<String, String>,
    removed: Vec<String>,
    destination: String,
    body: String,
}

fn routed(answers: Vec<ProcessingResponse>) -> Routed {
    let mut answers = answers.into_iter();
    let first = answers.next().expect("an answer");
    let metadata =
        first.dynamic_metadata.expect("metadata").fields.remove("envoy.lb").and_then(|value| value.kind);
    let Some(Kind::StructValue(mut metadata)) = metadata else { panic!("{metadata:?}") };
    let destination = metadata.fields.remove("x-gateway-destination-endpoint").and_then(|value| value.kind);
    let Some(Kind::StringValue(destination)) = destination else { panic!("{destination:?}") };
    let Some(Response::RequestHeaders(headers)) = first.response else { panic!("{:?}", first.response) };
    let common: CommonResponse = headers.response.expect("a common response");
    assert!(common.clear_route_cache);
    let mutation = common.header_mutation.expect("headers are set");
    let mut body = Vec::new();
    let mut ended = false;
    for answer in answers {
        let (piece, end) = streamed(&answer);
        assert!(!ended);
        body.extend_from_slice(piece);
        ended = end;
    }
    Routed {
        set: mutation.set_headers.iter().map(header).collect(),
        removed: mutation.remove_headers,
        destination,
        body: String::from_utf8(body).expect("UTF-8"),
    }
}

fn header(option: &HeaderValueOption) -> (String, String) {
    let header = option.header.as_ref().expect("a header");
    assert!(header.value.is_empty(), "Envoy empties headers that come in `value`");
    (header.key.clone(), String::from_utf8(header.raw_value.clone()).expect("UTF-8"))
}

fn streamed(answer: &ProcessingResponse) -> (&[u8], bool) {
    let body = match &answer.response {
        Some(Response::RequestBody(body) | Response::ResponseBody(body)) => body,
        other => panic!("expected a body, found {other:?}"),
    };
    match &body
        .response
        .as_ref()
        .and_then(|common| common.body_mutation.as_ref())
        .and_then(|m| m.mutation.as_ref())
    {
        Some(Mutation::StreamedResponse(piece)) => (&piece.body, piece.end_of_stream),
        other => panic!("expected a streamed piece, found {other:?}"),
    }
}

fn rejected(answers: &[ProcessingResponse]) -> (i32, String) {
    let Some(Response::ImmediateResponse(page)) = &answers[0].response else { panic!("{answers:?}") };
    assert_eq!(answers.len(), 1);
    (page.status.as_ref().expect("a status").code, String::from_utf8(page.body.clone()).expect("UTF-8"))
}

const THREE: &[Pod] = &[(3, 0.2, ""), (0, 0.1, ""), (10, 0.2, "")];

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "most of it is the table")]
async fn rows_1_2_3_4_7_8_18_19_25_requests_are_routed() {
    let split = |model: &str, target: &str| {
        let whole = body(model, "test6");
        let (first, second) = whole.split_at(whole.find(model).expect("the model") + 3);
        vec![headers(model, target), request_body(first, false), request_body(second, true)]
    };
    let subset = |addresses: &[&str]| -> Vec<ProcessingRequest> {
        let messages = req("test2", "sql-lora", "sql-lora-1fdg2").into_iter();
        messages.map(|message| with_subset(message, addresses)).collect()
    };
    let all = ["192.168.1.1:8000", "192.168.1.2:8000", "192.168.1.3:8000"];
    for (row, pods, messages, ip, model, target, prompt, priority) in [
        ("1", THREE, req("test1", "my-model", "my-model-12345"), 2, "my-model", "my-model-12345", "test1", 2),
        (
            "2",
            &[(0, 0.2, "foo,bar"), (0, 0.1, "foo,sql-lora-1fdg2"), (10, 0.2, "foo,bar")],
            req("test2", "sql-lora", "sql-lora-1fdg2"),
            2,
            "sql-lora",
            "sql-lora-1fdg2",
            "test2",
            2,
        ),
        (
            "3",
            &[(10, 0.2, "foo,bar"), (10, 0.4, "foo,sql-lora-1fdg2"), (10, 0.3, "foo")],
            req("test3", "sql-lora", "sql-lora-1fdg2"),
            2,
            "sql-lora",
            "sql-lora-1fdg2",
            "test3",
            2,
        ),
        (
            "4",
            &[(6, 0.2, "foo,bar,sql-lora-1fdg2"), (0, 0.85, "foo"), (10, 0.9, "foo")],
            req("test4", "sql-lora", "sql-lora-1fdg2"),
            1,
            "sql-lora",
            "sql-lora-1fdg2",
            "test4",
            2,
        ),
        (
            "7",
            &[
                (4, 0.2, "foo,bar,sql-lora-1fdg3"),
                (4, 0.85, "foo,sql-lora-1fdg3"),
                (10, 0.9, "foo,sql-lora-1fdg3"),
            ],
            split("sql-lora-sheddable", "sql-lora-1fdg3"),
            1,
            "sql-lora-sheddable",
            "sql-lora-1fdg3",
            "test6",
            0,
        ),
        (
            "8",
            &[(4, 0.2, ""), (0, 0.85, ""), (10, 0.9, "")],
            split("direct-model", "direct-model"),
            1,
            "direct-model",
            "direct-model",
            "test6",
            2,
        ),
        ("18", THREE, subset(&all), 2, "sql-lora", "sql-lora-1fdg2", "test2", 2),
        ("19", THREE, subset(&all[2..]), 3, "sql-lora", "sql-lora-1fdg2", "test2", 2),
    ] {
        // Row 25: the same in a pool that nothing is said of.
        for (said, priority) in [(None, priority), (Some(RequestRules::default()), 0)] {
            let pool = PoolSetup::new(FOUR_SCORERS);
            let pool = if let Some(said) = said { PoolSetup { said, ..pool } } else { pool };
            let epp = Hermetic::with_pool(pods, pool, Rules::default()).await;
            let (answers, end) = epp.exchange(messages.clone()).await;
            assert!(end.is_ok(), "row {row}: {end:?}");
            assert_routed(row, routed(answers), &body(target, prompt), ip);
            let labels = format!("model_name=\"{model}\",target_model_name=\"{target}\"");
            let total = format!("inference_model_request_total{{{labels}}} 1\n");
            assert!(epp.metrics().contains(&total), "row {row}: {}", epp.metrics());
            assert!(epp.metrics().contains("inference_pool_ready_pods{name=\"vllm-pool\"} 3\n"), "row {row}");
            assert_eq!(epp.pool.last_decisions(1, None)[0].priority, priority, "row {row}");
            assert_eq!(epp.held(), (0, 0, 0), "row {row}");
        }
    }
}

/// The request goes to this pod, with this body; only what changes is set.
fn assert_routed(row: &str, routed: Routed, outgoing: &str, ip: u8) {
    assert_eq!(routed.destination, format!("192.168.1.{ip}:8000"), "row {row}");
    let set = [
        ("content-length".to_owned(), outgoing.len().to_string()),
        ("x-gateway-destination-endpoint".to_owned(), routed.destination),
    ];
    assert_eq!(routed.set, set.into(), "row {row}: only what changes is set");
    assert_eq!(
        routed.removed,
        ["x-gateway-inference-objective", "x-gateway-model-name-rewrite"],
        "row {row}"
    );
    assert_eq!(routed.body, outgoing, "row {row}");
}

#[tokio::test]
async fn rows_5_15_16_17_20_requests_are_refused() {
    let hi = || request_headers(&[("hi", "mom")], false);
    let elsewhere = ["192.168.1.4:8000", "192.168.1.5:8000", "192.168.1.6:8000"];
    let no_json = request_body("no healthy upstream", true);
    let subset = req("test2", "sql-lora", "sql-lora-1fdg2").into_iter().map(|m| with_subset(m, &elsewhere));
    for (row, pods, messages, code, text) in [
        ("5", THREE, vec![hi(), no_json], 400, "BadRequest - Error unmarshaling request body"),
        ("15", &[], vec![request_headers(&[], true)], 500, "Internal - no pods available in datastore"),
        (
            "16",
            THREE,
            vec![request_body(r#"{"hello":"world"}"#, true)],
            400,
            "BadRequest - model not found in request body",
        ),
        (
            "17",
            &[],
            vec![hi(), request_body(r#"{"prompt":"hello world"}"#, true)],
            400,
            "BadRequest - model not found in request body",
        ),
        (
            "20",
            THREE,
            subset.collect(),
            503,
            "ServiceUnavailable - failed to find candidate pods for serving the request",
        ),
        (
            "3.6: an empty body",
            THREE,
            vec![hi(), request_body("", true)],
            400,
            "BadRequest - Error unmarshaling request body",
        ),
        (
            "3.6: no prompt",
            THREE,
            vec![hi(), request_body(r#"{"model":"m"}"#, true)],
            400,
            "BadRequest - prompt not found in request",
        ),
        (
            "3.6: no pods",
            &[],
            req("a", "m", "m"),
            503,
            "ServiceUnavailable - failed to find candidate pods for serving the request",
        ),
    ] {
        let epp = Hermetic::start(pods).await;
        let (answers, end) = epp.exchange(messages).await;
        assert!(end.is_ok(), "row {row}: {end:?}");
        assert_eq!(rejected(&answers), (code, format!("inference gateway: {text}")), "row {row}");
        let label = format!("error_code=\"{}\"", text.split(' ').next().expect("a word"));
        assert!(epp.metrics().contains(&label), "row {row}");
        assert_eq!(epp.held(), (0, 0, 0), "row {row}");
    }
}

/// A gateway that does not send request headers could not be told the pick.
#[tokio::test]
async fn a_sound_body_without_headers_is_refused_and_reserves_nothing() {
    let epp = Hermetic::start(THREE).await;
    let (answers, end) = epp.exchange(vec![request_body(body("m", "hi"), true)]).await;
    assert!(end.is_ok(), "{end:?}");
    let (status, page) = rejected(&answers);
    assert!(status == 500 && page.contains("request_header_mode: SEND"), "{status} {page}");
    assert_eq!(epp.held(), (0, 0, 0));
}

#[tokio::test]
async fn row_14_a_request_without_a_body_goes_to_any_pod() {
    let epp = Hermetic::start(&[(4, 0.2, "")]).await;
    let headers = request_headers(&[("content-type", "text/event-stream"), ("status", "200")], true);
    let (answers, end) = epp.exchange(vec![headers]).await;
    assert!(end.is_ok(), "{end:?}");
    let routed = routed(answers);
    assert_eq!((routed.destination.as_str(), routed.body.as_str()), ("192.168.1.1:8000", ""));
    assert_eq!(routed.set["x-request-id"].len(), 36, "a request id was made");
}

/// The testing filter reads its header, and nothing else may choose.
#[tokio::test]
async fn ht1_ht2_a_request_names_its_endpoint_in_tests() {
    let config = "plugins: [{type: header-based-testing-filter}]";
    let epp = Hermetic::with_config(THREE, config, epp_plugins::BUILT_IN).await;
    for (row, header, want) in [
        ("HT2", "192.168.1.3", Some("192.168.1.3:8000")),
        ("HT2", "192.168.1.9,192.168.1.1:8000", Some("192.168.1.1:8000")),
        ("HT1", "", None),
    ] {
        let headers = request_headers(&[("test-epp-endpoint-selection", header)], false);
        let (answers, end) = epp.exchange(vec![headers, request_body(body("m", "p"), true)]).await;
        assert!(end.is_ok(), "row {row}: {end:?}");
        let refused = matches!(answers[0].response, Some(Response::ImmediateResponse(_)));
        assert_eq!((!refused).then(|| routed(answers).destination).as_deref(), want, "row {row}");
    }
}

/// Rows 97 to 102, and that a port in the hint narrows it where it names an endpoint.
#[tokio::test]
async fn rows_97_to_102_subset_hints() {
    let epp = Hermetic::start(&[(0, 0.5, ""), (0, 0.5, ""), (0, 0.0, "")]).await;
    let send = async |hint: Option<Kind>| {
        let mut messages = req("a prompt", "m", "m");
        if let Some(hint) = hint {
            messages = messages.into_iter().map(|message| with_hint(message, hint.clone())).collect();
        }
        let (answers, _) = epp.exchange(messages).await;
        match answers[0].response {
            Some(Response::ImmediateResponse(_)) => rejected(&answers).0.to_string(),
            _ => routed(answers).destination,
        }
    };
    let text = |text: &str| Kind::StringValue(text.into());
    let list = |kinds: Vec<Kind>| {
        let values =
            kinds.into_iter().map(|kind| envoy_types::pb::google::protobuf::Value { kind: Some(kind) });
        Some(Kind::ListValue(envoy_types::pb::google::protobuf::ListValue { values: values.collect() }))
    };
    let (any, first) = ("192.168.1.3:8000", "192.168.1.1:8000");
    for (row, hint, want) in [
        ("97", None, any),
        ("97: no list", Some(text("192.168.1.1")), any),
        ("98", list(vec![]), "503"),
        ("99", list(vec![text("192.168.1.1")]), first),
        ("99: another port", list(vec![text("192.168.1.1:8080")]), first),
        ("100", list(vec![text("192.168.1.1:8000"), text("192.168.1.9:8000")]), first),
        ("101", list(vec![text("192.168.1.9")]), "503"),
        ("102", list(vec![text("192.168.1.1:8080"), Kind::NumberValue(12345.0)]), first),
    ] {
        assert_eq!(send(hint).await, want, "row {row}");
    }
}

/// Rows 42 to 44 and 46: control headers are read in either spelling, the newer one first, and do not go on.
#[tokio::test]
async fn rows_42_to_46_control_headers_are_read_and_removed() {
    let epp = Hermetic::start(THREE).await;
    let headers = [
        ("x-user-data", "kept"),
        ("X-Gateway-Inference-Objective", "unknown"),
        ("x-llm-d-inference-objective", "my-model"),
        ("x-gateway-model-name-rewrite", "old"),
        ("x-llm-d-model-name-rewrite", "new"),
        ("x-gateway-inference-fairness-id", "v"),
        ("x-gateway-destination-endpoint", "1.1.1.1:666"),
        ("content-length", "99999"),
        ("x-request-id", "r"),
    ];
    let messages = vec![request_headers(&headers, false), request_body(body("m", "p"), true)];
    let (answers, end) = epp.exchange(messages).await;
    assert!(end.is_ok(), "{end:?}");
    let routed = routed(answers);
    assert_eq!(routed.body, body("new", "p"));
    assert_eq!(routed.destination, "192.168.1.2:8000");
    let length = body("new", "p").len().to_string();
    let set = [("content-length", length.as_str()), ("x-gateway-destination-endpoint", "192.168.1.2:8000")];
    assert_eq!(routed.set, set.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let removed = [
        "x-gateway-inference-fairness-id",
        "x-gateway-inference-objective",
        "x-gateway-model-name-rewrite",
        "x-llm-d-inference-objective",
        "x-llm-d-model-name-rewrite",
    ];
    assert_eq!(routed.removed, removed);
    assert_eq!(epp.pool.last_decisions(1, None)[0].priority, 2);
}

/// Whatever clients send or fail to send, it ends in a refusal, and what was held is given back.
#[tokio::test]
async fn requests_beyond_the_limits_are_refused() {
    let upload_idle = Duration::from_secs(3600);
    let none = Limits { body_bytes: 1000, held_bytes: 1 << 20, upload_idle, ..Limits::default() };
    let head = || request_headers(&[], false);
    let piece = |n: usize, end: bool| request_body("x".repeat(n), end);
    for (name, limits, messages, code, text) in [
        ("in one message", none, vec![head(), piece(1001, true)], 413, "PayloadTooLarge"),
        ("far beyond, in one message", none, vec![head(), piece(3_000_000, true)], 413, "PayloadTooLarge"),
        ("in pieces", none, vec![head(), piece(999, false), piece(2, false)], 413, "PayloadTooLarge"),
        (
            "held",
            Limits { held_bytes: 500, ..none },
            vec![head(), piece(501, false)],
            503,
            "ServiceUnavailable",
        ),
        (
            "a long body, beyond three quarters",
            Limits { body_bytes: 1 << 20, held_bytes: 400_000, ..none },
            vec![head(), piece(262_145, false), piece(40_000, false)],
            503,
            "ServiceUnavailable",
        ),
        (
            "a long body has to wait for too long",
            Limits { body_bytes: 4 << 20, held_bytes: 8 << 20, long_bodies: 0, ..none },
            vec![head(), piece(1 << 20, true)],
            503,
            "ServiceUnavailable",
        ),
        (
            "no body comes",
            Limits { upload_idle: Duration::ZERO, ..none },
            vec![head()],
            408,
            "RequestTimeout",
        ),
        (
            "the rest of the body does not come",
            Limits { upload_idle: Duration::from_millis(50), ..none },
            vec![head(), piece(5, false)],
            408,
            "RequestTimeout",
        ),
    ] {
        let epp = Hermetic::with_limits(THREE, limits).await;
        let (found, page) = rejected(&[epp.first_answer(messages).await]);
        assert_eq!(found, code, "{name}: {page}");
        assert!(page.starts_with(&format!("inference gateway: {text} - ")), "{name}: {page}");
        eventually("nothing is held", async || (epp.held() == (0, 0, 0)).then_some(())).await;
    }
}

//! Reading, the headers that follow, and every body mode through the exchange.

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    CommonResponse, HttpBody, HttpHeaders, HttpTrailers, ProcessingRequest, ProcessingResponse,
    ProtocolConfiguration, body_mutation::Mutation, processing_request::Request,
    processing_response::Response,
};

use super::*;
use crate::compat::Compat;
use crate::ext_proc::destination::DestinationHint;
use crate::ext_proc::exchange::{Exchange, Passed, Step};
use crate::ext_proc::reply::Replies;

fn usual() -> ModelHeaders {
    ModelHeaders::parse(MODEL_HEADERS).unwrap()
}

#[test]
fn names_keep_their_spelling_and_others_are_refused() {
    for (list, want) in [
        (MODEL_HEADERS, Ok(&["x-ai-eg-model", "X-Gateway-Model-Name"][..])),
        (" X-Model ", Ok(&["X-Model"])),
        ("", Err("name of a header")),
        ("x-model,", Err("name of a header")),
        ("x model", Err("name of a header")),
        (":authority", Err("name of a header")),
        ("x-model,X-Model", Err("named twice")),
        ("Host", Err("something else")),
        ("content-length", Err("something else")),
        ("x-gateway-destination-endpoint", Err("something else")),
        ("X-Gateway-Inference-Objective", Err("something else")),
    ] {
        match (ModelHeaders::parse(list), want) {
            (Ok(headers), Ok(names)) => assert_eq!(headers.names, names, "{list}"),
            (Err(error), Err(why)) => assert!(error.contains(why), "{list}: {error}"),
            (got, _) => panic!("{list}: {got:?}"),
        }
    }
}

#[test]
fn a_model_is_set_only_if_a_header_can_say_it() {
    let said = |model: &str| {
        let body = serde_json::json!({ "model": model }).to_string();
        let raw = RawRequest { body: Some(body.into()), ..RawRequest::default() };
        let edits = usual().verdict(raw).unwrap().pick.edits;
        let Some((_, value)) = edits.set.first() else {
            assert_eq!(edits, usual().removed());
            return false;
        };
        assert_eq!((value.as_str(), edits.set.len(), edits.remove.len()), (model, 2, 0));
        true
    };
    let longest = "m".repeat(MAX_MODEL_BYTES);
    for model in ["m", "meta-llama/Llama-3.1-8B-Instruct", "mistral:latest", "mod\u{e8}le", "a b", &longest] {
        assert!(said(model), "{model}");
    }
    for model in ["", " m", "m\t", "a\r\nhost: b", "a\0", "\u{7f}", &format!("{longest}m")] {
        assert!(!said(model), "{model:?}");
    }
}

fn message(request: Request) -> ProcessingRequest {
    ProcessingRequest { request: Some(request), ..ProcessingRequest::default() }
}

fn http_headers(end_of_stream: bool) -> HttpHeaders {
    let sent = [(":path", "/v1/completions"), ("x-ai-eg-model", "mine"), ("content-length", "10")];
    let header = |(key, value): (&str, &str)| HeaderValue {
        key: key.into(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let headers = Some(HeaderMap { headers: sent.into_iter().map(header).collect() });
    HttpHeaders { headers, end_of_stream, ..HttpHeaders::default() }
}

fn request_headers(mode: BodySendMode, ahead: bool, end_of_stream: bool) -> ProcessingRequest {
    let config = ProtocolConfiguration {
        request_body_mode: mode.into(),
        response_body_mode: mode.into(),
        send_body_without_waiting_for_header_response: ahead,
    };
    let message = message(Request::RequestHeaders(http_headers(end_of_stream)));
    ProcessingRequest { protocol_config: Some(config), ..message }
}

fn request_body(body: &[u8], end_of_stream: bool) -> ProcessingRequest {
    message(Request::RequestBody(HttpBody { body: body.to_vec(), end_of_stream, ..HttpBody::default() }))
}

fn exchange() -> Exchange {
    Exchange::new(1 << 20, DestinationHint::default()).saying_model(Some(Arc::new(usual())))
}

fn feed(exchange: &mut Exchange, message: ProcessingRequest) -> Vec<ProcessingResponse> {
    let replies = match exchange.on_message(message).expect("a legal message") {
        Step::Wait => Replies::default(),
        Step::Reply(replies) => replies,
        Step::Reject(rejection) => exchange.rejected(rejection.page(Compat::V1_0_1)),
        Step::Observe(part, bytes) => exchange.answer_response(&part, Passed { bytes, ..Passed::default() }),
        Step::Decide(undecided) => match usual().verdict(undecided.finish()) {
            Ok(verdict) => exchange.decided(verdict),
            Err(rejection) => exchange.rejected(rejection.page(Compat::V1_0_1)),
        },
    };
    replies.collect()
}

/// What the answers say of the model at the end: `None` if they set none, and took away what the client sent. And the
/// body as it was streamed back, if it was.
fn outcome(answers: &[ProcessingResponse]) -> (Option<String>, Option<Vec<u8>>) {
    let (mut model, mut streamed) = (Some("mine".to_owned()), None);
    for answer in answers {
        assert_eq!(answer.dynamic_metadata, None);
        let common = match answer.response.clone().unwrap() {
            Response::RequestHeaders(headers) => headers.response,
            Response::RequestBody(body) => body.response,
            Response::RequestTrailers(_) => None,
            other => panic!("{other:?}"),
        };
        let CommonResponse { header_mutation, body_mutation, clear_route_cache, .. } =
            common.unwrap_or_default();
        if let Some(mutation) = header_mutation {
            assert!(clear_route_cache, "routes are looked up anew");
            if mutation.remove_headers == ["x-ai-eg-model", "X-Gateway-Model-Name"] {
                model = None;
            }
            let set = mutation.set_headers.into_iter().filter_map(|option| option.header);
            for (header, name) in set.zip(["x-ai-eg-model", "X-Gateway-Model-Name"]) {
                assert_eq!(header.key, name);
                model = Some(String::from_utf8(header.raw_value).unwrap());
            }
        }
        match body_mutation.and_then(|body| body.mutation) {
            Some(Mutation::StreamedResponse(piece)) => streamed.get_or_insert(Vec::new()).extend(piece.body),
            Some(other) => panic!("the body was changed: {other:?}"),
            None => {}
        }
    }
    (model, streamed)
}

#[test]
fn every_body_mode_says_the_model_that_it_lets_be_seen() {
    use BodySendMode::{Buffered, BufferedPartial, FullDuplexStreamed, None as Nothing, Streamed};
    let trailers = || message(Request::RequestTrailers(HttpTrailers::default()));
    let body = br#"{"messages":[],"model":"m"}"#;
    let (first, second) = body.split_at(20);
    let whole = || vec![request_body(body, true)];
    let halves = || vec![request_body(first, false), request_body(second, true)];
    let cut = || vec![request_body(br#"{"model":"m","messages":[{"#, false)];
    let odd = || vec![request_body(b"model=m", true)];
    let all: &[u8] = body;
    for (mode, ahead, rest, model, streamed) in [
        (FullDuplexStreamed, false, whole(), Some("m"), Some(all)),
        (FullDuplexStreamed, false, halves(), Some("m"), Some(all)),
        (FullDuplexStreamed, false, vec![request_body(body, false), trailers()], Some("m"), Some(all)),
        (FullDuplexStreamed, false, odd(), None, Some(&b"model=m"[..])),
        (Buffered, false, whole(), Some("m"), None),
        (Buffered, false, vec![request_body(body, false), trailers()], Some("m"), None),
        (Buffered, false, odd(), None, None),
        (Buffered, false, vec![], None, None),
        (BufferedPartial, false, whole(), Some("m"), None),
        (BufferedPartial, false, cut(), Some("m"), None),
        (Streamed, true, halves(), Some("m"), None),
        (Streamed, true, odd(), None, None),
        (Streamed, false, halves(), None, None),
        (Nothing, false, vec![], None, None),
    ] {
        let case = format!("{mode:?}, ahead: {ahead}, {} messages", rest.len());
        let (mut exchange, n_chunks) = (exchange(), rest.len());
        let mut answers = feed(&mut exchange, request_headers(mode, ahead, false));
        answers.extend(rest.into_iter().flat_map(|message| feed(&mut exchange, message)));
        let want = (model.map(str::to_owned), streamed.map(<[u8]>::to_vec));
        assert_eq!(outcome(&answers), want, "{case}");
        if mode != FullDuplexStreamed {
            assert_eq!(answers.len(), 1 + n_chunks, "{case}: one answer for each message");
        }
    }
}

#[test]
fn requests_without_a_body_and_long_ones_have_their_answers() {
    for mode in [BodySendMode::FullDuplexStreamed, BodySendMode::Buffered, BodySendMode::Streamed] {
        let answers = feed(&mut exchange(), request_headers(mode, false, true));
        assert_eq!((answers.len(), outcome(&answers)), (1, (None, None)), "{mode:?}");
    }
    let mut exchange = exchange();
    feed(&mut exchange, request_headers(BodySendMode::Buffered, false, false));
    let answers = feed(&mut exchange, request_body(&vec![b' '; (1 << 20) + 1], true));
    let Some(Response::ImmediateResponse(page)) = &answers[0].response else { panic!("{answers:?}") };
    assert_eq!(page.status.as_ref().map(|status| status.code), Some(413));
    assert!(exchange.is_over());
}

/// Headers that were not sent cannot be set either: that is a mistake in the gateway's configuration.
#[test]
fn headers_that_never_came_are_told_of() {
    let raw = RawRequest { headless: true, body: Some(Bytes::from_static(b"{}")), ..RawRequest::default() };
    assert!(matches!(usual().verdict(raw), Err(Rejection::HeadersUnseen)));
}

#[test]
fn responses_pass_as_they_are() {
    for mode in [BodySendMode::FullDuplexStreamed, BodySendMode::Buffered, BodySendMode::Streamed] {
        let mut exchange = exchange();
        feed(&mut exchange, request_headers(mode, false, true));
        let headers = feed(&mut exchange, message(Request::ResponseHeaders(http_headers(false))));
        let Some(Response::ResponseHeaders(headers)) = &headers[0].response else { panic!("{headers:?}") };
        assert_eq!(headers.response, Some(CommonResponse::default()), "{mode:?}");
        let chunk = HttpBody { body: b"abc".to_vec(), end_of_stream: true, ..HttpBody::default() };
        let answers = feed(&mut exchange, message(Request::ResponseBody(chunk)));
        let Some(Response::ResponseBody(body)) = answers[0].response.clone() else { panic!("{answers:?}") };
        match body.response.unwrap_or_default().body_mutation.and_then(|body| body.mutation) {
            Some(Mutation::StreamedResponse(piece)) => {
                assert_eq!((mode, piece.body.as_slice()), (BodySendMode::FullDuplexStreamed, &b"abc"[..]));
            }
            other => assert_eq!((mode == BodySendMode::FullDuplexStreamed, other), (false, None)),
        }
    }
}

//! The exchange against a model of Envoy: legal message orders in, answers checked as Envoy checks them.

use std::collections::VecDeque;

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyResponse, CommonResponse, HeadersResponse, HttpTrailers, ProcessingResponse, ProtocolConfiguration,
    body_mutation::Mutation, processing_response::Response,
};
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use proptest::prelude::*;

use super::*;
use crate::compat::Compat;
use crate::ext_proc::destination::DESTINATION;
use crate::ext_proc::reply::PIECE_BYTES;

mod modes;

const COMPAT: Compat = Compat::V1_0_1;
const LIMIT: usize = 1 << 20;
const PICKED: &str = "10.0.0.1:8000";

fn message(request: Request) -> ProcessingRequest {
    ProcessingRequest { request: Some(request), ..ProcessingRequest::default() }
}

fn http_headers(headers: &[(&str, &str)], end_of_stream: bool) -> HttpHeaders {
    let header = |&(key, value): &(&str, &str)| HeaderValue {
        key: key.into(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let headers = Some(HeaderMap { headers: headers.iter().map(header).collect() });
    HttpHeaders { headers, end_of_stream, ..HttpHeaders::default() }
}

fn request_headers(modes: (BodySendMode, BodySendMode), end_of_stream: bool) -> ProcessingRequest {
    let config = ProtocolConfiguration {
        request_body_mode: modes.0.into(),
        response_body_mode: modes.1.into(),
        ..ProtocolConfiguration::default()
    };
    let headers = http_headers(&[(":path", "/v1/completions"), ("X-Request-Id", "r")], end_of_stream);
    ProcessingRequest { protocol_config: Some(config), ..message(Request::RequestHeaders(headers)) }
}

/// The same first message, of an Envoy that does not wait for the header answer.
fn sent_ahead(mut message: ProcessingRequest) -> ProcessingRequest {
    let config = message.protocol_config.as_mut().unwrap();
    config.send_body_without_waiting_for_header_response = true;
    message
}

fn request_body(body: &[u8], end_of_stream: bool) -> ProcessingRequest {
    message(Request::RequestBody(HttpBody { body: body.to_vec(), end_of_stream, ..HttpBody::default() }))
}

fn response_headers(end_of_stream: bool) -> ProcessingRequest {
    message(Request::ResponseHeaders(http_headers(&[(":status", "200")], end_of_stream)))
}

fn response_body(body: &[u8], end_of_stream: bool) -> ProcessingRequest {
    message(Request::ResponseBody(HttpBody { body: body.to_vec(), end_of_stream, ..HttpBody::default() }))
}

/// Feeds a message, decides at once where a decision is asked for, and returns what goes to Envoy.
fn feed(exchange: &mut Exchange, message: ProcessingRequest, rewrite: bool) -> Vec<ProcessingResponse> {
    let replies = match exchange.on_message(message).expect("a legal message") {
        Step::Wait => Replies::default(),
        Step::Reply(replies) => replies,
        Step::Reject(rejection) => exchange.rejected(rejection.page(COMPAT)),
        Step::Observe(part, bytes) => exchange.answer_response(&part, Passed { bytes, ..Passed::default() }),
        Step::Decide(undecided) => {
            let raw = undecided.finish();
            let body = raw.body.map(|body| {
                if rewrite {
                    OutgoingBody::spliced(&body, 0..body.len().min(1), Bytes::from_static(b"new"))
                } else {
                    OutgoingBody::unchanged(body)
                }
            });
            let pick = Pick { destination: Some(PICKED.into()), ..Pick::default() };
            exchange.decided(Verdict { pick, body, body_changed: rewrite })
        }
    };
    replies.collect()
}

/// One direction of the exchange as Envoy sees it.
#[derive(Default)]
struct Half {
    headers_answered: usize,
    /// Outside of duplex mode: chunks that wait for their answers.
    sent: VecDeque<Vec<u8>>,
    body: Vec<u8>,
    body_answers: usize,
    ended: bool,
    trailers_answered: usize,
}

impl Half {
    fn on_headers(&mut self) {
        assert_eq!((self.headers_answered, self.body_answers), (0, 0), "headers are answered once, first");
        self.headers_answered += 1;
    }

    fn on_body(&mut self, common: Option<CommonResponse>, mode: BodySendMode) {
        assert!(!self.ended && self.trailers_answered == 0, "an answer after the end");
        assert_eq!(self.headers_answered, 1, "a body answer before the header answer");
        self.body_answers += 1;
        match (common.and_then(|common| common.body_mutation).and_then(|body| body.mutation), mode) {
            (Some(Mutation::StreamedResponse(piece)), BodySendMode::FullDuplexStreamed) => {
                assert!(piece.body.len() <= PIECE_BYTES);
                self.body.extend(piece.body);
                self.ended = piece.end_of_stream;
            }
            (mutation, mode) if mode != BodySendMode::FullDuplexStreamed => {
                let sent = self.sent.pop_front().expect("one answer for each chunk");
                match mutation {
                    None => self.body.extend(sent),
                    Some(Mutation::Body(body)) => self.body.extend(body),
                    Some(Mutation::ClearBody(true)) => {}
                    other => panic!("{other:?} in mode {mode:?}"),
                }
            }
            (mutation, mode) => panic!("{mutation:?} in mode {mode:?}"),
        }
    }
}

/// What came out of a whole exchange.
#[derive(Default)]
struct Seen {
    request: Half,
    response: Half,
    destinations: Vec<String>,
}

impl Seen {
    fn take(&mut self, answers: Vec<ProcessingResponse>, modes: (BodySendMode, BodySendMode)) {
        for answer in answers {
            self.destinations.extend(answer.dynamic_metadata.as_ref().map(|metadata| {
                let Some(Kind::StructValue(fields)) = &metadata.fields["envoy.lb"].kind else {
                    panic!("{metadata:?}")
                };
                let Some(Kind::StringValue(value)) = &fields.fields[DESTINATION].kind else {
                    panic!("{metadata:?}")
                };
                assert_eq!(
                    set_headers(&answer),
                    [(DESTINATION.to_owned(), value.clone())],
                    "header and metadata agree"
                );
                value.clone()
            }));
            match answer.response.expect("every answer answers something") {
                Response::RequestHeaders(HeadersResponse { .. }) => self.request.on_headers(),
                Response::RequestBody(BodyResponse { response }) => self.request.on_body(response, modes.0),
                Response::RequestTrailers(_) => self.request.trailers_answered += 1,
                Response::ResponseHeaders(_) => self.response.on_headers(),
                Response::ResponseBody(BodyResponse { response }) => self.response.on_body(response, modes.1),
                Response::ResponseTrailers(_) => self.response.trailers_answered += 1,
                other => panic!("nothing was refused: {other:?}"),
            }
        }
    }
}

/// The headers that an answer to a request sets.
fn set_headers(answer: &ProcessingResponse) -> Vec<(String, String)> {
    let common = match &answer.response {
        Some(Response::RequestHeaders(headers)) => headers.response.as_ref(),
        Some(Response::RequestBody(body)) => body.response.as_ref(),
        _ => None,
    };
    let set = common.and_then(|common| common.header_mutation.as_ref()).map(|mutation| &mutation.set_headers);
    let text =
        |header: &HeaderValue| (header.key.clone(), String::from_utf8(header.raw_value.clone()).unwrap());
    set.into_iter().flatten().filter_map(|option| option.header.as_ref().map(text)).collect()
}

fn split(body: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).chain([0, body.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| body[ends[0]..ends[1]].to_vec()).collect()
}

fn mode() -> impl Strategy<Value = BodySendMode> {
    prop_oneof![
        3 => Just(BodySendMode::FullDuplexStreamed),
        2 => Just(BodySendMode::Buffered),
        1 => Just(BodySendMode::BufferedPartial),
        1 => Just(BodySendMode::Streamed),
        1 => Just(BodySendMode::None),
    ]
}

proptest! {
    /// For any split of the bodies and any legal order, what comes out is what went in, and one destination is set.
    #[test]
    fn what_comes_out_is_what_went_in(
        modes in (mode(), mode()),
        request in prop::collection::vec(any::<u8>(), 0..200_000),
        response in prop::collection::vec(any::<u8>(), 0..200_000),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        ends in (any::<bool>(), any::<bool>(), any::<bool>()),
        how in (any::<bool>(), any::<bool>()),
    ) {
        let (request_trailers, response_trailers, bodiless) = ends;
        let (rewrite, ahead) = how;
        let mut exchange = Exchange::new(LIMIT, DestinationHint::default());
        let mut seen = Seen::default();
        let mut send = |message, seen: &mut Seen| seen.take(feed(&mut exchange, message, rewrite), modes);

        let mut first = request_headers(modes, bodiless);
        first = if ahead { sent_ahead(first) } else { first };
        send(first, &mut seen);
        let chunks = match modes.0 {
            _ if bodiless => vec![],
            BodySendMode::None => vec![],
            BodySendMode::Buffered | BodySendMode::BufferedPartial => vec![request.clone()],
            _ => split(&request, &cuts),
        };
        let n_chunks = chunks.len();
        for (n, chunk) in chunks.iter().enumerate() {
            seen.request.sent.push_back(chunk.clone());
            send(request_body(chunk, n + 1 == n_chunks && !request_trailers), &mut seen);
        }
        if request_trailers && !bodiless {
            send(message(Request::RequestTrailers(HttpTrailers::default())), &mut seen);
        }
        prop_assert_eq!(&seen.destinations, &[PICKED.to_owned()]);
        prop_assert_eq!(seen.request.headers_answered, 1);
        prop_assert_eq!(seen.request.trailers_answered, usize::from(request_trailers && !bodiless));
        let mut expected = request.clone();
        if rewrite && (ahead || modes.0 != BodySendMode::Streamed) {
            expected.splice(0..request.len().min(1), *b"new");
        }
        match modes.0 {
            _ if bodiless => prop_assert_eq!(seen.request.body_answers, 0),
            BodySendMode::FullDuplexStreamed => {
                prop_assert_eq!(&seen.request.body, &expected);
                prop_assert_eq!(seen.request.ended, !request_trailers);
            }
            _ => {
                prop_assert_eq!(seen.request.body_answers, n_chunks);
                prop_assert_eq!(&seen.request.body, &if n_chunks == 0 { vec![] } else { expected });
            }
        }

        send(response_headers(false), &mut seen);
        let chunks = match modes.1 {
            BodySendMode::None => vec![],
            BodySendMode::Buffered | BodySendMode::BufferedPartial => vec![response.clone()],
            _ => split(&response, &cuts),
        };
        let n_chunks = chunks.len();
        for (n, chunk) in chunks.iter().enumerate() {
            seen.response.sent.push_back(chunk.clone());
            send(response_body(chunk, n + 1 == n_chunks && !response_trailers), &mut seen);
        }
        if response_trailers {
            send(message(Request::ResponseTrailers(HttpTrailers::default())), &mut seen);
        }
        prop_assert_eq!(seen.response.headers_answered, 1);
        prop_assert_eq!(seen.response.trailers_answered, usize::from(response_trailers));
        if modes.1 == BodySendMode::FullDuplexStreamed {
            prop_assert_eq!(&seen.response.body, &response);
            prop_assert_eq!(seen.response.ended, !response_trailers);
        } else {
            prop_assert_eq!(seen.response.body_answers, n_chunks);
            let sent = if n_chunks == 0 { vec![] } else { response };
            prop_assert!(seen.response.body == sent);
        }
        prop_assert_eq!(exchange.response_ended(), response_trailers || n_chunks > 0);
    }

    /// Any messages in any order end in an answer, a wait or an error; nothing panics.
    #[test]
    fn no_order_of_messages_panics(
        order in prop::collection::vec(0u8..8, 0..12),
        mode in mode(),
        ahead in any::<bool>(),
        reject in any::<bool>(),
    ) {
        let mut exchange = Exchange::new(100, DestinationHint::default());
        for kind in order {
            let message = match kind {
                0 if ahead => sent_ahead(request_headers((mode, mode), false)),
                0 => request_headers((mode, mode), false),
                1 => request_headers((mode, mode), true),
                2 => request_body(b"0123456789", false),
                3 => request_body(&[7; 95], true),
                4 => message(Request::RequestTrailers(HttpTrailers::default())),
                5 => response_headers(false),
                6 => response_body(b"x", true),
                _ => ProcessingRequest::default(),
            };
            match exchange.on_message(message) {
                Ok(Step::Decide(_)) if reject => drop(exchange.rejected(Rejection::NoEndpoints.page(COMPAT))),
                Ok(Step::Decide(undecided)) => {
                    let pick = Pick { destination: Some(PICKED.into()), ..Pick::default() };
                    let body = undecided.finish().body.map(OutgoingBody::unchanged);
                    exchange.decided(Verdict { pick, body, body_changed: false }).for_each(drop);
                }
                Ok(Step::Reject(rejection)) => drop(exchange.rejected(rejection.page(COMPAT))),
                Ok(Step::Observe(part, bytes)) => {
                    exchange.answer_response(&part, Passed { bytes, ..Passed::default() }).for_each(drop);
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}

const DUPLEX: (BodySendMode, BodySendMode) =
    (BodySendMode::FullDuplexStreamed, BodySendMode::FullDuplexStreamed);

#[test]
fn envoys_own_error_page_may_come_before_the_request_is_answered() {
    for messages in [vec![], vec![request_body(b"half", false)]] {
        let mut exchange = Exchange::new(LIMIT, DestinationHint::default());
        feed(&mut exchange, request_headers(DUPLEX, false), false);
        for message in messages {
            assert!(feed(&mut exchange, message, false).is_empty());
        }
        let mut seen = Seen::default();
        seen.take(feed(&mut exchange, response_headers(false), false), DUPLEX);
        seen.take(feed(&mut exchange, response_body(b"stream timeout", true), false), DUPLEX);
        assert_eq!((seen.response.body.as_slice(), seen.response.ended), (&b"stream timeout"[..], true));
        assert!(seen.destinations.is_empty() && exchange.response_ended());
    }
}

#[test]
fn a_body_over_the_limit_is_refused_with_413_and_the_rest_ignored() {
    let mut exchange = Exchange::new(10, DestinationHint::default());
    feed(&mut exchange, request_headers(DUPLEX, false), false);
    feed(&mut exchange, request_body(b"0123456789", false), false);
    let answers = feed(&mut exchange, request_body(b"x", false), false);
    let Some(Response::ImmediateResponse(page)) = &answers[0].response else { panic!("{answers:?}") };
    assert_eq!(page.status.as_ref().unwrap().code, 413);
    assert!(feed(&mut exchange, request_body(b"more", true), false).is_empty());
}

#[test]
fn messages_that_envoy_never_sends_are_errors() {
    for (name, messages) in [
        ("nothing in it", vec![ProcessingRequest::default()]),
        ("headers twice", vec![request_headers(DUPLEX, false), request_headers(DUPLEX, false)]),
        ("a body after its end", vec![request_headers(DUPLEX, true), request_body(b"x", true)]),
        ("response headers twice", vec![response_headers(false), response_headers(false)]),
        (
            "request headers after the response began",
            vec![response_headers(false), request_headers(DUPLEX, true)],
        ),
        (
            "a response body after its end",
            vec![response_headers(false), response_body(b"", true), response_body(b"x", false)],
        ),
        (
            "response trailers after the end",
            vec![response_headers(true), message(Request::ResponseTrailers(HttpTrailers::default()))],
        ),
        ("trailers of nothing", vec![message(Request::RequestTrailers(HttpTrailers::default()))]),
    ] {
        let mut exchange = Exchange::new(LIMIT, DestinationHint::default());
        let (last, before) = messages.split_last().unwrap();
        for message in before {
            feed(&mut exchange, message.clone(), false);
        }
        assert!(exchange.on_message(last.clone()).is_err(), "{name}");
    }
}

#[test]
fn the_modes_are_those_of_the_first_message() {
    let buffered = (BodySendMode::Buffered, BodySendMode::Buffered);
    let (mut exchange, mut seen) = (Exchange::new(LIMIT, DestinationHint::default()), Seen::default());
    seen.take(feed(&mut exchange, request_headers(buffered, false), false), buffered);
    let protocol_config = request_headers(DUPLEX, false).protocol_config;
    seen.request.sent.push_back(b"x".to_vec());
    let body = ProcessingRequest { protocol_config, ..request_body(b"x", true) };
    seen.take(feed(&mut exchange, body, false), buffered);
    assert_eq!((seen.request.headers_answered, seen.request.body_answers), (1, 1));
}

/// Rows 45, 49 and 50 of the functional specification: both value fields are read, names in any case.
#[test]
fn rows_45_49_50_header_values_come_in_either_field() {
    let header = |key: &str, raw: &[u8], value: &str| HeaderValue {
        key: key.into(),
        raw_value: raw.to_vec(),
        value: value.into(),
    };
    let headers = vec![header("X-Request-ID", b"binary-id", "wrong-id"), header("a", b"", "s")];
    let headers =
        HttpHeaders { headers: Some(HeaderMap { headers }), end_of_stream: true, ..HttpHeaders::default() };
    let step = Exchange::new(LIMIT, DestinationHint::default())
        .on_message(message(Request::RequestHeaders(headers)));
    let Ok(Step::Decide(undecided)) = step else { panic!("{step:?}") };
    assert_eq!(
        (undecided.request.header("x-request-id"), undecided.request.header("a")),
        (Some("binary-id"), Some("s"))
    );
}

fn hint(value: Kind) -> Metadata {
    let key = "x-gateway-destination-endpoint-subset".to_owned();
    let fields = Struct { fields: [(key, Value { kind: Some(value) })].into() };
    Metadata { filter_metadata: [("envoy.lb.subset_hint".to_owned(), fields)].into(), ..Metadata::default() }
}

#[test]
fn subset_hints_of_other_shapes_are_no_hint() {
    for kind in [Kind::StringValue("10.0.0.1".into()), Kind::BoolValue(true), Kind::NullValue(0)] {
        assert_eq!(read_subset(&hint(kind)), None);
    }
    assert_eq!(read_subset(&Metadata::default()), None);
    let numbers =
        ListValue { values: vec![Value { kind: Some(Kind::NumberValue(5.0)) }, Value { kind: None }] };
    assert_eq!(read_subset(&hint(Kind::ListValue(numbers))), Some(Subset::Only(vec![])));
}

#[test]
fn the_latest_hint_of_the_request_counts() {
    let list = |address: &str| {
        let values = vec![Value { kind: Some(Kind::StringValue(address.into())) }];
        Some(hint(Kind::ListValue(ListValue { values })))
    };
    let mut exchange = Exchange::new(LIMIT, DestinationHint::default());
    let first = ProcessingRequest { metadata_context: list("10.0.0.1"), ..request_headers(DUPLEX, false) };
    feed(&mut exchange, first, false);
    feed(
        &mut exchange,
        ProcessingRequest { metadata_context: list("10.0.0.2"), ..request_body(b"x", false) },
        false,
    );
    let without =
        ProcessingRequest { metadata_context: Some(Metadata::default()), ..request_body(b"", true) };
    let Ok(Step::Decide(undecided)) = exchange.on_message(without) else { panic!("the body ended") };
    assert_eq!(undecided.request.subset, Subset::only(["10.0.0.2"].into_iter()));
}

#[test]
fn a_buffered_request_of_headers_and_trailers_has_an_empty_body() {
    let modes = (BodySendMode::Buffered, BodySendMode::Buffered);
    let mut exchange = Exchange::new(LIMIT, DestinationHint::default());
    assert_eq!(feed(&mut exchange, request_headers(modes, false), false).len(), 1);
    let step = exchange.on_message(message(Request::RequestTrailers(HttpTrailers::default())));
    let Ok(Step::Decide(undecided)) = step else { panic!("{step:?}") };
    assert_eq!(undecided.finish().body, Some(Bytes::new()));
    let answers: Vec<_> = exchange.rejected(Rejection::ModelMissing.page(COMPAT)).collect();
    assert!(
        matches!(answers[0].response, Some(Response::ImmediateResponse(_))),
        "the headers are not answered twice"
    );
}

#[test]
fn what_was_in_the_pipe_when_the_answer_began_is_ignored() {
    let mut exchange = Exchange::new(LIMIT, DestinationHint::default());
    feed(&mut exchange, request_headers(DUPLEX, false), false);
    feed(&mut exchange, response_headers(false), false);
    assert!(feed(&mut exchange, request_body(b"late", true), false).is_empty());
    assert!(
        feed(&mut exchange, message(Request::RequestTrailers(HttpTrailers::default())), false).is_empty()
    );
    assert_eq!(feed(&mut exchange, response_body(b"timeout", true), false).len(), 1);
}

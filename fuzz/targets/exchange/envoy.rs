//! Envoy's view of a stream: what it sent, what came back, and that nothing came that it did not wait for.

use std::ops::Range;

use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyResponse, HttpBody, ProcessingRequest, ProcessingResponse, ProtocolConfiguration,
    body_mutation::Mutation, processing_request::Request, processing_response::Response,
};
use epp::ext_proc::reply::{PIECE_BYTES, Replies};

/// The endpoint that is picked.
pub(super) const PICKED: &str = "10.0.0.1:8000";

/// Counts of one direction.
#[derive(Debug, Default)]
struct Half {
    mode: BodySendMode,
    headers: Count,
    bodies: Count,
    trailers: Count,
    /// Bytes that were sent.
    bytes: Vec<u8>,
    /// Bytes that should come back.
    expected: Vec<u8>,
    /// Bytes that came back.
    returned: Vec<u8>,
    /// Whether the last piece came back.
    ended: bool,
    /// Whether a message outside of duplex mode was answered with a new body.
    replaced: bool,
}

/// Messages that were sent, and answers to them.
#[derive(Debug, Default)]
struct Count {
    sent: usize,
    answered: usize,
}

/// What Envoy knows of one stream.
#[derive(Debug, Default)]
pub(super) struct Envoy {
    began: bool,
    request: Half,
    response: Half,
    picks: usize,
    error_pages: usize,
}

impl Envoy {
    /// Notes a message before it is sent.
    pub(super) fn sends(&mut self, message: &ProcessingRequest) {
        if !std::mem::replace(&mut self.began, true) {
            let modes = message.protocol_config.as_ref();
            let duplex = BodySendMode::FullDuplexStreamed;
            self.request.mode = modes.map_or(duplex, ProtocolConfiguration::request_body_mode);
            self.response.mode = modes.map_or(duplex, ProtocolConfiguration::response_body_mode);
        }
        match &message.request {
            Some(Request::RequestHeaders(_)) => self.request.headers.sent += 1,
            Some(Request::RequestBody(body)) => self.request.sends_body(body),
            Some(Request::RequestTrailers(_)) => self.request.trailers.sent += 1,
            Some(Request::ResponseHeaders(_)) => self.response.headers.sent += 1,
            Some(Request::ResponseBody(body)) => self.response.sends_body(body),
            Some(Request::ResponseTrailers(_)) => self.response.trailers.sent += 1,
            None => {}
        }
    }

    /// Bytes of the request's body so far.
    pub(super) fn request_bytes(&self) -> &[u8] {
        &self.request.bytes
    }

    /// Expects `range` of the request's body to be replaced.
    pub(super) fn expects(&mut self, range: Range<usize>, replacement: &[u8]) {
        self.request.expected.splice(range, replacement.iter().copied());
    }

    /// Takes answers.
    pub(super) fn takes(&mut self, replies: Replies) {
        for answer in replies {
            self.take(answer);
        }
        let Self { request, response, .. } = self;
        for half in [&*request, response] {
            // A body that comes without headers is answered as if there had been some.
            assert!(
                half.headers.answered <= half.headers.sent.max(half.bodies.sent.min(1)),
                "{:?}",
                half.headers
            );
            assert!(half.trailers.answered <= half.trailers.sent, "{:?}", half.trailers);
            let in_pieces = half.mode == BodySendMode::FullDuplexStreamed;
            assert!(in_pieces || half.bodies.answered <= half.bodies.sent, "{:?}", half.bodies);
        }
        assert!(self.picks <= 1, "picked twice");
    }

    fn take(&mut self, answer: ProcessingResponse) {
        let picks = answer.dynamic_metadata.is_some();
        assert!(!picks || format!("{:?}", answer.dynamic_metadata).contains(PICKED));
        self.picks += usize::from(picks);
        match answer.response.expect("every answer answers something") {
            Response::RequestHeaders(_) => {
                assert_eq!(self.request.bodies.answered, 0, "headers after a body");
                self.request.headers.answered += 1;
            }
            Response::RequestBody(body) => self.request.takes_body(body),
            Response::RequestTrailers(_) => self.request.trailers.answered += 1,
            Response::ResponseHeaders(_) => self.response.headers.answered += 1,
            Response::ResponseBody(body) => self.response.takes_body(body),
            Response::ResponseTrailers(_) => self.response.trailers.answered += 1,
            other => panic!("nothing was refused: {other:?}"),
        }
    }

    /// Whether a part of the request's body was sent.
    pub(super) fn sent_a_body(&self) -> bool {
        self.request.bodies.sent > 0
    }

    /// With the pick a body in pieces comes back whole, or none does when the request was given up before.
    pub(super) fn has_its_request(&self) {
        let Half { mode, bodies, expected, returned, .. } = &self.request;
        if *mode == BodySendMode::FullDuplexStreamed && bodies.answered > 0 {
            assert!(returned == expected, "the request's body comes out as it should");
        }
    }

    /// Parts of a response are answered at once.
    pub(super) fn is_answered_in_full(&self) {
        let Half { mode, headers, bodies, trailers, bytes, returned, .. } = &self.response;
        assert_eq!((headers.answered, trailers.answered), (headers.sent, trailers.sent));
        if *mode == BodySendMode::FullDuplexStreamed {
            assert!(returned == bytes, "the response's body comes out as it went in");
        } else {
            assert_eq!(bodies.answered, bodies.sent);
        }
    }

    /// Takes the error page, and nothing else.
    pub(super) fn takes_error_page(&mut self, replies: Replies) {
        self.error_pages += 1;
        assert_eq!(self.error_pages, 1, "refused twice");
        let answers: Vec<_> = replies.map(|answer| answer.response).collect();
        assert!(matches!(&answers[..], [Some(Response::ImmediateResponse(_))]), "{answers:?}");
    }
}

impl Half {
    fn sends_body(&mut self, body: &HttpBody) {
        self.bodies.sent += 1;
        self.bytes.extend(&body.body);
        self.expected.extend(&body.body);
    }

    fn takes_body(&mut self, body: BodyResponse) {
        assert!(!self.ended, "a body after its end");
        // Where bodies only pass by, each message is answered by itself, in whatever order they come.
        let in_pieces = self.mode == BodySendMode::FullDuplexStreamed;
        assert!(!in_pieces || self.trailers.answered == 0, "a body after its trailers");
        self.bodies.answered += 1;
        let mutation = body.response.and_then(|common| common.body_mutation).and_then(|body| body.mutation);
        match (mutation, self.mode) {
            (Some(Mutation::StreamedResponse(piece)), BodySendMode::FullDuplexStreamed) => {
                assert!(piece.body.len() <= PIECE_BYTES, "a piece of {} bytes", piece.body.len());
                self.returned.extend(piece.body);
                self.ended = piece.end_of_stream;
            }
            (Some(Mutation::Body(body)), mode) if mode != BodySendMode::FullDuplexStreamed => {
                assert!(!std::mem::replace(&mut self.replaced, true), "replaced twice");
                assert!(body == self.expected, "the new body is as it should be");
            }
            (Some(Mutation::ClearBody(true)), BodySendMode::Streamed | BodySendMode::Grpc) => {
                assert!(self.replaced, "cleared, and nothing in its place");
            }
            (None, mode) => {
                assert_ne!(mode, BodySendMode::FullDuplexStreamed, "a plain answer in duplex mode");
            }
            (mutation, mode) => panic!("{mutation:?} in mode {mode:?}"),
        }
    }
}

//! The exchange with Envoy as a state machine: message in, [`Step`] out. No await, no clock.
//!
//! One `Exchange` is one gRPC stream, which is one HTTP request. The shell (`ext_proc`) feeds it every message through
//! [`Exchange::on_message`], asks the director when it says [`Step::Decide`], and hands the verdict back through
//! [`Exchange::decided`] or [`Exchange::rejected`]. Legal orders and modes are those of Envoy 1.40 as ARCHITECTURE.md
//! lists them; what Envoy itself puts between (its own error pages as responses) is accepted.

mod head;

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, ProcessingRequest, processing_request::Request,
};

use super::body::{GatheredBody, Undecided};
use super::destination::DestinationHint;
use super::extractor::ModelHeaders;
use super::reply::{self, Direction, HeaderEdits, OutgoingBody, Pick, Replies};
use crate::raw_request::{RawRequest, ResponseHead, Subset};
use crate::rejection::{ErrorPage, Rejection};
use head::{disarm, read_headers, read_response_head, read_subset};

/// How Envoy sends a body, and wants it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMode {
    /// `FULL_DUPLEX_STREAMED`: chunks as they come; answers are streamed and need not match them one to one.
    Duplex,
    /// `BUFFERED`: one message with the whole body; headers are answered before it.
    Buffered,
    /// `BUFFERED_PARTIAL`: the same, but of a body over the buffer limit only the beginning.
    Partial,
    /// `STREAMED`: chunks, one answer each. Request chunks come after the headers are answered, unless Envoy was told
    /// not to wait for that. `GRPC`, which Envoy 1.40 does not implement, is taken for it.
    Streamed,
    /// `NONE`: no body is sent.
    None,
}

impl From<BodySendMode> for BodyMode {
    fn from(mode: BodySendMode) -> Self {
        match mode {
            BodySendMode::FullDuplexStreamed => Self::Duplex,
            BodySendMode::Buffered => Self::Buffered,
            BodySendMode::BufferedPartial => Self::Partial,
            BodySendMode::Streamed | BodySendMode::Grpc => Self::Streamed,
            BodySendMode::None => Self::None,
        }
    }
}

/// Body bytes from which a pick waits no longer for the rest that Envoy streams ahead: Envoy goes silent once its buffer
/// limit is unanswered, gateways set that as low as 32 KiB, and prefixes are rarely matched beyond.
const AHEAD_BYTES: usize = 16 << 10;

/// Whom an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// Envoy, or whoever it waits for.
    Gateway,
    /// The client, who sends its request.
    Upload,
    /// The client, but Envoy's `message_timeout` runs; after a short pause call [`Exchange::out_of_patience`].
    UploadBriefly,
}

/// What a response message says; for the ticket to observe.
#[derive(Debug, PartialEq, Eq)]
pub enum ResponsePart {
    /// The answer begins.
    Headers(ResponseHead),
    /// A chunk, whose bytes [`Step::Observe`] carries beside it.
    Chunk {
        /// Whether the answer ends here.
        end_of_stream: bool,
    },
    /// Trailers: the answer ends here.
    Trailers,
}

/// What to do after a message.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a step lives for one match; boxing would allocate per message"
)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// Send these.
    Reply(Replies),
    /// Decide this request, then call [`Exchange::decided`] or [`Exchange::rejected`].
    Decide(Undecided),
    /// Refuse the request.
    Reject(Rejection),
    /// Let the ticket see the part (and the chunk's bytes), then answer by [`Exchange::answer_response`].
    Observe(ResponsePart, Vec<u8>),
}

/// What goes on of a part of the response.
#[derive(Debug, Default)]
pub struct Passed {
    /// Bytes of the body: of a chunk, or what was held back until trailers.
    pub bytes: Vec<u8>,
    /// Whether they differ from what came; with the headers: whether those of the body may.
    pub changed: bool,
    /// With the headers: those to set.
    pub headers: Vec<(String, String)>,
}

/// A message that Envoy never sends; the stream must end with a status other than OK.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The message has no `request`.
    #[error("a processing request without a request")]
    Empty,
    /// The message came where it may not.
    #[error("{0} came out of order")]
    OutOfOrder(&'static str),
}

/// The verdict on a request: the pick, and the body as it is to go on.
#[derive(Debug)]
pub struct Verdict {
    /// Header changes and destination.
    pub pick: Pick,
    /// The outgoing body; `None` when the request had none.
    pub body: Option<OutgoingBody>,
    /// Whether the body differs from what came.
    pub body_changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestPhase {
    /// Nothing has come.
    Start,
    /// Headers came; the body is to come.
    Headers,
    /// The body is coming.
    Body,
    /// The director decides.
    Deciding {
        /// Whether the request ended by trailers.
        trailers: bool,
    },
    /// The request was answered; outside of duplex mode more of it may come.
    Done,
    /// The request was refused; Envoy may still send what it had in its pipe, but waits for no answer.
    Rejected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponsePhase {
    None,
    Begun,
    /// A buffered body came, which is whole also where trailers follow.
    Whole,
    /// A message said that it is the last.
    Ended,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Exchange {
    request_mode: BodyMode,
    response_mode: BodyMode,
    /// Whether streamed request chunks come before the headers are answered.
    ahead: bool,
    /// Such chunks that came so far; each needs an answer of its own.
    chunks_ahead: usize,
    phase: RequestPhase,
    /// Whether a message said that the request ends with it.
    request_ended: bool,
    response: ResponsePhase,
    /// Whether a partly buffered response came without its end.
    response_cut: bool,
    /// The request's headers, until it is decided; `None` when they did not come.
    head: Option<Vec<(String, Bytes)>>,
    body: GatheredBody,
    subset: Subset,
    hint: DestinationHint,
    /// Headers that say the model, where that is all that is asked for.
    model_headers: Option<Arc<ModelHeaders>>,
    max_body_bytes: usize,
}

impl Exchange {
    /// Begins an exchange. Bodies longer than `max_body_bytes` are refused; `hint` is how the pick will be told.
    pub fn new(max_body_bytes: usize, hint: DestinationHint) -> Self {
        Self {
            request_mode: BodyMode::Duplex,
            response_mode: BodyMode::Duplex,
            ahead: false,
            chunks_ahead: 0,
            phase: RequestPhase::Start,
            request_ended: false,
            response: ResponsePhase::None,
            response_cut: false,
            head: None,
            body: GatheredBody::default(),
            subset: Subset::Any,
            hint,
            model_headers: None,
            max_body_bytes,
        }
    }

    /// Lets the headers say the model, and nothing else; `None` changes nothing.
    #[must_use]
    pub fn saying_model(self, model_headers: Option<Arc<ModelHeaders>>) -> Self {
        Self { model_headers, ..self }
    }

    /// The headers that say the model, where no endpoint is picked.
    pub fn model_headers(&self) -> Option<&Arc<ModelHeaders>> {
        self.model_headers.as_ref()
    }

    /// How the pick will be told.
    pub fn hint(&self) -> &DestinationHint {
        &self.hint
    }

    /// Whether the answer has come to its end.
    pub fn response_ended(&self) -> bool {
        matches!(self.response, ResponsePhase::Whole | ResponsePhase::Ended)
    }

    /// Whether the request was refused: after the error page Envoy waits for nothing more.
    pub fn is_over(&self) -> bool {
        self.phase == RequestPhase::Rejected
    }

    /// Bytes of the request's body that are held until it is whole.
    pub fn held_bytes(&self) -> usize {
        self.body.n_bytes()
    }

    /// Whether the request is not whole yet.
    pub fn awaits_request(&self) -> bool {
        matches!(self.phase, RequestPhase::Headers | RequestPhase::Body)
    }

    /// Whom the next message depends on.
    pub fn awaits(&self) -> Awaits {
        match self.request_mode {
            BodyMode::Duplex if self.awaits_request() => Awaits::Upload,
            BodyMode::Streamed if self.awaits_request() => Awaits::UploadBriefly,
            // A body that Envoy gathers is silent for as long as its client sends, and nothing of it is held here.
            _ => Awaits::Gateway,
        }
    }

    /// Decides with what is there, since waiting on would run into Envoy's `message_timeout`.
    pub fn out_of_patience(&mut self) -> Step {
        self.decide(false, true)
    }

    /// Whether the request ended by its body. If not, trailers may follow, which HTTP/1.1 has for bodies of unknown
    /// length only.
    pub fn request_ended(&self) -> bool {
        self.request_ended
    }

    /// Whether the rest of the answer will not be seen: that the stream ends says no more than that.
    pub fn response_goes_unseen(&self) -> bool {
        self.response == ResponsePhase::Begun && (self.response_mode == BodyMode::None || self.response_cut)
    }

    /// Takes the next message.
    pub fn on_message(&mut self, message: ProcessingRequest) -> Result<Step, ProtocolError> {
        // It comes with the first message; answers already given would not fit another.
        if let Some(config) = message.protocol_config.as_ref().filter(|_| self.phase == RequestPhase::Start) {
            self.request_mode = config.request_body_mode().into();
            self.response_mode = config.response_body_mode().into();
            self.ahead = config.send_body_without_waiting_for_header_response;
        }
        // Envoy repeats it with every message.
        let undecided = self.phase == RequestPhase::Start || self.awaits_request();
        if let Some(metadata) = message.metadata_context.as_ref().filter(|_| undecided)
            && let Some(subset) = read_subset(metadata)
        {
            self.subset = subset;
        }
        if self.phase == RequestPhase::Rejected {
            return Ok(Step::Wait);
        }
        match message.request.ok_or(ProtocolError::Empty)? {
            Request::RequestHeaders(headers) => self.on_request_headers(headers),
            Request::RequestBody(body) => self.on_request_body(body),
            Request::RequestTrailers(_) => self.on_request_trailers(),
            Request::ResponseHeaders(headers) => {
                self.on_response_headers(&headers, message.metadata_context.as_ref())
            }
            Request::ResponseBody(body) => self.on_response_body(body),
            Request::ResponseTrailers(_) => {
                self.begin_response("response trailers", true)?;
                Ok(Step::Observe(ResponsePart::Trailers, Vec::new()))
            }
        }
    }

    fn on_request_headers(&mut self, headers: HttpHeaders) -> Result<Step, ProtocolError> {
        if self.phase != RequestPhase::Start || self.response != ResponsePhase::None {
            return Err(ProtocolError::OutOfOrder("request headers"));
        }
        let head = self.head.insert(read_headers(headers.headers));
        if headers.end_of_stream {
            return Ok(self.decide(false, false));
        }
        match self.request_mode {
            // The pick needs the body, and Envoy sends the body only once the headers are answered.
            BodyMode::Buffered | BodyMode::Partial => {
                self.phase = RequestPhase::Headers;
                let answer = match &self.model_headers {
                    Some(names) => reply::picked_headers(Pick { edits: names.removed(), ..Pick::default() }),
                    None => reply::headers(Direction::Request, disarm(head, &self.hint)),
                };
                Ok(Step::Reply(Replies::one(answer)))
            }
            BodyMode::Streamed if !self.ahead => Ok(self.decide(false, true)),
            BodyMode::None => Ok(self.decide(false, true)),
            BodyMode::Duplex | BodyMode::Streamed => {
                self.phase = RequestPhase::Headers;
                Ok(Step::Wait)
            }
        }
    }

    fn on_request_body(&mut self, body: HttpBody) -> Result<Step, ProtocolError> {
        match (self.phase, self.request_mode) {
            (RequestPhase::Headers | RequestPhase::Body, _)
            | (RequestPhase::Start, BodyMode::Duplex | BodyMode::Buffered | BodyMode::Partial) => {}
            (RequestPhase::Start, _) => return Ok(Step::Reject(Rejection::HeadersUnseen)),
            // Whatever the modes promised: a chunk in any mode but duplex wants one answer.
            (RequestPhase::Done, mode) if mode != BodyMode::Duplex => {
                return Ok(Step::Reply(Replies::one(reply::body_unchanged(Direction::Request))));
            }
            // The answer began before the request was whole; what was in the pipe no longer matters.
            (RequestPhase::Done, _) if self.response != ResponsePhase::None => return Ok(Step::Wait),
            _ => return Err(ProtocolError::OutOfOrder("a request body")),
        }
        self.phase = RequestPhase::Body;
        self.request_ended = body.end_of_stream;
        if self.body.n_bytes() + body.body.len() > self.max_body_bytes {
            return Ok(Step::Reject(Rejection::BodyTooLarge { limit: self.max_body_bytes }));
        }
        self.body.push(body.body);
        Ok(match self.request_mode {
            // A buffered body is one message; with trailers behind it, it does not say that it ends.
            BodyMode::Buffered => self.decide(false, false),
            BodyMode::Partial => self.decide(false, !body.end_of_stream),
            BodyMode::Duplex if body.end_of_stream => self.decide(false, false),
            BodyMode::Duplex => Step::Wait,
            BodyMode::Streamed | BodyMode::None => {
                self.chunks_ahead += 1;
                if body.end_of_stream || self.body.n_bytes() > AHEAD_BYTES {
                    self.decide(false, !body.end_of_stream)
                } else {
                    Step::Wait
                }
            }
        })
    }

    fn on_request_trailers(&mut self) -> Result<Step, ProtocolError> {
        match self.phase {
            RequestPhase::Headers if matches!(self.request_mode, BodyMode::Buffered | BodyMode::Partial) => {
                // The headers were answered in the hope of a body that does not come: an empty one.
                self.phase = RequestPhase::Body;
                Ok(self.decide(true, false))
            }
            RequestPhase::Headers | RequestPhase::Body => Ok(self.decide(true, false)),
            RequestPhase::Done if self.response != ResponsePhase::None => Ok(Step::Wait),
            RequestPhase::Done => Ok(Step::Reply(Replies::one(reply::trailers(Direction::Request)))),
            RequestPhase::Start | RequestPhase::Deciding { .. } | RequestPhase::Rejected => {
                Err(ProtocolError::OutOfOrder("request trailers"))
            }
        }
    }

    /// `more`: whether there is more of the body than came.
    fn decide(&mut self, trailers: bool, more: bool) -> Step {
        let has_body = self.phase == RequestPhase::Body;
        self.phase = RequestPhase::Deciding { trailers };
        let body = std::mem::take(&mut self.body);
        let request = RawRequest {
            headless: self.head.is_none(),
            headers: self.head.take().unwrap_or_default(),
            body: None,
            more,
            subset: std::mem::take(&mut self.subset),
        };
        Step::Decide(Undecided { request, body: Some(body).filter(|_| has_body) })
    }

    /// Answers the request with the pick. Nothing is sent when Envoy gave the request up meanwhile.
    pub fn decided(&mut self, verdict: Verdict) -> Replies {
        let RequestPhase::Deciding { trailers } = self.phase else { return Replies::default() };
        self.phase = RequestPhase::Done;
        let Verdict { pick, body, body_changed } = verdict;
        let replies = match (body, self.request_mode) {
            (Some(body), BodyMode::Duplex) => {
                Replies::headers_and_body(reply::picked_headers(pick), body, !trailers)
            }
            (Some(body), BodyMode::Buffered | BodyMode::Partial) => {
                Replies::one(reply::picked_body(pick, Some(body).filter(|_| body_changed)))
            }
            (Some(body), BodyMode::Streamed | BodyMode::None) => {
                let body = Some(body).filter(|_| body_changed);
                Replies::headers_and_chunks(reply::picked_headers(pick), self.chunks_ahead, body)
            }
            (None, _) => Replies::one(reply::picked_headers(pick)),
        };
        if trailers { replies.then(reply::trailers(Direction::Request)) } else { replies }
    }

    /// Answers the request with an error page; whatever comes after is ignored.
    pub fn rejected(&mut self, page: ErrorPage) -> Replies {
        self.phase = RequestPhase::Rejected;
        self.body = GatheredBody::default();
        Replies::one(reply::immediate(page))
    }

    fn on_response_headers(
        &mut self,
        headers: &HttpHeaders,
        metadata: Option<&Metadata>,
    ) -> Result<Step, ProtocolError> {
        if self.response != ResponsePhase::None {
            return Err(ProtocolError::OutOfOrder("response headers"));
        }
        self.begin_response("response headers", headers.end_of_stream)?;
        let head = read_response_head(headers.headers.as_ref(), metadata);
        Ok(Step::Observe(ResponsePart::Headers(head), Vec::new()))
    }

    fn on_response_body(&mut self, body: HttpBody) -> Result<Step, ProtocolError> {
        self.begin_response("a response body", body.end_of_stream)?;
        if self.response_mode == BodyMode::Buffered && !body.end_of_stream {
            self.response = ResponsePhase::Whole;
        }
        self.response_cut = self.response_mode == BodyMode::Partial;
        Ok(Step::Observe(ResponsePart::Chunk { end_of_stream: body.end_of_stream }, body.body))
    }

    /// A response may come before the request was answered: Envoy's own error page after it gave up.
    fn begin_response(&mut self, part: &'static str, ended: bool) -> Result<(), ProtocolError> {
        if self.response == ResponsePhase::Ended {
            return Err(ProtocolError::OutOfOrder(part));
        }
        self.response = if ended { ResponsePhase::Ended } else { ResponsePhase::Begun };
        self.phase = RequestPhase::Done;
        self.body = GatheredBody::default();
        Ok(())
    }

    /// Whether parts of a response's body may be held back and given with later ones.
    pub fn may_hold_back(&self) -> bool {
        self.response_mode == BodyMode::Duplex
    }

    /// Answers a response message with what goes on of it.
    pub fn answer_response(&self, part: &ResponsePart, passed: Passed) -> Replies {
        let Passed { bytes, changed, headers } = passed;
        match part {
            ResponsePart::Headers(_) if self.model_headers.is_some() => {
                Replies::one(reply::headers(Direction::Response, HeaderEdits::default()))
            }
            ResponsePart::Headers(_) => {
                // Upstream's mark of a response that went through the picker; users grep for it.
                let mut set = vec![("x-went-into-resp-headers".to_owned(), "true".to_owned())];
                set.extend(headers);
                // A length that the body may not keep; where there is no body it is a fact about another answer.
                let stale = changed && !self.response_ended();
                let remove = if stale { vec!["content-length".to_owned()] } else { Vec::new() };
                Replies::one(reply::headers(Direction::Response, HeaderEdits { set, remove }))
            }
            ResponsePart::Chunk { end_of_stream } => match self.response_mode {
                // All of it was held back.
                BodyMode::Duplex if changed && bytes.is_empty() && !end_of_stream => Replies::default(),
                BodyMode::Duplex => Replies::chunk(Direction::Response, bytes, *end_of_stream),
                _ if changed => Replies::one(reply::body_replaced(Direction::Response, bytes)),
                _ => Replies::one(reply::body_unchanged(Direction::Response)),
            },
            ResponsePart::Trailers if !bytes.is_empty() => {
                let held = Replies::chunk(Direction::Response, bytes, false);
                held.then(reply::trailers(Direction::Response))
            }
            ResponsePart::Trailers => Replies::one(reply::trailers(Direction::Response)),
        }
    }
}

#[cfg(test)]
mod tests;

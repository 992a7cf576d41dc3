//! The ext_proc service: a thin async shell around [`Exchange`].
//!
//! One gRPC stream is one HTTP request. The answer stream is driven by tonic itself: no task and no channel per
//! stream, and when Envoy drops the stream, everything the request holds is dropped with it. A stream that fails
//! inside ends with a status other than OK: Envoy takes OK for "go on without a body" and loses data.

pub mod body;
pub mod destination;
pub mod exchange;
pub mod extractor;
pub mod gate;
mod held_bytes;
pub mod reply;
pub mod stream_metrics;

use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::{ProcessingRequest, ProcessingResponse};
use epp_framework::lifecycle::Attribute;
use epp_framework::request::InferenceRequest;
use epp_framework::time::Timestamp;
use futures_util::{FutureExt, Stream, stream};
use prometheus::IntGauge;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::director::{Director, Routed};
use crate::raw_request::Subset;
use crate::rejection::{ErrorPage, Rejection};
use crate::ticket::Ticket;
use body::Undecided;
use destination::DestinationHint;
use exchange::{Awaits, Exchange, Passed, ProtocolError, ResponsePart, Step, Verdict};
use extractor::ModelHeaders;
use held_bytes::HeldBytes;
use reply::{Direction, HeaderEdits, OutgoingBody, Pick, Replies};
use stream_metrics::{ObservedStream, StreamMetrics};

/// What clients may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest request body, in bytes; longer ones are refused with 413.
    pub body_bytes: usize,
    /// Most bytes of request bodies that the process holds, from their first byte to when they have gone on. A request
    /// beyond them is refused with 503, one with a long body from three quarters of them on.
    pub held_bytes: usize,
    /// Long bodies that are read at a time; others wait for their turn as for a decision.
    pub long_bodies: usize,
    /// Longest message from Envoy, in bytes; `None`: any that a body may fill, see [`ExtProc::into_server`].
    pub received_bytes: Option<usize>,
    /// Longest message to Envoy, in bytes; `None`: the same.
    pub sent_bytes: Option<usize>,
    /// Longest pause of a client within its request; then it is refused with 408.
    pub upload_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let upload_idle = Duration::from_secs(30);
        Self {
            body_bytes: 64 << 20,
            held_bytes: 1 << 30,
            long_bodies: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            received_bytes: None,
            sent_bytes: None,
            upload_idle,
        }
    }
}

impl Limits {
    /// Longest message that has to do with a body, in bytes: a whole one and its framing, also when it is a little too
    /// long, so that the refusal is ours.
    fn longest_message(&self) -> usize {
        self.body_bytes.saturating_mul(2).max(64 << 20)
    }
}

/// What the gateway is believed and how it is told, and what is told of streams beyond their number.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether its hint which endpoints a request may go to counts for nothing.
    pub ignore_subset: bool,
    /// How it is told where a request goes.
    pub hint: DestinationHint,
    /// Where streams are observed, if they are.
    pub stream_metrics: Option<StreamMetrics>,
}

/// How long a pick waits for the next chunk while Envoy's `message_timeout` (200 ms by default) runs.
const CHUNK_PATIENCE: Duration = Duration::from_millis(100);

/// Bodies from this size on are read on another thread than the one that serves the connection, in bytes.
const LONG_BODY_BYTES: usize = 1 << 20;

/// What the services of all pools share: limits, and what counts against them. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    streams: IntGauge,
    cut: watch::Receiver<bool>,
    limits: Limits,
    options: Options,
    held_bytes: Arc<AtomicUsize>,
    long_bodies: Arc<Semaphore>,
}

impl Shared {
    /// `streams` counts open streams; once `cut` is true, those left end as unavailable.
    pub fn new(streams: IntGauge, cut: watch::Receiver<bool>, limits: Limits, options: Options) -> Self {
        let long_bodies = Arc::new(Semaphore::new(limits.long_bodies));
        Self { streams, cut, limits, options, held_bytes: Arc::default(), long_bodies }
    }

    /// The service of a pool.
    pub fn picker(&self, director: Arc<Director>) -> ExtProc {
        ExtProc { director, shared: self.clone(), model_headers: None }
    }

    /// The service that says the model in these headers, and picks nothing; `director` words and counts what it refuses.
    pub fn model_extractor(&self, director: Arc<Director>, headers: ModelHeaders) -> ExtProc {
        ExtProc { model_headers: Some(Arc::new(headers)), ..self.picker(director) }
    }
}

/// The service as a tonic server takes it. Cheap to clone.
pub type PickerServer = ExternalProcessorServer<ExtProc>;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct ExtProc {
    director: Arc<Director>,
    shared: Shared,
    model_headers: Option<Arc<ModelHeaders>>,
}

impl ExtProc {
    /// Wraps it for a tonic server, which takes messages of twice the longest body unless the limits say otherwise.
    pub fn into_server(self) -> PickerServer {
        let longest = self.shared.limits.longest_message();
        let Limits { received_bytes, sent_bytes, .. } = self.shared.limits;
        ExternalProcessorServer::new(self)
            .max_decoding_message_size(received_bytes.unwrap_or(longest))
            .max_encoding_message_size(sent_bytes.unwrap_or(longest))
    }
}

#[tonic::async_trait]
impl ExternalProcessor for ExtProc {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let Shared { streams, cut, limits, options, held_bytes, long_bodies } = &self.shared;
        let session = Session {
            inbound: request.into_inner(),
            received: self.director.now(),
            director: self.director.clone(),
            exchange: Exchange::new(limits.body_bytes, options.hint.clone())
                .saying_model(self.model_headers.clone()),
            replies: Replies::default(),
            ticket: None,
            cut: cut.clone(),
            limits: *limits,
            ignore_subset: options.ignore_subset,
            held: HeldBytes::of(held_bytes.clone()),
            long_bodies: long_bodies.clone(),
            open: OpenStream::count(streams, options.stream_metrics.as_ref()),
        };
        Ok(Response::new(Box::pin(stream::unfold(Some(Box::new(session)), Session::next))))
    }
}

/// Counts an open stream for as long as it lives.
struct OpenStream {
    streams: IntGauge,
    observed: Option<ObservedStream>,
}

impl OpenStream {
    fn count(streams: &IntGauge, metrics: Option<&StreamMetrics>) -> Self {
        streams.inc();
        Self { streams: streams.clone(), observed: metrics.map(StreamMetrics::begin) }
    }

    fn ends_with(&mut self, code: Code) {
        if let Some(observed) = &mut self.observed {
            observed.ends_with(code);
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.dec();
    }
}

/// One stream.
struct Session {
    inbound: Streaming<ProcessingRequest>,
    /// When it began, which is when the request's headers came.
    received: Timestamp,
    director: Arc<Director>,
    exchange: Exchange,
    replies: Replies,
    ticket: Option<Ticket>,
    cut: watch::Receiver<bool>,
    limits: Limits,
    ignore_subset: bool,
    held: HeldBytes,
    long_bodies: Arc<Semaphore>,
    open: OpenStream,
}

type Answer = Result<ProcessingResponse, Status>;

impl Session {
    /// The next answer, for `unfold`: `None` ends the stream with OK, an error ends it with that status.
    ///
    /// Boxed, because `unfold` moves its state with every answer.
    async fn next(session: Option<Box<Self>>) -> Option<(Answer, Option<Box<Self>>)> {
        let mut session = session?;
        // A panic inside one request must neither reach the connection, which many requests share, nor end in OK.
        let status = match AssertUnwindSafe(session.answer()).catch_unwind().await {
            Ok(Ok(Some(answer))) => return Some((Ok(answer), Some(session))),
            Ok(Ok(None)) => {
                // A gateway that resets its stream looks here like one that closes it.
                let cut_short = session.exchange.awaits_request();
                session.open.ends_with(if cut_short { Code::Cancelled } else { Code::Ok });
                return None;
            }
            Ok(Err(status)) => status,
            Err(_) => {
                tracing::error!("a request panicked; its stream ends as internal error");
                Status::internal("internal error")
            }
        };
        session.open.ends_with(status.code());
        Some((Err(status), None))
    }

    /// The next answer, or `None` when Envoy has closed the stream or waits for no more.
    async fn answer(&mut self) -> Result<Option<ProcessingResponse>, Status> {
        loop {
            if let Some(answer) = self.replies.next() {
                self.held.shrink_to(self.exchange.held_bytes() + self.replies.held_bytes());
                return Ok(Some(answer));
            }
            if self.exchange.is_over() {
                return Ok(None);
            }
            let awaits = self.exchange.awaits();
            let next = async {
                match awaits {
                    Awaits::Gateway => Ok(self.inbound.message().await),
                    Awaits::Upload => timeout(self.limits.upload_idle, self.inbound.message()).await,
                    Awaits::UploadBriefly => timeout(CHUNK_PATIENCE, self.inbound.message()).await,
                }
            };
            // A look costs nothing; to wait for the cut costs a lock, so what has come goes first.
            let cut = || Err(Status::unavailable("the endpoint picker shuts down"));
            if self.cut.has_changed().unwrap_or(true) {
                return cut();
            }
            let message = tokio::select! {
                biased;
                message = next => message,
                _ = self.cut.changed() => return cut(),
            };
            let step = match message {
                Ok(message) => match message.inspect_err(log_unreadable)? {
                    Some(message) => {
                        self.exchange.on_message(message).map_err(|error| protocol_status(&error))?
                    }
                    None => match self.held_back() {
                        Some(replies) => Step::Reply(replies),
                        None => return Ok(None),
                    },
                },
                Err(_) if awaits == Awaits::UploadBriefly => self.exchange.out_of_patience(),
                Err(_) => {
                    Step::Reject(Rejection::UploadStalled { seconds: self.limits.upload_idle.as_secs() })
                }
            };
            if let Some(undecided) = self.carry_out(step) {
                self.decide(undecided).await?;
            }
        }
    }

    /// Does what the exchange says, if there is room for what it holds; returns what is to be decided.
    fn carry_out(&mut self, step: Step) -> Option<Undecided> {
        let undecided = if let Step::Decide(undecided) = &step { undecided.n_bytes() } else { 0 };
        let room = self.held.set(self.exchange.held_bytes() + undecided, self.limits.held_bytes);
        let sent_id = match &step {
            Step::Decide(undecided) if !room => undecided.request.header("x-request-id").map(str::to_owned),
            _ => None,
        };
        match if room { step } else { Step::Reject(Rejection::Overloaded) } {
            Step::Wait => {}
            Step::Reply(replies) => self.replies = replies,
            Step::Decide(undecided) => return Some(undecided),
            Step::Reject(rejection) => {
                let request = refused(sent_id.as_deref().or(self.exchange.request_id()));
                let page = self.director.refuse(&request, &rejection);
                self.replies = self.exchange.rejected(page);
            }
            Step::Observe(part, chunk) => {
                let attributes = self.observe(&part, &chunk);
                let passed = self.pass(&part, chunk);
                self.replies = self.exchange.answer_response(&part, passed).reporting(attributes);
            }
        }
        None
    }

    async fn decide(&mut self, mut undecided: Undecided) -> Result<(), Status> {
        if self.ignore_subset {
            undecided.request.subset = Subset::Any;
        }
        let tell_length =
            self.exchange.request_ended() || undecided.request.header("content-length").is_some();
        let judge = Judge {
            director: self.director.clone(),
            received: self.received,
            tell_length,
            hint: self.exchange.hint().clone(),
            model_headers: self.exchange.model_headers().cloned(),
        };
        let decided = if undecided.n_bytes() >= LONG_BODY_BYTES {
            self.decide_long(judge, undecided).await?
        } else {
            judge.decide(undecided)
        };
        self.replies = match decided {
            Ok((verdict, ticket)) => {
                self.ticket = ticket;
                self.exchange.decided(verdict)
            }
            Err(page) => self.exchange.rejected(page),
        };
        Ok(())
    }

    /// On another thread. To wait for one is to wait for the decision; a stream that ends meanwhile leaves nothing.
    async fn decide_long(&self, judge: Judge, undecided: Undecided) -> Result<Decided, Status> {
        let turn = self.long_bodies.clone().acquire_owned();
        let Ok(turn) = timeout(self.director.decision_timeout(), turn).await else {
            let refused = refused(undecided.request.header("x-request-id"));
            return Ok(Err(self.director.refuse(&refused, &Rejection::TooLate)));
        };
        let decided = spawn_blocking(move || {
            let _turn = turn;
            judge.decide(undecided)
        });
        // It fails by a panic, which was logged.
        decided.await.map_err(|_| Status::internal("internal error"))
    }

    /// Lets the ticket see a part of the answer, at whose end there may be something to tell. An answer whose request we
    /// never saw gets a ticket that holds nothing.
    fn observe(&mut self, part: &ResponsePart, chunk: &[u8]) -> Vec<Attribute> {
        if self.exchange.model_headers().is_some() {
            return Vec::new();
        }
        let ticket = self.ticket.get_or_insert_with(|| self.director.unrouted_ticket());
        match part {
            ResponsePart::Headers(head) => ticket.on_response_headers(head),
            ResponsePart::Chunk { .. } => ticket.on_response_chunk(chunk),
            ResponsePart::Trailers => {}
        }
        if self.exchange.response_ended() {
            return ticket.complete();
        }
        if self.exchange.response_goes_unseen() {
            ticket.complete_when_dropped();
        }
        Vec::new()
    }
}

impl Session {
    /// What goes on of a part of the answer: the model's name in it mapped, if that is asked for, and further headers.
    fn pass(&mut self, part: &ResponsePart, chunk: Vec<u8>) -> Passed {
        let headers = match (part, &self.ticket) {
            (ResponsePart::Headers(head), Some(ticket)) => ticket.response_headers(head.served.as_deref()),
            _ => Vec::new(),
        };
        let Some(names) = self.ticket.as_mut().and_then(Ticket::names) else {
            return Passed { bytes: chunk, changed: false, headers };
        };
        let bytes = match part {
            ResponsePart::Headers(_) => chunk,
            ResponsePart::Chunk { end_of_stream } if self.exchange.may_hold_back() => {
                let mut bytes = names.feed(chunk);
                if *end_of_stream {
                    bytes.append(&mut names.finish());
                }
                bytes
            }
            // Each chunk wants an answer of its own, and trailers may follow whose answer can carry no body.
            ResponsePart::Chunk { .. } => {
                let mut bytes = names.feed(chunk.clone());
                bytes.append(&mut names.finish());
                return Passed { changed: bytes != chunk, bytes, headers };
            }
            ResponsePart::Trailers => names.finish(),
        };
        Passed { bytes, changed: true, headers }
    }

    /// What was held back of an answer that broke off.
    fn held_back(&mut self) -> Option<Replies> {
        let bytes = self.ticket.as_mut().and_then(Ticket::names)?.finish();
        (!bytes.is_empty()).then(|| Replies::chunk(Direction::Response, bytes, false))
    }
}

/// The verdict on a request, and its ticket if it was routed; or the refusal.
type Decided = Result<(Verdict, Option<Ticket>), ErrorPage>;

/// Decides one request.
struct Judge {
    director: Arc<Director>,
    received: Timestamp,
    /// Whether the length of the whole body may be told.
    tell_length: bool,
    hint: DestinationHint,
    model_headers: Option<Arc<ModelHeaders>>,
}

impl Judge {
    fn decide(self, undecided: Undecided) -> Decided {
        let raw = undecided.finish();
        if let Some(headers) = self.model_headers {
            let refused = refused(raw.header("x-request-id"));
            let refuse = |rejection| self.director.refuse(&refused, &rejection);
            return headers.verdict(raw).map(|verdict| (verdict, None)).map_err(refuse);
        }
        let unseen_bytes = raw.unseen_bytes().filter(|_| self.tell_length);
        let (verdict, ticket) = verdict(self.director.decide(raw, self.received)?, unseen_bytes, self.hint);
        Ok((verdict, Some(ticket)))
    }
}

/// What is known of a request that is refused before it was read: the id that it came with, if it did.
fn refused(request_id: Option<&str>) -> InferenceRequest {
    InferenceRequest { request_id: request_id.unwrap_or_default().to_owned(), ..InferenceRequest::default() }
}

/// The text of the status may quote what was read, so only its code is logged.
fn log_unreadable(status: &Status) {
    tracing::debug!(code = ?status.code(), "a message from the gateway cannot be read");
}

fn protocol_status(error: &ProtocolError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Turns a routed request into what the exchange answers with; `unseen_bytes` follow the
/// body that it knows, if its whole length may be told.
fn verdict(routed: Routed, unseen_bytes: Option<usize>, hint: DestinationHint) -> (Verdict, Ticket) {
    let Routed { ticket, destination, headers, scores, body, splice, made_request_id, mut remove_headers } =
        routed;
    hint.adjust_removed(&mut remove_headers);
    let body_changed = splice.is_some();
    let body = body.map(|body| match splice {
        Some((range, replacement)) => OutgoingBody::spliced(&body, range, replacement),
        None => OutgoingBody::unchanged(body),
    });
    let length = body.as_ref().filter(|body| !body.is_empty()).zip(unseen_bytes);
    let length =
        length.map(|(body, unseen)| ("content-length".to_owned(), (body.len() + unseen).to_string()));
    let mut set: Vec<_> = length.into_iter().collect();
    set.extend(made_request_id.map(|id| ("x-request-id".to_owned(), id)));
    set.extend(headers.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let pick = Pick {
        edits: HeaderEdits { set, remove: remove_headers },
        destination: Some(destination),
        hint,
        scores,
    };
    (Verdict { pick, body, body_changed }, ticket)
}

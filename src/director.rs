//! One request's order of events: read, resolve, produce, decide; and the [`Ticket`] that ends it.
//!
//! The entry point is [`Director::decide`]. It knows nothing of Envoy: it takes a [`RawRequest`] and gives a
//! [`Routed`]. Whatever a request holds is in its ticket, and dropping the ticket gives it back, so a disconnect needs
//! no path of its own.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use epp_framework::endpoint::{Cost, Reservation};
use epp_framework::lifecycle::Hook;
use epp_framework::request::{BYTES_PER_TOKEN, InferenceRequest};
use epp_framework::snapshot::Snapshot;
use epp_framework::time::Timestamp;
use epp_plugins::parser::cut;
use epp_plugins::parser::openai::{self, ParseError, ParsedBody};
use epp_plugins::parser::usage::UsageReader;

use crate::admission::{Thresholds, may_be_shed};
use crate::compat::Compat;
use crate::control_headers;
use crate::datastore::RequestRules;
use crate::metrics::ModelMetrics;
use crate::pool::PoolState;
use crate::raw_request::{RawRequest, Subset};
use crate::rejection::{ErrorPage, Rejection};
use crate::scheduling::{NoDecision, Reservations};
use crate::stopwatch::Stopwatch;

/// Most output tokens that a request counts for, whatever its client asks for.
const MAX_OUTPUT_TOKENS: u64 = 1 << 24;

/// Most prompt tokens that a request counts for whose body was announced and not seen.
const MAX_UNSEEN_TOKENS: u64 = 1 << 20;

/// What the requests of a pool are held to.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How refusals are worded, and which requests may be shed.
    pub compat: Compat,
    /// When an endpoint has room for requests that may be shed.
    pub room: Thresholds,
    /// Whether objective and model rewrite are taken from the request's headers, which a client may have set.
    pub trust_client_headers: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { compat: Compat::V1_0_1, room: Thresholds::default(), trust_client_headers: true }
    }
}

/// Directs the requests of one pool.
pub struct Director {
    pool: Arc<PoolState>,
    rules: Rules,
}

/// A request that goes on.
pub struct Routed {
    /// Ends the request; observes its answer until then.
    pub ticket: Ticket,
    /// Where it goes, `ip:port`.
    pub destination: String,
    /// `ip:port` and score of every candidate, if the pool emits them.
    pub scores: Vec<(String, f64)>,
    /// The body as it came; `None` when there was none.
    pub body: Option<Bytes>,
    /// Bytes of the body to replace, and by what: the model's name, if it changed.
    pub splice: Option<(Range<usize>, Bytes)>,
    /// The request id, if it was made here.
    pub made_request_id: Option<String>,
    /// Control headers that the client sent.
    pub remove_headers: Vec<String>,
}

impl Director {
    /// Makes the director of a pool.
    pub fn new(pool: Arc<PoolState>, rules: Rules) -> Self {
        Self { pool, rules }
    }

    /// The time on the pool's clock.
    pub fn now(&self) -> Timestamp {
        self.pool.clock.now()
    }

    /// Decides a request whose headers came at `received`. Every refusal is counted here.
    pub fn decide(&self, raw: RawRequest, received: Timestamp) -> Result<Routed, ErrorPage> {
        let mut request = InferenceRequest::default();
        let routed = match &raw.body {
            None if !raw.more => self.decide_bodiless(&raw.subset),
            _ => self.decide_inference(&raw, received, &mut request),
        };
        let Picked { ticket, destination, scores, splice } =
            routed.map_err(|rejection| self.refuse(&request, &rejection))?;
        let remove_headers = control_headers::sent(&raw.headers);
        let made_request_id = match raw.header("x-request-id") {
            Some(_) => None,
            None if request.request_id.is_empty() => Some(new_request_id()),
            None => Some(request.request_id),
        };
        Ok(Routed { ticket, destination, scores, body: raw.body, splice, made_request_id, remove_headers })
    }

    /// How long a request may wait for its decision.
    pub fn decision_timeout(&self) -> Duration {
        self.pool.decision_timeout()
    }

    /// Counts and words a refusal.
    pub fn refuse(&self, request: &InferenceRequest, rejection: &Rejection) -> ErrorPage {
        let page = rejection.page(self.rules.compat);
        self.pool.metrics.model(&request.model, &request.target_model).count_error(page.code);
        tracing::debug!(code = page.code, reason = page.body, "request refused");
        page
    }

    /// A request without a body has no model and no prompt: any endpoint that may serve will do.
    fn decide_bodiless(&self, subset: &Subset) -> Result<Picked, Rejection> {
        match self.pool.pick_any(subset) {
            Ok(endpoint) => Ok(Picked {
                ticket: self.unrouted_ticket(),
                destination: endpoint.destination.clone(),
                scores: Vec::new(),
                splice: None,
            }),
            Err(NoDecision::NoCandidates) if *subset == Subset::Any => Err(Rejection::NoEndpointsForBodiless),
            Err(none) => Err(none.into()),
        }
    }

    fn decide_inference(
        &self,
        raw: &RawRequest,
        received: Timestamp,
        request: &mut InferenceRequest,
    ) -> Result<Picked, Rejection> {
        let pool = &self.pool;
        let body = raw.body.as_deref().unwrap_or_default();
        let parsed = read(raw)?;
        if raw.headless {
            return Err(Rejection::HeadersUnseen);
        }
        let output_tokens = parsed.max_tokens.unwrap_or(0).min(MAX_OUTPUT_TOKENS);
        let model_span = parsed.model_span.clone();
        self.resolve(raw, parsed, request);
        let pipeline = pool.pipeline();
        let snapshot = pool.store.snapshot();
        if may_be_shed(request.priority, self.rules.compat) && self.is_saturated(&snapshot) {
            return Err(Rejection::Shed);
        }
        if snapshot.endpoints.is_empty() {
            return Err(Rejection::NoEndpoints);
        }
        request.headers = pipeline.headers(|name| raw.header(name));
        let stopwatch =
            Stopwatch { now: &|| pool.clock.now(), took: &|step, took| pipeline.observe(step, took) };
        let watch = pipeline.next_is_timed().then_some(stopwatch);
        pipeline.produce(&Hook { now: self.now(), pool: &snapshot }, request, watch);
        let cost = Cost { requests: 1, prompt_tokens: request.prompt_tokens, output_tokens };
        let began = pool.clock.now();
        let placed = pool.decide(&pipeline, request, &raw.subset, cost, watch);
        pool.metrics.observe_scheduling(pool.clock.now().since(began));
        let placed = placed?;
        let splice = (request.target_model != request.model).then(|| {
            let model = serde_json::to_vec(&request.target_model).expect("strings can be written as JSON");
            (model_span, Bytes::from(model))
        });
        let model = pool.metrics.model(&request.model, &request.target_model);
        model.count_request(outgoing_bytes(body, splice.as_ref()) + raw.unseen_bytes().unwrap_or(0));
        let ticket = Ticket::new(pool.clone(), model, Some((placed.reservations, received)));
        Ok(Picked { ticket, destination: placed.destination, scores: placed.scores, splice })
    }

    fn is_saturated(&self, snapshot: &Snapshot) -> bool {
        let now = self.pool.clock.now();
        let room = self.rules.room;
        room.saturated(snapshot.endpoints.iter().map(|endpoint| endpoint.sample(now, room.age)))
    }

    /// Objective → priority, model rewrite, request id.
    fn resolve(&self, raw: &RawRequest, parsed: ParsedBody, request: &mut InferenceRequest) {
        let header = |name: &str| raw.header(name).filter(|_| self.rules.trust_client_headers);
        let objective =
            header("x-llm-d-inference-objective").or_else(|| header("x-gateway-inference-objective"));
        let rewrite = header("x-llm-d-model-name-rewrite").or_else(|| header("x-gateway-model-name-rewrite"));
        request.request_id = raw.header("x-request-id").map_or_else(new_request_id, str::to_owned);
        let rules = self.pool.store.rules();
        request.priority = self.priority(&rules, objective, &parsed.model);
        let rewrite = rewrite.or_else(|| rules.rewrites.target(&parsed.model, rand::random()));
        // A model that was not seen cannot be replaced.
        let rewrite = rewrite.filter(|_| !parsed.model_span.is_empty());
        rewrite.unwrap_or(&parsed.model).clone_into(&mut request.target_model);
        request.model = parsed.model;
        request.prompt = parsed.prompt;
        request.prompt_tokens = parsed.prompt_tokens;
    }

    /// The priority that the objective has, or else that an `InferenceModel` gives its model; 0 without either. v0.5.1
    /// took a model that it did not know as sheddable; where no `InferenceModel` can be, objectives named like models
    /// stand for them.
    fn priority(&self, rules: &RequestRules, objective: Option<&str>, model: &str) -> i32 {
        let RequestRules { objectives, model_priorities, .. } = rules;
        let said = objective.and_then(|name| objectives.get(name)).or_else(|| model_priorities.get(model));
        let (named_like_it, unknown) =
            if self.rules.compat == Compat::V0_5_1 { (objectives.get(model), -1) } else { (None, 0) };
        said.or(named_like_it).copied().unwrap_or(unknown)
    }

    /// A ticket that holds nothing: for requests without a body, and for answers whose request we never saw.
    pub fn unrouted_ticket(&self) -> Ticket {
        let model = self.pool.metrics.model("", "");
        Ticket::new(self.pool.clone(), model, None)
    }
}

/// Reads what there is of the body. One that was not seen whole cannot be found faulty.
fn read(raw: &RawRequest) -> Result<ParsedBody, Rejection> {
    let body = raw.body.as_deref().unwrap_or_default();
    if !raw.more {
        return Ok(openai::parse(body)?);
    }
    let mut parsed = cut::parse(body);
    let unseen_tokens = raw.unseen_bytes().unwrap_or(0) / BYTES_PER_TOKEN;
    parsed.prompt_tokens += (unseen_tokens as u64).min(MAX_UNSEEN_TOKENS);
    Ok(parsed)
}

fn outgoing_bytes(body: &[u8], splice: Option<&(Range<usize>, Bytes)>) -> usize {
    splice.map_or(body.len(), |(range, replacement)| body.len() - range.len() + replacement.len())
}

/// See [`Routed`] for the fields.
struct Picked {
    ticket: Ticket,
    destination: String,
    scores: Vec<(String, f64)>,
    splice: Option<(Range<usize>, Bytes)>,
}

impl From<ParseError> for Rejection {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::NotAnObject => Self::NotAnObject,
            ParseError::ModelMissing => Self::ModelMissing,
            ParseError::PromptMissing => Self::PromptMissing,
            ParseError::PromptNotAString => Self::PromptNotAString,
            ParseError::MessagesNotAList => Self::MessagesNotAList,
            ParseError::MessagesEmpty => Self::MessagesEmpty,
        }
    }
}

impl From<NoDecision> for Rejection {
    fn from(none: NoDecision) -> Self {
        match none {
            NoDecision::NoCandidates => Self::NoEndpoints,
            NoDecision::TooLate => Self::TooLate,
            NoDecision::Unschedulable(why) => Self::Unschedulable(why),
        }
    }
}

fn new_request_id() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

/// A request under way: what it holds, and what its answer showed so far.
pub struct Ticket {
    pool: Arc<PoolState>,
    model: Arc<ModelMetrics>,
    /// What a routed request holds, and when it was received, for as long as it counts as running.
    running: Option<(Reservations, Timestamp)>,
    usage: Option<UsageReader>,
    event_stream: bool,
    response_bytes: usize,
    ending: Ending,
}

/// How the answer ends, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Its end is to come; a ticket dropped before is of an answer that broke off.
    Awaited,
    /// Its end will not be seen: it is taken for complete when the ticket is dropped.
    Unseen,
    /// It was complete.
    Complete,
}

impl Ticket {
    /// `running` is what a routed request holds, and when it was received.
    fn new(
        pool: Arc<PoolState>,
        model: Arc<ModelMetrics>,
        running: Option<(Reservations, Timestamp)>,
    ) -> Self {
        Self {
            pool,
            model,
            running,
            usage: None,
            event_stream: false,
            response_bytes: 0,
            ending: Ending::Awaited,
        }
    }

    /// The answer begins.
    pub fn on_response_headers(&mut self, event_stream: bool) {
        self.event_stream = event_stream;
        self.usage = Some(UsageReader::new(event_stream));
    }

    /// A chunk of the answer passes.
    pub fn on_response_chunk(&mut self, chunk: &[u8]) {
        if chunk.is_empty() {
            return;
        }
        if self.usage.is_none() && self.response_bytes == 0 {
            // A gateway that does not send response headers: a JSON answer is an object.
            self.on_response_headers(!chunk.trim_ascii_start().starts_with(b"{"));
        }
        if let Some((reservations, _)) = &mut self.running
            && self.event_stream
            && self.response_bytes == 0
        {
            reservations.iter_mut().for_each(Reservation::first_token);
        }
        self.response_bytes += chunk.len();
        if let Some(usage) = &mut self.usage {
            usage.feed(chunk);
        }
    }

    /// The answer is complete. Everything held is given back now, not when the stream closes.
    pub fn complete(&mut self) {
        if std::mem::replace(&mut self.ending, Ending::Complete) == Ending::Complete {
            return;
        }
        let received = self.release();
        let usage = self.usage.take().and_then(|mut reader| reader.finish()).unwrap_or_default();
        self.model.observe_usage(&usage);
        if let Some(received) = received {
            let took = self.pool.clock.now().since(received);
            self.model.observe_response(took, self.response_bytes, usage.completion_tokens.unwrap_or(0));
        }
    }

    /// The rest of the answer will not be seen: it counts as complete when the ticket is dropped.
    pub fn complete_when_dropped(&mut self) {
        self.ending = Ending::Unseen;
    }

    /// Gives back what a request that runs holds; says when that was received.
    fn release(&mut self) -> Option<Timestamp> {
        let (_, received) = self.running.take()?;
        self.model.end_request();
        Some(received)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.ending == Ending::Unseen {
            self.complete();
        }
        self.release();
    }
}

#[cfg(test)]
mod tests;

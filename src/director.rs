//! One request's order of events: read, resolve, produce, decide.
//!
//! The entry point is [`Director::decide`]. It knows nothing of Envoy: it takes a [`RawRequest`] and gives a [`Routed`],
//! whose [`Ticket`] holds the request to its end.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use epp_framework::endpoint::{Cost, Endpoint};
use epp_framework::lifecycle::Hook;
use epp_framework::parsing::{ModelPlace, ParsedRequest, Parser, RequestBody};
use epp_framework::prompt::BYTES_PER_TOKEN;
use epp_framework::request::InferenceRequest;
use epp_framework::snapshot::Snapshot;
use epp_framework::time::Timestamp;
use smallvec::SmallVec;

use crate::admission::{Thresholds, may_be_shed};
use crate::compat::Compat;
use crate::control_headers;
use crate::datastore::RequestRules;
use crate::pipeline::Pipeline;
use crate::pool::{Placed, PoolState};
use crate::raw_request::{RawRequest, Subset};
use crate::rejection::{ErrorPage, Rejection};
use crate::scheduling::NoDecision;
use crate::stopwatch::Stopwatch;
use crate::ticket::{Asked, Ticket};

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
    /// Whether the model's name in an answer is mapped back to the one that the client asked for.
    pub rewrite_response_model: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            compat: Compat::V1_0_1,
            room: Thresholds::default(),
            trust_client_headers: true,
            rewrite_response_model: false,
        }
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
    /// Headers to set for the server that it goes to; names in lower case.
    pub headers: SmallVec<[(&'static str, String); 2]>,
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
        let sent_id = raw.header("x-request-id");
        let request_id = sent_id.map_or_else(new_request_id, str::to_owned);
        let mut request = InferenceRequest { request_id, ..InferenceRequest::default() };
        let routed = match &raw.body {
            None if !raw.more => self.decide_bodiless(&raw.subset),
            _ => self.decide_inference(&raw, received, &mut request),
        };
        let Picked { ticket, destination, headers, scores, splice } =
            routed.map_err(|rejection| self.refuse(&request, &rejection))?;
        let mut remove_headers = control_headers::sent(&raw.headers);
        remove_headers.retain(|sent| headers.iter().all(|(set, _)| set != sent));
        let made_request_id = sent_id.is_none().then_some(request.request_id);
        let body = raw.body;
        Ok(Routed { ticket, destination, headers, scores, body, splice, made_request_id, remove_headers })
    }

    /// How long a request may wait for its decision.
    pub fn decision_timeout(&self) -> Duration {
        self.pool.decision_timeout()
    }

    /// Counts and words a refusal.
    pub fn refuse(&self, request: &InferenceRequest, rejection: &Rejection) -> ErrorPage {
        let page = rejection.page(self.rules.compat);
        self.pool.metrics.model(&request.model, &request.target_model).count_error(page.code);
        // Not the page: later versions quote what is no JSON.
        let reason = rejection.page(Compat::V1_0_1).body;
        let request_id = request.request_id.as_str();
        tracing::debug!(code = page.code, reason, request_id, "request refused");
        page
    }

    /// A request without a body has no model and no prompt: any endpoint that may serve will do.
    fn decide_bodiless(&self, subset: &Subset) -> Result<Picked, Rejection> {
        match self.pool.place_anywhere(&self.pool.pipeline(), subset) {
            Ok(Placed { destination, headers, scores, .. }) => {
                Ok(Picked { ticket: self.unrouted_ticket(), destination, headers, scores, splice: None })
            }
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
        let pipeline = pool.pipeline();
        let (parsed, parser) = self.read(raw, &pipeline)?;
        let splice = self.resolve(raw, parsed, request)?;
        if raw.headless {
            return Err(Rejection::HeadersUnseen);
        }
        let snapshot = pool.store.snapshot();
        if may_be_shed(request.priority, self.rules.compat) && self.is_saturated(&pipeline, &snapshot) {
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
        pool.admit(&pipeline, request, &raw.subset).map_err(Rejection::Denied)?;
        let cost = Cost { requests: 1, prompt_tokens: request.prompt_tokens, output_tokens: 0 };
        let began = pool.clock.now();
        let placed = pool.decide(&pipeline, request, &raw.subset, cost, watch);
        pool.metrics.observe_scheduling(pool.clock.now().since(began));
        let placed = placed?;
        let model = pool.metrics.model(&request.model, &request.target_model);
        let body = raw.body.as_deref().unwrap_or_default();
        model.count_request(outgoing_bytes(body, splice.as_ref()) + raw.unseen_bytes().unwrap_or(0));
        let asked = Asked {
            received,
            pipeline,
            parser,
            path: raw.path().to_owned(),
            model: std::mem::take(&mut request.model),
            target_model: std::mem::take(&mut request.target_model),
            placement: placed.placement,
        };
        let ticket = Ticket::routed(pool.clone(), model, asked, placed.reservations);
        let ticket = if self.rules.rewrite_response_model { ticket.mapping_names() } else { ticket };
        let Placed { destination, headers, scores, .. } = placed;
        Ok(Picked { ticket, destination, headers, scores, splice })
    }

    /// By the detector that the configuration names, else by v1.0.1's rule.
    fn is_saturated(&self, pipeline: &Pipeline, snapshot: &Snapshot) -> bool {
        let now = self.pool.clock.now();
        if let Some(detector) = &pipeline.saturation {
            let sample = |endpoint: &Arc<Endpoint>| endpoint.sample(now, self.pool.staleness);
            let loads: Vec<_> = snapshot.endpoints.iter().map(sample).collect();
            return detector.saturation(&loads, now) >= 1.0;
        }
        let room = self.rules.room;
        room.saturated(snapshot.endpoints.iter().map(|endpoint| endpoint.sample(now, room.age)))
    }

    /// Reads what there is of the body. One that was not seen whole cannot be found faulty.
    fn read(
        &self,
        raw: &RawRequest,
        pipeline: &Pipeline,
    ) -> Result<(ParsedRequest, Arc<dyn Parser>), Rejection> {
        let path = raw.path();
        let Some(parser) = pipeline.parser(path) else {
            return Err(Rejection::NoParser { path: path.to_owned() });
        };
        let none = Bytes::new();
        let bytes = raw.body.as_ref().unwrap_or(&none);
        let mut parsed = if raw.is_compressed() {
            self.pool.metrics.count_unread("request", "compressed");
            ParsedRequest::default()
        } else {
            let read = parser.parse(&RequestBody { path, bytes, whole: !raw.more });
            read.or_else(|error| if raw.more { Ok(ParsedRequest::default()) } else { Err(error) })
                .map_err(Rejection::Unreadable)?
        };
        parsed.needs_model &= !raw.more;
        Ok((parsed, parser.clone()))
    }

    /// Objective → priority, model rewrite. Says what of the body changes, if the model does.
    fn resolve(
        &self,
        raw: &RawRequest,
        parsed: ParsedRequest,
        request: &mut InferenceRequest,
    ) -> Result<Option<(Range<usize>, Bytes)>, Rejection> {
        let header = |name: &str| raw.header(name).filter(|_| self.rules.trust_client_headers);
        let objective =
            header("x-llm-d-inference-objective").or_else(|| header("x-gateway-inference-objective"));
        let fairness_id =
            header("x-llm-d-inference-fairness-id").or_else(|| header("x-gateway-inference-fairness-id"));
        fairness_id.unwrap_or_default().clone_into(&mut request.fairness_id);
        let rules = self.pool.store.rules();
        // A model that was not seen cannot be replaced, and one that nobody needs is not made up.
        let is_named = parsed.model.is_some();
        let has_place = parsed.model_place != ModelPlace::Nowhere;
        let rewritable = has_place && (is_named || parsed.needs_model);
        request.model = parsed.model.unwrap_or_default();
        request.priority = self.priority(&rules, objective, &request.model);
        let by_header =
            || header("x-llm-d-model-name-rewrite").or_else(|| header("x-gateway-model-name-rewrite"));
        let by_rule = || rules.rewrites.target(&request.model, |name| raw.header(name), rand::random());
        let rewrite = if rewritable { by_rule().or_else(by_header) } else { None };
        if parsed.needs_model && !is_named && rewrite.is_none() {
            return Err(Rejection::ModelMissing);
        }
        rewrite.unwrap_or(&request.model).clone_into(&mut request.target_model);
        if let Some(fault) = parsed.fault {
            return Err(Rejection::Faulty(fault));
        }
        let unseen_tokens = (raw.unseen_bytes().unwrap_or(0) / BYTES_PER_TOKEN) as u64;
        request.prompt_tokens = parsed.prompt.n_tokens() + unseen_tokens.min(MAX_UNSEEN_TOKENS);
        request.prompt = parsed.prompt;
        request.cache_salt = parsed.cache_salt;
        request.stream = parsed.stream;
        request.max_tokens = parsed.max_tokens;
        let changed = request.target_model != request.model;
        Ok(if changed { parsed.model_place.splice(&request.target_model) } else { None })
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
        Ticket::unrouted(self.pool.clone())
    }
}

fn outgoing_bytes(body: &[u8], splice: Option<&(Range<usize>, Bytes)>) -> usize {
    splice.map_or(body.len(), |(range, replacement)| body.len() - range.len() + replacement.len())
}

/// See [`Routed`] for the fields.
struct Picked {
    ticket: Ticket,
    destination: String,
    headers: SmallVec<[(&'static str, String); 2]>,
    scores: Vec<(String, f64)>,
    splice: Option<(Range<usize>, Bytes)>,
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

#[cfg(test)]
mod tests;

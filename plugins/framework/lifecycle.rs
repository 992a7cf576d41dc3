//! What happens to a request around its decision, and to endpoints around requests.

use std::sync::Arc;

use rand::rngs::SmallRng;

use crate::answer::Usage;
use crate::endpoint::{Cost, Endpoint, EndpointId};
use crate::request::InferenceRequest;
use crate::scheduling::Cycle;
use crate::snapshot::{Candidates, Snapshot};
use crate::time::Timestamp;

/// What every hook gets.
#[derive(Clone, Copy, Debug)]
pub struct Hook<'a> {
    /// When the hook was called.
    pub now: Timestamp,
    /// The pool at that time.
    pub pool: &'a Snapshot,
}

/// Leaves a value on the request, before it is decided and outside of the critical section.
pub trait Producer: Send + Sync {
    /// Computes the value and puts it into the producer's slot.
    fn produce(&self, cx: &Hook<'_>, request: &mut InferenceRequest);
}

/// May deny a request before it is decided, and outside of the critical section.
pub trait Admitter: Send + Sync {
    /// Says no by an error. `candidates` are those that may be chosen; nobody if the pool is empty.
    fn admit(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, rng: &mut SmallRng)
    -> Result<(), Denied>;
}

/// Why an admitter denied a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What the client is told; nothing of the request in it.
    pub message: &'static str,
}

/// Says what a request costs the endpoint that serves it.
pub trait Estimator: Send + Sync {
    /// The cost, given what it is otherwise: `cost.prompt_tokens` are those that the endpoint has to compute, and output
    /// does not count.
    fn estimate(&self, request: &InferenceRequest, cost: Cost) -> Cost;
}

/// Sets headers of an answer when it begins.
pub trait Responder: Send + Sync {
    /// Adds headers to set on the answer; names in lower case.
    fn respond(&self, answered: &Answered<'_>, headers: &mut Vec<(String, String)>);
}

/// Whose answer it is.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// What was picked.
    pub placement: &'a Placement,
    /// Who served it, `ip:port`, if the gateway says so (`x-gateway-destination-endpoint-served`).
    pub served: Option<&'a str>,
}

/// The first pick of each profile that ran for a request.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// Name of the profile that decided.
    pub primary: String,
    /// Name and first pick of every profile that picked somebody.
    pub picks: Vec<(String, Arc<Endpoint>)>,
    /// What the gateway was told, and whom it means, best first.
    pub targets: Vec<(String, Arc<Endpoint>)>,
}

impl Placement {
    /// The first pick of a profile; of the one that decided for an empty name.
    pub fn of(&self, profile: &str) -> Option<&Arc<Endpoint>> {
        let profile = if profile.is_empty() { &self.primary } else { profile };
        self.picks.iter().find(|(name, _)| name == profile).map(|(_, endpoint)| endpoint)
    }

    /// Whom the gateway means that says `served`; nobody it was told of, if it went elsewhere.
    pub fn served_by(&self, served: &str) -> Option<&Arc<Endpoint>> {
        self.targets.iter().find(|(told, _)| told == served).map(|(_, endpoint)| endpoint)
    }
}

/// What an index of prompts' beginnings tells of itself, for metrics.
pub trait PrefixReport: Send + Sync {
    /// Blocks in the index, once per endpoint that holds them.
    fn n_entries(&self) -> usize;

    /// What the index knew of `endpoint` when the producer saw the request; `None` if it did not see it.
    fn hit(&self, request: &InferenceRequest, endpoint: EndpointId) -> Option<PrefixHit>;
}

/// How much of a prompt an endpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixHit {
    /// Bytes from its beginning, in full blocks.
    pub bytes: usize,
    /// Bytes that were looked for, in full blocks.
    pub of_bytes: usize,
}

/// Is told what happens to the pool.
pub trait Observer: Send + Sync {
    /// The endpoint left the pool. Its slot is given to another endpoint only after every observer returned.
    fn on_endpoint_removed(&self, endpoint: EndpointId);
}

/// What is known of an answer that has ended, and of the request it answers.
#[derive(Clone, Copy, Debug)]
pub struct AnswerFacts<'a> {
    /// The counts that the model server reported; an answer without any is told to nobody.
    pub usage: &'a Usage,
    /// Model that the client asked for.
    pub model: &'a str,
    /// Model that the server was asked for.
    pub target_model: &'a str,
    /// Name of the pool.
    pub pool: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
}

/// Says numbers of an answer, which the gateway gets as dynamic metadata with the answer's end.
pub trait Reporter: Send + Sync {
    /// Adds what there is to say. Called once per request, when its answer has come whole and reported usage.
    fn report(&self, facts: &AnswerFacts<'_>, report: &mut Report);
}

/// What reporters say of one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order they were said; of two with the same key in the same namespace the last counts.
    pub attributes: Vec<Attribute>,
    /// How many more there would be, could they have been computed.
    pub n_errors: u64,
}

/// One number, and the place in the metadata where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Namespace of the metadata.
    pub namespace: String,
    /// Key in there.
    pub key: String,
    /// The number.
    pub value: u64,
}

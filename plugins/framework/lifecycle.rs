//! What happens to a request around its decision, and to endpoints around requests.

use crate::endpoint::EndpointId;
use crate::request::InferenceRequest;
use crate::snapshot::Snapshot;
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

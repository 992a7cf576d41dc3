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

/// Is told what happens to the pool.
pub trait Observer: Send + Sync {
    /// The endpoint left the pool. Its slot is given to another endpoint only after every observer returned.
    fn on_endpoint_removed(&self, endpoint: EndpointId);
}

//! What requests cost.

pub(crate) mod inflight;

//! Producers that are nothing else, one file per type.

pub(crate) mod agent_identity;
pub(crate) mod inflight_load;
pub(crate) mod mm_embeddings_cache;
pub(crate) mod predicted_latency;
pub(crate) mod session_id;

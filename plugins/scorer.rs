//! The scorers, one file per type.

pub(crate) mod active_request;
pub(crate) mod context_length_aware;
pub(crate) mod endpoint_attribute;
pub(crate) mod header_label_affinity;
pub(crate) mod kv_cache_utilization;
pub(crate) mod latency;
pub(crate) mod load_aware;
pub(crate) mod lora_affinity;
pub(crate) mod mm_embeddings_cache;
pub(crate) mod no_hit_lru;
pub(crate) mod predicted_latency;
pub(crate) mod prefix_cache;
pub(crate) mod queue;
mod range;
pub(crate) mod running_requests_size;
pub(crate) mod session_affinity;
pub(crate) mod token_load;
pub(crate) mod topology_affinity;

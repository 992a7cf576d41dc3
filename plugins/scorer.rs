//! The scorers, one file per type.

pub(crate) mod kv_cache_utilization;
pub(crate) mod lora_affinity;
pub(crate) mod prefix_cache;
pub(crate) mod queue;
mod range;
pub(crate) mod running_requests_size;
pub(crate) mod token_load;

//! The filters, one file per type.

pub(crate) mod decision_tree;
pub(crate) mod header_based_testing;
pub(crate) mod least_kv_cache;
pub(crate) mod least_queue;
pub(crate) mod lora_affinity;
pub(crate) mod low_queue;
pub(crate) mod prefix_cache_affinity;

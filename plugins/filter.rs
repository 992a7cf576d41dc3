//! The filters, one file per type; roles are one file.

pub(crate) mod by_label;
pub(crate) mod decision_tree;
pub(crate) mod endpoint_attribute;
pub(crate) mod header_based_testing;
pub(crate) mod label_selector;
pub(crate) mod least_kv_cache;
pub(crate) mod least_queue;
pub(crate) mod lora_affinity;
pub(crate) mod low_queue;
pub(crate) mod prefix_cache_affinity;
pub(crate) mod role;
pub(crate) mod session_affinity;
pub(crate) mod slo_headroom_tier;
pub(crate) mod topology_affinity;
pub(crate) mod utilization;

//! The deciders, one file per type: whether a part of a request's work is given to another endpoint.

pub(crate) mod always_disagg_multimodal;
pub(crate) mod always_disagg_pd;
pub(crate) mod prefix_based_pd;

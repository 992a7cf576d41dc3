//! The profile handlers, one file per type. `stages.rs` is what those share that split a request's work.

pub(crate) mod data_parallel;
pub(crate) mod disagg;
pub(crate) mod header;
pub(crate) mod headers;
pub(crate) mod pd;
pub(crate) mod single;
mod stages;

//! The pickers, one file per type; `top.rs` is the selection they share.

pub(crate) mod max_score;
pub(crate) mod random;
mod top;
pub(crate) mod weighted_random;

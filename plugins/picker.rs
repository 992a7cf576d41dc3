//! The pickers, one file per type.

pub(crate) mod max_score;

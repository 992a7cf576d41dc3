//! The profile handlers, one file per type.

pub(crate) mod single;

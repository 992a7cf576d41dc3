//! Policies of flow control.

pub(crate) mod policies;

//! Headers on answers.

pub(crate) mod served_verifier;

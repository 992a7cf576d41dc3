//! Readers of request and response bodies: bytes in, the few facts that routing needs out.

pub mod cut;
pub mod openai;
pub mod usage;

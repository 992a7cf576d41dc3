//! Readers of request and response bodies: bytes in, the few facts that routing needs out.

pub mod openai;
pub mod usage;

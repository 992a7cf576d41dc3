//! Readers of request and response bodies: bytes in, the few facts that routing needs out.

pub mod cut;
mod json;
pub mod openai;
pub mod usage;

#[cfg(test)]
mod tests;

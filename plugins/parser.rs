//! Readers of request and response bodies: bytes in, the few facts that routing needs out.
//!
//! Each parser is a plugin; which of them reads a request is chosen by its path. What they share: [`json`], which moves
//! over the bytes, and [`answer`], which reads answers.

pub mod answer;
pub(crate) mod anthropic;
mod contents;
mod envelope;
mod events;
pub(crate) mod generic;
pub mod json;
pub mod model;
pub mod openai;
pub(crate) mod passthrough;
pub(crate) mod token_ids;
mod usage;

/// Whether `path` ends with the segments of `claim`. Slashes at the ends do not count.
pub fn claims(claim: &str, path: &str) -> bool {
    let before = path.trim_matches('/').strip_suffix(claim);
    before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

#[cfg(test)]
mod tests;

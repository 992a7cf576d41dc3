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
mod grpc;
pub mod json;
pub mod model;
pub mod openai;
pub(crate) mod passthrough;
mod schema;
pub(crate) mod token_ids;
mod usage;
pub(crate) mod vertex_ai;
pub(crate) mod vllm_grpc;
mod wire;

/// Whether `path` ends with the segments of `claim`, the last of which may be `*` for any; one that begins with a slash is
/// the whole path. Slashes at the path's ends do not count.
pub fn claims(claim: &str, path: &str) -> bool {
    let path = path.trim_matches('/');
    if let Some(whole) = claim.strip_prefix('/') {
        return path == whole;
    }
    let (claim, path) = match claim.strip_suffix("/*") {
        Some(folder) => (folder, path.rsplit_once('/').map_or("", |(folder, _)| folder)),
        None => (claim, path),
    };
    let before = path.strip_suffix(claim);
    before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

#[cfg(test)]
mod tests;

//! A request body as it gathers: small chunks are coalesced, large ones are kept as they came.
//!
//! While it gathers it takes at most the body's length plus one segment; [`GatheredBody::finish`] makes it contiguous,
//! which takes at most twice its length for a moment. An [`Undecided`] request leaves that to whoever decides it.

use bytes::Bytes;

use crate::raw_request::RawRequest;

/// Chunks below this size are copied together, in bytes.
const SEGMENT_BYTES: usize = 64 * 1024;

/// A request body that is still coming.
#[derive(Debug, Default)]
pub struct GatheredBody {
    segments: Vec<Vec<u8>>,
    len: usize,
}

impl GatheredBody {
    /// Bytes so far.
    pub fn n_bytes(&self) -> usize {
        self.len
    }

    /// Adds the next chunk.
    pub fn push(&mut self, chunk: Vec<u8>) {
        if chunk.is_empty() {
            return;
        }
        self.len += chunk.len();
        if chunk.len() >= SEGMENT_BYTES {
            self.segments.push(chunk);
            return;
        }
        match self.segments.last_mut() {
            Some(last) if last.len() + chunk.len() <= SEGMENT_BYTES => {
                // Grow to the size that is needed, doubling: one-byte chunks must not reserve a segment each.
                last.extend_from_slice(&chunk);
            }
            _ => self.segments.push(chunk),
        }
    }

    /// Ends the body.
    pub fn finish(mut self) -> Bytes {
        if self.segments.len() == 1 {
            return self.segments.pop().expect("there is one").into();
        }
        self.segments.concat().into()
    }

    /// Bytes of memory that the segments hold.
    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.segments.iter().map(Vec::capacity).sum()
    }
}

/// A request that is whole, or as whole as it will be; its body may still lie in parts.
#[derive(Debug)]
pub struct Undecided {
    /// The request without its body.
    pub request: RawRequest,
    /// What came of the body; `None` when nothing did.
    pub body: Option<GatheredBody>,
}

impl Undecided {
    /// Length of what came of the body, in bytes.
    pub fn n_bytes(&self) -> usize {
        self.body.as_ref().map_or(0, GatheredBody::n_bytes)
    }

    /// Puts the parts of the body together, which copies a long one.
    pub fn finish(self) -> RawRequest {
        RawRequest { body: self.body.map(GatheredBody::finish), ..self.request }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_any_size_gather_in_at_most_twice_the_memory() {
        for size in [1, 3, 1000, 65_535, 65_536, 300_000] {
            let whole: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
            let mut body = GatheredBody::default();
            for chunk in whole.chunks(size) {
                body.push(chunk.to_vec());
                let allowed = (2 * body.n_bytes() + size).max(8);
                assert!(
                    body.capacity() <= allowed,
                    "{} of {allowed} bytes, chunks of {size}",
                    body.capacity()
                );
            }
            assert_eq!(body.n_bytes(), whole.len());
            assert_eq!(body.finish(), whole, "chunks of {size}");
        }
        assert!(GatheredBody::default().finish().is_empty());
    }
}

//! How much of a request's media each endpoint holds: [`MediaMatches`], which a producer leaves on requests.

use epp_framework::endpoint::EndpointId;

/// What is known of a request's images, sounds and videos.
#[derive(Clone, Debug, Default)]
pub struct MediaMatches {
    /// Digest of each item that was looked for.
    pub digests: Vec<u64>,
    /// By slot: the endpoint that has it, and how many of the items it holds.
    held: Vec<Option<(EndpointId, u32)>>,
}

impl MediaMatches {
    /// Makes the matches of a request with these items, of which nobody holds any.
    pub fn of(digests: Vec<u64>) -> Self {
        Self { digests, held: Vec::new() }
    }

    /// Notes that `endpoint` holds `n` of the items.
    pub fn set(&mut self, endpoint: EndpointId, n: u32) {
        let slot = endpoint.slot as usize;
        self.held.resize(self.held.len().max(slot + 1), None);
        self.held[slot] = Some((endpoint, n));
    }

    /// Fraction of the items that `endpoint` holds, 0–1; 0 for a request without any.
    pub fn ratio(&self, endpoint: EndpointId) -> f64 {
        match self.held.get(endpoint.slot as usize) {
            Some(Some((known, n))) if *known == endpoint && !self.digests.is_empty() => {
                f64::from(*n) / self.digests.len() as f64
            }
            _ => 0.0,
        }
    }
}

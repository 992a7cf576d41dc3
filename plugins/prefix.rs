//! Which endpoints hold the beginning of a prompt in their cache.
//!
//! `block_hash` cuts a prompt into chained hashes, `index` knows who holds which, `approximate` feeds the index from
//! our own decisions, `settings` are the parameters of those who use it. Other families read the result through its
//! request slot: [`PrefixMatches`].

pub(crate) mod approximate;
pub mod block_hash;
pub mod index;
pub(crate) mod later;
pub(crate) mod settings;

use epp_framework::endpoint::EndpointId;

use index::Matches;

/// What a prefix producer leaves on a request.
#[derive(Clone, Debug, Default)]
pub struct PrefixMatches {
    /// Chained hash of each full block of the prompt, from its beginning.
    pub hashes: Vec<u64>,
    /// How many of them each endpoint holds.
    pub matches: Matches,
    /// Tokens per block; of blocks that are measured in bytes, an estimate.
    pub block_tokens: u32,
}

impl PrefixMatches {
    /// Fraction of the prompt's blocks that `endpoint` holds, 0–1; 0 for a prompt without a full block.
    pub fn ratio(&self, endpoint: EndpointId) -> f64 {
        if self.hashes.is_empty() {
            return 0.0;
        }
        f64::from(self.matches.n_blocks(endpoint)) / self.hashes.len() as f64
    }

    /// Tokens from the prompt's beginning that `endpoint` holds, in full blocks.
    pub fn tokens(&self, endpoint: EndpointId) -> u64 {
        u64::from(self.matches.n_blocks(endpoint)) * u64::from(self.block_tokens)
    }
}

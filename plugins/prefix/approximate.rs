//! Guesses what endpoints hold from what we sent them: [`ApproximatePrefix`].
//!
//! Before a decision it hashes the prompt and looks up who holds how much of it; inside the decision it learns that
//! the chosen endpoint now holds all of it, before the server has even answered, so that the next request of the same
//! conversation sees it. What a server evicts on its own it cannot know; the capacity per endpoint stands in for that.

use std::sync::Arc;

use epp_framework::endpoint::EndpointId;
use epp_framework::lifecycle::{Hook, Observer, PrefixHit, PrefixReport, Producer};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::BuildContext;
use epp_framework::request::InferenceRequest;
use epp_framework::scheduling::{Commit, Cycle, Decision};
use epp_framework::slot::RequestSlot;

use super::PrefixMatches;
use super::block_hash;
use super::index::{Index, MAX_CAPACITY};

/// Blocks per endpoint that are remembered when the configuration says nothing, or nothing above 0.
const DEFAULT_CAPACITY: u32 = 31_250;

/// Parameters, by the names and with the defaults of Gateway API Inference Extension v1.0.1.
pub(crate) const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "hashBlockSize",
        kind: ParameterKind::Integer { default: 64, min: 1, max: 1 << 20 },
        unit: "bytes of prompt",
        summary: "Size of the blocks that a prompt is cut into.",
    },
    Parameter {
        name: "maxPrefixBlocksToMatch",
        kind: ParameterKind::Integer { default: 256, min: 1, max: 1 << 20 },
        unit: "blocks",
        summary: "How many blocks of a prompt are matched at most, from its beginning.",
    },
    Parameter {
        name: "lruCapacityPerServer",
        kind: ParameterKind::Integer {
            default: DEFAULT_CAPACITY as i64,
            min: i64::MIN,
            max: MAX_CAPACITY as i64,
        },
        unit: "blocks",
        summary: "How many blocks are remembered per endpoint; 0 or less means the default.",
    },
];

/// Matches prompts against what was dispatched before.
pub(crate) struct ApproximatePrefix {
    block_size: usize,
    max_blocks: usize,
    index: Index,
    slot: RequestSlot<PrefixMatches>,
}

impl ApproximatePrefix {
    /// Builds the producer of the instance `cx.name` from validated [`PARAMETERS`].
    pub(crate) fn new(parameters: &Parameters, cx: &BuildContext<'_>) -> Arc<Self> {
        let size = |name| usize::try_from(parameters.integer(name)).unwrap_or(usize::MAX);
        let capacity = match parameters.integer("lruCapacityPerServer") {
            ..=0 => DEFAULT_CAPACITY,
            capacity => u32::try_from(capacity).unwrap_or(MAX_CAPACITY),
        };
        Arc::new(Self {
            block_size: size("hashBlockSize"),
            max_blocks: size("maxPrefixBlocksToMatch"),
            index: Index::new(capacity),
            slot: cx.own_slot(),
        })
    }

    /// Where the matches of a request lie.
    pub(crate) fn slot(&self) -> RequestSlot<PrefixMatches> {
        self.slot
    }
}

impl Producer for ApproximatePrefix {
    fn produce(&self, _cx: &Hook<'_>, request: &mut InferenceRequest) {
        let (model, salt) = (&request.target_model, request.cache_salt.as_deref());
        let hashes = block_hash::chain(model, salt, &request.prompt, self.block_size, self.max_blocks);
        let matches = self.index.matches(&hashes);
        self.slot.put(request, PrefixMatches { hashes, matches });
    }
}

impl Commit for ApproximatePrefix {
    fn commit(&self, cycle: &Cycle<'_>, decision: &Decision) {
        let Some(found) = self.slot.get(cycle.request) else { return };
        let Some(&first) = decision.targets.first() else { return };
        if let Some(endpoint) = cycle.pool.endpoints.get(first as usize) {
            self.index.insert(endpoint.id, &found.hashes);
        }
    }
}

impl PrefixReport for ApproximatePrefix {
    fn n_entries(&self) -> usize {
        self.index.n_entries()
    }

    fn hit(&self, request: &InferenceRequest, endpoint: EndpointId) -> Option<PrefixHit> {
        let found = self.slot.get(request)?;
        let bytes = |n_blocks: usize| n_blocks.saturating_mul(self.block_size);
        let n_held = found.matches.n_blocks(endpoint) as usize;
        Some(PrefixHit { bytes: bytes(n_held), of_bytes: bytes(found.hashes.len()) })
    }
}

impl Observer for ApproximatePrefix {
    fn on_endpoint_removed(&self, endpoint: EndpointId) {
        self.index.purge(endpoint);
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::parameters::ParameterValue;
    use epp_framework::slot::SlotNames;

    use super::*;

    #[test]
    fn x18_a_capacity_of_zero_or_less_means_the_default() {
        for (given, want) in [(0, 31_250), (-5, 31_250), (7, 7)] {
            let mut parameters = Parameters::defaults(PARAMETERS);
            parameters.set("lruCapacityPerServer", ParameterValue::Integer(given));
            let prefix = ApproximatePrefix::new(&parameters, &BuildContext::new("p", &SlotNames::default()));
            let endpoint = EndpointId { slot: 0, generation: 0 };
            prefix.index.insert(endpoint, &(0..40_000).collect::<Vec<_>>());
            assert_eq!(prefix.index.n_blocks(), want, "{given}");
        }
    }
}

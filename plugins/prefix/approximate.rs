//! Guesses what endpoints hold from what we sent them: [`ApproximatePrefix`].
//!
//! Before a decision it hashes the prompt and looks up who holds how much of it; inside the decision it learns that
//! the chosen endpoint now holds all of it, before the server has even answered, so that the next request of the same
//! conversation sees it. What a server evicts on its own it cannot know; the capacity per endpoint stands in for that.

use std::sync::Arc;

use epp_framework::endpoint::EndpointId;
use epp_framework::lifecycle::{Hook, Observer, PrefixHit, PrefixReport, Producer};
use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Data, Kind, Plugin, PluginType, releases};
use epp_framework::request::InferenceRequest;
use epp_framework::scheduling::{Commit, Cycle, Decision, Role};
use epp_framework::slot::RequestSlot;

use super::PrefixMatches;
use super::block_hash;
use super::index::Index;
use super::settings::{self, Settings};

/// Blocks of a prompt that count where neither limit is given.
const DEFAULT_MAX_BLOCKS: usize = 2048;

/// `approx-prefix-cache-producer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "approx-prefix-cache-producer",
    summary: "Tells other plugins how much of the prompt each endpoint was sent before.",
    about: "It cuts a prompt into blocks, hashes each together with all before it, and looks up which endpoints were \
            sent it before; after the decision it learns that the chosen endpoint, and one that computes the prompt \
            for it, hold all of it. Per endpoint the most recently used blocks are remembered, at some 45 bytes each, \
            so memory is bounded by `lruCapacityPerServer`. Blocks may be as small as one token: there is no least \
            size, since the index is compact. `prefix-cache-scorer` does all this by itself where no such producer \
            is declared; declare one for several readers.",
    parameters: &[
        settings::AUTO_TUNE,
        settings::BLOCK_TOKENS,
        settings::BLOCK_BYTES,
        settings::MAX_BLOCKS,
        settings::max_tokens(settings::DEFAULT_MAX_TOKENS),
        settings::CAPACITY,
    ],
    kinds: &[Kind::Produces(Data::PrefixMatches)],
    check: settings::check,
    build,
    review: |cx| settings::review(cx.parameters, &Settings::read(cx.parameters, DEFAULT_MAX_BLOCKS)),
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    ApproximatePrefix::new(Settings::read(parameters, DEFAULT_MAX_BLOCKS), cx).plugin()
}

/// Matches prompts against what was dispatched before.
pub(crate) struct ApproximatePrefix {
    settings: Settings,
    index: Index,
    slot: RequestSlot<PrefixMatches>,
}

impl ApproximatePrefix {
    /// Makes the producer of the instance `cx.name`.
    pub(crate) fn new(settings: Settings, cx: &BuildContext<'_>) -> Arc<Self> {
        Arc::new(Self { settings, index: Index::new(settings.capacity), slot: cx.own_slot() })
    }

    /// Where the matches of a request lie.
    pub(crate) fn slot(&self) -> RequestSlot<PrefixMatches> {
        self.slot
    }

    /// A plugin with all that a producer does.
    pub(crate) fn plugin(self: Arc<Self>) -> Plugin {
        Plugin {
            producer: Some(self.clone()),
            commit: Some(self.clone()),
            observer: Some(self.clone()),
            prefix_report: Some(self),
            ..Plugin::default()
        }
    }
}

impl Producer for ApproximatePrefix {
    fn produce(&self, _cx: &Hook<'_>, request: &mut InferenceRequest) {
        let (model, salt) = (&request.target_model, request.cache_salt.as_deref());
        let hashes = block_hash::chain(
            model,
            salt,
            &request.prompt,
            self.settings.block_bytes,
            self.settings.max_blocks,
        );
        let matches = self.index.matches(&hashes);
        let block_tokens = self.settings.block_tokens();
        self.slot.put(request, PrefixMatches { hashes, matches, block_tokens });
    }
}

impl Commit for ApproximatePrefix {
    fn commit(&self, cycle: &Cycle<'_>, decision: &Decision) {
        let Some(found) = self.slot.get(cycle.request) else { return };
        let prefill = decision.companions.iter().filter(|companion| companion.role == Role::Prefill);
        let computing = prefill.map(|companion| &companion.targets).chain([&decision.targets]);
        for &first in computing.filter_map(|targets| targets.first()) {
            if let Some(endpoint) = cycle.endpoint(first) {
                self.index.insert(endpoint.id, &found.hashes);
            }
        }
    }
}

impl PrefixReport for ApproximatePrefix {
    fn n_entries(&self) -> usize {
        self.index.n_entries()
    }

    fn hit(&self, request: &InferenceRequest, endpoint: EndpointId) -> Option<PrefixHit> {
        let found = self.slot.get(request)?;
        let bytes = |n_blocks: usize| n_blocks.saturating_mul(self.settings.block_bytes);
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
    use epp_framework::endpoint::Load;
    use epp_framework::prompt::Prompt;
    use epp_framework::scheduling::Companion;
    use epp_framework::slot::SlotNames;
    use smallvec::smallvec;

    use super::*;
    use crate::testing::{Pool, built_in};

    #[test]
    fn whoever_computes_the_prompt_holds_it() {
        let slots = SlotNames::default();
        let plugin = built_in(&slots, &TYPE, r#"{"blockSizeTokens": 1}"#);
        let mut pool = Pool::new([Load::default(); 3]);
        pool.request.prompt = Prompt::text("aaaabbbbcc");
        pool.produce(&**plugin.producer.as_ref().unwrap());
        let companion = |role, to| Companion { role, profile: 1, targets: smallvec![to] };
        let decision = Decision {
            companions: smallvec![companion(Role::Prefill, 2), companion(Role::Encode, 1)],
            ..Decision::of(0, smallvec![0, 1])
        };
        plugin.commit.as_ref().unwrap().commit(&pool.cycle(), &decision);
        pool.produce(&**plugin.producer.as_ref().unwrap());
        let found = slots.request_slot::<PrefixMatches>(TYPE.name);
        let found = found.get(&pool.request).expect("it is left on the request");
        let held = |slot| found.tokens(EndpointId { slot, generation: 0 });
        assert_eq!([held(0), held(1), held(2)], [2, 0, 2]);
    }
}

//! `mm-embeddings-cache-producer`: which endpoints were sent a request's images, sounds and videos before.
//!
//! The index is that of prompt blocks: a digest is a chain of one. Items count alike, whatever their size: how many
//! tokens an image will be is not known here.

use std::sync::Arc;

use epp_framework::endpoint::EndpointId;
use epp_framework::lifecycle::{Hook, Observer, Producer};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Data, Kind, Plugin, PluginType, releases};
use epp_framework::request::InferenceRequest;
use epp_framework::scheduling::{Commit, Cycle, Decision, Role};
use epp_framework::slot::RequestSlot;

use crate::media::MediaMatches;
use crate::prefix::index::{Index, MAX_CAPACITY};

const SIZE: &str = "cacheSizeInMBPerServer";

/// What an item takes of a server's cache, in MB.
const MB_PER_ITEM: i64 = 2;

/// Items of a request that are looked for; a client may send any number.
const MAX_ITEMS: usize = 128;

/// `mm-embeddings-cache-producer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "mm-embeddings-cache-producer",
    summary: "Tells other plugins which endpoints were sent the request's images, sounds and videos before.",
    about: "Model servers keep the embeddings of media that they encoded. Per endpoint the most recently used items are \
            remembered, 2 MB being taken for one, by a digest of what the request has of them: the URL, or the data. \
            After a decision the chosen endpoint holds the request's items, and so do those that encode for it. Of one \
            request the first 128 items count.",
    parameters: &[Parameter {
        name: SIZE,
        kind: ParameterKind::Integer { default: 4096, min: 1, max: MAX_CAPACITY as i64 },
        unit: "MB",
        summary: "Size of a server's cache.",
    }],
    renamed: &[("cacheSizeInMB", SIZE)],
    kinds: &[Kind::Produces(Data::MediaMatches)],
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let n_items = (parameters.integer(SIZE) / MB_PER_ITEM).max(1);
    let capacity = u32::try_from(n_items).unwrap_or(MAX_CAPACITY);
    let producer = Arc::new(MediaCache { index: Index::new(capacity), slot: cx.own_slot() });
    Plugin {
        producer: Some(producer.clone()),
        commit: Some(producer.clone()),
        observer: Some(producer),
        ..Plugin::default()
    }
}

struct MediaCache {
    index: Index,
    slot: RequestSlot<MediaMatches>,
}

impl Producer for MediaCache {
    fn produce(&self, cx: &Hook<'_>, request: &mut InferenceRequest) {
        let digests: Vec<_> = request.prompt.media().map(|item| item.digest).take(MAX_ITEMS).collect();
        if digests.is_empty() {
            return;
        }
        let found: Vec<_> = digests.iter().map(|&digest| self.index.matches(&[digest])).collect();
        let mut matches = MediaMatches::of(digests);
        for endpoint in &cx.pool.endpoints {
            let held = found.iter().map(|found| found.n_blocks(endpoint.id)).sum();
            matches.set(endpoint.id, held);
        }
        self.slot.put(request, matches);
    }
}

impl Commit for MediaCache {
    fn commit(&self, cycle: &Cycle<'_>, decision: &Decision) {
        let Some(found) = self.slot.get(cycle.request) else { return };
        let encode = decision.companions.iter().filter(|companion| companion.role == Role::Encode);
        let encoding = encode.flat_map(|companion| &companion.targets);
        for &index in decision.targets.first().into_iter().chain(encoding) {
            if let Some(endpoint) = cycle.endpoint(index) {
                self.index.insert(endpoint.id, &found.digests);
            }
        }
    }
}

impl Observer for MediaCache {
    fn on_endpoint_removed(&self, endpoint: EndpointId) {
        self.index.purge(endpoint);
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;
    use epp_framework::prompt::{MediaItem, MediaKind, Piece, Prompt};
    use epp_framework::scheduling::Companion;
    use epp_framework::slot::SlotNames;
    use smallvec::smallvec;

    use super::*;
    use crate::testing::{Pool, assert_close, built_in};

    struct Setup {
        slots: SlotNames,
        pool: Pool,
        plugin: Plugin,
    }

    impl Setup {
        fn of(parameters: &str) -> Self {
            let slots = SlotNames::default();
            let plugin = built_in(&slots, &TYPE, parameters);
            Self { plugin, pool: Pool::new([Load::default(); 3]), slots }
        }

        /// Fractions that the three endpoints hold of a request with these items.
        fn request(&mut self, digests: &[u64]) -> Option<[f64; 3]> {
            let mut prompt = Prompt::text("what is this?");
            for &digest in digests {
                prompt.push(Piece::Media(MediaItem { kind: MediaKind::Image, digest }), 0);
            }
            self.pool.request = InferenceRequest { prompt, ..InferenceRequest::default() };
            self.pool.produce(&**self.plugin.producer.as_ref().unwrap());
            let slot = self.slots.request_slot::<MediaMatches>(TYPE.name);
            let found = slot.get(&self.pool.request)?;
            Some([0, 1, 2].map(|index| found.ratio(self.pool.endpoint(index).id)))
        }

        fn send(&self, decision: &Decision) {
            self.plugin.commit.as_ref().unwrap().commit(&self.pool.cycle(), decision);
        }
    }

    #[test]
    fn endpoints_hold_what_they_were_sent() {
        let mut setup = Setup::of("{}");
        assert_eq!(setup.request(&[]), None, "a request without media");
        setup.send(&Decision::of(0, smallvec![0]));
        assert_eq!(setup.request(&[1, 2]), Some([0.0; 3]));
        let encode = Companion { role: Role::Encode, profile: 1, targets: smallvec![2] };
        setup.send(&Decision { companions: smallvec![encode], ..Decision::of(0, smallvec![0, 1]) });
        assert_eq!(setup.request(&[2, 3]), Some([0.5, 0.0, 0.5]), "the second has half of them");
        assert_eq!(setup.request(&[2, 2, 1]), Some([1.0, 0.0, 1.0]), "no matter in which order");
        setup.plugin.observer.as_ref().unwrap().on_endpoint_removed(setup.pool.endpoint(0).id);
        setup.pool.replace(0);
        assert_eq!(setup.request(&[1]), Some([0.0, 0.0, 1.0]), "a successor holds nothing");
    }

    #[test]
    fn two_megabytes_are_an_item_and_requests_are_bounded() {
        let mut setup = Setup::of(r#"{"cacheSizeInMBPerServer": 4}"#);
        for digest in [1, 2, 3] {
            setup.request(&[digest]);
            setup.send(&Decision::of(0, smallvec![0]));
        }
        let held = [1, 2, 3].map(|digest| setup.request(&[digest]).unwrap()[0]);
        assert_close(&held, &[0.0, 1.0, 1.0], "the oldest is forgotten");
        setup.request(&vec![7; 1000]);
        let slot = setup.slots.request_slot::<MediaMatches>(TYPE.name);
        assert_eq!(slot.get(&setup.pool.request).unwrap().digests.len(), MAX_ITEMS);
    }
}

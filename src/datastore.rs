//! The endpoints of a pool: one writer, many cheap readers of an immutable snapshot.
//!
//! [`store`] makes the pair. Removal has an order that keeps every index truthful: publish the snapshot without the
//! endpoint, let the indices forget it, only then reuse its slot.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use epp_framework::changes::ChangeBits;
use epp_framework::endpoint::{Endpoint, EndpointId, EndpointMeta};
use epp_framework::snapshot::Snapshot;
use tokio::sync::watch;

use crate::discovery::Change;
use crate::discovery::index::endpoints::PickerService;
use crate::discovery::index::rewrites::Rewrites;

/// What a pool says of requests, beside its endpoints.
#[derive(Clone, Debug, Default)]
pub struct RequestRules {
    /// Priority by objective; negative means sheddable.
    pub objectives: BTreeMap<String, i32>,
    /// Priority by model, as `InferenceModel`s of v0.5.1 say.
    pub model_priorities: BTreeMap<String, i32>,
    /// Which model a request is sent to.
    pub rewrites: Rewrites,
}

/// What readers share.
pub struct Store {
    snapshot: ArcSwap<Snapshot>,
    published: watch::Sender<Arc<Snapshot>>,
    rules: ArcSwap<RequestRules>,
    synced: watch::Sender<bool>,
    picker: watch::Sender<Option<PickerService>>,
}

/// The one writer; discovery owns it.
pub struct StoreWriter {
    store: Arc<Store>,
    /// By namespace and name, in the order of the snapshot.
    endpoints: BTreeMap<(String, String), Arc<Endpoint>>,
    free: Vec<EndpointId>,
    n_slots: u32,
    /// Where endpoints tell their changes, by 64 slots.
    bits: Vec<Arc<ChangeBits>>,
}

/// Makes an empty store that is not synced, and its writer.
pub fn store() -> (Arc<Store>, StoreWriter) {
    let store = Arc::new(Store {
        snapshot: ArcSwap::default(),
        published: watch::Sender::default(),
        rules: ArcSwap::default(),
        synced: watch::Sender::new(false),
        picker: watch::Sender::default(),
    });
    let writer = StoreWriter {
        store: store.clone(),
        endpoints: BTreeMap::new(),
        free: Vec::new(),
        n_slots: 0,
        bits: Vec::new(),
    };
    (store, writer)
}

impl Store {
    /// The pool now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The pool as it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.subscribe()
    }

    /// What the pool says of requests now.
    pub fn rules(&self) -> Arc<RequestRules> {
        self.rules.load_full()
    }

    /// Whether discovery knows the pool; health follows it.
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// The Service that gateways call for the pool, if discovery knows it.
    pub fn picker(&self) -> watch::Receiver<Option<PickerService>> {
        self.picker.subscribe()
    }
}

impl StoreWriter {
    /// Applies changes and publishes the result; `forget` is called with the endpoints that left.
    ///
    /// Unchanged endpoints keep their identity, and so do those of which only labels changed: what was learned of them
    /// and what they were sent stays true. An endpoint whose address or port changed is a new one.
    pub fn apply(&mut self, changes: Vec<Change>, mut forget: impl FnMut(&[EndpointId])) {
        let mut removed = Vec::new();
        for change in changes {
            match change {
                Change::Upsert(meta) => self.upsert(meta, &mut removed),
                Change::Remove { namespace, name } => {
                    removed.extend(self.endpoints.remove(&(namespace, name)).map(|endpoint| endpoint.id));
                }
            }
        }
        let snapshot = Arc::new(Snapshot { endpoints: self.endpoints.values().cloned().collect() });
        self.store.snapshot.store(snapshot.clone());
        self.store.published.send_replace(snapshot);
        if !removed.is_empty() {
            forget(&removed);
        }
        self.free.extend(
            removed
                .into_iter()
                .map(|id| EndpointId { slot: id.slot, generation: id.generation.wrapping_add(1) }),
        );
    }

    fn upsert(&mut self, meta: EndpointMeta, removed: &mut Vec<EndpointId>) {
        let key = (meta.namespace.clone(), meta.name.clone());
        if self.endpoints.get(&key).is_some_and(|known| known.update(&meta)) {
            return;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.n_slots += 1;
            EndpointId { slot: self.n_slots - 1, generation: 0 }
        });
        let word = (id.slot / ChangeBits::MEMBERS) as usize;
        self.bits.resize_with(self.bits.len().max(word + 1), Arc::default);
        let endpoint = Arc::new(Endpoint::sharing(id, meta, self.bits[word].clone()));
        removed.extend(self.endpoints.insert(key, endpoint).map(|old| old.id));
    }

    /// Changes what the pool says of requests.
    pub fn update_rules(&mut self, update: impl FnOnce(&mut RequestRules)) {
        let mut rules = RequestRules::clone(&self.store.rules.load());
        update(&mut rules);
        self.store.rules.store(Arc::new(rules));
    }

    /// Says which Service gateways call for the pool.
    pub fn set_picker(&mut self, picker: Option<PickerService>) {
        self.store.picker.send_if_modified(|before| {
            let is_new = *before != picker;
            *before = picker;
            is_new
        });
    }

    /// Says whether the pool is known; returns whether that is new.
    pub fn set_synced(&mut self, synced: bool) -> bool {
        self.store.synced.send_if_modified(|before| std::mem::replace(before, synced) != synced)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use epp_framework::endpoint::{Cost, Reservation};
    use epp_framework::time::Timestamp;

    use super::*;

    fn meta(name: &str, port: u16) -> EndpointMeta {
        EndpointMeta {
            name: name.into(),
            namespace: "default".into(),
            address: "127.0.0.1".parse().unwrap(),
            port,
            labels: BTreeMap::new(),
        }
    }

    fn ids(store: &Store) -> Vec<(String, u32, u32)> {
        let endpoints = &store.snapshot().endpoints;
        endpoints.iter().map(|e| (e.meta.name.clone(), e.id.slot, e.id.generation)).collect()
    }

    #[test]
    fn slots_are_reused_only_after_the_indices_forgot_them() {
        let (store, mut writer) = store();
        writer.apply(vec![Change::Upsert(meta("a", 1)), Change::Upsert(meta("b", 2))], |_| {
            panic!("nobody left")
        });
        let kept = store.snapshot().endpoints[1].clone();
        let remove_a = Change::Remove { namespace: "default".into(), name: "a".into() };
        let mut forgotten = Vec::new();
        // The new endpoint of the same batch must not get the slot that is still being forgotten.
        writer.apply(vec![remove_a, Change::Upsert(meta("c", 3))], |ids| forgotten.extend_from_slice(ids));
        assert_eq!(forgotten, [EndpointId { slot: 0, generation: 0 }]);
        assert_eq!(ids(&store), [("b".into(), 1, 0), ("c".into(), 2, 0)]);
        assert!(Arc::ptr_eq(&kept, &store.snapshot().endpoints[0]));
        writer.apply(vec![Change::Upsert(meta("d", 4)), Change::Upsert(meta("b", 2))], |_| {
            panic!("nobody left")
        });
        assert_eq!(ids(&store), [("b".into(), 1, 0), ("c".into(), 2, 0), ("d".into(), 0, 1)]);
    }

    #[test]
    fn a_pool_is_synced_when_its_source_says_so() {
        let (store, mut writer) = store();
        assert!(!*store.synced().borrow());
        writer.apply(vec![Change::Upsert(meta("a", 1))], |_| panic!("nobody left"));
        assert!(!*store.synced().borrow());
        for (synced, is_new) in [(false, false), (true, true), (true, false), (false, true)] {
            assert_eq!(writer.set_synced(synced), is_new);
            assert_eq!(*store.synced().borrow(), synced);
        }
    }

    #[test]
    fn a_changed_address_is_a_new_endpoint() {
        let (store, mut writer) = store();
        writer.apply(vec![Change::Upsert(meta("a", 1))], |_| panic!("nobody left"));
        let mut forgotten = Vec::new();
        writer.apply(vec![Change::Upsert(meta("a", 2))], |ids| forgotten.extend_from_slice(ids));
        assert_eq!(forgotten, [EndpointId { slot: 0, generation: 0 }]);
        assert_eq!(ids(&store), [("a".into(), 1, 0)]);
    }

    #[test]
    fn a_changed_label_keeps_the_endpoint() {
        let (store, mut writer) = store();
        let labelled = |port, role: &str| {
            let labels = BTreeMap::from([("role".to_owned(), role.to_owned())]);
            Change::Upsert(EndpointMeta { labels, ..meta("a", port) })
        };
        writer.apply(vec![labelled(1, "prefill")], |_| panic!("nobody left"));
        let endpoint = store.snapshot().endpoints[0].clone();
        let cost = Cost { requests: 1, prompt_tokens: 10, output_tokens: 1 };
        let reservation = Reservation::new(endpoint.clone(), cost);
        writer.apply(vec![labelled(1, "decode")], |_| panic!("nobody left"));
        let kept = store.snapshot().endpoints[0].clone();
        assert!(Arc::ptr_eq(&kept, &endpoint));
        assert_eq!(kept.labels()["role"], "decode");
        assert_eq!(kept.sample(Timestamp(0), Duration::ZERO).in_flight, cost);
        drop(reservation);
        let mut forgotten = Vec::new();
        writer.apply(vec![labelled(2, "both")], |ids| forgotten.extend_from_slice(ids));
        assert_eq!(forgotten, [endpoint.id]);
        assert_eq!(store.snapshot().endpoints[0].labels()["role"], "both");
        assert_eq!(endpoint.labels()["role"], "decode", "who left keeps its own");
    }
}

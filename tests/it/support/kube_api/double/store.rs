//! Everything that is stored, with its history: entry point [`Store`]. Knows neither HTTP nor permissions.
//!
//! One counter numbers all changes. A history holds the last [`HISTORY`] changes of one resource.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use super::kinds::{self, Kind};
use super::object::{Object, text};
use super::selector::Selector;

/// How many changes of one resource are remembered.
const HISTORY: usize = 20_000;

/// How many lists may be under way page by page.
const SNAPSHOTS: usize = 64;

const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// Namespace (empty without one) and name.
pub(super) type Key = (String, String);

/// All objects, and who waits for changes.
pub(crate) struct Store {
    version: u64,
    /// No change up to this version is remembered.
    forgotten: u64,
    kinds: Vec<Arc<Kind>>,
    collections: HashMap<String, Collection>,
    snapshots: VecDeque<Snapshot>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Collection {
    objects: BTreeMap<Key, Arc<Object>>,
    events: VecDeque<Arc<Event>>,
    /// The last change that did not fit in.
    dropped: u64,
}

/// A change of one object.
#[derive(Debug)]
pub(crate) struct Event {
    pub(super) object: Arc<Object>,
    pub(super) previous: Option<Arc<Object>>,
    pub(super) deleted: bool,
}

/// A list that is handed out page by page.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) id: u64,
    pub(super) version: u64,
    pub(super) objects: Arc<[Arc<Object>]>,
}

/// Why a watch cannot go on.
pub(super) enum Ended {
    /// History begins after what it asked for.
    Forgotten(u64),
    /// The resource's definition was deleted.
    Gone,
}

impl Store {
    /// An empty store, which knows the built-in kinds.
    pub(super) fn new() -> Self {
        Self {
            version: 1,
            forgotten: 1,
            kinds: kinds::built_in(),
            collections: HashMap::new(),
            snapshots: VecDeque::new(),
            changed: watch::Sender::new(1),
        }
    }

    /// The version of the last change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Follows the version of the last change.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Every version of every kind that is served.
    pub(super) fn kinds(&self) -> &[Arc<Kind>] {
        &self.kinds
    }

    /// The kind that is served under this group, version and resource.
    pub(super) fn kind(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        self.kinds.iter().find(|kind| kind.is(group, plural) && kind.version == version).cloned()
    }

    /// The object of this name.
    pub(super) fn get(&self, resource: &str, key: &Key) -> Option<Arc<Object>> {
        self.collections.get(resource)?.objects.get(key).cloned()
    }

    /// The objects of a resource in the order of their names.
    pub(super) fn objects(&self, resource: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.collections.get(resource).into_iter().flat_map(|collection| collection.objects.values())
    }

    /// Those that a selector selects.
    pub(super) fn select(&self, resource: &str, selector: &Selector) -> Vec<Arc<Object>> {
        self.objects(resource).filter(|object| selector.matches(&object.value)).cloned().collect()
    }

    /// Stores an object under the next version, in place of the one of its name.
    pub(super) fn put(&mut self, kind: &Kind, value: Value) -> Arc<Object> {
        self.version += 1;
        let object = Arc::new(Object::new(value, self.version));
        let collection = self.collections.entry(kind.qualified()).or_default();
        let previous = collection.objects.insert(object.key(), object.clone());
        self.record(kind, Event { object: object.clone(), previous, deleted: false });
        object
    }

    /// Takes an object out; the one that is told of has the version of its end.
    pub(super) fn take(&mut self, kind: &Kind, key: &Key) -> Option<Arc<Object>> {
        let previous = self.collections.get_mut(&kind.qualified())?.objects.remove(key)?;
        self.version += 1;
        let object = Arc::new(Object::new(previous.value.clone(), self.version));
        self.record(kind, Event { object: object.clone(), previous: Some(previous), deleted: true });
        Some(object)
    }

    fn record(&mut self, kind: &Kind, event: Event) {
        let resource = kind.qualified();
        let about = event.object.clone();
        let collection = self.collections.entry(resource.clone()).or_default();
        collection.events.push_back(Arc::new(event));
        if collection.events.len() > HISTORY {
            collection.dropped = collection.events.pop_front().map_or(0, |event| event.object.version);
        }
        if resource == DEFINITIONS {
            self.define(&about.value);
        }
        self.changed.send_replace(self.version);
    }

    /// Serves what is defined now. What lost its definition goes with its objects.
    fn define(&mut self, about: &Value) {
        let definitions = self.objects(DEFINITIONS).flat_map(|object| kinds::defined_by(&object.value));
        let kinds: Vec<_> = kinds::built_in().into_iter().chain(definitions).collect();
        self.kinds = kinds;
        let (group, plural) = (text(&about["spec"]["group"]), text(&about["spec"]["names"]["plural"]));
        if self.kinds.iter().any(|kind| kind.is(&group, &plural)) {
            self.collections.entry(kinds::qualified(&plural, &group)).or_default();
        } else {
            self.collections.remove(&kinds::qualified(&plural, &group));
        }
    }

    /// The changes of a resource after `version`, in their order.
    pub(super) fn events(&self, kind: &Kind, version: u64) -> Result<Vec<Arc<Event>>, Ended> {
        if self.kind(&kind.group, &kind.version, &kind.plural).is_none() {
            return Err(Ended::Gone);
        }
        if version < self.forgotten {
            return Err(Ended::Forgotten(self.forgotten));
        }
        let Some(collection) = self.collections.get(&kind.qualified()) else { return Ok(Vec::new()) };
        if version < collection.dropped {
            return Err(Ended::Forgotten(collection.dropped));
        }
        let seen = collection.events.partition_point(|event| event.object.version <= version);
        Ok(collection.events.range(seen..).cloned().collect())
    }

    /// Forgets every change so far, as a compaction does, under a version that nobody has heard of.
    pub(super) fn forget(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        for collection in self.collections.values_mut() {
            collection.events.clear();
        }
        self.snapshots.clear();
        self.changed.send_replace(self.version);
    }

    /// Keeps a list, so that its later pages tell of the same moment.
    pub(super) fn keep(&mut self, objects: Vec<Arc<Object>>) -> Snapshot {
        let id = self.snapshots.back().map_or(1, |last| last.id + 1);
        let snapshot = Snapshot { id, version: self.version, objects: objects.into() };
        if self.snapshots.len() == SNAPSHOTS {
            self.snapshots.pop_front();
        }
        self.snapshots.push_back(snapshot.clone());
        snapshot
    }

    /// A list that was kept and not yet forgotten.
    pub(super) fn snapshot(&self, id: u64) -> Option<Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.id == id).cloned()
    }
}

/// The present second, as objects carry it.
pub(super) fn now() -> String {
    after(0)
}

/// The second that comes after so many.
pub(super) fn after(seconds: i64) -> String {
    let second = Timestamp::now().as_second() + seconds;
    Timestamp::from_second(second).expect("it is within the calendar").to_string()
}

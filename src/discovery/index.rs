//! What a cluster says of one pool, as the datastore wants it; [`PoolIndex`] is the entry point. Pure.
//!
//! A source tells [`Event`]s, then asks for an [`Update`]: what changed since it last asked. Telling costs little, so
//! whatever is ready may be told first. What an update says is a function of the last state of each object, whatever
//! the order in which objects came, so duplicates, reordering between objects and a relist change nothing. Events of
//! one name count in the order told: an older state that comes late counts until the next event of that name or relist.
//!
//! *One pool, one namespace.* The source follows the objects of the pool's namespace, so names are unique. It tells an
//! object whose deletion has begun as deleted, fills in the defaults of the API (such as a reference's group), and says
//! the [`Origin`] of objects whose kind exists in two API groups. All of them count; of two objectives with one name
//! the newer group's does.
//!
//! *Only pods that could serve are kept:* ready ones that the pool selects and that have an address. While no pool is
//! known that is none. A pool that comes or selects otherwise may therefore have pods that the index has forgotten:
//! [`Update::relist_pods`] asks the source to drop its watch of pods and begin another, whose first list it tells as
//! [`Told::Reset`]. Until then the pods of before serve on: the list may be long in coming. A pool that goes takes
//! its pods along; objectives, rewrites and models are kept, because nothing would bring them back when it returns.
//!
//! *Endpoints.* One per pod and target port, with the pod's labels. With one target port it is called like the pod, as
//! v1.0.1 does; with several `<pod>-rank-<position of the port>`, as later versions do. The address is the first one
//! that is usable, also of a pod with two stacks. Annotations ([`ACTIVE_PORTS`](endpoints::ACTIVE_PORTS)) may restrict
//! a pod to some of the ports. If two pods claim one destination, because the end of the older one is told late, the
//! one that started last has it; the other gets it back should that one go first.

pub mod endpoints;
pub mod objects;
pub mod rewrites;
mod serving;

use std::collections::BTreeMap;

use self::endpoints::{Member, PodState, PoolSpec};
use self::objects::{Objects, Told};
use self::rewrites::{InferenceModel, ModelRewrite, PoolRef, Rewrites, model_priorities};
use self::serving::Serving;
use super::Change;

/// Something that a source tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The pool is so now, or is gone.
    Pool(Option<PoolSpec>),
    /// Of pods.
    Pods(Told<PodState>),
    /// Of objectives.
    Objectives(Origin, Told<Objective>),
    /// Of `InferenceModelRewrite`s.
    Rewrites(Origin, Told<ModelRewrite>),
    /// Of `InferenceModel`s, which v0.5.1 has in place of the latter two.
    Models(Told<InferenceModel>),
}

/// The API group of an object whose kind exists in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `inference.networking.x-k8s.io`.
    Older,
    /// `llm-d.ai`.
    Newer,
}

/// An `InferenceObjective`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objective {
    /// Its name, which requests give.
    pub name: String,
    /// The pool it is for.
    pub pool: PoolRef,
    /// Priority; unset means 0, negative means sheddable.
    pub priority: Option<i32>,
}

/// What changed since the last update.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Changes of endpoints, removals first. After all of them, no two endpoints have the same destination.
    pub changes: Vec<Change>,
    /// Priority by objective, if that may have changed.
    pub objectives: Option<BTreeMap<String, i32>>,
    /// Priority by model, as `InferenceModel`s say, if that may have changed.
    pub model_priorities: Option<BTreeMap<String, i32>>,
    /// The rules by which models are rewritten, if they may have changed.
    pub rewrites: Option<Rewrites>,
    /// The pods must be listed again: of those that match now, not all were kept. Said once.
    pub relist_pods: bool,
    /// Whether the pool is known and its pods were listed; health follows it.
    pub synced: bool,
}

/// The objects of one pool.
pub struct PoolIndex {
    pool: PoolRef,
    spec: Option<PoolSpec>,
    spec_changed: bool,
    pods: Objects<Member>,
    pods_listed: bool,
    relist_pods: bool,
    /// What updates have said so far.
    serving: Serving,
    /// By origin.
    objectives: [Objects<i32>; 2],
    /// By origin.
    rewrites: [Objects<ModelRewrite>; 2],
    models: Objects<InferenceModel>,
}

impl PoolIndex {
    /// Makes the index of `pool` in `namespace`, of which nothing is known yet.
    pub fn new(namespace: String, pool: PoolRef) -> Self {
        Self {
            pool,
            spec: None,
            spec_changed: false,
            pods: Objects::default(),
            pods_listed: false,
            relist_pods: false,
            serving: Serving::new(namespace),
            objectives: Default::default(),
            rewrites: Default::default(),
            models: Objects::default(),
        }
    }

    /// The labels that the pool selects, if it is known.
    pub fn selected(&self) -> Option<&BTreeMap<String, String>> {
        self.spec.as_ref().map(|spec| &spec.match_labels)
    }

    /// Takes an event; it shows in the next update.
    pub fn tell(&mut self, event: Event) {
        let pool = &self.pool;
        match event {
            Event::Pool(spec) => self.tell_pool(spec),
            Event::Pods(told) => self.tell_pods(told),
            Event::Objectives(origin, told) => self.objectives[origin as usize].tell(told, |objective| {
                let ours = objective.pool == *pool;
                (objective.name, ours.then_some(objective.priority.unwrap_or(0)))
            }),
            Event::Rewrites(origin, told) => self.rewrites[origin as usize].tell(told, |rewrite| {
                let ours = rewrite.pool == *pool;
                (rewrite.name.clone(), ours.then_some(rewrite))
            }),
            Event::Models(told) => self.models.tell(told, |model| {
                let ours = model.pool.name == pool.name;
                (model.name.clone(), ours.then_some(model))
            }),
        }
    }

    fn tell_pool(&mut self, spec: Option<PoolSpec>) {
        if self.spec == spec {
            return;
        }
        if let Some(new) = &spec {
            let selected_before = self.spec.as_ref().map(|old| &old.match_labels);
            self.relist_pods |= selected_before != Some(&new.match_labels);
        } else {
            self.pods = Objects::default();
            self.pods_listed = false;
            self.relist_pods = false;
        }
        self.spec = spec;
        self.spec_changed = true;
    }

    fn tell_pods(&mut self, told: Told<PodState>) {
        let Some(spec) = &self.spec else { return };
        self.pods_listed |= matches!(told, Told::Reset(_));
        self.pods.tell(told, |mut pod| (std::mem::take(&mut pod.name), Member::of(pod, spec)));
    }

    /// What changed since the last update.
    pub fn update(&mut self) -> Update {
        let mut update = Update {
            relist_pods: std::mem::take(&mut self.relist_pods),
            synced: self.spec.is_some() && self.pods_listed,
            ..Update::default()
        };
        let changed = self.pods.take_changed();
        let pods = self.pods.by_name();
        update.changes = if std::mem::take(&mut self.spec_changed) {
            self.serving.rebuild(self.spec.as_ref(), pods)
        } else {
            self.serving.update(&changed, pods)
        };
        if take_changed(&mut self.objectives) {
            // What comes later in the list replaces what came before.
            let objectives = self.objectives.iter().flat_map(|objectives| objectives.by_name().clone());
            update.objectives = Some(objectives.collect());
        }
        let models_changed = !self.models.take_changed().is_empty();
        let models = self.models.by_name().values();
        if models_changed {
            update.model_priorities = Some(model_priorities(models.clone()));
        }
        if take_changed(&mut self.rewrites) | models_changed {
            let rewrites = self.rewrites.iter().flat_map(|rewrites| rewrites.by_name().values());
            update.rewrites = Some(Rewrites::new(rewrites, models));
        }
        update
    }
}

fn take_changed<T: PartialEq>(by_origin: &mut [Objects<T>]) -> bool {
    by_origin.iter_mut().fold(false, |changed, objects| changed | !objects.take_changed().is_empty())
}

#[cfg(test)]
mod tests;

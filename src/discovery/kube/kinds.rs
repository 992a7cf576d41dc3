//! What is followed, and where the API has it: a table of `Kind`s.

use super::wire::{self, Read};
use crate::discovery::index::endpoints::{PodState, PoolSpec};
use crate::discovery::index::objects::Told;
use crate::discovery::index::rewrites::{InferenceModel, ModelRewrite};
use crate::discovery::index::{Event, Objective, Origin};

/// The group of pools since v1.0.
pub const POOL_GROUP: &str = "inference.networking.k8s.io";

/// The group of pools before, and of the other objects of the Inference Extension.
pub const OLDER_GROUP: &str = "inference.networking.x-k8s.io";

/// The group of llm-d's objects.
pub const LLM_D_GROUP: &str = "llm-d.ai";

/// Objects of one kind, of which `T` is what the index knows.
pub(super) struct Kind<T> {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    pub(super) read: Read<T>,
    pub(super) event: fn(Told<T>) -> Event,
}

impl<T> Kind<T> {
    /// The path of its list in `namespace`.
    pub(super) fn path(&self, namespace: &str) -> String {
        let Self { group, version, plural, .. } = self;
        match *group {
            "" => format!("/api/{version}/namespaces/{namespace}/{plural}"),
            _ => format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}"),
        }
    }

    /// Its name as `kubectl` takes it: `<plural>.<group>`.
    pub(super) fn name(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

pub(super) const PODS: Kind<PodState> =
    Kind { group: "", version: "v1", plural: "pods", read: wire::pod, event: Event::Pods };

/// Pools of `group`, which is one of [`POOL_GROUP`] and [`OLDER_GROUP`].
pub(super) fn pools(group: &str) -> Kind<PoolSpec> {
    let plural = "inferencepools";
    if group == OLDER_GROUP {
        let read = wire::older_pool;
        Kind { group: OLDER_GROUP, version: "v1alpha2", plural, read, event: pool }
    } else {
        Kind { group: POOL_GROUP, version: "v1", plural, read: wire::pool, event: pool }
    }
}

/// What is followed of pools is one, by its name.
fn pool(told: Told<PoolSpec>) -> Event {
    Event::Pool(match told {
        Told::Apply(pool) => Some(pool),
        Told::Delete(_) => None,
        Told::Reset(pools) => pools.into_iter().next(),
    })
}

pub(super) const OBJECTIVES: [Kind<Objective>; 2] = [
    objectives(LLM_D_GROUP, |told| Event::Objectives(Origin::Newer, told)),
    objectives(OLDER_GROUP, |told| Event::Objectives(Origin::Older, told)),
];

const fn objectives(group: &'static str, event: fn(Told<Objective>) -> Event) -> Kind<Objective> {
    Kind { group, version: "v1alpha2", plural: "inferenceobjectives", read: wire::objective, event }
}

pub(super) const REWRITES: [Kind<ModelRewrite>; 2] = [
    rewrites(LLM_D_GROUP, |told| Event::Rewrites(Origin::Newer, told)),
    rewrites(OLDER_GROUP, |told| Event::Rewrites(Origin::Older, told)),
];

const fn rewrites(group: &'static str, event: fn(Told<ModelRewrite>) -> Event) -> Kind<ModelRewrite> {
    Kind { group, version: "v1alpha2", plural: "inferencemodelrewrites", read: wire::rewrite, event }
}

pub(super) const MODELS: Kind<InferenceModel> = Kind {
    group: OLDER_GROUP,
    version: "v1alpha2",
    plural: "inferencemodels",
    read: wire::model,
    event: Event::Models,
};

//! What Envoy is started with.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cluster::Cluster;
use super::listener::{Listener, Secret};
use super::{Address, ConfigSource};

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bootstrap {
    pub(crate) node: Node,
    pub(crate) admin: Admin,
    pub(crate) layered_runtime: LayeredRuntime,
    pub(crate) static_resources: Option<StaticResources>,
    pub(crate) dynamic_resources: Option<DynamicResources>,
}

/// Who it is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) id: &'static str,
    pub(crate) cluster: &'static str,
}

/// Its own pages.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Admin {
    pub(crate) address: Address,
}

/// What stays as it is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StaticResources {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) secrets: Vec<Secret>,
}

/// What files tell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DynamicResources {
    pub(crate) lds_config: ConfigSource,
    pub(crate) cds_config: ConfigSource,
}

/// Values that steer Envoy itself.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LayeredRuntime {
    pub(crate) layers: Vec<RuntimeLayer>,
}

/// Some of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RuntimeLayer {
    pub(crate) name: &'static str,
    pub(crate) static_layer: BTreeMap<&'static str, u32>,
}

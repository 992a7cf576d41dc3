//! Objects as the API writes them → what the index knows of them. Pure.
//!
//! Each function reads one kind, and of it only what counts; so a pod of many kilobytes leaves a few strings. Fields
//! are those of the versions named in [`kinds`](super::kinds).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::kinds::POOL_GROUP;
use crate::discovery::index::Objective;
use crate::discovery::index::endpoints::{PickerService, PodState, PoolSpec};
use crate::discovery::index::rewrites::{
    Criticality, InferenceModel, ModelRewrite, PoolRef, RewriteMatch, RewriteRule, RewriteTarget,
};

/// An object of a list or of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Item<T> {
    /// Its name.
    pub(super) name: String,
    /// Its resource version.
    pub(super) version: String,
    /// What it says; `None` if its deletion has begun.
    pub(super) object: Option<T>,
}

/// Reads an object of one kind.
pub(super) type Read<T> = fn(&str) -> serde_json::Result<Item<T>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<IgnoredAny>,
}

impl Metadata {
    fn created(&self) -> i64 {
        seconds(self.creation_timestamp.as_ref())
    }

    fn item<T>(self, object: T) -> Item<T> {
        let object = self.deletion_timestamp.is_none().then_some(object);
        Item { name: self.name, version: self.resource_version, object }
    }
}

fn seconds(time: Option<&Time>) -> i64 {
    time.map_or(0, |time| time.0.as_second())
}

#[derive(Deserialize)]
struct Object<S> {
    metadata: Metadata,
    spec: S,
}

/// Reads name and resource version, which any object has.
pub(super) fn name_and_version(text: &str) -> serde_json::Result<Item<()>> {
    #[derive(Deserialize)]
    struct Any {
        metadata: Metadata,
    }
    serde_json::from_str(text).map(|any: Any| any.metadata.item(()))
}

/// Reads a `Pod`.
pub(super) fn pod(text: &str) -> serde_json::Result<Item<PodState>> {
    #[derive(Deserialize)]
    struct Pod {
        metadata: Metadata,
        #[serde(default)]
        spec: Spec,
        #[serde(default)]
        status: Status,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec {
        node_name: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Status {
        conditions: Vec<Condition>,
        #[serde(rename = "hostIP")]
        host_ip: String,
        #[serde(rename = "podIP")]
        pod_ip: String,
        #[serde(rename = "podIPs")]
        pod_ips: Vec<Address>,
        start_time: Option<Time>,
    }
    #[derive(Deserialize)]
    struct Condition {
        r#type: String,
        status: String,
    }
    #[derive(Deserialize)]
    struct Address {
        #[serde(default)]
        ip: String,
    }
    let Pod { metadata, spec, status } = serde_json::from_str(text)?;
    let ready = |condition: &Condition| condition.r#type == "Ready" && condition.status == "True";
    let first = (!status.pod_ip.is_empty()).then_some(status.pod_ip);
    let pod = PodState {
        name: metadata.name.clone(),
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        node: spec.node_name,
        host_address: status.host_ip,
        addresses: first.into_iter().chain(status.pod_ips.into_iter().map(|address| address.ip)).collect(),
        ready: status.conditions.iter().any(ready),
        started: seconds(status.start_time.as_ref()),
    };
    Ok(metadata.item(pod))
}

/// Reads an `InferencePool` of `inference.networking.k8s.io/v1`.
pub(super) fn pool(text: &str) -> serde_json::Result<Item<PoolSpec>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        selector: Selector,
        target_ports: Vec<Port>,
        endpoint_picker_ref: Option<Picker>,
    }
    #[derive(Deserialize)]
    struct Picker {
        name: String,
        port: Option<Port>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Selector {
        match_labels: BTreeMap<String, String>,
    }
    #[derive(Deserialize)]
    struct Port {
        number: u16,
    }
    let Object::<Spec> { metadata, spec } = serde_json::from_str(text)?;
    let target_ports = spec.target_ports.into_iter().map(|port| port.number).collect();
    let picker = spec.endpoint_picker_ref;
    let picker =
        picker.map(|Picker { name, port }| PickerService { name, port: port.map(|port| port.number) });
    Ok(metadata.item(PoolSpec { match_labels: spec.selector.match_labels, target_ports, picker }))
}

/// Reads an `InferencePool` of `inference.networking.x-k8s.io/v1alpha2`.
pub(super) fn older_pool(text: &str) -> serde_json::Result<Item<PoolSpec>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        selector: BTreeMap<String, String>,
        target_port_number: u16,
        extension_ref: Option<Picker>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Picker {
        name: String,
        port_number: Option<u16>,
    }
    let Object::<Spec> { metadata, spec } = serde_json::from_str(text)?;
    let target_ports = vec![spec.target_port_number];
    let picker = spec.extension_ref;
    let picker = picker.map(|Picker { name, port_number: port }| PickerService { name, port });
    Ok(metadata.item(PoolSpec { match_labels: spec.selector, target_ports, picker }))
}

#[derive(Deserialize)]
struct Reference {
    group: Option<String>,
    name: String,
}

impl Reference {
    /// The group is the default of their schemas, unless said.
    fn pool(self) -> PoolRef {
        PoolRef { name: self.name, group: self.group.unwrap_or_else(|| POOL_GROUP.to_owned()) }
    }
}

/// Reads an `InferenceObjective`.
pub(super) fn objective(text: &str) -> serde_json::Result<Item<Objective>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        priority: Option<i32>,
        pool_ref: Reference,
    }
    let Object::<Spec> { metadata, spec } = serde_json::from_str(text)?;
    let objective =
        Objective { name: metadata.name.clone(), pool: spec.pool_ref.pool(), priority: spec.priority };
    Ok(metadata.item(objective))
}

/// Which requests a rule of an `InferenceModelRewrite` is for.
#[derive(Deserialize)]
struct Match {
    model: Option<ValueMatch>,
    #[serde(default)]
    headers: Vec<ValueMatch>,
}

#[derive(Deserialize)]
struct ValueMatch {
    r#type: Option<String>,
    /// Of headers.
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: String,
}

impl ValueMatch {
    fn is_exact(&self) -> bool {
        self.r#type.as_deref().is_none_or(|kind| kind == "Exact")
    }
}

/// What cannot be understood matches nothing, instead of everything.
fn matched(found: Match) -> RewriteMatch {
    if !found.model.iter().chain(&found.headers).all(ValueMatch::is_exact) {
        return RewriteMatch::from("");
    }
    RewriteMatch {
        model: found.model.map(|model| model.value),
        headers: found
            .headers
            .into_iter()
            .map(|header| (header.name.to_ascii_lowercase(), header.value))
            .collect(),
    }
}

/// Reads an `InferenceModelRewrite`.
pub(super) fn rewrite(text: &str) -> serde_json::Result<Item<ModelRewrite>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        pool_ref: Option<Reference>,
        #[serde(default)]
        rules: Vec<Rule>,
    }
    #[derive(Deserialize)]
    struct Rule {
        #[serde(default)]
        matches: Vec<Match>,
        #[serde(default)]
        targets: Vec<Target>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Target {
        weight: Option<u32>,
        #[serde(default)]
        model_rewrite: String,
    }
    let Object::<Spec> { metadata, spec } = serde_json::from_str(text)?;
    let rule = |rule: Rule| RewriteRule {
        matches: rule.matches.into_iter().map(matched).collect(),
        targets: rule
            .targets
            .into_iter()
            .map(|target| RewriteTarget { model: target.model_rewrite, weight: target.weight })
            .collect(),
    };
    let rewrite = ModelRewrite {
        name: metadata.name.clone(),
        pool: spec.pool_ref.map(Reference::pool).unwrap_or_default(),
        created: metadata.created(),
        rules: spec.rules.into_iter().map(rule).collect(),
    };
    Ok(metadata.item(rewrite))
}

/// Reads an `InferenceModel`.
pub(super) fn model(text: &str) -> serde_json::Result<Item<InferenceModel>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        model_name: String,
        criticality: Option<Level>,
        #[serde(default)]
        target_models: Vec<Target>,
        pool_ref: Reference,
    }
    #[derive(Deserialize)]
    enum Level {
        Critical,
        Standard,
        Sheddable,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        weight: Option<u32>,
    }
    let Object::<Spec> { metadata, spec } = serde_json::from_str(text)?;
    let model = InferenceModel {
        name: metadata.name.clone(),
        pool: spec.pool_ref.pool(),
        created: metadata.created(),
        model_name: spec.model_name,
        criticality: spec.criticality.map(|level| match level {
            Level::Critical => Criticality::Critical,
            Level::Standard => Criticality::Standard,
            Level::Sheddable => Criticality::Sheddable,
        }),
        targets: spec
            .target_models
            .into_iter()
            .map(|target| RewriteTarget { model: target.name, weight: target.weight })
            .collect(),
    };
    Ok(metadata.item(model))
}

#[cfg(test)]
mod tests;

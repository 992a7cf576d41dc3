//! The table of kinds, and which one an object is of.

use super::map::Map;
use super::route::GATEWAY_GROUP;
use super::{
    Meta, Object, ai_gateway_route, backend, backend_tls, gateway, http_route, model, policy, pool, workload,
};
use crate::config::problem::{nearest, shown, shown_list};
use crate::discovery::kube::kinds::{LLM_D_GROUP, OLDER_GROUP, POOL_GROUP};

/// Reads an object.
pub(super) type Reader = fn(&Map<'_>, Meta) -> Option<Object>;

/// What is to be done with an object.
pub(super) enum Found {
    /// It is read.
    Known(&'static str, Reader),
    /// It is of no kind that there is; what was expected.
    Wrong(String),
    /// It has no effect, and nobody expects one.
    Silent,
    /// It has no effect.
    Other,
}

/// Kinds without a namespace.
pub(super) const CLUSTER_SCOPED: &[&str] = &["GatewayClass", "Namespace"];

struct Kind {
    group: &'static str,
    versions: &'static [&'static str],
    name: &'static str,
    reader: Reader,
}

const fn kind(
    group: &'static str,
    versions: &'static [&'static str],
    name: &'static str,
    reader: Reader,
) -> Kind {
    Kind { group, versions, name, reader }
}

const GATEWAY: &[&str] = &["v1", "v1beta1"];
const AI: &[&str] = &["v1alpha1", "v1beta1"];

const KINDS: &[Kind] = &[
    kind(GATEWAY_GROUP, GATEWAY, "GatewayClass", gateway::read_class),
    kind(GATEWAY_GROUP, GATEWAY, "Gateway", gateway::read),
    kind(GATEWAY_GROUP, GATEWAY, "HTTPRoute", http_route::read),
    kind(GATEWAY_GROUP, &["v1", "v1alpha3"], "BackendTLSPolicy", backend_tls::read_policy),
    kind(GATEWAY_GROUP, GATEWAY, "ReferenceGrant", gateway::read_grant),
    kind(ai_gateway_route::AI_GROUP, AI, "AIGatewayRoute", ai_gateway_route::read),
    kind(ai_gateway_route::AI_GROUP, AI, "AIServiceBackend", backend::read_ai),
    kind(ai_gateway_route::AI_GROUP, AI, "BackendSecurityPolicy", policy::read_security),
    kind(ai_gateway_route::AI_GROUP, AI, "GatewayConfig", policy::read_config),
    kind(backend::ENVOY_GROUP, &["v1alpha1"], "Backend", backend::read),
    kind(backend::ENVOY_GROUP, &["v1alpha1"], "BackendTrafficPolicy", policy::read_traffic),
    kind(POOL_GROUP, &["v1"], "InferencePool", pool::read),
    kind(OLDER_GROUP, &["v1alpha2"], "InferencePool", pool::read_older),
    kind(OLDER_GROUP, &["v1alpha2"], "InferenceObjective", model::read_objective),
    kind(LLM_D_GROUP, &["v1alpha2"], "InferenceObjective", model::read_newer_objective),
    kind(OLDER_GROUP, &["v1alpha2"], "InferenceModelRewrite", model::read_rewrite),
    kind(LLM_D_GROUP, &["v1alpha2"], "InferenceModelRewrite", model::read_newer_rewrite),
    kind(OLDER_GROUP, &["v1alpha2"], "InferenceModel", model::read_model),
    kind("", &["v1"], "Service", workload::read_service),
    kind("", &["v1"], "ConfigMap", workload::read_config_map),
    kind("", &["v1"], "Secret", workload::read_secret),
    kind("", &["v1"], "Namespace", workload::read_namespace),
    kind("", &["v1"], "Pod", workload::read_pod),
    kind("apps", &["v1"], "Deployment", workload::read_workload),
    kind("apps", &["v1"], "StatefulSet", workload::read_workload),
    kind("apps", &["v1"], "DaemonSet", workload::read_workload),
];

const SILENT: &[&str] = &[
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
];

/// Which kind an object is of.
pub(super) fn find(group: &str, given: &str, name: &str) -> Found {
    if SILENT.contains(&name) {
        return Found::Silent;
    }
    let of_name = || KINDS.iter().filter(|kind| kind.name == name);
    if let Some(kind) = of_name().find(|kind| kind.group == group) {
        if kind.versions.contains(&given) {
            return Found::Known(kind.name, kind.reader);
        }
        let found = api_version(group, given);
        let known: Vec<_> = kind.versions.iter().map(|version| api_version(group, version)).collect();
        let known = shown_list(known.iter().map(String::as_str));
        return Found::Wrong(format!("{name} is of {known}, found {}", shown(&found)));
    }
    if let Some(near) = nearest(group, of_name().map(|kind| kind.group)) {
        let kind = of_name().find(|kind| kind.group == near);
        let version = kind.and_then(|kind| {
            kind.versions.contains(&given).then_some(given).or_else(|| kind.versions.first().copied())
        });
        let meant = api_version(near, version.unwrap_or("v1"));
        let found = api_version(group, given);
        return Found::Wrong(format!("no {name} is of {}, did you mean {}?", shown(&found), shown(&meant)));
    }
    let of_group = || KINDS.iter().filter(|kind| kind.group == group && !group.is_empty());
    match nearest(name, of_group().map(|kind| kind.name)) {
        Some(near) if near.eq_ignore_ascii_case(name) => {
            Found::Wrong(format!("no kind {} is in {group}, did you mean {}?", shown(name), shown(near)))
        }
        _ => Found::Other,
    }
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

//! The kinds of objects that there are: some are built in, the others come with their `CustomResourceDefinition`.

use std::sync::Arc;

use serde_json::{Value, json};

/// A kind as one of its versions serves it.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) name: String,
    pub(super) plural: String,
    pub(super) namespaced: bool,
    /// Whether `status` is a subresource, so that nothing else writes it.
    pub(super) has_status: bool,
    /// The schema, of those that came with a definition.
    pub(super) schema: Option<Value>,
    /// Whether it is only asked, never stored.
    pub(super) review: bool,
}

impl Kind {
    /// `pods`, or `inferencepools.inference.networking.k8s.io`: what messages call it, and the same in all versions.
    pub(super) fn qualified(&self) -> String {
        qualified(&self.plural, &self.group)
    }

    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub(super) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}

/// A resource and its group in one word.
pub(super) fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// Version, kind, resource; then `n`: namespaced, `s`: has a status, `r`: a review.
const BUILT_IN: &[(&str, &str, &str, &str)] = &[
    ("v1", "ConfigMap", "configmaps", "n"),
    ("v1", "Event", "events", "n"),
    ("v1", "Namespace", "namespaces", "s"),
    ("v1", "Node", "nodes", "s"),
    ("v1", "Pod", "pods", "ns"),
    ("v1", "Secret", "secrets", "n"),
    ("v1", "Service", "services", "ns"),
    ("v1", "ServiceAccount", "serviceaccounts", "n"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", "s"),
    ("apps/v1", "Deployment", "deployments", "ns"),
    ("authentication.k8s.io/v1", "TokenReview", "tokenreviews", "r"),
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "r"),
    ("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", "r"),
    ("coordination.k8s.io/v1", "Lease", "leases", "n"),
    ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", "n"),
    ("events.k8s.io/v1", "Event", "events", "n"),
    (RBAC, "ClusterRole", "clusterroles", ""),
    (RBAC, "ClusterRoleBinding", "clusterrolebindings", ""),
    (RBAC, "Role", "roles", "n"),
    (RBAC, "RoleBinding", "rolebindings", "n"),
];

/// All that are built in.
pub(super) fn built_in() -> Vec<Arc<Kind>> {
    let kind = |&(api_version, kind, plural, traits): &(&str, &str, &str, &str)| {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Arc::new(Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            name: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced: traits.contains('n'),
            has_status: traits.contains('s'),
            schema: None,
            review: traits.contains('r'),
        })
    };
    BUILT_IN.iter().map(kind).collect()
}

/// The kinds that a `CustomResourceDefinition` brings, one for each version that it serves.
pub(super) fn defined_by(definition: &Value) -> Vec<Arc<Kind>> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let served = versions.iter().filter(|version| version["served"] == true);
    let kind = |version: &Value| {
        Arc::new(Kind {
            group: text(&spec["group"]),
            version: text(&version["name"]),
            name: text(&spec["names"]["kind"]),
            plural: text(&spec["names"]["plural"]),
            namespaced: spec["scope"] == "Namespaced",
            has_status: version["subresources"]["status"].is_object(),
            schema: Some(version["schema"]["openAPIV3Schema"].clone()),
            review: false,
        })
    };
    served.map(kind).collect()
}

/// The status that says that a definition is in force.
pub(super) fn established(definition: &Value, now: &str) -> Value {
    let condition = |name: &str, reason: &str| json!({ "type": name, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now });
    let versions = definition["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stored = versions.iter().filter(|version| version["storage"] == true);
    json!({
        "acceptedNames": definition["spec"]["names"],
        "conditions": [condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")],
        "storedVersions": stored.map(|version| version["name"].clone()).collect::<Vec<_>>(),
    })
}

/// What discovery tells of a group, or of one of its versions.
pub(super) fn described(kinds: &[Arc<Kind>], wanted: &str) -> Option<Value> {
    let groups = group_list(kinds)["groups"].take();
    let group = groups.as_array()?.iter().find(|group| group["name"] == *wanted);
    let Some(group) = group else { return resource_list(kinds, wanted) };
    let mut group = group.clone();
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    Some(group)
}

/// The `APIResourceList` of one group and version.
fn resource_list(kinds: &[Arc<Kind>], group_version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.api_version() == group_version) {
        let mut entry = json!({
            "name": kind.plural, "singularName": kind.name.to_lowercase(), "namespaced": kind.namespaced,
            "kind": kind.name,
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        });
        if kind.review {
            entry["verbs"] = json!(["create"]);
        }
        resources.push(entry.clone());
        if kind.has_status {
            entry["name"] = json!(format!("{}/status", kind.plural));
            entry["singularName"] = json!("");
            entry["verbs"] = json!(["get", "patch", "update"]);
            resources.push(entry);
        }
    }
    let list = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    });
    (!resources.is_empty()).then_some(list)
}

/// What discovery tells of the groups: the `APIGroupList`.
pub(super) fn group_list(kinds: &[Arc<Kind>]) -> Value {
    let mut groups: Vec<Value> = Vec::new();
    for kind in kinds.iter().filter(|kind| !kind.group.is_empty()) {
        let version = json!({ "groupVersion": kind.api_version(), "version": kind.version });
        if !groups.iter().any(|group| group["name"] == *kind.group) {
            groups.push(json!({ "name": kind.group, "versions": [], "preferredVersion": version }));
        }
        let group = groups.iter_mut().find(|group| group["name"] == *kind.group);
        let versions = group.expect("just made sure")["versions"].as_array_mut().expect("it was made so");
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

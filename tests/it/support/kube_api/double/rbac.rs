//! Who may do what, by the roles and bindings that are stored. Entry point [`allowed`].

use serde_json::Value;

use super::object::{Object, text};
use super::status::Refusal;
use super::store::Store;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Whose request it is.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(super) user: String,
    pub(super) groups: Vec<String>,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub(super) struct Deed {
    pub(super) verb: String,
    pub(super) group: String,
    /// With its subresource: `pods/status`.
    pub(super) resource: String,
    pub(super) name: String,
    /// Empty for all namespaces, and for what has none.
    pub(super) namespace: String,
    /// The path, where it is not about a resource.
    pub(super) path: Option<String>,
}

impl Deed {
    /// What is said to somebody who may not.
    pub(super) fn forbidden(&self, user: &str) -> Refusal {
        let refusal = |message| Refusal::new(403, "Forbidden", message);
        if let Some(path) = &self.path {
            let message = format!("forbidden: User \"{user}\" cannot {} path \"{path}\"", self.verb);
            return refusal(message).about("", "", "");
        }
        let plural = self.resource.split('/').next().unwrap_or_default();
        let about = super::kinds::qualified(plural, &self.group);
        let name = if self.name.is_empty() { String::new() } else { format!(" \"{}\"", self.name) };
        let scope = match &*self.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace \"{namespace}\""),
        };
        let (verb, resource, group) = (&self.verb, &self.resource, &self.group);
        let message = format!(
            "{about}{name} is forbidden: User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {scope}"
        );
        refusal(message).about(plural, group, &self.name)
    }
}

/// Says by which binding it is allowed, if it is.
pub(super) fn allowed(store: &Store, asker: &Asker, deed: &Deed) -> Option<String> {
    if asker.groups.iter().any(|group| group == "system:masters") {
        return Some(String::new());
    }
    ["ClusterRoleBinding", "RoleBinding"].into_iter().find_map(|kind| {
        let resource = format!("{}s.{GROUP}", kind.to_lowercase());
        let mut bindings = store.objects(&resource);
        let binding = bindings.find(|binding| {
            let namespace = text(&binding.value["metadata"]["namespace"]);
            (namespace.is_empty() || namespace == deed.namespace && deed.path.is_none())
                && subject(binding, asker, &namespace).is_some()
                && rules(store, &binding.value["roleRef"], &namespace).iter().any(|rule| covers(rule, deed))
        })?;
        let (metadata, role) = (&binding.value["metadata"], &binding.value["roleRef"]);
        let namespace = text(&metadata["namespace"]);
        let slash = if namespace.is_empty() { String::new() } else { format!("/{namespace}") };
        let who = who(subject(binding, asker, &namespace)?, &namespace);
        let (name, role_kind, role_name) =
            (text(&metadata["name"]), text(&role["kind"]), text(&role["name"]));
        Some(format!("RBAC: allowed by {kind} \"{name}{slash}\" of {role_kind} \"{role_name}\" to {who}"))
    })
}

fn subject<'a>(binding: &'a Object, asker: &Asker, namespace: &str) -> Option<&'a Value> {
    list(&binding.value["subjects"]).find(|subject| is(subject, asker, namespace))
}

fn who(subject: &Value, namespace: &str) -> String {
    let (kind, name) = (text(&subject["kind"]), text(&subject["name"]));
    if kind != "ServiceAccount" {
        return format!("{kind} \"{name}\"");
    }
    format!("{kind} \"{name}/{}\"", subject["namespace"].as_str().unwrap_or(namespace))
}

fn is(subject: &Value, asker: &Asker, namespace: &str) -> bool {
    let name = text(&subject["name"]);
    match subject["kind"].as_str() {
        Some("User") => name == asker.user,
        Some("Group") => asker.groups.contains(&name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or(namespace);
            asker.user == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn rules(store: &Store, role: &Value, namespace: &str) -> Vec<Value> {
    let (resource, namespace) = match role["kind"].as_str() {
        Some("ClusterRole") => ("clusterroles", String::new()),
        _ => ("roles", namespace.to_owned()),
    };
    let found = store.get(&format!("{resource}.{GROUP}"), &(namespace, text(&role["name"])));
    found.map(|role| list(&role.value["rules"]).cloned().collect()).unwrap_or_default()
}

fn covers(rule: &Value, deed: &Deed) -> bool {
    let has = |field: &str, wanted: &str| list(&rule[field]).any(|one| *one == "*" || *one == *wanted);
    if !has("verbs", &deed.verb) {
        return false;
    }
    if let Some(path) = &deed.path {
        let fits = |one: &Value| match one.as_str().unwrap_or_default() {
            "*" => true,
            pattern => pattern.strip_suffix('*').map_or(pattern == path, |start| path.starts_with(start)),
        };
        return list(&rule["nonResourceURLs"]).any(fits);
    }
    let every = deed.resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    has("apiGroups", &deed.group)
        && (has("resources", &deed.resource) || every.is_some_and(|every| has("resources", &every)))
        && (list(&rule["resourceNames"]).next().is_none()
            || list(&rule["resourceNames"]).any(|name| *name == *deed.name))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

//! Who may do what, by the roles and bindings that are stored. Entry point [`allowed`].

use serde_json::Value;

use super::object::text;
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
    /// Why somebody may not, as the real one says it.
    pub(super) fn forbidden(&self, user: &str) -> String {
        if let Some(path) = &self.path {
            return format!("forbidden: User \"{user}\" cannot {} path \"{path}\"", self.verb);
        }
        let plural = self.resource.split('/').next().unwrap_or_default();
        let about = super::kinds::qualified(plural, &self.group);
        let name = if self.name.is_empty() { String::new() } else { format!(" \"{}\"", self.name) };
        let scope = match &*self.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace \"{namespace}\""),
        };
        let (verb, resource, group) = (&self.verb, &self.resource, &self.group);
        format!(
            "{about}{name} is forbidden: User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {scope}"
        )
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
                && list(&binding.value["subjects"]).any(|subject| is(subject, asker, &namespace))
                && rules(store, &binding.value["roleRef"], &namespace).iter().any(|rule| covers(rule, deed))
        })?;
        let (metadata, role) = (&binding.value["metadata"], &binding.value["roleRef"]);
        let slash = text(&metadata["namespace"]);
        let slash = if slash.is_empty() { slash } else { format!("/{slash}") };
        let (name, role_kind, role_name) =
            (text(&metadata["name"]), text(&role["kind"]), text(&role["name"]));
        Some(format!(
            "RBAC: allowed by {kind} \"{name}{slash}\" of {role_kind} \"{role_name}\" to {}",
            who(asker)
        ))
    })
}

fn who(asker: &Asker) -> String {
    match asker.user.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':')) {
        Some((namespace, name)) => format!("ServiceAccount \"{name}/{namespace}\""),
        None => format!("User \"{}\"", asker.user),
    }
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

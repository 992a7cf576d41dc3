//! Creating, replacing, patching and deleting as the API does it: what each may change, and when it refuses.

use std::sync::Arc;

use serde_json::{Value, json};

use super::kinds::{self, Kind};
use super::object::{Object, text};
use super::schema;
use super::status::Refusal;
use super::store::{Key, Store, after, now};

/// Which part of an object a request is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    Main,
    Status,
}

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Stores a new object.
pub(super) fn create(
    store: &mut Store,
    kind: &Kind,
    namespace: &str,
    mut value: Value,
) -> Result<Arc<Object>, Refusal> {
    name_it(store, kind, &mut value)?;
    let key = (namespace.to_owned(), text(&value["metadata"]["name"]));
    if store.get(&kind.qualified(), &key).is_some() {
        return Err(Refusal::already_exists(kind, &key.1));
    }
    let metadata = &mut value["metadata"];
    if !["", namespace].contains(&metadata["namespace"].as_str().unwrap_or_default()) {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Refusal::bad_request(message));
    }
    if kind.namespaced {
        metadata["namespace"] = json!(namespace);
    }
    metadata["uid"] = json!(format!("00000000-0000-4000-8000-{:012x}", store.version() + 1));
    metadata["creationTimestamp"] = json!(now());
    metadata["generation"] = json!(1);
    let metadata = metadata.as_object_mut().expect("it has a name");
    metadata.remove("deletionTimestamp");
    if kind.has_status {
        value["status"] = first_status(kind, &value);
    }
    fit(kind, &mut value)?;
    Ok(store.put(kind, value))
}

fn name_it(store: &Store, kind: &Kind, value: &mut Value) -> Result<(), Refusal> {
    if !value["metadata"].is_object() {
        return Err(Refusal::invalid(
            kind,
            "",
            "metadata.name: Required value: name or generateName is required",
        ));
    }
    let metadata = &mut value["metadata"];
    if !metadata["resourceVersion"].is_null() && metadata["resourceVersion"] != "" {
        return Err(Refusal::bad_request("resourceVersion should not be set on objects to be created"));
    }
    if metadata["name"].is_null() && metadata["generateName"].is_string() {
        metadata["name"] = json!(format!("{}{:05x}", text(&metadata["generateName"]), store.version()));
    }
    if text(&metadata["name"]).is_empty() {
        return Err(Refusal::invalid(
            kind,
            "",
            "metadata.name: Required value: name or generateName is required",
        ));
    }
    Ok(())
}

fn first_status(kind: &Kind, value: &Value) -> Value {
    match &*kind.plural {
        "pods" => json!({ "phase": "Pending", "qosClass": "BestEffort" }),
        "customresourcedefinitions" => kinds::established(value, &now()),
        _ => Value::Null,
    }
}

/// Checks what the real one would refuse, and fills in what it would.
fn fit(kind: &Kind, value: &mut Value) -> Result<(), Refusal> {
    value["kind"] = json!(kind.kind);
    value["apiVersion"] = json!(kind.api_version());
    if value["status"].is_null() {
        value.as_object_mut().expect("it is one").remove("status");
    }
    let name = text(&value["metadata"]["name"]);
    if let Some(schema) = &kind.schema {
        schema::apply(schema, value).map_err(|why| Refusal::invalid(kind, &name, &why))?;
    }
    if kind.is("", "pods") && value["spec"]["containers"].as_array().is_none_or(Vec::is_empty) {
        return Err(Refusal::invalid(kind, &name, "spec.containers: Required value"));
    }
    Ok(())
}

/// Puts `value` in the place of the object of this name, or its status in the place of that one's.
pub(super) fn replace(
    store: &mut Store,
    kind: &Kind,
    key: &Key,
    (part, mut value): (Part, Value),
) -> Result<Arc<Object>, Refusal> {
    let current = store.get(&kind.qualified(), key).ok_or_else(|| Refusal::not_found(kind, &key.1))?;
    let old = &current.value;
    if text(&value["metadata"]["name"]) != key.1 {
        let message = "the name of the object does not match the name on the URL";
        return Err(Refusal::bad_request(message));
    }
    let version = text(&value["metadata"]["resourceVersion"]);
    if version.is_empty() && (kind.schema.is_some() || kind.plural == "leases") {
        let why = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update";
        return Err(Refusal::invalid(kind, &key.1, why));
    }
    if !version.is_empty() && version != text(&old["metadata"]["resourceVersion"]) {
        return Err(Refusal::conflict(kind, &key.1, MODIFIED));
    }
    let uid = text(&value["metadata"]["uid"]);
    if !uid.is_empty() && old["metadata"]["uid"] != *uid {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            old["metadata"]["uid"]
        );
        return Err(Refusal::conflict(kind, &key.1, &why));
    }
    match part {
        Part::Main => keep_what_is_the_servers(kind, old, &mut value),
        Part::Status => {
            let status = value["status"].take();
            value = old.clone();
            value["status"] = status;
        }
    }
    fit(kind, &mut value)?;
    if value == *old {
        return Ok(current);
    }
    let object = store.put(kind, value);
    Ok(if is_over(&object.value) { store.take(kind, key).unwrap_or(object) } else { object })
}

fn keep_what_is_the_servers(kind: &Kind, old: &Value, value: &mut Value) {
    for field in [
        "uid",
        "creationTimestamp",
        "generation",
        "namespace",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
    ] {
        match old["metadata"].get(field) {
            Some(kept) => value["metadata"][field] = kept.clone(),
            None => drop(value["metadata"].as_object_mut().map(|metadata| metadata.remove(field))),
        }
    }
    if kind.has_status {
        value["status"] = old["status"].clone();
    }
    if value["spec"] != old["spec"] {
        value["metadata"]["generation"] = json!(old["metadata"]["generation"].as_u64().unwrap_or(0) + 1);
    }
}

/// Merges `patch` into the object of this name.
pub(super) fn patch(
    store: &mut Store,
    kind: &Kind,
    key: &Key,
    (part, patch): (Part, &Value),
) -> Result<Arc<Object>, Refusal> {
    let current = store.get(&kind.qualified(), key).ok_or_else(|| Refusal::not_found(kind, &key.1))?;
    let mut value = current.value.clone();
    merge(&mut value, patch);
    replace(store, kind, key, (part, value))
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().expect("made sure of").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// Deletes the object of this name, or marks it if it has yet to end: a pod on a node, or one with finalizers.
pub(super) fn delete(
    store: &mut Store,
    kind: &Kind,
    key: &Key,
    options: &Value,
) -> Result<Arc<Object>, Refusal> {
    let current = store.get(&kind.qualified(), key).ok_or_else(|| Refusal::not_found(kind, &key.1))?;
    let metadata = &current.value["metadata"];
    for field in ["uid", "resourceVersion"] {
        let wanted = &options["preconditions"][field];
        if !wanted.is_null() && *wanted != metadata[field] {
            let name = if field == "uid" { "UID" } else { "ResourceVersion" };
            let why = format!(
                "Precondition failed: {name} in precondition: {}, {name} in object meta: {}",
                text(wanted),
                text(&metadata[field])
            );
            return Err(Refusal::conflict(kind, &key.1, &why));
        }
    }
    let on_a_node = kind.is("", "pods") && current.value["spec"]["nodeName"].is_string();
    let grace = options["gracePeriodSeconds"].as_i64();
    let grace = if on_a_node { grace.unwrap_or(30) } else { 0 };
    let mut value = current.value.clone();
    value["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    if metadata["deletionTimestamp"].is_null() || grace == 0 && on_a_node {
        value["metadata"]["deletionTimestamp"] = json!(after(grace));
    }
    if is_over(&value) {
        return Ok(store.take(kind, key).expect("it was there"));
    }
    let unchanged = !metadata["deletionTimestamp"].is_null() && grace != 0;
    Ok(if unchanged { current } else { store.put(kind, value) })
}

fn is_over(value: &Value) -> bool {
    let metadata = &value["metadata"];
    let waited_for = metadata["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
    metadata["deletionTimestamp"].is_string() && metadata["deletionGracePeriodSeconds"] == 0 && !waited_for
}

/// Stores an object with its status as one change, in the place of the one of its name.
pub(super) fn overwrite(store: &mut Store, kind: &Kind, mut value: Value) {
    let namespace = text(&value["metadata"]["namespace"]);
    let namespace = if kind.namespaced && namespace.is_empty() { "default".to_owned() } else { namespace };
    let key = (namespace, text(&value["metadata"]["name"]));
    let old = store.get(&kind.qualified(), &key);
    let metadata = &mut value["metadata"];
    if kind.namespaced {
        metadata["namespace"] = json!(key.0);
    }
    let uid = json!(format!("00000000-0000-4000-8000-{:012x}", store.version() + 1));
    metadata["uid"] = old.as_ref().map_or(uid, |old| old.value["metadata"]["uid"].clone());
    let created = old.as_ref().map(|old| old.value["metadata"]["creationTimestamp"].clone());
    metadata["creationTimestamp"] = created.unwrap_or_else(|| json!(now()));
    fit(kind, &mut value).expect("what tests store is valid");
    store.put(kind, value);
}

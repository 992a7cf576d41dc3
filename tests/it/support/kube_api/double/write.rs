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

const NAMELESS: &str = "metadata.name: Required value: name or generateName is required";

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
    if counts_generations(kind) {
        metadata["generation"] = json!(1);
    }
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
        return Err(Refusal::invalid(&kind.name, kind, "", NAMELESS));
    }
    let metadata = &mut value["metadata"];
    if !metadata["resourceVersion"].is_null() && metadata["resourceVersion"] != "" {
        // No reason is given.
        return Err(Refusal::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    if metadata["name"].is_null() && metadata["generateName"].is_string() {
        metadata["name"] = json!(format!("{}{:05x}", text(&metadata["generateName"]), store.version()));
    }
    if text(&metadata["name"]).is_empty() {
        return Err(Refusal::invalid(&kind.name, kind, "", NAMELESS));
    }
    Ok(())
}

fn counts_generations(kind: &Kind) -> bool {
    kind.schema.is_some() || kind.has_status && kind.plural != "namespaces"
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
    value["kind"] = json!(kind.name);
    value["apiVersion"] = json!(kind.api_version());
    if value["status"].is_null() {
        value.as_object_mut().expect("it is one").remove("status");
    }
    let name = text(&value["metadata"]["name"]);
    if let Some(schema) = &kind.schema {
        schema::apply(schema, value).map_err(|why| Refusal::invalid(&kind.name, kind, &name, &why))?;
    }
    if kind.is("", "pods") && value["spec"]["containers"].as_array().is_none_or(Vec::is_empty) {
        return Err(Refusal::invalid(&kind.name, kind, &name, "spec.containers: Required value"));
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
    let name = text(&value["metadata"]["name"]);
    if name != key.1 {
        let message =
            format!("the name of the object ({name}) does not match the name on the URL ({})", key.1);
        return Err(Refusal::bad_request(message));
    }
    let Some(current) = store.get(&kind.qualified(), key) else {
        return replace_nothing(store, kind, key, value);
    };
    let old = &current.value;
    is_meant(kind, key, &value, &text(&old["metadata"]["uid"]))?;
    may_replace(kind, old, &value)?;
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

/// A lease is made by whoever writes it, unless it is meant to be a certain one.
fn replace_nothing(
    store: &mut Store,
    kind: &Kind,
    key: &Key,
    mut value: Value,
) -> Result<Arc<Object>, Refusal> {
    if kind.plural != "leases" {
        return Err(Refusal::not_found(kind, &key.1));
    }
    is_meant(kind, key, &value, "")?;
    value["metadata"]["resourceVersion"] = Value::Null;
    create(store, kind, &key.0, value)
}

/// Whether the object that is stored is the one that `value` is to replace.
fn is_meant(kind: &Kind, key: &Key, value: &Value, stored: &str) -> Result<(), Refusal> {
    let uid = text(&value["metadata"]["uid"]);
    if uid.is_empty() || uid == stored {
        return Ok(());
    }
    let ((namespace, name), plural) = (key, &kind.plural);
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{plural}/{namespace}/{name}, ResourceVersion: 0, \
         AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {stored}"
    );
    Err(Refusal::conflict(plural, kind, name, &why))
}

/// Whether `value` was made from what is stored.
fn may_replace(kind: &Kind, old: &Value, value: &Value) -> Result<(), Refusal> {
    let name = text(&old["metadata"]["name"]);
    let version = text(&value["metadata"]["resourceVersion"]);
    if version.is_empty() && (kind.schema.is_some() || kind.plural == "leases") {
        let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
        return Err(Refusal::invalid(&kind.plural, kind, &name, why));
    }
    if !version.is_empty() && version != text(&old["metadata"]["resourceVersion"]) {
        return Err(Refusal::conflict(&kind.plural, kind, &name, MODIFIED));
    }
    Ok(())
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
        next_generation(value);
    }
}

fn next_generation(value: &mut Value) {
    if let Some(generation) = value["metadata"]["generation"].as_u64() {
        value["metadata"]["generation"] = json!(generation + 1);
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
    let (uid, stored) = (&value["metadata"]["uid"], &current.value["metadata"]["uid"]);
    if uid != stored {
        let why = format!("metadata.uid: Invalid value: {uid}: field is immutable");
        return Err(Refusal::invalid(&kind.name, kind, &key.1, &why));
    }
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
    for (field, name, since) in
        [("uid", "UID", "deleted and then recreated"), ("resourceVersion", "ResourceVersion", "modified")]
    {
        let wanted = &options["preconditions"][field];
        if !wanted.is_null() && *wanted != metadata[field] {
            let (wanted, stored) = (text(wanted), text(&metadata[field]));
            let why = format!(
                "the {name} in the precondition ({wanted}) does not match the {name} in record ({stored}). The object \
                 might have been {since}"
            );
            return Err(Refusal::conflict(&kind.name, kind, &key.1, &why));
        }
    }
    let on_a_node = kind.is("", "pods") && current.value["spec"]["nodeName"].is_string();
    let grace = options["gracePeriodSeconds"].as_i64();
    let grace = if on_a_node { grace.unwrap_or(30) } else { 0 };
    let mut value = current.value.clone();
    value["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    if metadata["deletionTimestamp"].is_null() || grace == 0 && on_a_node {
        next_generation(&mut value);
        value["metadata"]["deletionTimestamp"] = json!(after(grace));
    }
    if is_over(&value) {
        if kind.is("", "pods") {
            // Pods end in two steps, even where nothing is waited for.
            store.put(kind, value);
        }
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

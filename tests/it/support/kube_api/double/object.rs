//! One version of a stored object, written as JSON once. Entry point [`Object::new`].

use serde_json::Value;

use super::kinds::Kind;

/// An object as it was at one version.
#[derive(Debug)]
pub(crate) struct Object {
    pub(super) value: Value,
    pub(super) version: u64,
    /// Its JSON without kind, version and the brace before them: those depend on the version that is asked for.
    rest: String,
}

impl Object {
    /// Stamps the version onto the object.
    pub(super) fn new(mut value: Value, version: u64) -> Self {
        value["metadata"]["resourceVersion"] = Value::from(version.to_string());
        let fields = value.as_object_mut().expect("only objects are stored");
        let head = ["apiVersion", "kind"].map(|key| fields.remove_entry(key));
        let rest = value.to_string()[1..].to_owned();
        value.as_object_mut().expect("it was one above").extend(head.into_iter().flatten());
        Self { value, version, rest }
    }

    /// Appends its JSON, with kind and version.
    pub(super) fn write(&self, kind: &Kind, into: &mut Vec<u8>) {
        let head = format!(r#"{{"kind":"{}","apiVersion":"{}","#, kind.name, kind.api_version());
        into.extend_from_slice(head.as_bytes());
        into.extend_from_slice(self.rest.as_bytes());
    }

    /// Appends its JSON as a list holds it: built-in kinds leave out what the list says.
    pub(super) fn write_item(&self, kind: &Kind, into: &mut Vec<u8>) {
        if kind.schema.is_some() {
            return self.write(kind, into);
        }
        into.push(b'{');
        into.extend_from_slice(self.rest.as_bytes());
    }

    /// Namespace (empty without one) and name.
    pub(super) fn key(&self) -> (String, String) {
        (text(&self.value["metadata"]["namespace"]), text(&self.value["metadata"]["name"]))
    }
}

/// The string there, or nothing.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

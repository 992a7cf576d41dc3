//! Which objects a list or watch is about: entry point [`Selector::parse`].

use serde_json::Value;

use super::kinds::Kind;
use super::status::Refusal;

/// Labels, fields and a namespace that an object must have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    namespace: Option<String>,
    labels: Vec<(String, Labels)>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug)]
enum Labels {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector` as a query writes them.
    pub(super) fn parse(
        kind: &Kind,
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Refusal> {
        let labels = requirements(labels)
            .map(|text| requirement(&text).ok_or_else(|| unreadable(&text)))
            .collect::<Result<_, _>>()?;
        let fields = requirements(fields).map(|text| field(kind, &text)).collect::<Result<_, _>>()?;
        Ok(Self { namespace: namespace.map(str::to_owned), labels, fields })
    }

    /// Whether it selects by more than the namespace.
    pub(super) fn is_partial(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let here = self.namespace.as_ref().is_none_or(|namespace| metadata["namespace"] == **namespace);
        let label = |(key, wanted): &(String, Labels)| {
            let value = metadata["labels"].get(key).and_then(Value::as_str);
            match wanted {
                Labels::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
                Labels::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
                Labels::Exists => value.is_some(),
                Labels::Absent => value.is_none(),
            }
        };
        let field = |(path, equal, wanted): &(String, bool, String)| {
            let value = object.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str);
            (value.unwrap_or_default() == wanted) == *equal
        };
        here && self.labels.iter().all(label) && self.fields.iter().all(field)
    }

    /// The one name that the fields allow: a request for it counts as one for that object.
    pub(super) fn name(fields: &str) -> Option<String> {
        let name = fields.strip_prefix("metadata.name=")?.trim_start_matches('=');
        (!name.contains(',')).then(|| name.to_owned())
    }
}

/// Splits at commas that are in no parentheses.
fn requirements(text: &str) -> impl Iterator<Item = String> {
    let mut parts = vec![String::new()];
    let mut within = false;
    for letter in text.chars() {
        within = letter == '(' || within && letter != ')';
        if letter == ',' && !within {
            parts.push(String::new());
        } else {
            parts.last_mut().expect("there is one from the start").push(letter);
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty())
}

fn requirement(text: &str) -> Option<(String, Labels)> {
    let one = |value: &str| vec![value.trim().to_owned()];
    let key = |key: &str| key.trim().to_owned();
    if let Some(absent) = text.strip_prefix('!') {
        return Some((key(absent), Labels::Absent));
    }
    if let Some((name, value)) = text.split_once("!=") {
        return Some((key(name), Labels::NotIn(one(value))));
    }
    if let Some((name, value)) = text.split_once('=') {
        return Some((key(name), Labels::In(one(value.trim_start_matches('=')))));
    }
    let Some((name, rest)) = text.split_once(' ') else { return Some((key(text), Labels::Exists)) };
    let (word, rest) = rest.trim().split_once('(')?;
    let values = rest.strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
    match word.trim() {
        "in" => Some((key(name), Labels::In(values))),
        "notin" => Some((key(name), Labels::NotIn(values))),
        _ => None,
    }
}

fn unreadable(text: &str) -> Refusal {
    Refusal::bad_request(format!("unable to parse requirement: {text}"))
}

fn field(kind: &Kind, text: &str) -> Result<(String, bool, String), Refusal> {
    let (path, value) = text.split_once('=').ok_or_else(|| unreadable(text))?;
    let (path, equal) = path.strip_suffix('!').map_or((path, true), |path| (path, false));
    let known = matches!(path, "metadata.name" | "metadata.namespace")
        || kind.is("", "pods") && matches!(path, "spec.nodeName" | "status.phase" | "status.podIP");
    if !known {
        return Err(Refusal::bad_request(format!("field label not supported: {path}")));
    }
    Ok((path.to_owned(), equal, value.trim_start_matches('=').to_owned()))
}

//! Lists, whole or page by page: entry point [`answer`]. All pages tell of the moment of the first.

use std::sync::Arc;

use serde_json::json;

use super::Cluster;
use super::kinds::Kind;
use super::object::Object;
use super::route::Options;
use super::selector::Selector;
use super::status::Refusal;

/// The JSON of a list.
pub(super) fn answer(
    cluster: &Cluster,
    kind: &Kind,
    selector: &Selector,
    options: &Options,
) -> Result<Vec<u8>, Refusal> {
    let (snapshot, from) = {
        let mut store = cluster.store.lock();
        if options.continue_token.is_empty() {
            let objects = store.select(&kind.qualified(), selector);
            if options.limit == 0 || objects.len() <= options.limit {
                return Ok(write(kind, &objects, &json!({ "resourceVersion": store.version().to_string() })));
            }
            (store.keep(objects), 0)
        } else {
            let (id, from) = token(&options.continue_token)?;
            (store.snapshot(id).ok_or_else(gone)?, from)
        }
    };
    let until =
        if options.limit == 0 { usize::MAX } else { from + options.limit }.min(snapshot.objects.len());
    let page = snapshot.objects.get(from..until).ok_or_else(gone)?;
    let mut metadata = json!({ "resourceVersion": snapshot.version.to_string() });
    let remaining = snapshot.objects.len() - until;
    if remaining > 0 {
        metadata["continue"] = json!(format!("{}-{until}", snapshot.id));
        if !selector.is_partial() {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    Ok(write(kind, page, &metadata))
}

fn token(text: &str) -> Result<(u64, usize), Refusal> {
    let read = || {
        let (id, from) = text.split_once('-')?;
        Some((id.parse().ok()?, from.parse().ok()?))
    };
    read().ok_or_else(|| Refusal::bad_request("invalid continue token: continue key is not valid"))
}

fn gone() -> Refusal {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                   list without the continue parameter.";
    Refusal::new(410, "Expired", message)
}

fn write(kind: &Kind, objects: &[Arc<Object>], metadata: &serde_json::Value) -> Vec<u8> {
    let (word, version) = (&kind.name, kind.api_version());
    let head = format!(r#"{{"kind":"{word}List","apiVersion":"{version}","metadata":{metadata},"items":["#);
    let mut body = head.into_bytes();
    for (at, object) in objects.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        object.write_item(kind, &mut body);
    }
    body.extend_from_slice(b"]}");
    body
}

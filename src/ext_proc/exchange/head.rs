//! Reads what a request comes with beside its body: its headers, and the subset hint. Pure.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use envoy_types::pb::google::protobuf::value::Kind;

use crate::control_headers;
use crate::ext_proc::destination::DestinationHint;
use crate::ext_proc::reply::HeaderEdits;
use crate::raw_request::Subset;

/// Headers with their names in lower case.
pub(super) fn read_headers(map: Option<HeaderMap>) -> Vec<(String, Bytes)> {
    let headers = map.map(|map| map.headers).unwrap_or_default();
    let read = |mut header: HeaderValue| {
        header.key.make_ascii_lowercase();
        let value = if header.raw_value.is_empty() { header.value.into_bytes() } else { header.raw_value };
        (header.key, value.into())
    };
    headers.into_iter().map(read).collect()
}

/// Reads the subset hint of a message: metadata `envoy.lb.subset_hint`, key `x-gateway-destination-endpoint-subset`, a
/// list of strings. A namespace, key or value of another shape is no hint, and entries that are no strings are skipped.
pub(super) fn read_subset(metadata: &Metadata) -> Option<Subset> {
    let hint = metadata.filter_metadata.get("envoy.lb.subset_hint")?;
    let Kind::ListValue(list) = hint.fields.get("x-gateway-destination-endpoint-subset")?.kind.as_ref()?
    else {
        return None;
    };
    let entries = list.values.iter().filter_map(|value| match &value.kind {
        Some(Kind::StringValue(text)) => Some(text.as_str()),
        _ => None,
    });
    Some(Subset::only(entries))
}

/// What headers need that go on before the pick is known. Should the pick never come (Envoy sends no body where a client
/// sends none, whatever it announced), the client's word must not be taken for it.
pub(super) fn disarm(head: &[(String, Bytes)], hint: &DestinationHint) -> HeaderEdits {
    let mut remove = control_headers::sent(head);
    let destinations = hint.names().into_iter().filter(|name| head.iter().any(|(sent, _)| sent == name));
    remove.extend(destinations.map(str::to_owned));
    remove.sort_unstable();
    remove.dedup();
    HeaderEdits { set: Vec::new(), remove }
}

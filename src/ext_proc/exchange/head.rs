//! Reads what a request comes with beside its body: its headers, and the subset hint. Pure.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use envoy_types::pb::google::protobuf::value::Kind;

use super::Exchange;
use crate::control_headers;
use crate::ext_proc::destination::DestinationHint;
use crate::ext_proc::reply::HeaderEdits;
use crate::raw_request::{self, ResponseHead, Subset, is_compression};

impl Exchange {
    /// The id that the request came with, while it is not decided.
    pub fn request_id(&self) -> Option<&str> {
        raw_request::value(self.head.as_deref()?, "x-request-id")
    }
}

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

/// What is to be known of an answer before its body comes.
pub(super) fn read_response_head(map: Option<&HeaderMap>, metadata: Option<&Metadata>) -> ResponseHead {
    let values = map.map_or(&[][..], |map| &map.headers);
    let value = |name: &str| {
        let header = values.iter().find(|header| header.key.eq_ignore_ascii_case(name))?;
        let bytes = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
        std::str::from_utf8(bytes).ok()
    };
    ResponseHead {
        // Envoy has it in a pseudo header; older harnesses in one of that name without the colon.
        status: value(":status").or_else(|| value("status")).and_then(|status| status.parse().ok()),
        content_type: value("content-type").unwrap_or_default().to_owned(),
        compressed: value("content-encoding").is_some_and(is_compression),
        served: metadata.and_then(read_served),
    }
}

/// Who served an answer, as Envoy notes it where it is told to (`selected_host_key`): metadata `envoy.lb`, key
/// `x-gateway-destination-endpoint-served`.
fn read_served(metadata: &Metadata) -> Option<String> {
    let fields = &metadata.filter_metadata.get("envoy.lb")?.fields;
    match fields.get("x-gateway-destination-endpoint-served")?.kind.as_ref()? {
        Kind::StringValue(served) => Some(served.clone()),
        _ => None,
    }
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

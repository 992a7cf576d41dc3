//! Filters of HTTP.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Empty, Span, StringMatch, Typed};

/// A filter in the chain.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HttpFilter {
    pub(crate) name: String,
    /// Whether it is off unless the route that a request has at first switches it on.
    pub(crate) disabled: Option<bool>,
    pub(crate) typed_config: Typed,
}

/// Changes headers before a route is looked up.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EarlyHeaderMutation {
    pub(crate) mutations: Vec<HeaderMutation>,
}

/// One change.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HeaderMutation {
    Remove(String),
    RemoveOnMatch { key_matcher: StringMatch },
}

/// Asks a service.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExternalProcessor {
    pub(crate) grpc_service: GrpcService,
    pub(crate) stat_prefix: String,
    pub(crate) failure_mode_allow: Option<bool>,
    pub(crate) allow_mode_override: Option<bool>,
    pub(crate) message_timeout: Span,
    pub(crate) processing_mode: ProcessingMode,
    pub(crate) metadata_options: Option<MetadataOptions>,
}

/// Where it is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GrpcService {
    pub(crate) envoy_grpc: EnvoyGrpc,
}

/// A cluster, and which of its names is called.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EnvoyGrpc {
    pub(crate) cluster_name: String,
    pub(crate) authority: Option<String>,
}

/// What is sent there.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ProcessingMode {
    pub(crate) request_header_mode: &'static str,
    pub(crate) request_body_mode: &'static str,
    pub(crate) request_trailer_mode: &'static str,
    pub(crate) response_header_mode: &'static str,
    pub(crate) response_body_mode: &'static str,
    pub(crate) response_trailer_mode: &'static str,
}

/// Which metadata goes there and comes back.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MetadataOptions {
    pub(crate) forwarding_namespaces: Namespaces,
    pub(crate) receiving_namespaces: Namespaces,
}

/// Namespaces of metadata.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Namespaces {
    pub(crate) untyped: Vec<String>,
}

/// Switches a service off once a route is known.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ExtProcPerRoute {
    pub(crate) disabled: bool,
}

/// Switches a filter on.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct FilterConfig {
    pub(crate) config: Empty,
}

/// What routes say to filters, by their names.
pub(crate) type PerFilter = BTreeMap<String, Typed>;

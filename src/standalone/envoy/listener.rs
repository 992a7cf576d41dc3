//! Listeners: sockets, TLS, and what is told of requests.

use std::collections::BTreeMap;

use serde::Serialize;

use super::filter::HttpFilter;
use super::route::RouteConfiguration;
use super::{Address, ConfigSource, DataSource, Empty, Extension, PrivateSource};

/// A socket that takes requests.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) address: Address,
    pub(crate) per_connection_buffer_limit_bytes: u32,
    pub(crate) listener_filters: Vec<Extension>,
    pub(crate) filter_chains: Vec<FilterChain>,
}

/// What is done with connections of some names.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FilterChain {
    pub(crate) name: String,
    pub(crate) filter_chain_match: Option<FilterChainMatch>,
    pub(crate) transport_socket: Option<Extension>,
    pub(crate) filters: Vec<Extension>,
}

/// The names.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FilterChainMatch {
    pub(crate) server_names: Vec<String>,
}

/// HTTP.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HttpConnectionManager {
    pub(crate) stat_prefix: String,
    pub(crate) codec_type: &'static str,
    pub(crate) use_remote_address: bool,
    pub(crate) normalize_path: bool,
    pub(crate) merge_slashes: bool,
    pub(crate) path_with_escaped_slashes_action: &'static str,
    pub(crate) server_header_transformation: &'static str,
    pub(crate) scheme_header_transformation: Option<SchemeHeaderTransformation>,
    pub(crate) early_header_mutation_extensions: Vec<Extension>,
    pub(crate) http_filters: Vec<HttpFilter>,
    pub(crate) access_log: Vec<Extension>,
    #[serde(flatten)]
    pub(crate) routes: RouteSpecifier,
}

/// Which scheme upstreams are told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SchemeHeaderTransformation {
    pub(crate) match_upstream: bool,
}

/// Where routes are.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RouteSpecifier {
    Rds(Rds),
    RouteConfig(Box<RouteConfiguration>),
}

/// Routes of a file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rds {
    pub(crate) route_config_name: String,
    pub(crate) config_source: ConfigSource,
}

/// Lines of JSON in a file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FileAccessLog {
    pub(crate) path: String,
    pub(crate) log_format: LogFormat,
}

/// What they tell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LogFormat {
    pub(crate) json_format: BTreeMap<String, String>,
}

/// TLS of clients.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DownstreamTlsContext {
    pub(crate) common_tls_context: DownstreamTls,
}

/// Its certificates and protocols.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DownstreamTls {
    pub(crate) alpn_protocols: Vec<&'static str>,
    pub(crate) tls_certificate_sds_secret_configs: Vec<SdsSecretConfig>,
}

/// A certificate by its name; without a source it is static.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SdsSecretConfig {
    pub(crate) name: String,
    pub(crate) sds_config: Option<ConfigSource>,
}

/// A certificate and its key.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Secret {
    pub(crate) name: String,
    pub(crate) tls_certificate: TlsCertificate,
}

/// Both, PEM.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TlsCertificate {
    pub(crate) certificate_chain: DataSource,
    pub(crate) private_key: PrivateSource,
}

/// Looks at the name that clients want.
pub(crate) fn tls_inspector() -> Extension {
    Extension::new("envoy.filters.listener.tls_inspector", super::Typed::TlsInspector(Empty {}))
}

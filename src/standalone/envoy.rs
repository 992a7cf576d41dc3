//! Envoy's API, as far as we write it: structures with the field names of its protos, `Typed` for whatever Envoy takes
//! as an extension, and `Resource` for what files hold. Entry point: `yaml::text`.
//!
//! They mean nothing by themselves; `render` knows what is put where. `None` and empty lists are not written.

#![expect(clippy::struct_field_names, reason = "fields have the names of Envoy's protos")]

pub(crate) mod bootstrap;
pub(crate) mod cluster;
pub(crate) mod filter;
pub(crate) mod listener;
pub mod rates;
pub(crate) mod route;
pub(crate) mod yaml;

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use self::cluster::{Cluster, ClusterLoadAssignment};
use self::listener::{Listener, Secret};
use self::route::RouteConfiguration;

/// A resource of a file.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "@type")]
pub(crate) enum Resource {
    #[serde(rename = "type.googleapis.com/envoy.config.listener.v3.Listener")]
    Listener(Box<Listener>),
    #[serde(rename = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration")]
    Routes(Box<RouteConfiguration>),
    #[serde(rename = "type.googleapis.com/envoy.config.cluster.v3.Cluster")]
    Cluster(Box<Cluster>),
    #[serde(rename = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment")]
    Endpoints(ClusterLoadAssignment),
    #[serde(rename = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret")]
    Secret(Secret),
}

/// What a file holds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DiscoveryResponse {
    pub(crate) version_info: String,
    pub(crate) resources: Vec<Resource>,
}

/// The configuration of an extension.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "@type")]
pub(crate) enum Typed {
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    )]
    HttpConnectionManager(Box<listener::HttpConnectionManager>),
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")]
    TlsInspector(Empty),
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    )]
    EarlyHeaderMutation(filter::EarlyHeaderMutation),
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor")]
    ExternalProcessor(Box<filter::ExternalProcessor>),
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute")]
    ExtProcPerRoute(filter::ExtProcPerRoute),
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit")]
    RateLimit(Box<rates::RateLimitFilter>),
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute")]
    RateLimitPerRoute(rates::RateLimitPerRoute),
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit")]
    LocalRateLimit(Box<rates::LocalRateLimit>),
    #[serde(rename = "type.googleapis.com/envoy.config.route.v3.FilterConfig")]
    FilterConfig(filter::FilterConfig),
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router")]
    Router(Empty),
    #[serde(rename = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog")]
    FileAccessLog(listener::FileAccessLog),
    #[serde(rename = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext")]
    DownstreamTlsContext(listener::DownstreamTlsContext),
    #[serde(rename = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext")]
    UpstreamTlsContext(cluster::UpstreamTlsContext),
    #[serde(rename = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions")]
    HttpProtocolOptions(cluster::HttpProtocolOptions),
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost"
    )]
    OverrideHost(cluster::OverrideHost),
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"
    )]
    LeastRequest(Empty),
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    )]
    PreviousHosts(Empty),
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    )]
    PreviousPriorities(route::PreviousPriorities),
}

impl From<rates::RateFilterConfig> for Typed {
    fn from(config: rates::RateFilterConfig) -> Self {
        match config {
            rates::RateFilterConfig::Global(global) => Self::RateLimit(Box::new(global)),
            rates::RateFilterConfig::Local(local) => Self::LocalRateLimit(Box::new(local)),
        }
    }
}

impl From<rates::RouteRates> for Typed {
    fn from(rates: rates::RouteRates) -> Self {
        match rates {
            rates::RouteRates::Global(global) => Self::RateLimitPerRoute(global),
            rates::RouteRates::Local(local) => Self::LocalRateLimit(Box::new(local)),
        }
    }
}

/// An extension by its name, and its configuration.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Extension {
    pub(crate) name: String,
    pub(crate) typed_config: Typed,
}

impl Extension {
    pub(crate) fn new(name: &str, typed_config: Typed) -> Self {
        Self { name: name.to_owned(), typed_config }
    }
}

/// A message without anything set.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Empty {}

/// A duration as protos have it in JSON: `1.5s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    pub(crate) const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Envoy refuses what it cannot count in 64 bits of nanoseconds; three centuries are as good as none.
        let longest = 9_000_000_000;
        let (seconds, millis) = (self.0.as_secs().min(longest), self.0.subsec_millis());
        if millis == 0 {
            serializer.collect_str(&format_args!("{seconds}s"))
        } else {
            serializer.collect_str(&format_args!("{seconds}.{millis:03}s"))
        }
    }
}

/// A text that is never shown.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct Private(pub(crate) String);

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"...\"")
    }
}

/// Where something listens or is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Address {
    SocketAddress { address: String, port_value: u16 },
    Pipe { path: String },
}

/// Text, or a file that has it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DataSource {
    InlineString(String),
    Filename(String),
}

/// The same of a key.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PrivateSource {
    pub(crate) inline_string: Private,
}

/// How a text is compared.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StringMatch {
    Exact(String),
    Prefix(String),
    /// As a whole.
    SafeRegex(Regex),
}

/// An expression of RE2.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Regex {
    pub(crate) regex: String,
}

/// A file that Envoy follows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ConfigSource {
    pub(crate) path_config_source: PathConfigSource,
    pub(crate) resource_api_version: &'static str,
}

/// Its path, and the folder in which it is replaced.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PathConfigSource {
    pub(crate) path: String,
    pub(crate) watched_directory: WatchedDirectory,
}

/// The folder.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WatchedDirectory {
    pub(crate) path: String,
}

//! Clusters: where requests go.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Address, ConfigSource, DataSource, Empty, Extension, Span, StringMatch, Typed};

/// One upstream.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) r#type: &'static str,
    pub(crate) connect_timeout: Span,
    pub(crate) dns_lookup_family: Option<&'static str>,
    pub(crate) load_balancing_policy: LoadBalancingPolicy,
    pub(crate) eds_cluster_config: Option<EdsClusterConfig>,
    pub(crate) load_assignment: Option<ClusterLoadAssignment>,
    pub(crate) transport_socket: Option<Extension>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) typed_extension_protocol_options: BTreeMap<String, Typed>,
    pub(crate) circuit_breakers: CircuitBreakers,
    pub(crate) common_lb_config: Option<CommonLbConfig>,
    pub(crate) health_checks: Vec<HealthCheck>,
}

/// How one of its endpoints is chosen: by the first policy that Envoy knows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LoadBalancingPolicy {
    pub(crate) policies: Vec<Policy>,
}

/// A policy.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Policy {
    pub(crate) typed_extension_config: Extension,
}

/// The endpoint that somebody else chose.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct OverrideHost {
    pub(crate) override_host_sources: Vec<OverrideHostSource>,
    /// Where it is told which one was taken.
    pub(crate) selected_host_key: MetadataKey,
    pub(crate) fallback_policy: LoadBalancingPolicy,
}

/// Where it was told.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OverrideHostSource {
    Metadata(MetadataKey),
    Header(String),
}

/// A place in metadata.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MetadataKey {
    pub(crate) key: String,
    pub(crate) path: Vec<PathSegment>,
}

/// One step to it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PathSegment {
    pub(crate) key: String,
}

/// Endpoints of a file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EdsClusterConfig {
    pub(crate) service_name: String,
    pub(crate) eds_config: ConfigSource,
}

/// Endpoints.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClusterLoadAssignment {
    pub(crate) cluster_name: String,
    pub(crate) endpoints: Vec<LocalityLbEndpoints>,
}

/// Those of a priority.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LocalityLbEndpoints {
    pub(crate) priority: Option<u32>,
    pub(crate) lb_endpoints: Vec<LbEndpoint>,
}

/// One of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LbEndpoint {
    pub(crate) endpoint: Endpoint,
    pub(crate) load_balancing_weight: Option<u32>,
}

/// Where it is, and what it is called.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    pub(crate) hostname: Option<String>,
}

/// TLS of upstreams.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct UpstreamTlsContext {
    pub(crate) sni: Option<String>,
    pub(crate) common_tls_context: UpstreamTls,
}

/// What they must show.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct UpstreamTls {
    pub(crate) validation_context: Option<ValidationContext>,
}

/// Who must have signed it, and for which name.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ValidationContext {
    pub(crate) trusted_ca: DataSource,
    pub(crate) match_typed_subject_alt_names: Vec<SubjectAltName>,
}

/// The name.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SubjectAltName {
    pub(crate) san_type: &'static str,
    pub(crate) matcher: StringMatch,
}

/// Which HTTP is spoken.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HttpProtocolOptions {
    pub(crate) explicit_http_config: ExplicitHttpConfig,
    pub(crate) upstream_http_protocol_options: Option<UpstreamHttpProtocolOptions>,
}

/// Its version.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExplicitHttpConfig {
    HttpProtocolOptions(Empty),
    Http2ProtocolOptions(Empty),
}

/// Names of TLS that come of requests.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct UpstreamHttpProtocolOptions {
    pub(crate) auto_sni: bool,
    pub(crate) auto_san_validation: bool,
}

/// Bounds of what is under way.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CircuitBreakers {
    pub(crate) thresholds: Vec<Thresholds>,
}

/// The bounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Thresholds {
    pub(crate) max_connections: u32,
    pub(crate) max_pending_requests: u32,
    pub(crate) max_requests: u32,
    pub(crate) max_retries: u32,
}

/// What holds for all policies.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct CommonLbConfig {
    pub(crate) healthy_panic_threshold: Percent,
}

/// A part of 100.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percent {
    pub(crate) value: f64,
}

/// How it is seen whether an endpoint is well.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HealthCheck {
    pub(crate) timeout: Span,
    pub(crate) interval: Span,
    pub(crate) unhealthy_threshold: u32,
    pub(crate) healthy_threshold: u32,
    pub(crate) grpc_health_check: GrpcHealthCheck,
}

/// Which service is asked for.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GrpcHealthCheck {
    pub(crate) service_name: String,
    pub(crate) authority: String,
}

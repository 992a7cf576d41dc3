//! Envoy's configuration for one test: entry point [`EnvoySetup::render`].
//!
//! One listener with the `ext_proc` filter before the router, one pool, one cluster for the EPP; every port is chosen by
//! the system. Settings follow those that gateways generate, with metadata forwarded both ways. Starts nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use epp::ext_proc::destination::{DESTINATION, NAMESPACE};
use serde_json::{Value, json};

use crate::support::Protocol;

/// How Envoy hands bodies to the EPP, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyMode {
    /// `FULL_DUPLEX_STREAMED`, what gateways use for an EPP.
    Duplex,
    /// The whole body in one message.
    Buffered,
    /// The same, but of a body over the buffer limit only the beginning.
    Partial,
    /// Chunk by chunk, each answered before the next.
    Streamed,
    /// The same, but request chunks do not wait until the headers are answered.
    Ahead,
    /// Not at all.
    None,
}

/// The kind of cluster that follows the EPP's pick.
#[derive(Clone, Debug)]
pub(crate) enum Pool {
    /// `ORIGINAL_DST` by header: accepts exactly one `ip:port`, which need not be known beforehand.
    OriginalDstHeader,
    /// `override_host` among these members: accepts a list, tries the next one when an endpoint fails, and takes any
    /// member when none of the list is one.
    OverrideHost(Vec<SocketAddr>),
}

/// What a test wants of its Envoy. Start from [`EnvoySetup::new`] and override fields.
#[derive(Clone, Debug)]
pub(crate) struct EnvoySetup {
    /// Where the EPP's `ext_proc` service listens.
    pub(crate) epp: SocketAddr,
    /// The authority of calls to the EPP; none: the cluster's name.
    pub(crate) authority: Option<&'static str>,
    /// Whether the EPP speaks TLS; any certificate is accepted, unless `epp_connection` says otherwise.
    pub(crate) epp_tls: bool,
    /// How Envoy connects to the EPP.
    pub(crate) epp_connection: EppConnection,
    /// How request bodies reach the EPP.
    pub(crate) request_body: BodyMode,
    /// How response bodies reach the EPP.
    pub(crate) response_body: BodyMode,
    /// What stands behind the EPP's pick.
    pub(crate) pool: Pool,
    /// Header, and metadata key, in which the pool finds the pick.
    pub(crate) hint_key: &'static str,
    /// Namespace of that metadata.
    pub(crate) hint_namespace: &'static str,
    /// Endpoints (`ip:port`) forwarded as the metadata `envoy.lb.subset_hint`; none: no such metadata.
    pub(crate) subset_hint: Option<Vec<String>>,
    /// The listener's `per_connection_buffer_limit_bytes`; none: Envoy's default of 1 MiB.
    pub(crate) buffer_limit: Option<u32>,
    /// Whether the route retries, for which its router keeps the request's body.
    pub(crate) retries: bool,
    /// Whether trailers reach the EPP; duplex directions always send them.
    pub(crate) trailers: bool,
    /// What Envoy speaks with the pool.
    pub(crate) upstream: Protocol,
}

/// How Envoy connects to the EPP; by default once, trusting anybody, without a certificate of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct EppConnection {
    /// Who must have signed the EPP's certificate, and for which name.
    pub(crate) authority: Option<(PathBuf, &'static str)>,
    /// Envoy's own certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// After how many requests there is a new connection.
    pub(crate) max_requests: Option<u32>,
}

impl EnvoySetup {
    /// An `ORIGINAL_DST` pool behind an EPP in clear text, duplex both ways, without a subset hint.
    pub(crate) fn new(epp: SocketAddr) -> Self {
        Self {
            epp,
            authority: None,
            epp_tls: false,
            epp_connection: EppConnection::default(),
            request_body: BodyMode::Duplex,
            response_body: BodyMode::Duplex,
            pool: Pool::OriginalDstHeader,
            hint_key: DESTINATION,
            hint_namespace: NAMESPACE,
            subset_hint: None,
            buffer_limit: None,
            retries: true,
            trailers: true,
            upstream: Protocol::Http1,
        }
    }

    /// Renders the bootstrap configuration as JSON; the access log goes to `access_log`.
    pub(crate) fn render(&self, access_log: &Path) -> Value {
        let mut listener = json!({
            "name": "it",
            "address": address(([127, 0, 0, 1], 0).into()),
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": self.connection_manager(access_log),
            }] }],
        });
        if let Some(limit) = self.buffer_limit {
            listener["per_connection_buffer_limit_bytes"] = json!(limit);
        }
        json!({
            "admin": { "address": address(([127, 0, 0, 1], 0).into()) },
            "static_resources": { "listeners": [listener], "clusters": [self.pool_cluster(), self.epp_cluster()] },
        })
    }

    fn connection_manager(&self, access_log: &Path) -> Value {
        let mut filters = Vec::new();
        if let Some(endpoints) = &self.subset_hint {
            filters.push(subset_hint_filter(endpoints));
        }
        filters.push(self.ext_proc_filter());
        filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": extension("filters.http.router.v3.Router") },
        }));
        json!({
            "@type": extension("filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "it",
            "codec_type": "AUTO",
            "http_protocol_options": { "enable_trailers": true },
            "access_log": [{
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": extension("access_loggers.file.v3.FileAccessLog"),
                    "path": access_log,
                    "log_format": { "text_format_source": { "inline_string": self.log_line() } },
                },
            }],
            "http_filters": filters,
            "route_config": { "name": "it", "virtual_hosts": [{
                "name": "it",
                "domains": ["*"],
                "routes": [{
                    "name": "pool",
                    "match": { "prefix": "/" },
                    "route": { "cluster": "pool", "timeout": "0s", "retry_policy": self.retries.then(retries) },
                }],
            }] },
        })
    }

    fn ext_proc_filter(&self) -> Value {
        json!({
            "name": "envoy.filters.http.ext_proc",
            "typed_config": {
                "@type": extension("filters.http.ext_proc.v3.ExternalProcessor"),
                "grpc_service": { "envoy_grpc": { "cluster_name": "epp", "authority": self.authority.unwrap_or("epp") } },
                "processing_mode": {
                    "request_header_mode": "SEND",
                    "request_body_mode": self.request_body.name(),
                    "request_trailer_mode": self.trailer_mode(self.request_body),
                    "response_header_mode": "SEND",
                    "response_body_mode": self.response_body.name(),
                    "response_trailer_mode": self.trailer_mode(self.response_body),
                },
                "message_timeout": "30s",
                "send_body_without_waiting_for_header_response": self.request_body == BodyMode::Ahead,
                "metadata_options": {
                    "receiving_namespaces": { "untyped": [self.hint_namespace, "io.envoy.ai_gateway"] },
                    "forwarding_namespaces": { "untyped": ["envoy.lb", "envoy.lb.subset_hint"] },
                },
                "request_attributes": ["request.path", "source.address", "xds.route_name"],
            },
        })
    }

    fn log_line(&self) -> String {
        let Self { hint_key, hint_namespace, .. } = self;
        format!("{LOG_LINE} picked=%REQ({hint_key})% metadata=%DYNAMIC_METADATA({hint_namespace})%\n")
    }

    fn trailer_mode(&self, body: BodyMode) -> &'static str {
        if self.trailers || body == BodyMode::Duplex { "SEND" } else { "SKIP" }
    }

    fn pool_cluster(&self) -> Value {
        let mut cluster = self.pool.cluster(self.hint_key, self.hint_namespace);
        let protocol = match self.upstream {
            Protocol::Http1 => json!({ "http_protocol_options": { "enable_trailers": true } }),
            Protocol::Http2 => json!({ "http2_protocol_options": {} }),
        };
        cluster["typed_extension_protocol_options"] = protocol_options(&protocol);
        cluster
    }

    fn epp_cluster(&self) -> Value {
        let mut cluster = json!({
            "name": "epp",
            "type": "STATIC",
            "connect_timeout": "5s",
            "typed_extension_protocol_options": protocol_options(&json!({ "http2_protocol_options": {} })),
            "load_assignment": assignment("epp", &[self.epp]),
        });
        if let Some(n) = self.epp_connection.max_requests {
            let options = &mut cluster["typed_extension_protocol_options"];
            options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["common_http_protocol_options"] =
                json!({ "max_requests_per_connection": n });
        }
        if self.epp_tls {
            cluster["transport_socket"] = self.epp_connection.transport_socket();
        }
        cluster
    }
}

impl EppConnection {
    fn transport_socket(&self) -> Value {
        // Without a validation context Envoy accepts any certificate.
        let mut context = json!({ "alpn_protocols": ["h2"] });
        if let Some((authority, name)) = &self.authority {
            context["validation_context"] = json!({
                "trusted_ca": { "filename": authority },
                "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": name } }],
            });
        }
        if let Some((certificate, key)) = &self.identity {
            context["tls_certificates"] = json!([{
                "certificate_chain": { "filename": certificate },
                "private_key": { "filename": key },
            }]);
        }
        json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": extension("transport_sockets.tls.v3.UpstreamTlsContext"),
                "common_tls_context": context,
            },
        })
    }
}

impl BodyMode {
    fn name(self) -> &'static str {
        match self {
            Self::Duplex => "FULL_DUPLEX_STREAMED",
            Self::Buffered => "BUFFERED",
            Self::Partial => "BUFFERED_PARTIAL",
            Self::Streamed | Self::Ahead => "STREAMED",
            Self::None => "NONE",
        }
    }
}

impl Pool {
    fn cluster(&self, hint_key: &str, hint_namespace: &str) -> Value {
        match self {
            Self::OriginalDstHeader => json!({
                "name": "pool",
                "type": "ORIGINAL_DST",
                "lb_policy": "CLUSTER_PROVIDED",
                "connect_timeout": "5s",
                "original_dst_lb_config": { "use_http_header": true, "http_header_name": hint_key },
            }),
            Self::OverrideHost(members) => json!({
                "name": "pool",
                "type": "STATIC",
                "connect_timeout": "5s",
                "load_balancing_policy": { "policies": [{ "typed_extension_config": {
                    "name": "envoy.load_balancing_policies.override_host",
                    "typed_config": override_host_policy(hint_key, hint_namespace),
                } }] },
                "load_assignment": assignment("pool", members),
            }),
        }
    }
}

fn protocol_options(explicit: &Value) -> Value {
    json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": extension("upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": explicit,
    } })
}

fn override_host_policy(key: &str, namespace: &str) -> Value {
    json!({
        "@type": extension("load_balancing_policies.override_host.v3.OverrideHost"),
        "override_host_sources": [
            { "metadata": { "key": namespace, "path": [{ "key": key }] } },
            { "header": key },
        ],
        "selected_host_key": { "key": "envoy.lb", "path": [{ "key": format!("{DESTINATION}-served") }] },
        "fallback_policy": { "policies": [{ "typed_extension_config": {
            "name": "envoy.load_balancing_policies.round_robin",
            "typed_config": { "@type": extension("load_balancing_policies.round_robin.v3.RoundRobin") },
        } }] },
    })
}

/// Publishes the hint as a data plane does: as dynamic metadata, set before the EPP's filter.
fn subset_hint_filter(endpoints: &[String]) -> Value {
    json!({
        "name": "envoy.filters.http.set_metadata",
        "typed_config": {
            "@type": extension("filters.http.set_metadata.v3.Config"),
            "metadata": [{
                "metadata_namespace": "envoy.lb.subset_hint",
                "value": { format!("{DESTINATION}-subset"): endpoints },
            }],
        },
    })
}

fn retries() -> Value {
    json!({
        "retry_on": "connect-failure,refused-stream,reset-before-request,retriable-status-codes",
        "retriable_status_codes": [503],
        "num_retries": 3,
        "retry_back_off": { "base_interval": "0.01s", "max_interval": "0.05s" },
    })
}

fn assignment(cluster: &str, members: &[SocketAddr]) -> Value {
    let endpoints: Vec<_> =
        members.iter().map(|at| json!({ "endpoint": { "address": address(*at) } })).collect();
    json!({ "cluster_name": cluster, "endpoints": [{ "lb_endpoints": endpoints }] })
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}

fn extension(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}

const LOG_LINE: &str = "%PROTOCOL% %REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% flags=%RESPONSE_FLAGS% \
    details=%RESPONSE_CODE_DETAILS% upstream=%UPSTREAM_HOST% attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT% \
    rx=%BYTES_RECEIVED% tx=%BYTES_SENT%";

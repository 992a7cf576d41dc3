//! Listeners: those of a gateway that have one port share a socket; with TLS each has a filter chain of its own.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::Path;

use super::output::path;
use super::{Renderer, filters};
use crate::standalone::envoy::filter::HttpFilter;
use crate::standalone::envoy::listener::{
    DownstreamTls, DownstreamTlsContext, FilterChain, FilterChainMatch, HttpConnectionManager, Listener, Rds,
    RouteSpecifier, SchemeHeaderTransformation, SdsSecretConfig, Secret, TlsCertificate, tls_inspector,
};
use crate::standalone::envoy::yaml;
use crate::standalone::envoy::{
    Address, ConfigSource, DataSource, Extension, PathConfigSource, Private, PrivateSource, Typed,
    WatchedDirectory,
};
use crate::standalone::finding::Level;
use crate::standalone::topology::{self, GatewayPlan, Host, ListenerPlan};

/// Folder of routes.
pub(super) const ROUTES: &str = "rds";
/// Folder of certificates.
pub(super) const SECRETS: &str = "sds";

impl Renderer<'_> {
    /// Makes all listeners, and what they need.
    pub(super) fn gateways(&mut self) {
        let mut taken: BTreeMap<u16, String> = BTreeMap::new();
        for gateway in &self.topology.gateways {
            let mut by_port: BTreeMap<u16, Vec<&ListenerPlan>> = BTreeMap::new();
            for listener in &gateway.listeners {
                by_port.entry(listener.port).or_default().push(listener);
            }
            let name = format!("{}/{}", gateway.namespace, gateway.name);
            for (declared, listeners) in by_port {
                let port = self.settings.ports.port(&name, declared);
                if let Some(other) = taken.get(&port) {
                    let message = format!(
                        "port {declared} is {port} here, which {other} has; its listener is left out; give it another \
                         port: --port-map {name}:{declared}=PORT"
                    );
                    self.tell(Level::Degraded, &format!("Gateway {name}"), message);
                    continue;
                }
                taken.insert(port, format!("port {declared} of Gateway {name}"));
                self.socket(gateway, &listeners, port);
            }
        }
    }

    /// The listeners of one port.
    fn socket(&mut self, gateway: &GatewayPlan, listeners: &[&ListenerPlan], port: u16) {
        let full =
            |listener: &ListenerPlan| format!("{}/{}/{}", gateway.namespace, gateway.name, listener.name);
        let Some(first) = listeners.first() else { return };
        let at = SocketAddr::new(self.settings.address, port);
        let owner = format!("{}/{}", gateway.namespace, gateway.name);
        for listener in listeners {
            self.rendered.addresses.insert((owner.clone(), listener.name.clone()), at);
        }
        let is_tls = !first.certificates.is_empty();
        let filter_chains = if is_tls {
            let chains = listeners.iter().map(|listener| {
                let hosts: Vec<_> = listener.hosts.iter().collect();
                let mut chain = self.chain(&full(listener), &hosts, listener.port);
                let names = listener.hostname.iter().cloned().collect::<Vec<_>>();
                chain.filter_chain_match =
                    (!names.is_empty()).then_some(FilterChainMatch { server_names: names });
                chain.transport_socket = Some(self.tls(listener, listeners));
                chain
            });
            chains.collect()
        } else {
            vec![self.chain(&full(first), &hosts(listeners), first.port)]
        };
        self.rendered.listeners.push(Listener {
            name: full(first),
            address: address(at),
            per_connection_buffer_limit_bytes: self.settings.buffer_bytes,
            listener_filters: if is_tls { vec![tls_inspector()] } else { Vec::new() },
            filter_chains,
        });
    }

    /// What is done with connections: HTTP, by the routes of these hosts.
    fn chain(&mut self, name: &str, hosts: &[&Host], port: u16) -> FilterChain {
        let pools = self.pools_of(hosts);
        let has_ai = hosts.iter().any(|host| host.entries.iter().any(|entry| entry.is_ai));
        let is_limited = hosts.iter().flat_map(|host| &host.entries).any(|entry| !entry.rates.is_empty());
        let limits = self.settings.rate_limit.as_ref().filter(|_| is_limited).map(|service| {
            self.rate_limit_cluster(service);
            name
        });
        let http_filters = filters::http_filters(&pools, has_ai, limits);
        let routes_name = format!("{name}/{}", digest(&http_filters));
        let routes = self.routes((name, &routes_name), hosts, &pools, port);
        self.rendered.routes.insert(routes_name.clone(), routes);
        self.picker_clusters(&pools, has_ai);
        let manager = HttpConnectionManager {
            stat_prefix: name.to_owned(),
            codec_type: "AUTO",
            use_remote_address: true,
            normalize_path: true,
            merge_slashes: true,
            path_with_escaped_slashes_action: "UNESCAPE_AND_REDIRECT",
            server_header_transformation: "PASS_THROUGH",
            scheme_header_transformation: has_ai
                .then_some(SchemeHeaderTransformation { match_upstream: true }),
            early_header_mutation_extensions: vec![filters::control_headers(
                self.settings.trust_client_headers,
            )],
            http_filters,
            access_log: vec![filters::access_log(self.settings, &pools)],
            routes: RouteSpecifier::Rds(Rds {
                config_source: source(&self.settings.folder, ROUTES, &routes_name),
                route_config_name: routes_name,
            }),
        };
        let filter = Extension::new(
            "envoy.filters.network.http_connection_manager",
            Typed::HttpConnectionManager(Box::new(manager)),
        );
        FilterChain {
            name: name.to_owned(),
            filter_chain_match: None,
            transport_socket: None,
            filters: vec![filter],
        }
    }

    fn tls(&mut self, listener: &ListenerPlan, all: &[&ListenerPlan]) -> Extension {
        let mut configs = Vec::new();
        for id @ (namespace, name) in &listener.certificates {
            let Some(certificate) = self.topology.certificates.get(id) else { continue };
            let name = format!("{namespace}/{name}");
            self.rendered.secrets.entry(name.clone()).or_insert_with(|| Secret {
                name: name.clone(),
                tls_certificate: TlsCertificate {
                    certificate_chain: DataSource::InlineString(certificate.chain.clone()),
                    private_key: PrivateSource { inline_string: Private(certificate.key.clone()) },
                },
            });
            let sds_config = Some(source(&self.settings.folder, SECRETS, &name));
            configs.push(SdsSecretConfig { name, sds_config });
        }
        // A browser would use a connection to one host for the other, whose filter chain is another.
        let is_shared = all.iter().any(|other| {
            other.name != listener.name
                && other.certificates.iter().any(|it| listener.certificates.contains(it))
        });
        let alpn_protocols = if is_shared { vec!["http/1.1"] } else { vec!["h2", "http/1.1"] };
        let common_tls_context =
            DownstreamTls { alpn_protocols, tls_certificate_sds_secret_configs: configs };
        Extension::new(
            "envoy.transport_sockets.tls",
            Typed::DownstreamTlsContext(DownstreamTlsContext { common_tls_context }),
        )
    }
}

/// Tells filters from others. Routes of other filters must have another name: filters that are replaced go on for a
/// while, and would do what those of new routes are to do.
fn digest(filters: &[HttpFilter]) -> String {
    let mut hasher = DefaultHasher::new();
    yaml::text(&filters).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The hosts of listeners that share a socket. A host that two of them have is the one's whose hostname is more precise.
fn hosts<'t>(listeners: &[&'t ListenerPlan]) -> Vec<&'t Host> {
    let mut ranked: Vec<_> = listeners.iter().collect();
    ranked.sort_by_key(|listener| rank(listener.hostname.as_deref().unwrap_or("*")));
    let mut hosts: BTreeMap<_, &Host> = BTreeMap::new();
    for host in ranked.iter().flat_map(|listener| &listener.hosts) {
        hosts.entry((rank(&host.name), &host.name)).or_insert(host);
    }
    hosts.into_values().collect()
}

/// How precise a host is: exact ones before the longest endings, before all.
fn rank(host: &str) -> (u8, std::cmp::Reverse<usize>) {
    let class = match host {
        "*" => 2,
        host if host.starts_with("*.") => 1,
        _ => 0,
    };
    (class, std::cmp::Reverse(host.len()))
}

/// A file that Envoy follows.
pub(super) fn source(root: &Path, folder: &str, name: &str) -> ConfigSource {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    ConfigSource {
        path_config_source: PathConfigSource {
            path: text(&root.join(path(folder, name))),
            watched_directory: WatchedDirectory {
                path: text(&if folder.is_empty() { root.to_owned() } else { root.join(folder) }),
            },
        },
        resource_api_version: "V3",
    }
}

pub(super) fn address(at: SocketAddr) -> Address {
    Address::SocketAddress { address: at.ip().to_string(), port_value: at.port() }
}

pub(super) fn endpoint(at: &topology::Address) -> Address {
    match at {
        topology::Address::Host(host, port) => {
            Address::SocketAddress { address: host.clone(), port_value: *port }
        }
        topology::Address::Unix(path) => Address::Pipe { path: path.clone() },
    }
}

//! Clusters: pools, backends, and what Envoy asks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Renderer;
use super::filters::{MODEL_EXTRACTOR_CLUSTER, RATE_LIMIT_CLUSTER, SERVED, picker_cluster};
use super::listeners::{address, endpoint, source};
use super::output::ENDPOINTS;
use crate::ext_proc::destination::{DESTINATION, NAMESPACE};
use crate::standalone::envoy::cluster::{
    CircuitBreakers, Cluster, ClusterLoadAssignment, CommonLbConfig, EdsClusterConfig, Endpoint,
    ExplicitHttpConfig, GrpcHealthCheck, HealthCheck, HttpProtocolOptions, LbEndpoint, LoadBalancingPolicy,
    LocalityLbEndpoints, MetadataKey, OverrideHost, OverrideHostSource, PathSegment, Percent, Policy,
    SubjectAltName, Thresholds, UpstreamHttpProtocolOptions, UpstreamTls, UpstreamTlsContext,
    ValidationContext,
};
use crate::standalone::envoy::{DataSource, Empty, Extension, Span, StringMatch, Typed};
use crate::standalone::finding::Level;
use crate::standalone::topology::{Address, BodyMode, Host, PoolPlan, Share, Target, UpstreamTls as Tls};

/// The cluster of shares that lead nowhere; there is none of this name.
const DEAD: &str = "invalid-backend-cluster";

/// Envoy's own bounds are for a fleet of gateways; pools bound what they take themselves.
const BOUNDS: Thresholds = Thresholds {
    max_connections: 100_000,
    max_pending_requests: 100_000,
    max_requests: 100_000,
    max_retries: 10_000,
};

/// Where a share's requests go.
pub(super) struct Reached<'t> {
    /// The cluster.
    pub(super) cluster: String,
    /// The pool, if it is one.
    pub(super) pool: Option<&'t PoolPlan>,
}

impl<'t> Renderer<'t> {
    /// The pools that these hosts send requests to, by namespace and name.
    pub(super) fn pools_of(&self, hosts: &[&Host]) -> Vec<&'t PoolPlan> {
        let mut pools: BTreeMap<_, &PoolPlan> = BTreeMap::new();
        let answers = hosts.iter().flat_map(|host| &host.entries).map(|entry| &entry.answer);
        for share in answers.flat_map(|answer| match answer {
            crate::standalone::topology::Answer::Forward(shares) => shares.as_slice(),
            _ => &[],
        }) {
            if let Target::Pool { group, namespace, name } = &share.target
                && let Some(pool) = self.pool(group, namespace, name)
            {
                pools.entry((namespace, name)).or_insert(pool);
            }
        }
        pools.into_values().collect()
    }

    /// What limits of rates are asked of.
    pub(super) fn rate_limit_cluster(&mut self, service: &Address) {
        let name = RATE_LIMIT_CLUSTER;
        let mut cluster = cluster(name, "STATIC");
        cluster.connect_timeout = Span::seconds(1);
        cluster.typed_extension_protocol_options = http2();
        if matches!(service, Address::Host(host, _) if host.parse::<IpAddr>().is_err()) {
            cluster.r#type = "STRICT_DNS";
        }
        cluster.load_assignment = Some(only(name, endpoint(service)));
        self.rendered.clusters.insert(name.to_owned(), cluster);
    }

    /// What filters ask.
    pub(super) fn picker_clusters(&mut self, pools: &[&'t PoolPlan], has_ai: bool) {
        if has_ai {
            let cluster = service(MODEL_EXTRACTOR_CLUSTER, self.settings.model_extractor);
            self.rendered.clusters.insert(cluster.name.clone(), cluster);
        }
        for pool in pools {
            let name = picker_cluster(pool);
            if self.rendered.clusters.contains_key(&name) {
                continue;
            }
            let mut cluster = service(&name, self.settings.picker);
            if pool.fail_open && self.settings.picker_tells_health {
                // Once a piece of a body went out only a picker that is known to be gone lets requests pass.
                cluster.common_lb_config =
                    Some(CommonLbConfig { healthy_panic_threshold: Percent { value: 0.0 } });
                cluster.health_checks = vec![health_check(&pool.authority)];
            } else if pool.fail_open && pool.body_mode == BodyMode::Duplex {
                let id = format!("InferencePool {}/{}", pool.namespace, pool.name);
                let message = "FailOpen: without its picker only requests without a body go on; with the annotation \
                               `aigateway.envoyproxy.io/processing-body-mode: buffered` all do";
                self.tell(Level::Warning, &id, message.to_owned());
            }
            self.rendered.clusters.insert(name, cluster);
        }
    }

    /// The cluster of a share, which is made under this name.
    pub(super) fn reach(&mut self, name: &str, share: &Share, route: &str) -> Reached<'t> {
        if share.model.is_some() && !matches!(share.target, Target::Nowhere(_)) {
            let message = format!("modelNameOverride of {}: the body is not changed here", share.target);
            self.tell(Level::Warning, route, message);
        }
        let dead = Reached { cluster: DEAD.to_owned(), pool: None };
        let cluster = match &share.target {
            Target::Nowhere(_) => return dead,
            Target::Pool { group, namespace, name: pool } => {
                let Some(pool) = self.pool(group, namespace, pool) else { return dead };
                let cluster = self.pool_cluster(name, pool);
                self.rendered.clusters.insert(name.to_owned(), cluster);
                return Reached { cluster: name.to_owned(), pool: Some(pool) };
            }
            other => self.backends(name, &[(other, 0, None)]),
        };
        self.rendered.clusters.insert(name.to_owned(), cluster);
        Reached { cluster: name.to_owned(), pool: None }
    }

    /// One cluster of shares that stand in for each other; none if they cannot be in one.
    pub(super) fn prioritized(&mut self, name: &str, shares: &[Share]) -> Option<String> {
        let live = shares.iter().filter(|share| !matches!(share.target, Target::Nowhere(_)));
        let targets: Vec<_> = live.map(|share| (&share.target, share.priority, Some(share.weight))).collect();
        let is_pool = |(target, ..): &(&Target, u32, Option<u32>)| matches!(target, Target::Pool { .. });
        let same_tls = targets.iter().all(|(target, ..)| tls(target) == tls(targets[0].0));
        if targets.is_empty() || targets.iter().any(is_pool) || !same_tls {
            return None;
        }
        let cluster = self.backends(name, &targets);
        self.rendered.clusters.insert(name.to_owned(), cluster);
        Some(name.to_owned())
    }

    /// Members of the pool, of whom the picker's word chooses.
    fn pool_cluster(&mut self, name: &str, pool: &PoolPlan) -> Cluster {
        let id = (pool.namespace.clone(), pool.name.clone());
        let members = self.settings.members.get(&id).or(pool.members.as_ref()).cloned().unwrap_or_default();
        let key = |key: &str| MetadataKey {
            key: NAMESPACE.to_owned(),
            path: vec![PathSegment { key: key.to_owned() }],
        };
        let by_the_pick = OverrideHost {
            override_host_sources: vec![
                OverrideHostSource::Metadata(key(DESTINATION)),
                OverrideHostSource::Header(DESTINATION.to_owned()),
            ],
            selected_host_key: key(SERVED),
            fallback_policy: least_request(),
        };
        let mut cluster = cluster(name, "EDS");
        cluster.load_balancing_policy =
            policy("envoy.load_balancing_policies.override_host", Typed::OverrideHost(by_the_pick));
        if pool.is_h2c {
            cluster.typed_extension_protocol_options = http2();
        }
        let lb_endpoints = members.iter().map(|at| lb_endpoint(at, None, None)).collect();
        let service_name = format!("{}/{}", pool.namespace, pool.name);
        let assignment = ClusterLoadAssignment {
            cluster_name: service_name.clone(),
            endpoints: vec![LocalityLbEndpoints { priority: None, lb_endpoints }],
        };
        if members.iter().all(is_resolved) {
            let eds_config = source(&self.settings.folder, ENDPOINTS, &service_name);
            cluster.eds_cluster_config =
                Some(EdsClusterConfig { service_name: service_name.clone(), eds_config });
            self.rendered.endpoints.insert(service_name, assignment);
        } else {
            // Files of endpoints hold addresses only.
            look_up(&mut cluster);
            cluster.load_assignment =
                Some(ClusterLoadAssignment { cluster_name: name.to_owned(), ..assignment });
        }
        cluster
    }

    /// Endpoints of targets that are no pools, with their priorities and weights.
    fn backends(&self, name: &str, targets: &[(&Target, u32, Option<u32>)]) -> Cluster {
        let mut cluster = cluster(name, "STATIC");
        let mut by_priority: BTreeMap<u32, Vec<LbEndpoint>> = BTreeMap::new();
        for (target, priority, weight) in targets {
            let addresses = match target {
                Target::Service { namespace, name, port } => {
                    vec![Address::Host(format!("{name}.{namespace}.svc.cluster.local"), *port)]
                }
                Target::Backend { endpoints, .. } => endpoints.clone(),
                Target::Pool { .. } | Target::Nowhere(_) => Vec::new(),
            };
            let endpoints = by_priority.entry(*priority).or_default();
            for address in &addresses {
                for (at, hostname) in self.located(address) {
                    if !is_resolved(&at) {
                        look_up(&mut cluster);
                    }
                    endpoints.push(lb_endpoint(&at, hostname, weight.map(|weight| weight.max(1))));
                }
            }
            if let Some(tls) = tls(target) {
                cluster.transport_socket = Some(self.upstream_tls(tls));
                if tls.name.is_none() {
                    cluster.typed_extension_protocol_options = names_of_requests(tls);
                }
            }
        }
        // Priorities have no gaps.
        let endpoints = by_priority.into_values().enumerate().map(|(n, lb_endpoints)| LocalityLbEndpoints {
            priority: u32::try_from(n).ok().filter(|n| *n > 0),
            lb_endpoints,
        });
        cluster.load_assignment =
            Some(ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints: endpoints.collect() });
        cluster
    }

    /// Where an address is here, and the name by which it is called.
    fn located(&self, address: &Address) -> Vec<(Address, Option<String>)> {
        let Address::Host(host, port) = address else { return vec![(address.clone(), None)] };
        let host = host.trim_end_matches('.');
        let full = if host.strip_suffix(".svc").is_some() {
            format!("{host}.cluster.local")
        } else {
            host.to_owned()
        };
        let hostname = Some(host.to_owned()).filter(|host| host.parse::<IpAddr>().is_err());
        match self.settings.service_hosts.get(&(full, *port)) {
            Some(here) => here.iter().map(|at| (at.clone(), hostname.clone())).collect(),
            None => vec![(Address::Host(host.to_owned(), *port), hostname)],
        }
    }

    fn upstream_tls(&self, tls: &Tls) -> Extension {
        let authorities = || match &tls.authorities {
            Some(authorities) => DataSource::InlineString(authorities.clone()),
            None => DataSource::Filename(self.settings.authorities.to_string_lossy().into_owned()),
        };
        let name =
            |name: &String| SubjectAltName { san_type: "DNS", matcher: StringMatch::Exact(name.clone()) };
        let validation_context = (!tls.insecure).then(|| ValidationContext {
            trusted_ca: authorities(),
            match_typed_subject_alt_names: tls.name.iter().map(name).collect(),
        });
        Extension::new(
            "envoy.transport_sockets.tls",
            Typed::UpstreamTlsContext(UpstreamTlsContext {
                sni: tls.name.clone(),
                common_tls_context: UpstreamTls { validation_context },
            }),
        )
    }
}

fn tls(target: &Target) -> Option<&Tls> {
    match target {
        Target::Backend { tls, .. } => tls.as_ref(),
        _ => None,
    }
}

fn cluster(name: &str, kind: &'static str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        r#type: kind,
        connect_timeout: Span::seconds(10),
        dns_lookup_family: None,
        load_balancing_policy: least_request(),
        eds_cluster_config: None,
        load_assignment: None,
        transport_socket: None,
        typed_extension_protocol_options: BTreeMap::new(),
        circuit_breakers: CircuitBreakers { thresholds: vec![BOUNDS] },
        common_lb_config: None,
        health_checks: Vec::new(),
    }
}

/// A service of ours: gRPC in clear text.
fn service(name: &str, at: std::net::SocketAddr) -> Cluster {
    let mut cluster = cluster(name, "STATIC");
    cluster.connect_timeout = Span::seconds(1);
    cluster.typed_extension_protocol_options = http2();
    cluster.load_assignment = Some(only(name, address(at)));
    cluster
}

/// The one endpoint of a cluster.
fn only(name: &str, address: crate::standalone::envoy::Address) -> ClusterLoadAssignment {
    let endpoint = Endpoint { address, hostname: None };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            priority: None,
            lb_endpoints: vec![LbEndpoint { endpoint, load_balancing_weight: None }],
        }],
    }
}

fn health_check(authority: &str) -> HealthCheck {
    HealthCheck {
        timeout: Span::seconds(1),
        interval: Span::seconds(1),
        unhealthy_threshold: 2,
        healthy_threshold: 1,
        grpc_health_check: GrpcHealthCheck {
            service_name: "envoy.service.ext_proc.v3.ExternalProcessor".to_owned(),
            authority: authority.to_owned(),
        },
    }
}

fn look_up(cluster: &mut Cluster) {
    cluster.r#type = "STRICT_DNS";
    cluster.dns_lookup_family = Some("V4_PREFERRED");
}

fn is_resolved(at: &Address) -> bool {
    match at {
        Address::Host(host, _) => host.parse::<IpAddr>().is_ok(),
        Address::Unix(_) => true,
    }
}

fn lb_endpoint(at: &Address, hostname: Option<String>, weight: Option<u32>) -> LbEndpoint {
    LbEndpoint { endpoint: Endpoint { address: endpoint(at), hostname }, load_balancing_weight: weight }
}

fn policy(name: &str, typed: Typed) -> LoadBalancingPolicy {
    LoadBalancingPolicy { policies: vec![Policy { typed_extension_config: Extension::new(name, typed) }] }
}

fn least_request() -> LoadBalancingPolicy {
    policy("envoy.load_balancing_policies.least_request", Typed::LeastRequest(Empty {}))
}

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn http2() -> BTreeMap<String, Typed> {
    let options = HttpProtocolOptions {
        explicit_http_config: ExplicitHttpConfig::Http2ProtocolOptions(Empty {}),
        upstream_http_protocol_options: None,
    };
    BTreeMap::from([(HTTP_OPTIONS.to_owned(), Typed::HttpProtocolOptions(options))])
}

/// TLS by the host of each request.
fn names_of_requests(tls: &Tls) -> BTreeMap<String, Typed> {
    let options = HttpProtocolOptions {
        explicit_http_config: ExplicitHttpConfig::HttpProtocolOptions(Empty {}),
        upstream_http_protocol_options: Some(UpstreamHttpProtocolOptions {
            auto_sni: true,
            auto_san_validation: !tls.insecure,
        }),
    };
    BTreeMap::from([(HTTP_OPTIONS.to_owned(), Typed::HttpProtocolOptions(options))])
}

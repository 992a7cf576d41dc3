//! [`Rendered`] → texts: one bootstrap with everything, or a bootstrap and files.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use super::Rendered;
use super::listeners::{ROUTES, SECRETS, endpoint, source};
use crate::standalone::envoy::bootstrap::{
    Admin, Bootstrap, DynamicResources, LayeredRuntime, Node, RuntimeLayer, StaticResources,
};
use crate::standalone::envoy::listener::RouteSpecifier;
use crate::standalone::envoy::{DiscoveryResponse, Resource, Typed, yaml};
use crate::standalone::xds::{XdsFile, XdsKind};

/// Expressions of manifests may be as long as the API allows; Envoy's own bound is some 30 characters.
const RUNTIME: [(&str, u32); 1] = [("re2.max_program_size.error_level", u32::MAX)];

/// Folder of endpoints.
pub(super) const ENDPOINTS: &str = "eds";

impl Rendered {
    /// A configuration that needs no other file, for an Envoy that is started by hand.
    pub fn bootstrap(&self) -> String {
        let (mut listeners, mut clusters) = (self.listeners.clone(), Vec::new());
        for listener in &mut listeners {
            for chain in &mut listener.filter_chains {
                self.take_in_routes(chain);
            }
        }
        for cluster in self.clusters.values() {
            let mut cluster = cluster.clone();
            if let Some(eds) = cluster.eds_cluster_config.take() {
                let mut endpoints = self.endpoints.get(&eds.service_name).cloned();
                if let Some(endpoints) = &mut endpoints {
                    endpoints.cluster_name.clone_from(&cluster.name);
                }
                (cluster.r#type, cluster.load_assignment) = ("STATIC", endpoints);
            }
            clusters.push(cluster);
        }
        let secrets = self.secrets.values().cloned().collect();
        self.started_with(Some(StaticResources { listeners, clusters, secrets }), None)
    }

    /// The configuration that tells Envoy where the [files](Self::files) are.
    pub fn dynamic_bootstrap(&self) -> String {
        let at = |name| source(&self.folder, "", name);
        let dynamic = DynamicResources { lds_config: at("lds"), cds_config: at("cds") };
        self.started_with(None, Some(dynamic))
    }

    /// The files, in the order in which new ones must be there.
    pub fn files(&self) -> Vec<XdsFile> {
        let mut files = Vec::new();
        for (name, secret) in &self.secrets {
            files.push(file(SECRETS, name, XdsKind::Secret, vec![Resource::Secret(secret.clone())]));
        }
        for (name, endpoints) in &self.endpoints {
            let resource = Resource::Endpoints(endpoints.clone());
            files.push(file(ENDPOINTS, name, XdsKind::Endpoints, vec![resource]));
        }
        let clusters = self.clusters.values().map(|cluster| Resource::Cluster(Box::new(cluster.clone())));
        files.push(file("", "cds", XdsKind::Clusters, clusters.collect()));
        for (name, routes) in &self.routes {
            files.push(file(ROUTES, name, XdsKind::Routes, vec![Resource::Routes(Box::new(routes.clone()))]));
        }
        let listeners = self.listeners.iter().map(|it| Resource::Listener(Box::new(it.clone())));
        files.push(file("", "lds", XdsKind::Listeners, listeners.collect()));
        files
    }

    /// Keeps the clusters that were there before beside its own, while requests may be on their way to them.
    pub fn follow(&mut self, before: &Self) {
        self.leaving = before.leaving.clone();
        self.leaving.extend(before.clusters.clone());
        self.leaving.retain(|name, _| !self.clusters.contains_key(name));
    }

    /// Forgets them.
    pub fn forget(&mut self) {
        self.leaving.clear();
    }

    /// All clusters, and those of before.
    pub fn clusters_between(&self) -> XdsFile {
        let clusters: BTreeMap<_, _> = self.leaving.iter().chain(&self.clusters).collect();
        let clusters = clusters.into_values().map(|cluster| Resource::Cluster(Box::new(cluster.clone())));
        file("", "cds", XdsKind::Clusters, clusters.collect())
    }

    /// Where each listener is here, by gateway (`namespace/name`) and listener.
    pub fn addresses(&self) -> &BTreeMap<(String, String), SocketAddr> {
        &self.addresses
    }

    fn started_with(&self, fixed: Option<StaticResources>, dynamic: Option<DynamicResources>) -> String {
        yaml::text(&Bootstrap {
            node: Node { id: "epp-standalone", cluster: "epp-standalone" },
            admin: Admin { address: endpoint(&self.admin) },
            layered_runtime: LayeredRuntime {
                layers: vec![RuntimeLayer { name: "static", static_layer: BTreeMap::from(RUNTIME) }],
            },
            static_resources: fixed,
            dynamic_resources: dynamic,
        })
    }

    /// Routes and certificates of files become those of the configuration itself.
    fn take_in_routes(&self, chain: &mut crate::standalone::envoy::listener::FilterChain) {
        for filter in &mut chain.filters {
            let Typed::HttpConnectionManager(manager) = &mut filter.typed_config else { continue };
            if let RouteSpecifier::Rds(rds) = &manager.routes
                && let Some(routes) = self.routes.get(&rds.route_config_name)
            {
                manager.routes = RouteSpecifier::RouteConfig(Box::new(routes.clone()));
            }
        }
        let socket = chain.transport_socket.as_mut().map(|socket| &mut socket.typed_config);
        if let Some(Typed::DownstreamTlsContext(tls)) = socket {
            for secret in &mut tls.common_tls_context.tls_certificate_sds_secret_configs {
                secret.sds_config = None;
            }
        }
    }
}

fn file(folder: &str, name: &str, kind: XdsKind, resources: Vec<Resource>) -> XdsFile {
    let mut hasher = DefaultHasher::new();
    yaml::text(&resources).hash(&mut hasher);
    let version_info = format!("{:016x}", hasher.finish());
    let text = yaml::text(&DiscoveryResponse { version_info, resources });
    XdsFile { path: path(folder, name), kind, text }
}

/// A file's place below the folder.
pub(super) fn path(folder: &str, name: &str) -> String {
    let (slash, name) = (if folder.is_empty() { "" } else { "/" }, name.replace('/', "~"));
    format!("{folder}{slash}{name}.yaml")
}

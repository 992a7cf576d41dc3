//! [`Topology`] → Envoy's configuration. Entry point: [`render`].
//!
//! Names, filters, routes and clusters are those that the gateway controllers make, so that access logs and metrics read
//! alike; `docs/envoy.md` says where and why they are others. Writes no file. The same topology and settings yield the
//! same bytes.

mod clusters;
mod edits;
mod filters;
mod listeners;
mod output;
mod ports;
mod routes;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub use self::ports::PortMap;

use super::envoy::cluster::{Cluster, ClusterLoadAssignment};
use super::envoy::listener::{Listener, Secret};
use super::envoy::route::RouteConfiguration;
use super::finding::{Finding, Findings, Level, Place};
use super::topology::{Address, PoolPlan, Topology};

/// What manifests do not say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where listeners listen.
    pub address: IpAddr,
    /// On which ports.
    pub ports: PortMap,
    /// The picker of all pools: ext_proc in clear text. The authority of each call says the pool.
    pub picker: SocketAddr,
    /// Whether the picker answers `grpc.health.v1` for each authority on the same port.
    pub picker_tells_health: bool,
    /// What reads models, likewise.
    pub model_extractor: SocketAddr,
    /// Members of pools, by namespace and name.
    pub members: BTreeMap<(String, String), Vec<Address>>,
    /// Where hosts of Services are here, by name and port; others are looked up.
    pub service_hosts: BTreeMap<(String, u16), Vec<Address>>,
    /// The rate limit service, if there is one.
    pub rate_limit: Option<Address>,
    /// Where Envoy's own pages are.
    pub admin: Address,
    /// The file that is told of requests.
    pub access_log: String,
    /// Whether clients may say objectives and other things that the picker minds.
    pub trust_client_headers: bool,
    /// Longest body that is held in one piece.
    pub buffer_bytes: u32,
    /// Where xDS files will be, as Envoy finds it.
    pub folder: PathBuf,
    /// Authorities of upstreams that name none: a file in PEM.
    pub authorities: PathBuf,
    /// When models were made whose time nothing says, in seconds since 1970.
    pub created: i64,
}

/// Envoy's configuration.
#[derive(Debug)]
pub struct Rendered {
    admin: Address,
    folder: PathBuf,
    listeners: Vec<Listener>,
    routes: BTreeMap<String, RouteConfiguration>,
    clusters: BTreeMap<String, Cluster>,
    /// Those that were there before.
    leaving: BTreeMap<String, Cluster>,
    endpoints: BTreeMap<String, ClusterLoadAssignment>,
    secrets: BTreeMap<String, Secret>,
    addresses: BTreeMap<(String, String), SocketAddr>,
}

/// Makes Envoy's configuration; what cannot be done is told.
pub fn render(topology: &Topology, settings: &Settings, findings: &mut Findings) -> Rendered {
    let mut renderer = Renderer {
        topology,
        settings,
        findings,
        rendered: Rendered {
            admin: settings.admin.clone(),
            folder: settings.folder.clone(),
            listeners: Vec::new(),
            routes: BTreeMap::new(),
            clusters: BTreeMap::new(),
            leaving: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            secrets: BTreeMap::new(),
            addresses: BTreeMap::new(),
        },
    };
    renderer.gateways();
    renderer.rendered
}

struct Renderer<'t> {
    topology: &'t Topology,
    settings: &'t Settings,
    findings: &'t mut Findings,
    rendered: Rendered,
}

impl<'t> Renderer<'t> {
    fn tell(&mut self, level: Level, object: &str, message: String) {
        let finding = Finding { level, place: Place::NOWHERE, object: Some(object.to_owned()), message };
        self.findings.push(finding);
    }

    fn pool(&self, group: &str, namespace: &str, name: &str) -> Option<&'t PoolPlan> {
        let is_it =
            |pool: &&PoolPlan| pool.group == group && pool.namespace == namespace && pool.name == name;
        self.topology.pools.iter().find(is_it)
    }
}

#[cfg(test)]
mod tests;

//! Who serves each pool and each Service here: [`place`]. Pure: servers that run and lists that were read are arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use epp_framework::endpoint::EndpointMeta;

use super::manifest::route::MODEL_HEADER;
use super::topology::{Address, Answer, PoolPlan, Replicas, Share, Target, Topology};
use crate::discovery::file::PoolFile;
use crate::discovery::index::rewrites::Rewrites;

/// What a simulated server is called by whom no manifest says which models it serves.
const SOME_MODEL: &str = "sim-model";

/// A simulated server that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulated {
    /// The workload that it is a replica of, as `Deployment namespace/name`.
    pub workload: String,
    /// Which replica.
    pub replica: u16,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Simulated {
    /// Namespace and name, as a pod of the workload has them.
    fn names(&self) -> (String, String) {
        let full = self.workload.split_once(' ').map_or(self.workload.as_str(), |(_, full)| full);
        let (namespace, name) = full.split_once('/').unwrap_or(("default", full));
        (namespace.to_owned(), format!("{name}-{}", self.replica))
    }
}

/// A workload that is to be simulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// How many servers.
    pub count: u16,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
    /// The models that they serve; at least one.
    pub models: Vec<String>,
}

/// Who serves what.
#[derive(Debug, Default, PartialEq)]
pub struct Placed {
    /// What the picker of each pool knows, by namespace and name.
    pub pools: BTreeMap<(String, String), PoolFile>,
    /// Where Services are, by host and port.
    pub hosts: BTreeMap<(String, u16), Vec<Address>>,
}

/// The workloads of the manifests that serve a pool or a Service, by `Kind namespace/name`.
///
/// One that does not say which models it serves has those that routes send to it; and each has those that its pool's
/// rewrites ask for, as model servers load adapters while they run.
pub fn workloads(topology: &Topology) -> BTreeMap<String, Workload> {
    let mut workloads: BTreeMap<String, Workload> = BTreeMap::new();
    let mut add = |replicas: &Replicas, routed: BTreeSet<String>, rewritten: BTreeSet<String>| {
        let one = workloads.entry(replicas.workload.clone()).or_insert_with(|| Workload {
            count: replicas.count,
            labels: replicas.labels.clone(),
            models: replicas.models.clone(),
        });
        let routed = routed.into_iter().filter(|_| replicas.models.is_empty());
        for model in routed.chain(rewritten) {
            if !one.models.contains(&model) {
                one.models.push(model);
            }
        }
    };
    for pool in &topology.pools {
        let is_it = |target: &Target| matches!(target, Target::Pool { namespace, name, .. } if (namespace, name) == (&pool.namespace, &pool.name));
        let rewritten: BTreeSet<_> = pool.rewrites.targets().map(str::to_owned).collect();
        pool.replicas.iter().for_each(|replicas| add(replicas, routed(topology, is_it), rewritten.clone()));
    }
    for service in &topology.services {
        let is_it = |target: &Target| {
            match target {
            Target::Service { namespace, name, port } => {
                (namespace, name, *port) == (&service.namespace, &service.name, service.port)
            }
            Target::Backend { endpoints, .. } => endpoints.iter().any(|address| {
                matches!(address, Address::Host(host, port) if service.hosts.contains(host) && *port == service.port)
            }),
            Target::Pool { .. } | Target::Nowhere(_) => false,
        }
        };
        service.replicas.iter().for_each(|replicas| add(replicas, routed(topology, is_it), BTreeSet::new()));
    }
    for workload in workloads.values_mut().filter(|workload| workload.models.is_empty()) {
        workload.models.push(SOME_MODEL.to_owned());
    }
    workloads
}

/// The models whose requests go to such targets.
fn routed(topology: &Topology, is_it: impl Fn(&Target) -> bool) -> BTreeSet<String> {
    let hosts = topology.gateways.iter().flat_map(|gateway| &gateway.listeners).flat_map(|it| &it.hosts);
    let mut models = BTreeSet::new();
    for entry in hosts.flat_map(|host| &host.entries) {
        let Answer::Forward(shares) = &entry.answer else { continue };
        for Share { model, .. } in shares.iter().filter(|share| is_it(&share.target)) {
            let headers = entry.requests.headers.iter();
            let asked = headers.filter(|header| header.name == MODEL_HEADER && !header.is_regex);
            models.extend(
                model.clone().map_or_else(|| asked.map(|it| it.value.clone()).collect(), |it| vec![it]),
            );
        }
    }
    models
}

/// Chooses the members of each pool among those that are listed and simulated, and says where Services are. `resolved`
/// are the addresses of hosts that the oldest form of pools names.
pub fn place(
    topology: &Topology,
    listed: &PoolFile,
    simulated: &[Simulated],
    resolved: &BTreeMap<String, Vec<IpAddr>>,
) -> Placed {
    let mut placed = Placed::default();
    for pool in &topology.pools {
        let endpoints = match &pool.members {
            Some(addresses) => named(pool, addresses, resolved),
            None => selected(pool, listed, simulated),
        };
        let mut objectives = listed.objectives.clone();
        objectives.extend(pool.objectives.clone());
        let rewrites = if pool.rewrites == Rewrites::default() {
            listed.rewrites.clone()
        } else {
            pool.rewrites.clone()
        };
        let model_priorities = pool.model_priorities.clone();
        let file = PoolFile { endpoints, objectives, model_priorities, rewrites };
        placed.pools.insert((pool.namespace.clone(), pool.name.clone()), file);
    }
    for service in &topology.services {
        let is_it = |server: &&Simulated| service.replicas.iter().any(|it| it.workload == server.workload);
        let servers = simulated.iter().filter(is_it).map(|server| server.address);
        let servers: Vec<_> = servers.map(|at| Address::Host(at.ip().to_string(), at.port())).collect();
        for host in service.hosts.iter().filter(|_| !servers.is_empty()) {
            placed.hosts.insert((host.clone(), service.port), servers.clone());
        }
    }
    placed
}

fn selected(pool: &PoolPlan, listed: &PoolFile, simulated: &[Simulated]) -> Vec<EndpointMeta> {
    let has_labels = |labels: &BTreeMap<String, String>| {
        !pool.selector.is_empty() && pool.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let listed = listed.endpoints.iter().cloned();
    let simulated = simulated.iter().map(|server| {
        let (namespace, name) = server.names();
        let (address, port) = (server.address.ip(), server.address.port());
        EndpointMeta { name, namespace, address, port, labels: server.labels.clone() }
    });
    let mut taken = BTreeSet::new();
    let mut members = Vec::new();
    for endpoint in listed.chain(simulated) {
        let is_member = endpoint.namespace == pool.namespace && has_labels(&endpoint.labels);
        if is_member
            && taken.insert(endpoint.name.clone())
            && taken.insert(format!("{}:{}", endpoint.address, endpoint.port))
        {
            members.push(endpoint);
        }
    }
    members
}

/// Members whose addresses the manifests give.
fn named(
    pool: &PoolPlan,
    addresses: &[Address],
    resolved: &BTreeMap<String, Vec<IpAddr>>,
) -> Vec<EndpointMeta> {
    let mut members: BTreeMap<String, EndpointMeta> = BTreeMap::new();
    for address in addresses {
        let Address::Host(host, port) = address else { continue };
        let own: Vec<IpAddr> = host.parse().into_iter().collect();
        for &address in resolved.get(host).unwrap_or(&own) {
            let name = SocketAddr::new(address, *port).to_string();
            let (namespace, port, labels) = (pool.namespace.clone(), *port, BTreeMap::new());
            members.insert(name.clone(), EndpointMeta { name, namespace, address, port, labels });
        }
    }
    members.into_values().collect()
}

/// The hosts that [`place`] wants to be resolved.
pub fn hosts(topology: &Topology) -> BTreeSet<String> {
    let members = topology.pools.iter().filter_map(|pool| pool.members.as_ref()).flatten();
    let host = |address: &Address| match address {
        Address::Host(host, _) if host.parse::<IpAddr>().is_err() => Some(host.clone()),
        _ => None,
    };
    members.filter_map(host).collect()
}

/// Where Envoy finds the members of each pool.
pub fn addresses(pools: &BTreeMap<(String, String), PoolFile>) -> BTreeMap<(String, String), Vec<Address>> {
    let address = |endpoint: &EndpointMeta| Address::Host(endpoint.address.to_string(), endpoint.port);
    let of = |file: &PoolFile| file.endpoints.iter().map(address).collect();
    pools.iter().map(|(pool, file)| (pool.clone(), of(file))).collect()
}

#[cfg(test)]
mod tests;

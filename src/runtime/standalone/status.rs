//! What a running `epp standalone` tells of itself: [`Report`], a file that `epp standalone status` reads.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use epp_framework::endpoint::EndpointMeta;
use serde::{Deserialize, Serialize};

use crate::discovery::file::PoolFile;
use crate::standalone::topology::Topology;

/// The file's name in the run folder.
pub const FILE: &str = "status.json";

/// Held by the one that runs in the folder.
pub(super) const LOCK: &str = "lock";

/// What runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The process.
    pub pid: u32,
    /// Envoy, in a few words.
    pub envoy: String,
    /// Whether it serves.
    pub is_ready: bool,
    /// Where metrics and debug pages are.
    pub metrics: String,
    /// What was wrong with the last change of the manifests, if it was refused.
    pub refused: Option<String>,
    /// Listeners, with where they are here.
    pub listeners: Vec<ListenerReport>,
    /// What each route's entries do, in order.
    pub routes: Vec<RouteReport>,
    /// Pools with their members.
    pub pools: Vec<PoolReport>,
}

/// One listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenerReport {
    /// Its gateway, as `namespace/name`.
    pub gateway: String,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// What is done with some requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouteReport {
    /// The listener, as `namespace/gateway/listener`.
    pub listener: String,
    /// The host.
    pub host: String,
    /// Which requests.
    pub requests: String,
    /// What is done with them.
    pub answer: String,
}

/// One pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolReport {
    /// As `namespace/name`.
    pub name: String,
    /// Its members, `name ip:port` each.
    pub endpoints: Vec<String>,
}

impl Report {
    /// What is served of manifests: where, what, and by whom.
    pub(super) fn of(
        topology: &Topology,
        addresses: Option<&BTreeMap<(String, String), SocketAddr>>,
        pools: &BTreeMap<String, Arc<PoolFile>>,
    ) -> Self {
        let mut report = Self { pid: std::process::id(), ..Self::default() };
        for gateway in &topology.gateways {
            let full = format!("{}/{}", gateway.namespace, gateway.name);
            for listener in &gateway.listeners {
                let key = (full.clone(), listener.name.clone());
                // A listener that is left out has none.
                let Some(address) = addresses.and_then(|addresses| addresses.get(&key)) else { continue };
                report.listeners.push(ListenerReport {
                    gateway: full.clone(),
                    name: listener.name.clone(),
                    address: address.to_string(),
                    tls: !listener.certificates.is_empty(),
                });
                for host in &listener.hosts {
                    report.routes.extend(host.entries.iter().map(|entry| RouteReport {
                        listener: format!("{full}/{}", listener.name),
                        host: host.name.clone(),
                        requests: entry.requests.to_string(),
                        answer: entry.answer.to_string(),
                    }));
                }
            }
        }
        let endpoint = |it: &EndpointMeta| format!("{} {}", it.name, SocketAddr::new(it.address, it.port));
        report.pools.extend(pools.iter().map(|(name, members)| PoolReport {
            name: name.clone(),
            endpoints: members.endpoints.iter().map(endpoint).collect(),
        }));
        report
    }

    /// Replaces the file in `folder`.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let (path, new) = (folder.join(FILE), folder.join("status.json.new"));
        std::fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(new, path)
    }

    /// What the one that runs in `folder` says; the error says that none runs, or what cannot be read.
    pub fn of_running(folder: &Path) -> Result<Self, String> {
        let path = folder.join(FILE);
        // Whoever runs there holds the lock.
        let lock = std::fs::File::open(folder.join(LOCK));
        if lock.is_ok_and(|lock| lock.try_lock_shared().is_ok()) || !path.exists() {
            let shown = folder.display();
            return Err(format!("no `epp standalone` runs in {shown}; --run-dir names another folder"));
        }
        let cannot = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
        let text = std::fs::read(&path).map_err(|error| cannot(&error))?;
        serde_json::from_slice(&text).map_err(|error| cannot(&error))
    }
}

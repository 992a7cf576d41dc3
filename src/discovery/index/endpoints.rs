//! What counts of pods and pools, and what a pod offers: its destinations.
//!
//! Does not remember: who is kept between events is the index's concern, and which pod has a destination that several
//! claim is `serving`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use epp_framework::data::HOST_ADDRESS;

/// Annotations that name the ports of a pod that serve, separated by commas; the first one that a pod has counts.
///
/// Ports that the pool does not have are ignored. Without such an annotation all of the pool's ports serve, with an
/// empty or unreadable one none.
pub const ACTIVE_PORTS: [&str; 2] = ["llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports"];

/// Label that says which host something is on. Pods do not get it from their node, so their endpoints get it here.
const HOST: &str = "kubernetes.io/hostname";

/// Most target ports of a pool; the API allows no more.
pub const MAX_TARGET_PORTS: usize = 8;

/// A pod, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, of which only [`ACTIVE_PORTS`] are read.
    pub annotations: BTreeMap<String, String>,
    /// The node that it runs on (`spec.nodeName`).
    pub node: String,
    /// The IP address of that (`status.hostIP`).
    pub host_address: String,
    /// `status.podIPs` (or `status.podIP`): the first that is the IP address of one host counts.
    pub addresses: Vec<String>,
    /// Whether its condition `Ready` is true.
    pub ready: bool,
    /// When it was started, in seconds since 1970 (`status.startTime`).
    pub started: i64,
}

/// A pool, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSpec {
    /// Labels that a pod must have; none means every pod, as everywhere in Kubernetes.
    pub match_labels: BTreeMap<String, String>,
    /// Ports that traffic goes to. Beyond [`MAX_TARGET_PORTS`], repeated ones and 0 are ignored.
    pub target_ports: Vec<u16>,
    /// The Service of its picker, if it names one.
    pub picker: Option<PickerService>,
}

/// The Service that gateways call for a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickerService {
    /// Its name, in the pool's namespace.
    pub name: String,
    /// Its port; `None` is the usual one.
    pub port: Option<u16>,
}

impl PoolSpec {
    pub(super) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Its ports, each once.
    pub(super) fn ports(&self) -> Vec<u16> {
        let mut ports = Vec::new();
        for &port in &self.target_ports {
            if port != 0 && ports.len() < MAX_TARGET_PORTS && !ports.contains(&port) {
                ports.push(port);
            }
        }
        ports
    }
}

/// What is kept of a pod that could serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) labels: BTreeMap<String, String>,
    address: IpAddr,
    /// The ports that an annotation restricts it to.
    active_ports: Option<BTreeSet<u16>>,
    pub(super) started: i64,
}

impl Member {
    /// What is kept of `pod`, if it could serve in `pool`.
    pub(super) fn of(pod: PodState, pool: &PoolSpec) -> Option<Self> {
        if !pod.ready || !pool.selects(&pod.labels) {
            return None;
        }
        let address = pod.addresses.iter().find_map(|address| {
            let address: IpAddr = address.parse().ok()?;
            (!address.is_unspecified() && !address.is_multicast()).then_some(address)
        })?;
        let active = ACTIVE_PORTS.iter().find_map(|&key| pod.annotations.get(key));
        let active_ports =
            active.map(|ports| ports.split(',').filter_map(|port| port.trim().parse().ok()).collect());
        let mut labels = pod.labels;
        if !pod.node.is_empty() {
            labels.entry(HOST.to_owned()).or_insert(pod.node);
        }
        // It is an address that we connect to, so the cluster says it and nobody who writes labels.
        labels.remove(HOST_ADDRESS);
        if !pod.host_address.is_empty() {
            labels.insert(HOST_ADDRESS.to_owned(), pod.host_address);
        }
        Some(Self { labels, address, active_ports, started: pod.started })
    }

    /// Position of the port and destination, for each port that serves.
    pub(super) fn destinations(&self, ports: &[u16]) -> impl Iterator<Item = (usize, SocketAddr)> {
        ports
            .iter()
            .enumerate()
            .filter(|(_, port)| self.active_ports.as_ref().is_none_or(|active| active.contains(port)))
            .map(|(at, &port)| (at, SocketAddr::new(self.address, port)))
    }
}

//! Who serves which destination: [`Serving`] follows pods one by one, so that an event costs what it changes and not
//! what there is.
//!
//! Of several pods that claim a destination, the one that started last has it, of equally old ones the first by name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use epp_framework::endpoint::EndpointMeta;

use super::endpoints::{Member, PoolSpec};
use crate::discovery::{Change, diff};

/// A claim on a destination; the least one counts.
type Claim = (Reverse<i64>, String);

/// The endpoints of a pool.
pub(super) struct Serving {
    namespace: String,
    ports: Vec<u16>,
    claims: HashMap<SocketAddr, BTreeSet<Claim>>,
    /// By pod; those that have any.
    endpoints: BTreeMap<String, Vec<EndpointMeta>>,
}

impl Serving {
    pub(super) fn new(namespace: String) -> Self {
        Self { namespace, ports: Vec::new(), claims: HashMap::new(), endpoints: BTreeMap::new() }
    }

    /// Takes another pool, or none, and all its pods; says what that changes.
    pub(super) fn rebuild(
        &mut self,
        pool: Option<&PoolSpec>,
        pods: &BTreeMap<String, Member>,
    ) -> Vec<Change> {
        let before: Vec<_> = std::mem::take(&mut self.endpoints).into_values().flatten().collect();
        self.ports = pool.map(PoolSpec::ports).unwrap_or_default();
        self.claims.clear();
        for (name, pod) in pods {
            self.claim(name, pod);
        }
        let mut now = Vec::with_capacity(before.len());
        for (name, pod) in pods {
            now.extend(self.set(name, self.owned(name, pod)).1);
        }
        diff(&before, &now)
    }

    /// Takes pods that changed, each with what it was before; says what that changes.
    pub(super) fn update(
        &mut self,
        changed: &BTreeMap<String, Option<Member>>,
        pods: &BTreeMap<String, Member>,
    ) -> Vec<Change> {
        let mut affected: BTreeSet<String> = changed.keys().cloned().collect();
        for (name, before) in changed {
            let Some(before) = before else { continue };
            for destination in self.destinations(before) {
                self.release(destination, name, before);
                affected.extend(self.claimants(destination));
            }
        }
        for (name, pod) in changed.keys().filter_map(|name| pods.get_key_value(name)) {
            self.claim(name, pod);
            affected.extend(self.destinations(pod).into_iter().flat_map(|at| self.claimants(at)));
        }
        let (mut before, mut now) = (Vec::new(), Vec::new());
        for name in affected {
            let owned = pods.get(&name).map(|pod| self.owned(&name, pod)).unwrap_or_default();
            let (old, new) = self.set(&name, owned);
            before.extend(old);
            now.extend(new);
        }
        diff(&before, &now)
    }

    /// What the pod serves from now on; returns that, behind what it served.
    fn set(&mut self, name: &str, owned: Vec<EndpointMeta>) -> (Vec<EndpointMeta>, Vec<EndpointMeta>) {
        let before = if owned.is_empty() {
            self.endpoints.remove(name)
        } else {
            self.endpoints.insert(name.to_owned(), owned.clone())
        };
        (before.unwrap_or_default(), owned)
    }

    fn destinations(&self, pod: &Member) -> Vec<SocketAddr> {
        pod.destinations(&self.ports).map(|(_, destination)| destination).collect()
    }

    fn claim(&mut self, name: &str, pod: &Member) {
        for destination in self.destinations(pod) {
            self.claims.entry(destination).or_default().insert((Reverse(pod.started), name.to_owned()));
        }
    }

    fn release(&mut self, destination: SocketAddr, name: &str, pod: &Member) {
        let Some(claims) = self.claims.get_mut(&destination) else { return };
        claims.remove(&(Reverse(pod.started), name.to_owned()));
        if claims.is_empty() {
            self.claims.remove(&destination);
        }
    }

    fn claimants(&self, destination: SocketAddr) -> impl Iterator<Item = String> {
        self.claims.get(&destination).into_iter().flatten().map(|(_, name)| name.clone())
    }

    /// The endpoints of a pod: of the destinations that it claims, those that it has.
    fn owned(&self, name: &str, pod: &Member) -> Vec<EndpointMeta> {
        let has = |destination: &SocketAddr| {
            self.claims.get(destination).and_then(BTreeSet::first).is_some_and(|(_, owner)| owner == name)
        };
        let owned = pod.destinations(&self.ports).filter(|(_, destination)| has(destination));
        let endpoint = |(at, destination): (usize, SocketAddr)| EndpointMeta {
            name: if self.ports.len() == 1 { name.to_owned() } else { format!("{name}-rank-{at}") },
            namespace: self.namespace.clone(),
            address: destination.ip(),
            port: destination.port(),
            labels: pod.labels.clone(),
        };
        owned.map(endpoint).collect()
    }
}

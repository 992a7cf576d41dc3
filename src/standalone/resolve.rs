//! Objects → [`Topology`]: routes are attached to listeners, references followed, entries ordered. Entry point:
//! [`resolve`].
//!
//! What does not fit together is told; what is left of it works.

mod attach;
mod hosts;
mod listeners;
mod order;
mod policies;
mod pools;
mod refs;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use epp_framework::plugin::PluginType;

use self::order::Precedence;
use super::finding::{Findings, Level, Place};
use super::objects::Objects;
use super::topology::{Condition, Entry, GatewayPlan, Host, ListenerPlan, Topology};

/// Resolves all objects; `types` are the plugins that configurations of pickers may name.
pub fn resolve(objects: &Objects, types: &'static [PluginType], findings: &mut Findings) -> Topology {
    let mut resolver = Resolver {
        objects,
        findings,
        topology: Topology::default(),
        tables: BTreeMap::new(),
        serving: BTreeSet::new(),
        n_entries: 0,
    };
    resolver.listeners();
    for route in objects.routes.values() {
        resolver.route(route);
    }
    resolver.gateways();
    resolver.pools(types);
    resolver.policies();
    resolver.topology
}

/// Most names that a message lists.
const MAX_LISTED: usize = 10;

/// A gateway's listener: namespace and name of the gateway, and which listener.
type ListenerId = (String, String, usize);

struct Resolver<'o> {
    objects: &'o Objects,
    findings: &'o mut Findings,
    topology: Topology,
    /// What is attached to each listener, by host.
    tables: BTreeMap<ListenerId, BTreeMap<String, Vec<Attached>>>,
    /// Listeners that are served.
    serving: BTreeSet<ListenerId>,
    /// How many entries the tables have.
    n_entries: usize,
}

/// An entry of a listener's host.
struct Attached {
    precedence: Precedence,
    entry: Entry,
    place: Place,
    /// Whether it is none of the route's own.
    is_added: bool,
}

impl Resolver<'_> {
    fn condition(&mut self, object: &str, parent: &str, kind: &'static str, reason: &'static str) {
        let holds = kind == reason || kind == "Conflicted";
        let condition =
            Condition { object: object.to_owned(), parent: parent.to_owned(), kind, holds, reason };
        self.topology.conditions.push(condition);
    }

    /// Orders what is attached, and tells what never counts.
    fn gateways(&mut self) {
        for gateway in self.objects.gateways.values() {
            let meta = &gateway.meta;
            let mut plan = GatewayPlan {
                namespace: meta.namespace.clone(),
                name: meta.name.clone(),
                listeners: Vec::new(),
            };
            let mut told = BTreeSet::new();
            for (n, listener) in gateway.listeners.iter().enumerate() {
                let id = (meta.namespace.clone(), meta.name.clone(), n);
                let table = self.tables.remove(&id).unwrap_or_default();
                if !self.serving.contains(&id) {
                    continue;
                }
                let mut hosts = Vec::new();
                for (name, mut attached) in table {
                    attached.sort_by(|a, b| a.precedence.cmp(&b.precedence));
                    self.tell_shadowed(&attached, &name, &mut told);
                    let entries = attached.into_iter().map(|attached| attached.entry).collect();
                    hosts.push(Host { name, entries });
                }
                hosts.sort_by_key(|host| hosts::rank(&host.name));
                let certificate = |to: &super::manifest::gateway::CertificateRef| {
                    (to.namespace.clone().unwrap_or_else(|| meta.namespace.clone()), to.name.clone())
                };
                plan.listeners.push(ListenerPlan {
                    name: listener.name.clone(),
                    port: listener.port,
                    hostname: listener.hostname.clone(),
                    certificates: listener.certificates.iter().map(certificate).collect(),
                    hosts,
                });
            }
            self.topology.gateways.push(plan);
        }
    }

    fn tell_shadowed(&mut self, attached: &[Attached], host: &str, told: &mut BTreeSet<Place>) {
        let mut first: BTreeMap<String, &Attached> = BTreeMap::new();
        for one in attached {
            let requests = one.entry.requests.to_string();
            let Some(winner) = first.get(&requests) else {
                first.insert(requests, one);
                continue;
            };
            // One place may be attached to several hosts and listeners.
            let is_broken = [winner, &one].iter().any(|it| self.objects.broken.contains(&it.entry.route));
            if one.is_added || is_broken || !told.insert(one.place) {
                continue;
            }
            let Entry { route, rule, .. } = &winner.entry;
            let by = if winner.is_added { "the rule that answers 404 for unknown models" } else { rule };
            let host = if host == hosts::ALL { String::new() } else { format!(" of host {host}") };
            let message = format!(
                "{}: never reached: {by} of {route} takes the same requests ({requests}){host} first",
                one.entry.rule
            );
            self.findings.tell(Level::Warning, one.place, &one.entry.route, message);
        }
    }
}

#[cfg(test)]
mod tests;

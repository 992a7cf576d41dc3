//! Objects → [`Topology`]: routes are attached to listeners, references followed, entries ordered. Entry point:
//! [`resolve`].
//!
//! What does not fit together is told; what is left of it works.

mod attach;
mod hosts;
mod listeners;
mod models;
mod order;
mod plans;
mod policies;
mod pools;
mod refs;
mod rules;
mod secrets;
mod services;
mod shares;
mod upstream_tls;

use std::collections::{BTreeMap, BTreeSet};

use epp_framework::plugin::PluginType;

use self::order::Precedence;
use super::finding::{Findings, Level, Place};
use super::manifest::policy::{BackendTrafficPolicy, GatewayConfig};
use super::manifest::pool::InferencePool;
use super::manifest::route::Route;
use super::objects::Objects;
use super::topology::{Condition, Entry, GatewayPlan, Host, ListenerPlan, Topology};

/// Resolves all objects; `types` are the plugins that configurations of pickers may name.
pub fn resolve(
    objects: &Objects,
    types: &'static [PluginType],
    findings: &mut Findings,
) -> (Topology, Expiries) {
    let mut resolver = Resolver {
        objects,
        findings,
        topology: Topology::default(),
        tables: BTreeMap::new(),
        serving: BTreeSet::new(),
        expiries: Expiries::new(),
        attached: BTreeMap::new(),
        leading: BTreeMap::new(),
        is_older_form: is_older_form(objects),
        n_entries: 0,
    };
    resolver.older_form();
    resolver.attach_policies();
    resolver.listeners();
    for route in objects.routes.values() {
        resolver.route(route);
    }
    resolver.gateways();
    resolver.pools(types);
    resolver.policies();
    resolver.plans();
    resolver.services();
    (resolver.topology, resolver.expiries)
}

/// Whether the manifests are of a development version before 0.2, which had pools of `AIServiceBackend`s.
fn is_older_form(objects: &Objects) -> bool {
    let mut backends = objects.routes.values().flat_map(|route| &route.rules).flat_map(|rule| &rule.backends);
    let named = |pool: &InferencePool| pool.picker.as_ref().is_some_and(|it| it.name == BUILT_IN_PICKER);
    backends.any(|to| to.kind == "InferencePool" && to.group.is_none()) || objects.pools.values().any(named)
}

/// The picker's name of which an old version took its own.
const BUILT_IN_PICKER: &str = "envoy-ai-gateway";

/// When certificates end, in seconds since 1970, by the ids of their Secrets.
pub type Expiries = BTreeMap<String, (Place, i64)>;

/// Namespace, name and group of a pool.
type PoolId = (String, String, &'static str);

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
    expiries: Expiries,
    /// The policy of each target: namespace, kind, name, and maybe a section.
    attached: BTreeMap<policies::TargetId, &'o BackendTrafficPolicy>,
    /// Routes of models that lead to each pool, and the configurations of their gateways.
    leading: BTreeMap<PoolId, Leading<'o>>,
    /// Whether the manifests are in the form of a version before 0.2.
    is_older_form: bool,
    /// How many entries the tables have.
    n_entries: usize,
}

/// What leads to a pool.
#[derive(Default)]
struct Leading<'o> {
    routes: Vec<&'o Route>,
    configs: Vec<&'o GatewayConfig>,
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
                let scopes = self.scopes(&table);
                for (name, mut attached) in table {
                    attached.sort_by(|a, b| a.precedence.cmp(&b.precedence));
                    self.tell_shadowed(&attached, &name, &mut told);
                    let mut entries = attached.into_iter().map(|attached| attached.entry).collect();
                    models::insert(&mut entries, &name, &scopes);
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

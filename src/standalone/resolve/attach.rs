//! Routes at listeners: which listener takes which route, under which hosts.

use super::hosts::effective;
use super::{MAX_LISTED, Resolver};
use crate::config::problem::shown_list;
use crate::standalone::finding::Level;
use crate::standalone::manifest::gateway::{From, Gateway, Listener};
use crate::standalone::manifest::pool::is_pool_annotation;
use crate::standalone::manifest::route::{GATEWAY_GROUP, ParentRef, Route};

/// Why a parent does not take a route: the word for the condition, and what is wrong.
type Refusal = (&'static str, String);

/// A listener's number, and its hosts for a route.
pub(super) type Places = Vec<(usize, Vec<String>)>;

impl<'o> Resolver<'o> {
    /// Attaches a route wherever it is taken.
    pub(super) fn route(&mut self, route: &'o Route) {
        let id = route.meta.id();
        self.annotations(route, &id);
        if route.parents.is_empty() {
            let mut gateways = self.objects.gateways.values();
            let hint = match (gateways.next(), gateways.next()) {
                (Some(only), None) => format!("; add `- name: {}`", only.meta.name),
                _ => String::new(),
            };
            let message = format!("spec.parentRefs: without a gateway it serves nothing{hint}");
            self.findings.tell(Level::Warning, route.meta.place, &id, message);
        }
        let mut taken: Vec<(&'o Gateway, Places)> = Vec::new();
        let mut refused: Vec<(&ParentRef, Refusal)> = Vec::new();
        for parent in &route.parents {
            match self.parent(route, parent) {
                Ok((gateway, places)) => {
                    let is_broken = self.objects.broken.contains(&id);
                    let reason = if is_broken { "UnsupportedValue" } else { "Accepted" };
                    self.condition(&id, &gateway.meta.id(), "Accepted", reason);
                    taken.push((gateway, places));
                }
                Err(refusal) => refused.push((parent, refusal)),
            }
        }
        let level = if taken.is_empty() { Level::Error } else { Level::Warning };
        for (parent, (reason, message)) in refused {
            let namespace = parent.namespace.as_ref().unwrap_or(&route.meta.namespace);
            let name = format!("{} {namespace}/{}", parent.kind, parent.name);
            self.condition(&id, &name, "Accepted", reason);
            // What is wrong with it is told.
            if self.objects.broken.contains(&name) {
                continue;
            }
            let message = format!("{}: {message}", parent.path);
            self.findings.tell(level, route.meta.at(parent.at), &id, message);
        }
        self.rules(route, &taken);
    }

    /// Annotations of pools have no effect on routes.
    fn annotations(&mut self, route: &Route, id: &str) {
        for (key, value) in &route.meta.annotations {
            if is_pool_annotation(key) {
                let message = format!(
                    "metadata.annotations[`{key}`]: it has no effect on a route; write it on the InferencePool"
                );
                self.findings.tell(Level::Warning, route.meta.at(value.at), id, message);
            }
        }
    }
}

impl<'o> Resolver<'o> {
    /// The gateway of a reference, and the listeners of it that take the route.
    fn parent(&self, route: &Route, parent: &ParentRef) -> Result<(&'o Gateway, Places), Refusal> {
        let namespace = parent.namespace.as_ref().unwrap_or(&route.meta.namespace);
        let gateways = &self.objects.gateways;
        if (parent.group.as_str(), parent.kind.as_str()) != (GATEWAY_GROUP, "Gateway") {
            let group = if parent.group.is_empty() { "the core group" } else { &parent.group };
            let message = format!("expected a Gateway, found a {} of {group}", parent.kind);
            return Err(("NoMatchingParent", message));
        }
        let Some(gateway) = gateways.get(&(namespace.clone(), parent.name.clone())) else {
            let known: Vec<_> =
                gateways.values().take(MAX_LISTED).map(|gateway| gateway.meta.full_name()).collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                shown_list(known.iter().map(String::as_str))
            };
            let name = &parent.name;
            let message = format!("Gateway {namespace}/{name} not found (known gateways: {known})");
            return Err(("NoMatchingParent", message));
        };
        let all: Vec<_> = gateway.listeners.iter().enumerate().collect();
        let is_meant = |listener: &Listener| {
            parent.section.as_ref().is_none_or(|section| section.value == listener.name)
                && parent.port.is_none_or(|port| port == listener.port)
        };
        let meant: Vec<_> = all.iter().filter(|(_, listener)| is_meant(listener)).copied().collect();
        if meant.is_empty() {
            let names: Vec<_> =
                all.iter().map(|(_, it)| format!("{} on port {}", it.name, it.port)).collect();
            let names = shown_list(names.iter().map(String::as_str));
            let message = format!("no listener of Gateway {namespace}/{} fits (it has {names})", parent.name);
            return Err(("NoMatchingParent", message));
        }
        let allowed: Vec<_> =
            meant.into_iter().filter(|(_, listener)| self.allows(gateway, listener, route)).collect();
        if allowed.is_empty() {
            let message = format!(
                "the listeners of Gateway {namespace}/{} allow no {} of namespace {}; see their allowedRoutes",
                parent.name, route.meta.kind, route.meta.namespace
            );
            return Err(("NotAllowedByListeners", message));
        }
        let places = places(gateway, &allowed, route);
        if places.is_empty() {
            let hosts = route.hostnames.iter().map(|host| host.value.as_str());
            let listeners = allowed.iter().filter_map(|(_, listener)| listener.hostname.as_deref());
            let (hosts, listeners) = (shown_list(hosts), shown_list(listeners));
            let message = format!("no hostname fits: the route has {hosts}, the listeners have {listeners}");
            return Err(("NoMatchingListenerHostname", message));
        }
        Ok((gateway, places))
    }

    fn allows(&self, gateway: &Gateway, listener: &Listener, route: &Route) -> bool {
        let namespace = &route.meta.namespace;
        let is_from = match &listener.from {
            From::All => true,
            From::Same => *namespace == gateway.meta.namespace,
            From::Selector(labels, expressions) => {
                let found = self.objects.namespaces.get(&(String::new(), namespace.clone()));
                found.is_some_and(|found| {
                    let own = |key: &str| match found.meta.labels.get(key) {
                        Some(own) => Some(own.value.as_str()),
                        // Every namespace has this label.
                        None => (key == "kubernetes.io/metadata.name").then_some(namespace.as_str()),
                    };
                    labels.iter().all(|(key, value)| own(key) == Some(value.value.as_str()))
                        && expressions.iter().all(|expression| expression.holds(own(&expression.key)))
                })
            }
        };
        // What an AIGatewayRoute comes to is an HTTPRoute.
        is_from && (listener.kinds.is_empty() || listener.kinds.iter().any(|kind| kind == "HTTPRoute"))
    }
}

/// The hosts of a route at each of these listeners that has some in common with it.
fn places(gateway: &Gateway, listeners: &[(usize, &Listener)], route: &Route) -> Places {
    let hosts: Vec<&str> = route.hostnames.iter().map(|host| host.value.as_str()).collect();
    let mut places = Vec::new();
    for &(n, listener) in listeners {
        let mut common = effective(listener.hostname.as_deref(), &hosts);
        if common.is_empty() {
            continue;
        }
        // What another listener of the port is for is its own.
        let is_of_another = |host: &String| {
            gateway.listeners.iter().enumerate().any(|(m, other)| {
                m != n && other.port == listener.port && other.hostname.as_ref() == Some(host)
            })
        };
        common.retain(|host| !is_of_another(host));
        places.push((n, common));
    }
    places
}

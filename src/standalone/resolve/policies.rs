//! Policies: what they are for, and whether what they count by is there.

use std::collections::BTreeSet;

use super::{MAX_LISTED, Resolver};
use crate::config::problem::shown_list;
use crate::standalone::finding::Level;
use crate::standalone::manifest::Meta;
use crate::standalone::manifest::gateway::Gateway;
use crate::standalone::manifest::policy::{BackendTrafficPolicy, COST_NAMESPACE, Target};
use crate::standalone::manifest::route::Route;
use crate::standalone::topology::Entry;

/// What a policy is for: namespace, kind, name, and maybe a section.
pub(super) type TargetId = (String, String, String, Option<String>);

impl Resolver<'_> {
    /// Notes which policy holds for what; of several the oldest, then the first by name.
    pub(super) fn attach_policies(&mut self) {
        let objects = self.objects;
        let mut policies: Vec<_> = objects.traffic_policies.values().collect();
        policies.sort_by_key(|policy| (policy.meta.created.is_none(), policy.meta.created.clone()));
        for policy in policies {
            let (id, namespace) = (policy.meta.id(), &policy.meta.namespace);
            for Target { at, path, kind, name, section } in &policy.targets {
                let target = (namespace.clone(), kind.clone(), name.clone(), section.clone());
                let first = *self.attached.entry(target).or_insert(policy);
                if !std::ptr::eq(first, policy) {
                    let message = format!(
                        "{path}: {} is for {kind} {namespace}/{name}, too, and counts",
                        first.meta.id()
                    );
                    self.findings.tell(Level::Warning, policy.meta.at(*at), &id, message);
                }
            }
        }
    }

    /// Gives an entry what the policy says that is closest to it: that of its rule, its route, its listener or gateway.
    pub(super) fn govern(
        &self,
        entry: &mut Entry,
        (route, rule): (&Route, Option<&str>),
        (gateway, listener): (&Gateway, &str),
    ) {
        let find = |meta: &Meta, kind: &str, section: Option<&str>| {
            let (namespace, name) = (meta.namespace.clone(), meta.name.clone());
            self.attached.get(&(namespace, kind.to_owned(), name, section.map(str::to_owned)))
        };
        let policy = rule
            .and_then(|rule| find(&route.meta, "HTTPRoute", Some(rule)))
            .or_else(|| find(&route.meta, "HTTPRoute", None))
            .or_else(|| find(&gateway.meta, "Gateway", Some(listener)))
            .or_else(|| find(&gateway.meta, "Gateway", None));
        let limits = &mut entry.limits;
        if let Some(policy) = policy {
            entry.rates.clone_from(&policy.rates);
            limits.request = limits.request.or(policy.request);
            limits.stream_idle = limits.stream_idle.or(policy.stream_idle);
            if limits.retry.is_none() {
                limits.retry.clone_from(&policy.retry);
            }
        }
        // A single try is as long as the request may take.
        if limits.retry.is_none() && limits.backend_request.is_some() {
            limits.request = limits.backend_request;
        }
    }
}

impl Resolver<'_> {
    /// Looks at all policies.
    pub(super) fn policies(&mut self) {
        let objects = self.objects;
        for policy in objects.traffic_policies.values() {
            self.traffic_policy(policy);
        }
        for policy in objects.security_policies.values() {
            let is_done = |to: &&Target| policy.secret.is_some() && to.kind == "AIServiceBackend";
            let targets: Vec<_> = policy
                .targets
                .iter()
                .filter(|to| !is_done(to))
                .map(|it| format!("{} {}", it.kind, it.name))
                .collect();
            if targets.is_empty() && !policy.targets.is_empty() {
                continue;
            }
            let whom = if targets.is_empty() { "what it is for".to_owned() } else { targets.join(", ") };
            let message = format!("requests are sent to {whom} without the credentials that it would add");
            self.findings.tell(Level::Warning, policy.meta.place, &policy.meta.id(), message);
        }
    }

    fn traffic_policy(&mut self, policy: &BackendTrafficPolicy) {
        let objects = self.objects;
        let (id, namespace) = (policy.meta.id(), &policy.meta.namespace);
        let mut reason = if objects.broken.contains(&id) { "Invalid" } else { "Accepted" };
        for target in &policy.targets {
            let key = (namespace.clone(), target.name.clone());
            let is_route = |(of, name, _): &&(String, String, &str)| *of == key.0 && *name == key.1;
            let found = match target.kind.as_str() {
                "Gateway" => objects.gateways.contains_key(&key),
                // What an AIGatewayRoute comes to is an HTTPRoute of its name.
                "HTTPRoute" => objects.routes.keys().any(|key| is_route(&key)),
                _ => false,
            };
            if !found {
                let message =
                    format!("{}: {} {namespace}/{} not found", target.path, target.kind, target.name);
                self.findings.tell(Level::Warning, policy.meta.at(target.at), &id, message);
                reason = "TargetNotFound";
            }
        }
        let costs = objects.routes.values().flat_map(|route| &route.costs);
        let costs = costs.chain(objects.configs.values().flat_map(|config| &config.costs));
        let known: BTreeSet<&str> = costs.map(|cost| cost.cost.key.as_str()).collect();
        for cost in &policy.costs {
            if cost.namespace.value != COST_NAMESPACE {
                let message = format!(
                    "{}.namespace: expected `{COST_NAMESPACE}`, where the tokens of answers are; else nothing is counted",
                    cost.path
                );
                self.findings.tell(Level::Warning, policy.meta.at(cost.namespace.at), &id, message);
            } else if !known.contains(cost.key.value.as_str()) {
                let known = if known.is_empty() {
                    "none".to_owned()
                } else {
                    shown_list(known.iter().copied().take(MAX_LISTED))
                };
                let message = format!(
                    "{}.key: no route has `{}` among its llmRequestCosts, so nothing is counted (known keys: {known})",
                    cost.path, cost.key.value
                );
                self.findings.tell(Level::Warning, policy.meta.at(cost.key.at), &id, message);
            }
        }
        self.condition(&id, "", "Accepted", reason);
    }
}

//! Policies: what they are for, and whether what they count by is there.

use std::collections::BTreeSet;

use super::{MAX_LISTED, Resolver};
use crate::config::problem::shown_list;
use crate::standalone::finding::Level;
use crate::standalone::manifest::policy::{BackendTrafficPolicy, COST_NAMESPACE};

impl Resolver<'_> {
    /// Looks at all policies.
    pub(super) fn policies(&mut self) {
        let objects = self.objects;
        for policy in objects.traffic_policies.values() {
            self.traffic_policy(policy);
        }
        for policy in objects.security_policies.values() {
            let targets: Vec<_> =
                policy.targets.iter().map(|it| format!("{} {}", it.kind, it.name)).collect();
            let whom = if targets.is_empty() { "what it is for".to_owned() } else { targets.join(", ") };
            let message = format!("requests are sent to {whom} without the credentials that it would add");
            self.findings.tell(Level::Warning, policy.meta.place, &policy.meta.id(), message);
        }
    }

    fn traffic_policy(&mut self, policy: &BackendTrafficPolicy) {
        let objects = self.objects;
        let (id, namespace) = (policy.meta.id(), &policy.meta.namespace);
        let mut reason = "Accepted";
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
        if let Some(at) = policy.limits {
            let message = "spec.rateLimit: limits are not enforced without a rate limit service";
            self.findings.tell(Level::Warning, policy.meta.at(at), &id, message);
        }
        let costs = objects.routes.values().flat_map(|route| &route.costs);
        let costs = costs.chain(objects.configs.values().flat_map(|config| &config.costs));
        let known: BTreeSet<&str> = costs.map(|cost| cost.value.as_str()).collect();
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

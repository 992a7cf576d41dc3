//! Shares of a rule: where each reference leads, and what is changed on the way there.

use super::refs::{Broken, Referrer, names};
use super::{Resolver, secrets};
use crate::standalone::finding::Level;
use crate::standalone::manifest::ai_gateway_route::AI_GROUP;
use crate::standalone::manifest::backend::{AiServiceBackend, is_service};
use crate::standalone::manifest::policy::BackendSecurityPolicy;
use crate::standalone::manifest::route::BackendRef;
use crate::standalone::topology::{HeaderEdits, Share, Target};

impl Resolver<'_> {
    /// The share of a reference that leads somewhere.
    pub(super) fn share(&mut self, from: Referrer<'_>, to: &BackendRef) -> Result<Share, Broken> {
        let target = self.target(from, to)?;
        if let Some(why) = &to.refused {
            return Err(Broken::new("InvalidBackendFilters", why.clone(), ""));
        }
        let mut edits = to.edits.clone();
        let objects = self.objects;
        if to.kind == "AIServiceBackend"
            && let Some(backend) = objects.ai_backends.get(&names(from, to))
        {
            edits.request = merged(edits.request, &backend.edits);
            if let Some(key) = self.api_key(backend, &target)? {
                edits.request.set.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
                edits.request.set.push(("Authorization".to_owned(), format!("Bearer {key}")));
            }
        }
        Ok(Share { weight: to.weight, priority: to.priority, target, model: to.model.clone(), edits })
    }

    /// The key that a provider wants, if a policy has one; it only leaves over TLS.
    fn api_key(&mut self, backend: &AiServiceBackend, target: &Target) -> Result<Option<String>, Broken> {
        let Some((policy, to)) = self.key_policy(backend) else { return Ok(None) };
        let id = policy.meta.id();
        let refuse = |why: String| Err(Broken::new("InvalidBackendRef", why, ""));
        let Target::Backend { tls: Some(tls), .. } = target else {
            let short = format!("the API key of {id} is never sent without TLS");
            return Err(Broken::new("InvalidBackendTLS", short, "; add `spec.tls` to the Backend"));
        };
        if tls.insecure {
            let message = format!(
                "its API key is sent to {}, whose certificate nobody verifies; remove insecureSkipVerify",
                backend.meta.id()
            );
            self.findings.tell(Level::Warning, policy.meta.place, &id, message);
        }
        let namespace = to.0.as_ref().unwrap_or(&policy.meta.namespace);
        let from = Referrer { meta: &policy.meta, group: AI_GROUP };
        self.permit(from, ("", "Secret"), (namespace, &to.1))?;
        let Some(secret) = self.objects.secrets.get(&(namespace.clone(), to.1.clone())) else {
            return refuse(format!("Secret {namespace}/{} of {id} not found", to.1));
        };
        let key = secrets::text(secret, "apiKey").map(|key| key.trim().to_owned());
        match key {
            Ok(key) if !key.is_empty() && key.bytes().all(|c| c.is_ascii_graphic()) => Ok(Some(key)),
            Ok(_) => refuse(format!("Secret {namespace}/{}: `apiKey` is no key", to.1)),
            Err(why) => refuse(format!("Secret {namespace}/{}: {why}", to.1)),
        }
    }

    /// In versions before 0.2 only, an AIServiceBackend may refer to a Service.
    pub(super) fn older_form(&mut self) {
        let objects = self.objects;
        if self.is_older_form {
            return;
        }
        for backend in objects.ai_backends.values() {
            let Some(to) = backend.backend.as_ref().filter(|to| is_service(to)) else { continue };
            let message = "spec.backendRef.kind: a Service cannot be referred to here since version 0.2; make a `Backend` \
                           of group `gateway.envoyproxy.io` with its name as `fqdn`";
            self.findings.tell(Level::Error, backend.meta.at(to.at), &backend.meta.id(), message);
        }
    }
}

impl<'o> Resolver<'o> {
    /// The policy that has an API key for this backend, and its Secret.
    fn key_policy(
        &self,
        backend: &AiServiceBackend,
    ) -> Option<(&'o BackendSecurityPolicy, &'o (Option<String>, String))> {
        let is_for = |policy: &&BackendSecurityPolicy| {
            policy.meta.namespace == backend.meta.namespace
                && policy
                    .targets
                    .iter()
                    .any(|to| to.kind == "AIServiceBackend" && to.name == backend.meta.name)
        };
        self.objects
            .security_policies
            .values()
            .filter(is_for)
            .find_map(|policy| Some((policy, policy.secret.as_ref()?)))
    }
}

/// Edits of a route, and of its backend where the route says nothing; what either removes is removed.
fn merged(mut route: HeaderEdits, backend: &HeaderEdits) -> HeaderEdits {
    let is_named = |known: &str, name: &str| known.eq_ignore_ascii_case(name);
    for (name, value) in &backend.set {
        if !route.set.iter().any(|(known, _)| is_named(known, name)) {
            route.set.push((name.clone(), value.clone()));
        }
    }
    for name in &backend.remove {
        if !route.remove.iter().any(|known| is_named(known, name)) {
            route.remove.push(name.clone());
        }
    }
    route
}

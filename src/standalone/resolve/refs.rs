//! Where references lead: to a target, or why nowhere.

use super::{MAX_LISTED, Resolver};
use crate::config::problem::{did_you_mean, shown, shown_list};
use crate::discovery::kube::kinds::{OLDER_GROUP, POOL_GROUP};
use crate::standalone::finding::{Level, Place};
use crate::standalone::manifest::Meta;
use crate::standalone::manifest::ai_gateway_route::AI_GROUP;
use crate::standalone::manifest::backend::{AiServiceBackend, ENVOY_GROUP, is_service};
use crate::standalone::manifest::route::{BackendRef, GATEWAY_GROUP};
use crate::standalone::topology::{Address, Target};

/// Why a reference leads nowhere.
#[derive(Debug)]
pub(super) struct Broken {
    /// The word for the condition.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
    /// The same in few words.
    pub short: String,
}

impl Broken {
    pub(super) fn new(reason: &'static str, short: String, advice: &str) -> Self {
        Self { reason, message: format!("{short}{advice}"), short }
    }
}

/// An object that refers to another.
#[derive(Clone, Copy)]
pub(super) struct Referrer<'a> {
    /// The object.
    pub meta: &'a Meta,
    /// Its group.
    pub group: &'static str,
}

impl<'a> Referrer<'a> {
    /// A route, a gateway or a backend of either gateway's kinds.
    pub(super) fn of(meta: &'a Meta) -> Self {
        Self { meta, group: if meta.kind.starts_with("AI") { AI_GROUP } else { GATEWAY_GROUP } }
    }
}

impl Resolver<'_> {
    /// Where a rule's reference leads.
    pub(super) fn target(&mut self, from: Referrer<'_>, to: &BackendRef) -> Result<Target, Broken> {
        let group = to.group.as_deref();
        match (group, to.kind.as_str()) {
            (None | Some(POOL_GROUP | OLDER_GROUP), "InferencePool") => self.pool(from, to),
            (Some(""), "Service") => self.service(from, to),
            (Some(ENVOY_GROUP), "Backend") => self.backend(from, to),
            (Some(AI_GROUP), "AIServiceBackend") if from.group == AI_GROUP => self.ai_backend(from, to),
            (group, kind) => {
                let group = group.filter(|group| !group.is_empty()).unwrap_or("the core group");
                let expected = "; expected a Service, a Backend or an InferencePool";
                Err(Broken::new("InvalidKind", format!("no backend can be a {kind} of {group}"), expected))
            }
        }
    }

    /// Tells whether an object of another namespace may be referred to.
    pub(super) fn permit(
        &self,
        from: Referrer<'_>,
        (group, kind): (&str, &str),
        (namespace, name): (&str, &str),
    ) -> Result<(), Broken> {
        let own = from.meta;
        let is_permitted = namespace == own.namespace
            || self.objects.grants.values().filter(|grant| grant.meta.namespace == namespace).any(|grant| {
                let may = |(g, k, n): &(String, String, String)| {
                    (g.as_str(), k.as_str(), n.as_str()) == (from.group, own.kind, own.namespace.as_str())
                };
                let on = |(g, k, n): &(String, String, Option<String>)| {
                    (g.as_str(), k.as_str()) == (group, kind) && n.as_deref().is_none_or(|n| n == name)
                };
                grant.from.iter().any(may) && grant.to.iter().any(on)
            });
        if is_permitted {
            return Ok(());
        }
        let short = format!("no ReferenceGrant in namespace {namespace} permits it");
        let advice = format!(
            "; add: {{apiVersion: {GATEWAY_GROUP}/v1beta1, kind: ReferenceGrant, metadata: {{name: allow-{}, \
             namespace: {namespace}}}, spec: {{from: [{{group: {}, kind: {}, namespace: {}}}], to: [{{group: \
             \"{group}\", kind: {kind}}}]}}}}",
            own.namespace, from.group, own.kind, own.namespace
        );
        Err(Broken::new("RefNotPermitted", short, &advice))
    }

    fn pool(&mut self, from: Referrer<'_>, to: &BackendRef) -> Result<Target, Broken> {
        let objects = self.objects;
        let (namespace, name) = names(from, to);
        let find = |group| objects.pools.get(&(namespace.clone(), name.clone(), group));
        let wanted = match to.group.as_deref() {
            Some(OLDER_GROUP) => OLDER_GROUP,
            _ => POOL_GROUP,
        };
        let other = if wanted == POOL_GROUP { OLDER_GROUP } else { POOL_GROUP };
        let Some(pool) = find(wanted).or_else(|| find(other)) else {
            let known: Vec<_> =
                objects.pools.values().take(MAX_LISTED).map(|pool| pool.meta.full_name()).collect();
            let known = known.iter().map(String::as_str);
            let hint = did_you_mean(&format!("{namespace}/{name}"), known.clone());
            let list = if known.len() == 0 { "none".to_owned() } else { shown_list(known) };
            let advice = format!(
                " (known pools: {list}){hint}; if a guide applies it from an address, give that file with -f, too"
            );
            return Err(Broken::new(
                "BackendNotFound",
                format!("InferencePool {namespace}/{name} not found"),
                &advice,
            ));
        };
        self.permit(from, (pool.group, "InferencePool"), (&namespace, &name))?;
        let at = from.meta.at(to.at);
        if to.group.is_some() && pool.group != wanted {
            let message =
                format!("{}: the reference says group {wanted}, the pool is of {}", to.path, pool.group);
            self.findings.tell(Level::Warning, at, &from.meta.id(), message);
        }
        if let Some(port) = to.port.filter(|port| !pool.ports.contains(port)) {
            let message = format!("{}.port: {port} is none of the pool's ports, and has no effect", to.path);
            self.findings.tell(Level::Warning, at, &from.meta.id(), message);
        }
        Ok(Target::Pool { group: pool.group, namespace, name })
    }

    fn service(&self, from: Referrer<'_>, to: &BackendRef) -> Result<Target, Broken> {
        let (namespace, name) = names(from, to);
        self.permit(from, ("", "Service"), (&namespace, &name))?;
        let found = self.objects.services.get(&(namespace.clone(), name.clone()));
        let service = found.ok_or_else(|| not_found("Service", &namespace, &name))?;
        if service.is_external {
            let short = format!("Service {namespace}/{name} is an ExternalName");
            return Err(Broken::new("InvalidBackendRef", short, "; make a Backend with `fqdn` instead"));
        }
        let Some(port) = to.port else {
            let short = format!("the port of Service {namespace}/{name} is missing");
            return Err(Broken::new("PortNotSpecified", short, "; add `port`"));
        };
        if !service.has_port(port) {
            let short = format!("Service {namespace}/{name} has no port {port}");
            let advice = format!(" (it has {})", service.shown_ports());
            return Err(Broken::new("PortNotFound", short, &advice));
        }
        let Some(tls) = self.tls_policy("Service", &namespace, &name) else {
            return Ok(Target::Service { namespace, name, port });
        };
        let endpoints = vec![Address::Host(format!("{name}.{namespace}.svc.cluster.local"), port)];
        let tls = Some(self.upstream_tls(&namespace, &endpoints, tls)?);
        Ok(Target::Backend { namespace, name, endpoints, tls })
    }

    fn backend(&self, from: Referrer<'_>, to: &BackendRef) -> Result<Target, Broken> {
        let (namespace, name) = names(from, to);
        self.permit(from, (ENVOY_GROUP, "Backend"), (&namespace, &name))?;
        let found = self.objects.backends.get(&(namespace.clone(), name.clone()));
        let backend = found.ok_or_else(|| not_found("Backend", &namespace, &name))?;
        if backend.is_dynamic {
            let short = format!("Backend {namespace}/{name} is a DynamicResolver");
            return Err(Broken::new(
                "UnsupportedRefValue",
                short,
                ", which is not supported; give `endpoints`",
            ));
        }
        let endpoints = backend.endpoints.clone();
        let tls = backend.tls.as_ref().or_else(|| self.tls_policy("Backend", &namespace, &name));
        let tls = tls.map(|tls| self.upstream_tls(&namespace, &endpoints, tls)).transpose()?;
        Ok(Target::Backend { namespace, name, endpoints, tls })
    }

    fn ai_backend(&self, from: Referrer<'_>, to: &BackendRef) -> Result<Target, Broken> {
        let (namespace, name) = names(from, to);
        self.permit(from, (AI_GROUP, "AIServiceBackend"), (&namespace, &name))?;
        let found = self.objects.ai_backends.get(&(namespace.clone(), name.clone()));
        self.behind_ai(found.ok_or_else(|| not_found("AIServiceBackend", &namespace, &name))?)
    }

    /// Where an AIServiceBackend leads.
    pub(super) fn behind_ai(&self, backend: &AiServiceBackend) -> Result<Target, Broken> {
        if let Some(schema) = backend.schema.as_ref().filter(|schema| schema.value != "OpenAI") {
            let short = format!("schema {} needs requests to be translated", schema.value);
            return Err(Broken::new(
                "UnsupportedValue",
                short,
                ", which is not done here; only OpenAI is passed on",
            ));
        }
        let Some(to) = &backend.backend else {
            let short = format!("{} has no backend that can be used", backend.meta.id());
            return Err(Broken::new("InvalidBackendRef", short, ""));
        };
        let from = Referrer { meta: &backend.meta, group: AI_GROUP };
        if !is_service(to) {
            self.backend(from, to)
        } else if self.is_older_form {
            self.service(from, to)
        } else {
            let short = format!("{} has no backend that can be used", backend.meta.id());
            Err(Broken::new("InvalidBackendRef", short, ""))
        }
    }

    /// Tells of a reference that leads nowhere.
    pub(super) fn tell_broken(&mut self, meta: &Meta, to: &BackendRef, broken: &Broken, effect: &str) {
        let place: Place = meta.at(to.at);
        let message = format!("{}: {}; {effect}", to.path, broken.message);
        self.findings.tell(Level::Degraded, place, &meta.id(), message);
    }
}

pub(super) fn names(from: Referrer<'_>, to: &BackendRef) -> (String, String) {
    (to.namespace.clone().unwrap_or_else(|| from.meta.namespace.clone()), to.name.clone())
}

fn not_found(kind: &str, namespace: &str, name: &str) -> Broken {
    let short = format!("{kind} {namespace}/{name} not found");
    let advice = format!("; add it, or correct the name {}", shown(name));
    Broken::new("BackendNotFound", short, &advice)
}

//! All objects by kind, namespace and name: [`Objects`]. Of two with the same name the last counts, as it does when
//! they are applied one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Findings, Level};
use super::input::Document;
use super::manifest::backend::{AiServiceBackend, Backend};
use super::manifest::backend_tls::BackendTlsPolicy;
use super::manifest::gateway::{Gateway, GatewayClass, ReferenceGrant};
use super::manifest::model::{InferenceModel, InferenceModelRewrite, InferenceObjective};
use super::manifest::policy::{BackendSecurityPolicy, BackendTrafficPolicy, GatewayConfig};
use super::manifest::pool::InferencePool;
use super::manifest::route::Route;
use super::manifest::workload::{ConfigMap, Namespace, Secret, Service, Workload};
use super::manifest::{self, Meta, Object, PassedOver};
use crate::config::node::{Node, Value};

/// Objects of one kind, by namespace and name.
pub type Named<T> = BTreeMap<(String, String), T>;

/// All objects.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "they are named after their kinds")]
pub struct Objects {
    pub classes: Named<GatewayClass>,
    pub gateways: Named<Gateway>,
    pub grants: Named<ReferenceGrant>,
    /// Of both kinds; the name says which.
    pub routes: BTreeMap<(String, String, &'static str), Route>,
    pub ai_backends: Named<AiServiceBackend>,
    pub backends: Named<Backend>,
    pub tls_policies: Named<BackendTlsPolicy>,
    /// By group as well.
    pub pools: BTreeMap<(String, String, &'static str), InferencePool>,
    /// By group as well, like the next.
    pub objectives: BTreeMap<(String, String, &'static str), InferenceObjective>,
    pub rewrites: BTreeMap<(String, String, &'static str), InferenceModelRewrite>,
    pub models: Named<InferenceModel>,
    pub traffic_policies: Named<BackendTrafficPolicy>,
    pub security_policies: Named<BackendSecurityPolicy>,
    pub configs: Named<GatewayConfig>,
    pub services: Named<Service>,
    pub config_maps: Named<ConfigMap>,
    pub secrets: Named<Secret>,
    pub namespaces: Named<Namespace>,
    pub workloads: BTreeMap<(String, String, &'static str), Workload>,
    /// Objects with errors, by id: what would follow from them is not told.
    pub broken: BTreeSet<String>,
}

impl Objects {
    /// Reads all documents; `namespace` is that of objects that name none.
    pub fn read(documents: &[Document], namespace: &str, findings: &mut Findings) -> Self {
        let (mut objects, mut passed) = (Self::default(), PassedOver::default());
        let mut seen: BTreeMap<String, &Document> = BTreeMap::new();
        for document in documents {
            let Some((object, is_broken)) = manifest::read(document, namespace, &mut passed, findings) else {
                continue;
            };
            let meta = object.meta();
            if is_broken {
                objects.broken.insert(meta.id());
            }
            let key = format!("{} {}", object.group(), meta.id());
            if let Some(before) = seen.insert(key, document)
                && !is_same(&before.root, &document.root)
            {
                let message = "given again, otherwise than before; the last one counts";
                findings.tell(Level::Warning, meta.place, &meta.id(), message);
                let message = "not used: it is given again further on, otherwise";
                findings.tell(Level::Warning, before.place(), &meta.id(), message);
            }
            objects.insert(object);
        }
        passed.tell(findings);
        objects
    }

    fn insert(&mut self, object: Object) {
        let key = (object.meta().namespace.clone(), object.meta().name.clone());
        let kind = object.meta().kind;
        match object {
            Object::GatewayClass(it) => drop(self.classes.insert(key, it)),
            Object::Gateway(it) => drop(self.gateways.insert(key, it)),
            Object::Grant(it) => drop(self.grants.insert(key, it)),
            Object::Route(it) => drop(self.routes.insert((key.0, key.1, kind), it)),
            Object::AiServiceBackend(it) => drop(self.ai_backends.insert(key, it)),
            Object::Backend(it) => drop(self.backends.insert(key, it)),
            Object::BackendTlsPolicy(it) => drop(self.tls_policies.insert(key, it)),
            Object::InferencePool(it) => drop(self.pools.insert((key.0, key.1, it.group), it)),
            Object::InferenceObjective(it) => drop(self.objectives.insert((key.0, key.1, it.group), it)),
            Object::InferenceModelRewrite(it) => drop(self.rewrites.insert((key.0, key.1, it.group), it)),
            Object::InferenceModel(it) => drop(self.models.insert(key, it)),
            Object::TrafficPolicy(it) => drop(self.traffic_policies.insert(key, it)),
            Object::SecurityPolicy(it) => drop(self.security_policies.insert(key, it)),
            Object::GatewayConfig(it) => drop(self.configs.insert(key, it)),
            Object::Service(it) => drop(self.services.insert(key, it)),
            Object::ConfigMap(it) => drop(self.config_maps.insert(key, it)),
            Object::Secret(it) => drop(self.secrets.insert(key, it)),
            Object::Namespace(it) => drop(self.namespaces.insert(key, it)),
            Object::Workload(it) => drop(self.workloads.insert((key.0, key.1, kind), it)),
        }
    }
}

impl Object {
    /// Kind, names and place.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::GatewayClass(it) => &it.meta,
            Self::Gateway(it) => &it.meta,
            Self::Grant(it) => &it.meta,
            Self::Route(it) => &it.meta,
            Self::AiServiceBackend(it) => &it.meta,
            Self::Backend(it) => &it.meta,
            Self::BackendTlsPolicy(it) => &it.meta,
            Self::InferencePool(it) => &it.meta,
            Self::InferenceObjective(it) => &it.meta,
            Self::InferenceModelRewrite(it) => &it.meta,
            Self::InferenceModel(it) => &it.meta,
            Self::TrafficPolicy(it) => &it.meta,
            Self::SecurityPolicy(it) => &it.meta,
            Self::GatewayConfig(it) => &it.meta,
            Self::Service(it) => &it.meta,
            Self::ConfigMap(it) => &it.meta,
            Self::Secret(it) => &it.meta,
            Self::Namespace(it) => &it.meta,
            Self::Workload(it) => &it.meta,
        }
    }

    /// What tells objects of one kind and name apart.
    fn group(&self) -> &'static str {
        match self {
            Self::InferencePool(it) => it.group,
            Self::InferenceObjective(it) => it.group,
            Self::InferenceModelRewrite(it) => it.group,
            _ => "",
        }
    }
}

/// Whether two values are the same, wherever they are written.
fn is_same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(&a.0, &b.0) && is_same(&a.1, &b.1))
        }
        (a, b) => a == b,
    }
}

//! One document → one [`Object`], with every default applied and everything wrong told. Entry point: [`read`].
//!
//! It looks at no other object. Kinds that mean nothing here are passed over.

pub mod ai_gateway_route;
pub mod backend;
pub mod backend_tls;
pub mod gateway;
pub mod http_route;
pub mod map;
pub mod model;
pub mod policy;
pub mod pool;
pub mod route;
pub mod server;
pub mod values;
pub mod workload;

mod filters;
mod kinds;
mod rates;

use std::collections::BTreeMap;

use self::map::{Log, Map};
use super::finding::{Findings, Level, Place};
use super::input::Document;
use crate::config::Located;
use crate::config::problem::{Position, Problem};

/// What all objects have.
#[derive(Clone, Debug)]
pub struct Meta {
    /// The kind.
    pub kind: &'static str,
    /// The namespace; empty for kinds that have none.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// Where the object begins.
    pub place: Place,
    /// When it was made, if that is written.
    pub created: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, Located<String>>,
    /// Its annotations.
    pub annotations: BTreeMap<String, Located<String>>,
}

impl Meta {
    /// What messages call it: `HTTPRoute default/llama`.
    pub fn id(&self) -> String {
        format!("{} {}", self.kind, self.full_name())
    }

    /// Namespace and name.
    pub fn full_name(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }

    /// A place in the object's file.
    pub fn at(&self, at: Position) -> Place {
        Place { file: self.place.file, at }
    }
}

/// An object of a kind that is used.
#[derive(Debug)]
#[expect(missing_docs, reason = "they are named after their kinds")]
pub enum Object {
    GatewayClass(gateway::GatewayClass),
    Gateway(gateway::Gateway),
    Grant(gateway::ReferenceGrant),
    Route(route::Route),
    AiServiceBackend(backend::AiServiceBackend),
    Backend(backend::Backend),
    BackendTlsPolicy(backend_tls::BackendTlsPolicy),
    InferencePool(pool::InferencePool),
    InferenceObjective(model::InferenceObjective),
    InferenceModelRewrite(model::InferenceModelRewrite),
    InferenceModel(model::InferenceModel),
    TrafficPolicy(policy::BackendTrafficPolicy),
    SecurityPolicy(policy::BackendSecurityPolicy),
    GatewayConfig(policy::GatewayConfig),
    Service(workload::Service),
    ConfigMap(workload::ConfigMap),
    Secret(workload::Secret),
    Namespace(workload::Namespace),
    Workload(workload::Workload),
}

/// What is passed over, for one message each at the end.
#[derive(Debug, Default)]
pub struct PassedOver {
    /// Kinds with no meaning here, with the first place of each, and how many there are.
    kinds: BTreeMap<String, (Place, usize)>,
    /// Fields of kinds, with the first place of each.
    fields: BTreeMap<(&'static str, String), Place>,
}

impl PassedOver {
    /// Tells it.
    pub fn tell(self, findings: &mut Findings) {
        for (kind, (place, n)) in self.kinds {
            let message = format!("{kind} has no effect here ({n} passed over)");
            findings.push(super::finding::Finding { level: Level::Notice, place, object: None, message });
        }
        let mut by_kind: BTreeMap<&str, (Place, Vec<String>)> = BTreeMap::new();
        for ((kind, field), place) in self.fields {
            let (first, fields) = by_kind.entry(kind).or_insert_with(|| (place, Vec::new()));
            *first = place.min(*first);
            fields.push(field);
        }
        for (kind, (place, fields)) in by_kind {
            let message = format!("of {kind} these fields have no effect here: {}", fields.join(", "));
            findings.push(super::finding::Finding { level: Level::Notice, place, object: None, message });
        }
    }
}

/// Reads a document, and tells whether it has errors; `namespace` is that of objects that name none.
pub fn read(
    document: &Document,
    namespace: &str,
    passed: &mut PassedOver,
    findings: &mut Findings,
) -> Option<(Object, bool)> {
    let log = Log::new(document.is_page);
    let mut id = None;
    let object = read_logged(document, namespace, passed, (&log, &mut id));
    let missing = log.missing();
    let is_example = document.is_page && !missing.is_empty();
    let (problems, ignored) = log.into_parts();
    if is_example {
        let missing = missing.join(", ");
        let message = format!("incomplete example, skipped (missing {missing})");
        let (level, place, object) = (Level::Notice, document.place(), id.map(|(_, id)| id));
        findings.push(super::finding::Finding { level, place, object, message });
        return None;
    }
    let is_broken = problems.iter().any(Problem::is_error);
    for problem in problems {
        findings.problem(document.file, id.as_ref().map(|(_, id)| id.as_str()), problem);
    }
    for (field, at) in ignored {
        let Some((kind, _)) = id else { continue };
        passed.fields.entry((kind, field)).or_insert(Place { file: document.file, at });
    }
    object.map(|object| (object, is_broken))
}

/// Kind, and what messages call the object.
type Id = Option<(&'static str, String)>;

fn read_logged(
    document: &Document,
    namespace: &str,
    passed: &mut PassedOver,
    (log, id): (&Log, &mut Id),
) -> Option<Object> {
    let top = Map::open(&document.root, String::new(), log)?;
    if !top.has("apiVersion") && !top.has("kind") && document.is_page {
        log.note(top.at, "a fragment without `apiVersion` and `kind`, skipped");
        return None;
    }
    let (version, kind) = (top.required("apiVersion"), top.required("kind"));
    let (version, kind) = (version?, kind?);
    let (group, version) = version.value.rsplit_once('/').unwrap_or(("", &version.value));
    let (kind, reader) = match kinds::find(group, version, &kind.value) {
        kinds::Found::Known(kind, reader) => (kind, reader),
        kinds::Found::Wrong(message) => {
            top.error("apiVersion", message);
            return None;
        }
        kinds::Found::Silent => return None,
        kinds::Found::Other => {
            let name = if group.is_empty() { kind.value } else { format!("{} of {group}", kind.value) };
            passed.kinds.entry(name).or_insert((document.place(), 0)).1 += 1;
            return None;
        }
    };
    let meta = read_meta(&top, kind, document.place(), namespace);
    *id = Some((kind, meta.as_ref().map_or_else(|| format!("{kind} without a name"), Meta::id)));
    top.pass(&["status"]);
    let object = reader(&top, meta?);
    if object.is_some() {
        top.finish();
    }
    object
}

fn read_meta(top: &Map<'_>, kind: &'static str, place: Place, namespace: &str) -> Option<Meta> {
    let map = top.required_map("metadata")?;
    let name = map.required_checked("name", values::name);
    let own = map.checked("namespace", values::namespace);
    let created = map.checked("creationTimestamp", values::timestamp);
    let (labels, annotations) = (map.labels("labels"), map.labels("annotations"));
    map.pass(&["uid", "generation", "resourceVersion", "managedFields", "finalizers", "ownerReferences"]);
    map.pass(&["generateName", "selfLink", "deletionTimestamp"]);
    map.finish();
    let namespace = match own {
        _ if kinds::CLUSTER_SCOPED.contains(&kind) => String::new(),
        Some(own) => own.value,
        None => namespace.to_owned(),
    };
    let created = created.map(|created| created.value);
    Some(Meta { kind, namespace, name: name?.value, place, created, labels, annotations })
}

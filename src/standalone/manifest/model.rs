//! What is bound to a pool: InferenceObjective, `InferenceModelRewrite`, and the older InferenceModel.

use super::map::Map;
use super::{Meta, Object, values};
use crate::config::Located;
use crate::discovery::index::rewrites::{Criticality, RewriteMatch, RewriteRule, RewriteTarget};
use crate::discovery::kube::kinds::{LLM_D_GROUP, OLDER_GROUP, POOL_GROUP};

/// Largest weight of a target.
const MAX_WEIGHT: i64 = 1_000_000;

/// The pool that an object is bound to.
#[derive(Debug)]
pub struct PoolRef {
    /// Its name; it is in the object's namespace.
    pub name: Located<String>,
    /// Its group, as written or by default.
    pub group: &'static str,
}

/// What requests to a pool are worth.
#[derive(Debug)]
pub struct InferenceObjective {
    /// Its name, and where it is.
    pub meta: Meta,
    /// Its API group.
    pub group: &'static str,
    /// The pool.
    pub pool: Option<PoolRef>,
    /// Its priority.
    pub priority: i32,
}

/// Reads an objective.
pub fn read_objective(top: &Map<'_>, meta: Meta) -> Option<Object> {
    objective(top, meta, OLDER_GROUP)
}

/// Reads an objective of llm-d.
pub fn read_newer_objective(top: &Map<'_>, meta: Meta) -> Option<Object> {
    objective(top, meta, LLM_D_GROUP)
}

fn objective(top: &Map<'_>, meta: Meta, group: &'static str) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let priority = spec.integer("priority", i64::from(i32::MIN)..=i64::from(i32::MAX));
    let priority = priority.and_then(|priority| i32::try_from(priority).ok()).unwrap_or(0);
    let pool = pool_ref(&spec, POOL_GROUP);
    spec.finish();
    Some(Object::InferenceObjective(InferenceObjective { meta, group, pool, priority }))
}

fn pool_ref(spec: &Map<'_>, default: &'static str) -> Option<PoolRef> {
    let map = spec.required_map("poolRef")?;
    let group = map.choice("group", &[POOL_GROUP, OLDER_GROUP]).map_or(default, |group| group.value);
    map.choice("kind", &["InferencePool"]);
    let name = map.required_checked("name", values::name);
    map.finish();
    Some(PoolRef { name: name?, group })
}

/// A model of a pool, as versions before v1 had it.
#[derive(Debug)]
pub struct InferenceModel {
    /// Its name, and where it is.
    pub meta: Meta,
    /// The model that clients ask for.
    pub model: Option<Located<String>>,
    /// The pool.
    pub pool: Option<PoolRef>,
    /// How much its requests matter.
    pub criticality: Option<Criticality>,
    /// What requests are sent to; none means the model itself.
    pub targets: Vec<RewriteTarget>,
}

/// Reads a model.
pub fn read_model(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let model = spec.required_checked("modelName", values::anything);
    if model.as_ref().is_some_and(|model| model.value.len() > 256) {
        spec.error("modelName", "expected at most 256 characters");
    }
    let criticality = spec.choice("criticality", &["Critical", "Standard", "Sheddable"]);
    let criticality = criticality.map(|word| match word.value {
        "Critical" => Criticality::Critical,
        "Standard" => Criticality::Standard,
        _ => Criticality::Sheddable,
    });
    let targets = targets(&spec, "targetModels", "name");
    let pool = pool_ref(&spec, OLDER_GROUP);
    spec.finish();
    Some(Object::InferenceModel(InferenceModel { meta, model, pool, criticality, targets }))
}

/// Reads models and their weights.
fn targets<'a>(map: &Map<'a>, list: &'a str, name: &'a str) -> Vec<RewriteTarget> {
    let mut targets = Vec::new();
    let maps = map.maps(list, 10);
    let (n_targets, mut n_weights) = (maps.len(), 0);
    for map in maps {
        let model = map.required_checked(name, values::anything);
        n_weights += usize::from(map.has("weight"));
        let weight = map.integer("weight", 1..=MAX_WEIGHT).and_then(|weight| u32::try_from(weight).ok());
        map.finish();
        targets.extend(model.map(|model| RewriteTarget { model: model.value, weight }));
    }
    if n_weights != 0 && n_weights != n_targets {
        map.error(list, "expected weights on all of them or on none");
    }
    targets
}

/// Which models are served by others.
#[derive(Debug)]
pub struct InferenceModelRewrite {
    /// Its name, and where it is.
    pub meta: Meta,
    /// Its API group.
    pub group: &'static str,
    /// The pool.
    pub pool: Option<PoolRef>,
    /// Its rules.
    pub rules: Vec<RewriteRule>,
}

/// Reads a rewrite.
pub fn read_rewrite(top: &Map<'_>, meta: Meta) -> Option<Object> {
    rewrite(top, meta, OLDER_GROUP)
}

/// Reads a rewrite of llm-d.
pub fn read_newer_rewrite(top: &Map<'_>, meta: Meta) -> Option<Object> {
    rewrite(top, meta, LLM_D_GROUP)
}

fn rewrite(top: &Map<'_>, meta: Meta, group: &'static str) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let pool = pool_ref(&spec, POOL_GROUP);
    if !spec.has("rules") {
        spec.lacks("rules");
    }
    let mut rules = Vec::new();
    for map in spec.maps("rules", 256) {
        let matches = map.maps("matches", 64).into_iter().map(matched).collect();
        if !map.has("targets") {
            map.lacks("targets");
        }
        let targets = targets(&map, "targets", "modelRewrite");
        map.pass(&["name"]);
        map.finish();
        rules.push(RewriteRule { matches, targets });
    }
    spec.finish();
    Some(Object::InferenceModelRewrite(InferenceModelRewrite { meta, group, pool, rules }))
}

fn matched(map: Map<'_>) -> RewriteMatch {
    let model = map.map("model").and_then(|model| {
        model.choice("type", &["Exact"]);
        let value = model.required_checked("value", values::anything);
        model.finish();
        value.map(|value| value.value)
    });
    let mut headers = Vec::new();
    for header in map.maps("headers", 16) {
        header.choice("type", &["Exact"]);
        let name = header.required_checked("name", values::header_name);
        let value = header.required("value");
        header.finish();
        headers.extend(name.zip(value).map(|(name, value)| (name.value.to_ascii_lowercase(), value.value)));
    }
    if model.is_none() && headers.is_empty() {
        map.log().error(map.at, format!("{}: expected `model` or `headers`", map.path));
    }
    map.finish();
    RewriteMatch { model, headers }
}

//! AIGatewayRoute, and the costs that GatewayConfig has as well. Entry point: [`read`].

use std::time::Duration;

use epp_plugins::{COST_TYPES, check_cost_expression};

use super::http_route::tell_mixture;
use super::map::Map;
use super::route::{
    BackendRef, CostRule, Match, Route, Rule, check_names, parents, timeouts, value_matches, weight,
};
use super::{Meta, Object, values};
use crate::discovery::kube::kinds::{OLDER_GROUP, POOL_GROUP};
use crate::standalone::topology::{Cost, Edits, HeaderEdits};

/// Group of Envoy AI Gateway's kinds.
pub const AI_GROUP: &str = "aigateway.envoyproxy.io";

/// The rule that is added behind all others.
const RESERVED: &str = "route-not-found";

/// What applies to a rule that says nothing.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Most rules: one of an HTTPRoute's sixteen is the added one.
const MAX_RULES: usize = 15;

/// Reads one.
pub fn read(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let mut all = parents(&spec, "parentRefs", 16);
    if spec.has("targetRefs") {
        if spec.has("parentRefs") {
            spec.error("targetRefs", "targetRefs and parentRefs exclude each other; remove targetRefs");
        } else {
            spec.warning("targetRefs", "the older name of parentRefs, read as such");
        }
    }
    all.extend(parents(&spec, "targetRefs", 16));
    let hostnames = spec.texts("hostnames", 16, values::hostname);
    if !spec.has("rules") {
        spec.lacks("rules");
    }
    let mut maps = spec.maps("rules", usize::MAX);
    if maps.len() > MAX_RULES {
        let found = maps.len();
        spec.error("rules", format!("expected at most {MAX_RULES} rules, found {found}; split the route"));
        maps.truncate(MAX_RULES);
    }
    let mut names = Vec::new();
    let rules = maps
        .into_iter()
        .map(|map| {
            let name = map.checked("name", values::name);
            let rule = read_rule(map, name.as_ref().map(|name| name.value.clone()));
            names.extend(name);
            rule
        })
        .collect();
    check_names(&names, &[RESERVED], &spec);
    let costs = costs(&spec, "llmRequestCosts");
    spec.ignore(&["filterConfig", "schema"]);
    spec.finish();
    Some(Object::Route(Route { meta, is_ai: true, parents: all, hostnames, rules, costs }))
}

fn read_rule(map: Map<'_>, name: Option<String>) -> Rule {
    let mut matches = Vec::new();
    for item in map.maps("matches", 64) {
        matches.push(Match { headers: value_matches(&item, "headers"), ..Match::any() });
        item.finish();
    }
    if matches.is_empty() {
        matches.push(Match::any());
    }
    let mut backends = Vec::new();
    for item in map.maps("backendRefs", 128) {
        backends.extend(backend_ref(&item));
        item.finish();
    }
    let pools = backends.iter().filter(|backend| backend.kind == "InferencePool").count();
    tell_mixture(&map, pools, backends.len());
    let mut limits = timeouts(&map);
    limits.request.get_or_insert(DEFAULT_TIMEOUT);
    limits.stream_idle = map.duration("streamIdleTimeout");
    let owner = map.text("modelsOwnedBy").map(|owner| owner.value).filter(|owner| !owner.is_empty());
    let created = map.checked("modelsCreatedAt", values::timestamp);
    let created = created.and_then(|created| values::seconds(&created.value));
    let plain = Rule::plain(map.at, map.path.clone());
    map.finish();
    Rule { name, matches, backends, limits, models: (owner, created), ..plain }
}

fn backend_ref(item: &Map<'_>) -> Option<BackendRef> {
    let name = item.required_checked("name", values::name);
    let namespace = item.checked("namespace", values::namespace).map(|namespace| namespace.value);
    let group = item.checked("group", values::group).map(|group| group.value);
    let kind = item.checked("kind", values::kind).map(|kind| kind.value);
    let weight = weight(item);
    let is_pool = kind.as_deref() == Some("InferencePool");
    let priority = item.integer("priority", 0..=i64::from(u32::MAX));
    let priority = priority.and_then(|priority| u32::try_from(priority).ok()).unwrap_or(0);
    let model = item.text("modelNameOverride").map(|name| name.value).filter(|name| !name.is_empty());
    let (request, changes_body) = (header_mutation(item), body_mutation(item));
    for (key, given) in [
        ("priority", priority > 0),
        ("modelNameOverride", model.is_some()),
        ("headerMutation", request.is_some()),
        ("bodyMutation", changes_body),
    ] {
        if given && is_pool {
            item.warning(key, "it has no effect on an InferencePool");
        }
    }
    if changes_body && !is_pool {
        item.warning("bodyMutation", NO_BODY_MUTATION);
    }
    let (group, kind) = written(item, group, kind.as_deref())?;
    let (at, path) = (item.at, item.path.clone());
    let plain = BackendRef::plain(at, path, name?.value);
    let edits = Edits { request: request.unwrap_or_default(), ..Edits::default() };
    let backend = BackendRef { group, kind, namespace, weight, ..plain };
    Some(if is_pool { backend } else { BackendRef { priority, model, edits, ..backend } })
}

/// Group and kind, as far as they may be written.
fn written(item: &Map<'_>, group: Option<String>, kind: Option<&str>) -> Option<(Option<String>, String)> {
    let own = || (Some(AI_GROUP.to_owned()), "AIServiceBackend".to_owned());
    match (group, kind) {
        (None, None) => Some(own()),
        (Some(group), Some("AIServiceBackend")) if group == AI_GROUP => {
            item.warning("kind", "AIServiceBackend is what is meant without group and kind; omit them both");
            Some(own())
        }
        (Some(group), Some("InferencePool")) if [POOL_GROUP, OLDER_GROUP].contains(&group.as_str()) => {
            Some((Some(group), "InferencePool".to_owned()))
        }
        (None, Some("InferencePool")) => {
            let message = format!(
                "`InferencePool` without a group is the form of an old version; read as such, better add \
                 `group: {POOL_GROUP}`"
            );
            item.warning("kind", message);
            Some((None, "InferencePool".to_owned()))
        }
        (Some(_), None) => {
            item.error("group", "a group needs a kind; add `kind: InferencePool`, or omit the group");
            None
        }
        (..) => {
            let message = format!(
                "expected `InferencePool` of group `{POOL_GROUP}`, or neither group nor kind for an AIServiceBackend"
            );
            item.error("kind", message);
            None
        }
    }
}

/// What is told where bodies would be changed.
pub(super) const NO_BODY_MUTATION: &str = "bodies are not changed here; it has no effect";

/// Reads `headerMutation`, if it is there.
pub(super) fn header_mutation(item: &Map<'_>) -> Option<HeaderEdits> {
    let map = item.map("headerMutation")?;
    let mut edits = HeaderEdits::default();
    for entry in map.maps("set", 16) {
        let name = entry.required_checked("name", values::header_name);
        let value = entry.required_checked("value", values::header_value);
        entry.finish();
        edits.set.extend(name.zip(value).map(|(name, value)| (name.value, value.value)));
    }
    let removed = map.texts("remove", 16, values::header_name);
    edits.remove.extend(removed.into_iter().map(|name| name.value));
    map.finish();
    Some(edits)
}

/// Reads `bodyMutation`; whether there is one.
pub(super) fn body_mutation(item: &Map<'_>) -> bool {
    let Some(map) = item.map("bodyMutation") else { return false };
    for entry in map.maps("set", 16) {
        entry.required("path");
        entry.required("value");
        entry.finish();
    }
    map.texts("remove", 16, values::anything);
    map.finish();
    true
}

/// Reads costs; of a key that stands twice the last one.
pub(super) fn costs(spec: &Map<'_>, list: &'static str) -> Vec<CostRule> {
    let mut costs: Vec<CostRule> = Vec::new();
    for item in spec.maps(list, 36) {
        if !item.has("type") {
            item.lacks("type");
        }
        let kind = item.choice("type", &COST_TYPES).map(|kind| kind.value);
        let cel = item.text("cel").filter(|cel| !cel.value.trim().is_empty());
        match (kind, &cel) {
            (Some("CEL"), None) => item.error("type", "`CEL` needs an expression; add `cel`"),
            (Some("CEL"), Some(cel)) => {
                if let Err(wrong) = check_cost_expression(&cel.value) {
                    item.error("cel", wrong);
                }
            }
            (Some(kind), Some(_)) => item.warning("cel", format!("it has no effect with type `{kind}`")),
            _ => {}
        }
        let key = item.required_checked("metadataKey", values::anything).map(|key| key.value);
        if key.as_ref().is_some_and(|key| costs.iter().any(|known| known.cost.key == *key)) {
            item.warning("metadataKey", "the key stands twice; the last counts");
        }
        let (at, path) = (item.at, item.path.clone());
        item.finish();
        let (Some(kind), Some(key)) = (kind, key) else { continue };
        let cel = cel.filter(|_| kind == "CEL").map(|cel| cel.value);
        costs.retain(|known| known.cost.key != key);
        costs.push(CostRule { at, path, cost: Cost { key, kind, cel } });
    }
    costs
}

//! AIGatewayRoute, and the costs that GatewayConfig has as well. Entry point: [`read`].

use epp_plugins::COST_TYPES;

use super::http_route::tell_mixture;
use super::map::Map;
use super::route::{
    Action, BackendRef, Match, Route, Rule, check_names, parents, timeout, value_matches, weight,
};
use super::{Meta, Object, values};
use crate::config::Located;
use crate::discovery::kube::kinds::{OLDER_GROUP, POOL_GROUP};

/// Group of Envoy AI Gateway's kinds.
pub const AI_GROUP: &str = "aigateway.envoyproxy.io";

/// The rule that is added behind all others.
const RESERVED: &str = "route-not-found";

/// What applies to a rule that says nothing.
const DEFAULT_TIMEOUT: &str = "60s";

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
            names.extend(map.checked("name", values::name));
            read_rule(map)
        })
        .collect();
    check_names(&names, &[RESERVED], &spec);
    let costs = costs(&spec, "llmRequestCosts");
    spec.ignore(&["filterConfig", "schema"]);
    spec.finish();
    Some(Object::Route(Route { meta, is_ai: true, parents: all, hostnames, rules, costs }))
}

fn read_rule(map: Map<'_>) -> Rule {
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
    let timeout = timeout(&map).or_else(|| Some(DEFAULT_TIMEOUT.to_owned()));
    map.checked("streamIdleTimeout", values::duration);
    map.text("modelsOwnedBy");
    map.checked("modelsCreatedAt", values::timestamp);
    let rule =
        Rule { at: map.at, path: map.path.clone(), matches, backends, action: Action::Forward, timeout };
    map.finish();
    rule
}

fn backend_ref(item: &Map<'_>) -> Option<BackendRef> {
    let name = item.required_checked("name", values::name);
    let namespace = item.checked("namespace", values::namespace).map(|namespace| namespace.value);
    let group = item.checked("group", values::group).map(|group| group.value);
    let kind = item.checked("kind", values::kind).map(|kind| kind.value);
    let weight = weight(item);
    let is_pool = kind.as_deref() == Some("InferencePool");
    if item.integer("priority", 0..=i64::from(u32::MAX)).is_some_and(|priority| priority > 0) && is_pool {
        item.warning("priority", "it has no effect on an InferencePool");
    }
    let name_override = item.text("modelNameOverride");
    for (key, given) in [
        ("modelNameOverride", name_override.is_some_and(|name| !name.value.is_empty())),
        ("headerMutation", mutation(item, "headerMutation")),
        ("bodyMutation", mutation(item, "bodyMutation")),
    ] {
        if given && is_pool {
            item.warning(key, "it has no effect on an InferencePool");
        }
    }
    let (group, kind) = written(item, group, kind.as_deref())?;
    let (at, path) = (item.at, item.path.clone());
    Some(BackendRef { at, path, group, kind, name: name?.value, namespace, port: None, weight })
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

/// Reads a mutation; whether there is one.
pub(super) fn mutation(item: &Map<'_>, key: &'static str) -> bool {
    let Some(map) = item.map(key) else { return false };
    for entry in map.maps("set", 16) {
        entry.required(if key == "headerMutation" { "name" } else { "path" });
        entry.required("value");
        entry.finish();
    }
    map.texts("remove", 16, values::anything);
    map.finish();
    true
}

/// Reads costs: the keys under which they are left.
pub(super) fn costs(spec: &Map<'_>, list: &'static str) -> Vec<Located<String>> {
    let mut keys: Vec<Located<String>> = Vec::new();
    for item in spec.maps(list, 36) {
        if !item.has("type") {
            item.lacks("type");
        }
        let kind = item.choice("type", &COST_TYPES).map(|kind| kind.value);
        let cel = item.text("cel").filter(|cel| !cel.value.trim().is_empty());
        match (kind, cel) {
            (Some("CEL"), None) => item.error("type", "`CEL` needs an expression; add `cel`"),
            (Some(kind), Some(_)) if kind != "CEL" => {
                item.warning("cel", format!("it has no effect with type `{kind}`"));
            }
            _ => {}
        }
        let key = item.required_checked("metadataKey", values::anything);
        if key.as_ref().is_some_and(|key| keys.iter().any(|known| known.value == key.value)) {
            item.warning("metadataKey", "the key stands twice; the last counts");
        }
        keys.extend(key);
        item.finish();
    }
    keys
}

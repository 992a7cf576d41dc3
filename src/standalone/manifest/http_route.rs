//! HTTPRoute. Entry point: [`read`].

use super::filters::{self, Filters};
use super::map::Map;
use super::route::{
    BackendRef, Match, PathKind, Route, Rule, check_names, parents, timeouts, value_matches, weight,
};
use super::{Meta, Object, values};
use crate::standalone::topology::{Limits, Retry};

/// How often a request is tried again if nothing says it.
pub(super) const ATTEMPTS: u32 = 2;

/// What is tried again if nothing says it.
pub(super) const TRIGGERS: [&str; 5] =
    ["connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes"];

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Reads one.
pub fn read(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let parents = parents(&spec, "parentRefs", 32);
    let hostnames = spec.texts("hostnames", 16, values::hostname);
    let mut names = Vec::new();
    let maps = spec.maps("rules", 16);
    let n_rules = maps.len();
    let mut rules: Vec<Rule> = maps
        .into_iter()
        .map(|map| {
            let name = map.checked("name", values::name);
            let rule = read_rule(map, name.as_ref().map(|name| name.value.clone()));
            names.extend(name);
            rule
        })
        .collect();
    check_names(&names, &[], &spec);
    let n_matches: usize = rules.iter().map(|rule| rule.matches.len()).sum();
    if n_matches > 128 {
        spec.error("rules", format!("expected at most 128 matches in all rules, found {n_matches}"));
    }
    if n_rules == 0 && !spec.has("rules") {
        rules.push(Rule::plain(spec.at, spec.path_of("rules[0]")));
    }
    spec.ignore(&["useDefaultGateways"]);
    spec.finish();
    Some(Object::Route(Route { meta, is_ai: false, parents, hostnames, rules, costs: Vec::new() }))
}

fn read_rule(map: Map<'_>, name: Option<String>) -> Rule {
    let matches = matches(&map);
    let backends = backends(&map);
    let Filters { action, edits } = filters::read(&map, &matches, !backends.is_empty());
    let limits = Limits { retry: retry(&map), ..timeouts(&map) };
    map.ignore(&["sessionPersistence"]);
    let plain = Rule::plain(map.at, map.path.clone());
    map.finish();
    Rule { name, matches, backends, action, edits, limits, ..plain }
}

fn matches(map: &Map<'_>) -> Vec<Match> {
    let mut matches = Vec::new();
    for item in map.maps("matches", 64) {
        let method = item.choice("method", &METHODS).map(|method| method.value);
        let mut one = Match {
            method,
            headers: value_matches(&item, "headers"),
            query: value_matches(&item, "queryParams"),
            ..Match::any()
        };
        if let Some(path) = item.map("path") {
            (one.path_kind, one.path) = read_path(path);
        }
        item.finish();
        matches.push(one);
    }
    if matches.is_empty() {
        matches.push(Match::any());
    }
    matches
}

fn read_path(map: Map<'_>) -> (PathKind, String) {
    let kind = map.choice("type", &["Exact", "PathPrefix", "RegularExpression"]);
    let kind = match kind.map(|kind| kind.value) {
        Some("Exact") => PathKind::Exact,
        Some("RegularExpression") => PathKind::Regex,
        _ => PathKind::Prefix,
    };
    let check = if kind == PathKind::Regex { values::regex } else { values::path };
    let value = map.checked("value", check).map_or_else(|| "/".to_owned(), |value| value.value);
    map.finish();
    (kind, value)
}

fn backends(map: &Map<'_>) -> Vec<BackendRef> {
    let mut backends = Vec::new();
    for item in map.maps("backendRefs", 16) {
        let own = filters::of_backend(&item);
        if let Some(backend) = backend_ref(&item) {
            let (edits, refused) = own;
            backends.push(BackendRef { edits, refused, ..backend });
        }
        item.finish();
    }
    let pools = backends.iter().filter(|backend| backend.kind == "InferencePool").count();
    tell_mixture(map, pools, backends.len());
    backends
}

/// Tells rules with a pool and something else.
pub(super) fn tell_mixture(rule: &Map<'_>, pools: usize, all: usize) {
    if pools > 1 {
        let message =
            format!("the rule has {pools} InferencePools, one is allowed; split it into {pools} rules");
        rule.error("backendRefs", message);
    } else if pools == 1 && all > 1 {
        rule.error("backendRefs", "an InferencePool and other backends in one rule; split it into two rules");
    }
}

/// Reads a reference as HTTPRoute has it.
pub(super) fn backend_ref(item: &Map<'_>) -> Option<BackendRef> {
    let group = item.checked("group", values::group).map_or_else(String::new, |group| group.value);
    let kind = item.checked("kind", values::kind).map_or_else(|| "Service".to_owned(), |kind| kind.value);
    let name = item.required_checked("name", values::name);
    let namespace = item.checked("namespace", values::namespace).map(|namespace| namespace.value);
    let port = item.port("port");
    let weight = weight(item);
    if kind == "InferencePool" && group.is_empty() {
        item.error("kind", "`InferencePool` needs its group; add `group: inference.networking.k8s.io`");
        return None;
    }
    if kind == "Service" && group.is_empty() && port.is_none() && !item.has("port") {
        item.lacks("port");
    }
    let (at, path) = (item.at, item.path.clone());
    let plain = BackendRef::plain(at, path, name?.value);
    Some(BackendRef { group: Some(group), kind, namespace, port, weight, ..plain })
}

fn retry(rule: &Map<'_>) -> Option<Retry> {
    let map = rule.map("retry")?;
    let mut statuses = Vec::new();
    for (path, node) in map.items("codes", usize::MAX) {
        if let Some(code) = node.whole_number().filter(|code| (400..=599).contains(code)) {
            statuses.extend(u16::try_from(code).ok());
        } else {
            let found = node.describe();
            map.log().error(node.at, format!("{path}: expected a status from 400 to 599, found {found}"));
        }
    }
    if statuses.is_empty() {
        statuses.push(503);
    }
    let attempts = map.integer("attempts", 1..=i64::from(i32::MAX));
    let backoff = map.duration("backoff");
    map.finish();
    Some(Retry {
        attempts: attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(ATTEMPTS),
        on: TRIGGERS.map(str::to_owned).to_vec(),
        statuses,
        per_try: None,
        // Envoy takes ten times the first wait as the longest one.
        backoff: backoff.map(|first| (first, first * 10)),
    })
}

//! HTTPRoute. Entry point: [`read`].

use super::map::Map;
use super::route::{
    Action, BackendRef, Match, PathKind, Route, Rule, check_names, parents, timeout, value_matches, weight,
};
use super::{Meta, Object, values};

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
            names.extend(map.checked("name", values::name));
            read_rule(map)
        })
        .collect();
    check_names(&names, &[], &spec);
    let n_matches: usize = rules.iter().map(|rule| rule.matches.len()).sum();
    if n_matches > 128 {
        spec.error("rules", format!("expected at most 128 matches in all rules, found {n_matches}"));
    }
    if n_rules == 0 && !spec.has("rules") {
        rules.push(Rule {
            at: spec.at,
            path: spec.path_of("rules[0]"),
            matches: vec![Match::any()],
            backends: Vec::new(),
            action: Action::Forward,
            timeout: None,
        });
    }
    spec.ignore(&["useDefaultGateways"]);
    spec.finish();
    Some(Object::Route(Route { meta, is_ai: false, parents, hostnames, rules, costs: Vec::new() }))
}

fn read_rule(map: Map<'_>) -> Rule {
    let matches = matches(&map);
    let backends = backends(&map);
    let action = filters(&map, &matches, !backends.is_empty());
    let timeout = timeout(&map);
    retry(&map);
    map.ignore(&["sessionPersistence"]);
    let rule = Rule { at: map.at, path: map.path.clone(), matches, backends, action, timeout };
    map.finish();
    rule
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
        let filters = item.maps("filters", 16);
        let allowed = ["RequestHeaderModifier", "ResponseHeaderModifier", "URLRewrite", "ExtensionRef"];
        for filter in filters {
            let kind = filter.required("type");
            if let Some(kind) = kind.filter(|kind| !allowed.contains(&kind.value.as_str())) {
                filter.error("type", format!("`{}` cannot be a backend's own filter", kind.value));
            }
        }
        backends.extend(backend_ref(&item));
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
    Some(BackendRef { at, path, group: Some(group), kind, name: name?.value, namespace, port, weight })
}

/// Reads the filters: what comes of them.
fn filters(rule: &Map<'_>, matches: &[Match], has_backends: bool) -> Action {
    let mut kinds: Vec<String> = Vec::new();
    let mut action = Action::Forward;
    for filter in rule.maps("filters", 16) {
        let known = [
            "RequestHeaderModifier",
            "ResponseHeaderModifier",
            "RequestRedirect",
            "URLRewrite",
            "RequestMirror",
            "CORS",
            "ExternalAuth",
            "ExtensionRef",
        ];
        let Some(kind) = filter.choice("type", &known).map(|kind| kind.value) else { continue };
        if kinds.iter().any(|known| known == kind) && kind != "RequestMirror" && kind != "ExtensionRef" {
            filter.error("type", format!("`{kind}` stands twice; once is allowed in a rule"));
        }
        match kind {
            "RequestHeaderModifier" => header_modifier(&filter, "requestHeaderModifier", &mut action),
            "ResponseHeaderModifier" => header_modifier(&filter, "responseHeaderModifier", &mut action),
            "RequestRedirect" => action = redirect(&filter, matches),
            "URLRewrite" => rewrite(&filter, matches),
            "RequestMirror" => mirror(&filter),
            "CORS" => filter.ignore(&["cors"]),
            kind => {
                filter.pass(&["externalAuth", "extensionRef"]);
                action = Action::Fail(format!("the filter `{kind}` is not supported"));
            }
        }
        kinds.push(kind.to_owned());
        filter.finish();
    }
    let has = |kind: &str| kinds.iter().any(|known| known == kind);
    if has("RequestRedirect") {
        for other in ["URLRewrite", "RequestMirror"].into_iter().filter(|other| has(other)) {
            rule.error("filters", format!("`RequestRedirect` and `{other}` exclude each other"));
        }
        if has_backends {
            rule.error("filters", "`RequestRedirect` and backendRefs exclude each other; remove one");
        }
    }
    action
}

fn header_modifier(filter: &Map<'_>, key: &'static str, action: &mut Action) {
    let Some(map) = filter.required_map(key) else { return };
    let mut refused = |name: &str| {
        if name.eq_ignore_ascii_case("host") || name.contains(['/', ':']) {
            *action = Action::Fail(format!("the header `{name}` cannot be modified"));
        }
    };
    for list in ["set", "add"] {
        for item in map.maps(list, 16) {
            if let Some(name) = item.required("name") {
                refused(&name.value);
            }
            item.required("value");
            item.finish();
        }
    }
    map.texts("remove", 16, values::anything).iter().for_each(|name| refused(&name.value));
    map.finish();
}

fn redirect(filter: &Map<'_>, matches: &[Match]) -> Action {
    let Some(map) = filter.required_map("requestRedirect") else { return Action::Forward };
    map.choice("scheme", &["http", "https"]);
    map.checked("hostname", values::precise_hostname);
    map.port("port");
    path_modifier(&map, matches);
    let status = map.integer("statusCode", 301..=308).unwrap_or(302);
    if ![301, 302, 303, 307, 308].contains(&status) {
        map.error("statusCode", format!("expected one of 301, 302, 303, 307 and 308, found {status}"));
    }
    map.finish();
    Action::Redirect(u16::try_from(status).unwrap_or(302))
}

fn rewrite(filter: &Map<'_>, matches: &[Match]) {
    let Some(map) = filter.required_map("urlRewrite") else { return };
    map.checked("hostname", values::precise_hostname);
    path_modifier(&map, matches);
    map.finish();
}

fn path_modifier(map: &Map<'_>, matches: &[Match]) {
    let Some(path) = map.map("path") else { return };
    let kind = path.choice("type", &["ReplaceFullPath", "ReplacePrefixMatch"]);
    path.text("replaceFullPath");
    path.text("replacePrefixMatch");
    let has_one_prefix = matches!(matches, [only] if only.path_kind == PathKind::Prefix);
    if kind.is_some_and(|kind| kind.value == "ReplacePrefixMatch") && !has_one_prefix {
        path.error("type", "`ReplacePrefixMatch` needs exactly one match in the rule, of a PathPrefix");
    }
    path.finish();
}

fn mirror(filter: &Map<'_>) {
    let Some(map) = filter.required_map("requestMirror") else { return };
    if let Some(item) = map.required_map("backendRef") {
        let backend = backend_ref(&item);
        if backend.is_some_and(|backend| backend.kind == "InferencePool") {
            item.error("kind", "requests cannot be mirrored to an InferencePool");
        }
        item.finish();
    }
    map.integer("percent", 0..=100);
    map.pass(&["fraction"]);
    map.finish();
}

fn retry(rule: &Map<'_>) {
    let Some(map) = rule.map("retry") else { return };
    for (path, node) in map.items("codes", usize::MAX) {
        if !node.whole_number().is_some_and(|code| (400..=599).contains(&code)) {
            let found = node.describe();
            map.log().error(node.at, format!("{path}: expected a status from 400 to 599, found {found}"));
        }
    }
    map.integer("attempts", 1..=i64::from(i32::MAX));
    map.checked("backoff", values::duration);
    map.finish();
}

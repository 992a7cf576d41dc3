//! Filters of HTTPRoute rules and their backends: what they change, or what they answer. Entry point: [`read`].

use super::http_route::backend_ref;
use super::map::Map;
use super::route::{Action, Match, PathKind};
use super::values;
use crate::standalone::topology::{Edits, HeaderEdits, PathEdit, Redirect};

/// What comes of a rule's filters.
pub(super) struct Filters {
    /// What is done instead of forwarding, if anything.
    pub action: Action,
    /// What is changed.
    pub edits: Edits,
}

const KINDS: [&str; 8] = [
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestRedirect",
    "URLRewrite",
    "RequestMirror",
    "CORS",
    "ExternalAuth",
    "ExtensionRef",
];

/// Reads those of a rule.
pub(super) fn read(rule: &Map<'_>, matches: &[Match], has_backends: bool) -> Filters {
    let mut kinds: Vec<String> = Vec::new();
    let mut all = Filters { action: Action::Forward, edits: Edits::default() };
    for filter in rule.maps("filters", 16) {
        let Some(kind) = filter.choice("type", &KINDS).map(|kind| kind.value) else { continue };
        if kinds.iter().any(|known| known == kind) && kind != "RequestMirror" && kind != "ExtensionRef" {
            filter.error("type", format!("`{kind}` stands twice; once is allowed in a rule"));
        }
        let done = match kind {
            "RequestHeaderModifier" => {
                header_modifier(&filter, "requestHeaderModifier").map(|it| all.edits.request = it)
            }
            "ResponseHeaderModifier" => {
                header_modifier(&filter, "responseHeaderModifier").map(|it| all.edits.response = it)
            }
            "RequestRedirect" => {
                all.action = redirect(&filter, matches);
                Ok(())
            }
            "URLRewrite" => {
                rewrite(&filter, matches, &mut all.edits);
                Ok(())
            }
            "RequestMirror" => {
                mirror(&filter);
                Ok(())
            }
            "CORS" => {
                filter.ignore(&["cors"]);
                Ok(())
            }
            kind => {
                filter.pass(&["externalAuth", "extensionRef"]);
                Err(format!("the filter `{kind}` is not supported"))
            }
        };
        if let Err(why) = done {
            all.action = Action::Fail(why);
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
    all
}

/// Reads those of a backend: what they change, or which of them cannot be done.
pub(super) fn of_backend(backend: &Map<'_>) -> (Edits, Option<String>) {
    let (mut edits, mut refused) = (Edits::default(), None);
    for filter in backend.maps("filters", 16) {
        let Some(kind) = filter.choice("type", &KINDS).map(|kind| kind.value) else { continue };
        let done = match kind {
            "RequestHeaderModifier" => {
                header_modifier(&filter, "requestHeaderModifier").map(|it| edits.request = it)
            }
            "ResponseHeaderModifier" => {
                header_modifier(&filter, "responseHeaderModifier").map(|it| edits.response = it)
            }
            "URLRewrite" => {
                rewrite(&filter, &[], &mut edits);
                if edits.path.take().is_some() {
                    Err("a backend's own `URLRewrite` cannot change the path".to_owned())
                } else {
                    Ok(())
                }
            }
            "ExtensionRef" => {
                filter.pass(&["extensionRef"]);
                Err("the filter `ExtensionRef` is not supported".to_owned())
            }
            kind => {
                filter.error("type", format!("`{kind}` cannot be a backend's own filter"));
                continue;
            }
        };
        refused = refused.or(done.err());
        filter.finish();
    }
    (edits, refused)
}

/// Reads a modifier; the error says why the rule cannot be served.
fn header_modifier(filter: &Map<'_>, key: &'static str) -> Result<HeaderEdits, String> {
    let Some(map) = filter.required_map(key) else { return Ok(HeaderEdits::default()) };
    let mut refused = None;
    let mut edits = HeaderEdits::default();
    let mut is_fine = |name: &str| {
        let is_fine = !name.eq_ignore_ascii_case("host") && values::header_name(name).is_ok();
        if !is_fine {
            refused = Some(format!("the header `{name}` cannot be modified"));
        }
        is_fine
    };
    for (list, into) in [("set", &mut edits.set), ("add", &mut edits.add)] {
        for item in map.maps(list, 16) {
            let (name, value) = (item.required("name"), item.required_checked("value", values::header_value));
            item.finish();
            let (Some(name), Some(value)) = (name, value) else { continue };
            if is_fine(&name.value) {
                into.push((name.value, value.value));
            }
        }
    }
    for name in map.texts("remove", 16, values::anything) {
        if is_fine(&name.value) {
            edits.remove.push(name.value);
        }
    }
    map.finish();
    refused.map_or(Ok(edits), Err)
}

fn redirect(filter: &Map<'_>, matches: &[Match]) -> Action {
    let Some(map) = filter.required_map("requestRedirect") else { return Action::Forward };
    let scheme = map.choice("scheme", &["http", "https"]).map(|scheme| scheme.value);
    let hostname = map.checked("hostname", values::precise_hostname).map(|hostname| hostname.value);
    let (port, path) = (map.port("port"), path_modifier(&map, matches));
    let status = map.integer("statusCode", 301..=308).unwrap_or(302);
    if ![301, 302, 303, 307, 308].contains(&status) {
        map.error("statusCode", format!("expected one of 301, 302, 303, 307 and 308, found {status}"));
    }
    map.finish();
    let status = u16::try_from(status).unwrap_or(302);
    Action::Redirect(Redirect { status, scheme, hostname, port, path })
}

fn rewrite(filter: &Map<'_>, matches: &[Match], edits: &mut Edits) {
    let Some(map) = filter.required_map("urlRewrite") else { return };
    edits.host = map.checked("hostname", values::precise_hostname).map(|hostname| hostname.value);
    edits.path = path_modifier(&map, matches);
    map.finish();
}

fn path_modifier(map: &Map<'_>, matches: &[Match]) -> Option<PathEdit> {
    let path = map.map("path")?;
    let kind = path.choice("type", &["ReplaceFullPath", "ReplacePrefixMatch"]).map(|kind| kind.value);
    let full = path.checked("replaceFullPath", values::path_value).map(|path| path.value);
    let prefix = path.checked("replacePrefixMatch", values::path_value).map(|path| path.value);
    let has_one_prefix = matches!(matches, [only] if only.path_kind == PathKind::Prefix);
    if kind == Some("ReplacePrefixMatch") && !has_one_prefix && !matches.is_empty() {
        path.error("type", "`ReplacePrefixMatch` needs exactly one match in the rule, of a PathPrefix");
    }
    let wanted = if kind == Some("ReplaceFullPath") { "replaceFullPath" } else { "replacePrefixMatch" };
    if kind.is_some() && !path.has(wanted) {
        path.lacks(wanted);
    }
    path.finish();
    match kind? {
        "ReplaceFullPath" => full.map(PathEdit::Full),
        _ => prefix.map(PathEdit::Prefix),
    }
}

fn mirror(filter: &Map<'_>) {
    let Some(map) = filter.required_map("requestMirror") else { return };
    filter.warning("requestMirror", "requests are not mirrored here; the filter has no effect");
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

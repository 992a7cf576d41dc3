//! What is changed in requests and answers: headers, hosts, paths; where redirects lead.

use crate::standalone::envoy::route::{
    HeaderEdits, HeaderValue, HeaderValueOption, RedirectAction, RegexRewrite,
};
use crate::standalone::envoy::{Private, Regex};
use crate::standalone::manifest::route::Match;
use crate::standalone::topology::{self, Edits, PathEdit, Redirect};

/// A value in which Envoy looks for nothing to fill in.
pub(super) fn literal(value: &str) -> Private {
    Private(value.replace('%', "%%"))
}

/// Changes of headers, as routes have them.
pub(super) fn header_edits(edits: &Edits) -> HeaderEdits {
    let add = |edits: &topology::HeaderEdits| {
        let option = |(key, value): &(String, String), append_action| HeaderValueOption {
            header: HeaderValue { key: key.clone(), value: literal(value) },
            append_action,
        };
        let set = edits.set.iter().map(|header| option(header, "OVERWRITE_IF_EXISTS_OR_ADD"));
        set.chain(edits.add.iter().map(|header| option(header, "APPEND_IF_EXISTS_OR_ADD"))).collect()
    };
    HeaderEdits {
        request_headers_to_add: add(&edits.request),
        request_headers_to_remove: edits.request.remove.clone(),
        response_headers_to_add: add(&edits.response),
        response_headers_to_remove: edits.response.remove.clone(),
    }
}

/// Both; where they differ, those of the share count.
pub(super) fn merged(route: &Edits, share: &Edits) -> Edits {
    let both = |of: fn(&Edits) -> &topology::HeaderEdits| {
        let (a, b) = (of(route), of(share));
        topology::HeaderEdits {
            set: a.set.iter().chain(&b.set).cloned().collect(),
            add: a.add.iter().chain(&b.add).cloned().collect(),
            remove: a.remove.iter().chain(&b.remove).cloned().collect(),
        }
    };
    Edits {
        request: both(|edits| &edits.request),
        response: both(|edits| &edits.response),
        host: share.host.clone().or_else(|| route.host.clone()),
        path: share.path.clone().or_else(|| route.path.clone()),
    }
}

/// What becomes of the path: another beginning, or what an expression makes of it.
pub(super) fn path_rewrite(edits: &Edits, requests: &Match) -> (Option<String>, Option<RegexRewrite>) {
    match &edits.path {
        None => (None, None),
        Some(PathEdit::Full(path)) => (None, Some(rewrite("^/.*$".to_owned(), path))),
        Some(PathEdit::Prefix(to)) => prefix(to, requests),
    }
}

fn prefix(to: &str, requests: &Match) -> (Option<String>, Option<RegexRewrite>) {
    let to = to.trim_end_matches('/');
    match requests.path.trim_end_matches('/') {
        // All of the path stands behind this one, with its slash.
        "" => (Some(format!("{to}/")), None),
        // Or two slashes would be at the beginning.
        from if to.is_empty() => (None, Some(rewrite(format!("^{}/*", regex::escape(from)), "/"))),
        _ => (Some(to.to_owned()), None),
    }
}

fn rewrite(pattern: String, substitution: &str) -> RegexRewrite {
    RegexRewrite { pattern: Regex { regex: pattern }, substitution: substitution.replace('\\', "\\\\") }
}

/// Where a redirect leads; `at` is the host and the declared port at which it is.
pub(super) fn redirect(to: &Redirect, requests: &Match, at: (&str, u16)) -> RedirectAction {
    let (host, port) = at;
    let usual = |scheme: Option<&str>| if scheme == Some("https") { 443 } else { 80 };
    let mut action = RedirectAction {
        response_code: match to.status {
            301 => Some("MOVED_PERMANENTLY"),
            303 => Some("SEE_OTHER"),
            307 => Some("TEMPORARY_REDIRECT"),
            308 => Some("PERMANENT_REDIRECT"),
            _ => Some("FOUND"),
        },
        scheme_redirect: to.scheme,
        host_redirect: to.hostname.clone(),
        ..RedirectAction::default()
    };
    action.port_redirect = match (to.port, to.scheme) {
        (Some(port), Some(scheme)) => Some(port).filter(|port| *port != usual(Some(scheme))),
        (Some(port), None) => Some(port).filter(|port| ![80, 443].contains(port)),
        // The scheme's own port, which is not said.
        (None, Some(_)) => None,
        (None, None) => Some(port).filter(|port| *port >= 1024),
    };
    // Envoy keeps the port of the request's host unless it is told another port or host.
    if action.port_redirect.is_none() && (to.port.is_some() || to.scheme.is_some()) && !host.contains('*') {
        action.host_redirect.get_or_insert_with(|| host.to_owned());
    }
    match &to.path {
        None => {}
        Some(PathEdit::Full(path)) => action.path_redirect = Some(path.clone()),
        Some(PathEdit::Prefix(to)) => (action.prefix_rewrite, action.regex_rewrite) = prefix(to, requests),
    }
    action
}

//! Which entry takes which request, over tables of rules and requests that are written in short.
//!
//! `E:/p` is an exact path, `P:/p` a prefix, `R:/p` an expression; `h[n=v]` and `h[n~v]` a header, `m[GET]` a method,
//! `q[a=1]` a parameter of the query. What Envoy does before it matches (slashes, dots) is not looked at here.

mod entries;
mod plans;
mod providers;

use std::fmt::Write as _;

use super::hosts;
use crate::standalone::finding::Level;
use crate::standalone::input::Source;
use crate::standalone::manifest::route::{Match, PathKind, ValueMatch};
use crate::standalone::topology::{Entry, Host};
use crate::standalone::{Checked, check};

const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: c
  listeners: [{name: http, protocol: HTTP, port: 80HOST}]
";

fn service(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    )
}

/// An HTTPRoute of rules such as `P:/ h[a=1]->b; E:/x->c`.
fn route(name: &str, metadata: &str, hosts: &str, rules: &str) -> String {
    let mut text = format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}{metadata}}}\nspec:\n  \
         parentRefs: [{{name: g, namespace: default}}]\n  hostnames: [{hosts}]\n  rules:\n"
    );
    for rule in rules.split("; ") {
        let (matching, to) = rule.split_once("->").unwrap();
        let (mut path, mut headers, mut query, mut method) = (String::new(), vec![], vec![], String::new());
        for word in matching.split(' ') {
            let (mark, rest) = word.split_at(2);
            let inner = rest.trim_end_matches(']');
            let value = || {
                let at = inner.find(['=', '~']).unwrap();
                let kind = if inner[at..].starts_with('=') { "Exact" } else { "RegularExpression" };
                format!("{{type: {kind}, name: {}, value: '{}'}}", &inner[..at], &inner[at + 1..])
            };
            match mark {
                "E:" => path = format!("{{type: Exact, value: '{rest}'}}"),
                "P:" => path = format!("{{type: PathPrefix, value: '{rest}'}}"),
                "R:" => path = format!("{{type: RegularExpression, value: '{rest}'}}"),
                "h[" => headers.push(value()),
                "q[" => query.push(value()),
                _ => method = format!("method: {inner}, "),
            }
        }
        let (headers, query) = (headers.join(", "), query.join(", "));
        let _ = writeln!(
            text,
            "  - matches: [{{{method}path: {path}, headers: [{headers}], queryParams: [{query}]}}]\n    backendRefs: \
             [{{name: {to}, port: 80}}]"
        );
    }
    text
}

fn checked(text: String) -> Checked {
    check(&[Source { name: "test.yaml".to_owned(), text }], "default", epp_plugins::BUILT_IN)
}

/// A request such as `GET /x?a=1 v:1`.
fn takes(matching: &Match, method: &str, path: &str, headers: &[(String, String)]) -> bool {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let whole =
        |pattern: &str, text: &str| regex::Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text);
    let prefix = matching.path.trim_end_matches('/');
    let has = |one: &ValueMatch, value: Option<&str>| {
        value.is_some_and(|value| if one.is_regex { whole(&one.value, value) } else { one.value == value })
    };
    let parameters: Vec<_> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let parameter = |name: &str| parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let header = |name: &str| {
        let values = headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(","))
    };
    let is_path = match matching.path_kind {
        PathKind::Exact => matching.path == path,
        PathKind::Regex => whole(&matching.path, path),
        PathKind::Prefix => {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    is_path
        && matching.method.is_none_or(|wanted| wanted == method)
        && matching.headers.iter().all(|one| has(one, header(&one.name).as_deref()))
        && matching.query.iter().all(|one| has(one, parameter(&one.name)))
}

/// Which backend takes a request to a host, or 404.
fn taken(hosts: &[Host], host: &str, request: &str) -> String {
    let host = host.split(':').next().unwrap().to_lowercase();
    let is_for = |known: &&Host| {
        known.name == hosts::ALL || hosts::effective(Some(&known.name), &[&host]).contains(&host)
    };
    let mut words = request.split(' ').peekable();
    let method = words.next_if(|word| !word.starts_with('/') && !word.contains(':')).unwrap_or("POST");
    let path = words.next_if(|word| word.starts_with('/')).unwrap_or("/");
    let headers: Vec<_> = words
        .map(|word| word.split_once(':').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let entry = hosts.iter().find(is_for).and_then(|found| {
        found.entries.iter().find(|Entry { requests, .. }| takes(requests, method, path, &headers))
    });
    let answer = entry.map_or_else(|| "404".to_owned(), |entry| entry.answer.to_string());
    answer.trim_start_matches("Service default/").trim_end_matches(":80").to_owned()
}

fn services(rules: &str) -> String {
    let mut names: Vec<_> = rules.split("; ").map(|rule| rule.rsplit_once("->").unwrap().1).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(service).collect()
}

/// Tables A to H; the number of each row, its request, and what takes it.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_most_precise_match_takes_a_request() {
    type Rows = &'static [(u32, &'static str, &'static str)];
    let tables: [(&str, Rows); 9] = [
        (
            "E:/foo->e; P:/foo->p; P:/foo/bar->q; P:/->d",
            &[
                (1, "/foo", "e"),
                (2, "/foo?x=1", "e"),
                (3, "/foo/", "p"),
                (4, "/foo/x", "p"),
                (5, "/foobar", "d"),
                (6, "/foo/bar", "q"),
                (7, "/foo/bar/z", "q"),
                (8, "/foo/barz", "p"),
                (9, "/", "d"),
                (10, "/FOO", "d"),
            ],
        ),
        (
            "P:/v1->a",
            &[
                (16, "/v1", "a"),
                (17, "/v1/chat/completions", "a"),
                (18, "/v2", "404"),
                (19, "/", "404"),
                (20, "/v1beta/x", "404"),
            ],
        ),
        (
            "P:/abc/->a; E:/z/->b",
            &[
                (21, "/abc", "a"),
                (22, "/abc/", "a"),
                (23, "/abc/d", "a"),
                (24, "/abcd", "404"),
                (25, "/z", "404"),
                (26, "/z/", "b"),
            ],
        ),
        (
            "P:/ h[v=1]->a; P:/ h[v=1] h[w=2]->b; P:/->d; P:/x->x",
            &[
                (27, "/", "d"),
                (28, "/ v:1", "a"),
                (29, "/ v:1 w:2", "b"),
                (30, "/ V:1", "a"),
                (31, "/ v:01", "d"),
                (32, "/ v:1 v:2", "d"),
                (33, "/x v:1 w:2", "x"),
                (34, "/ w:2", "d"),
            ],
        ),
        (
            "P:/ h[user~bot.*]->b; P:/ h[user~.*]->u; P:/ h[user=bot7]->s; P:/->d",
            &[(35, "user:bot9", "b"), (36, "user:robot", "u"), (37, "user:bot7", "s"), (38, "/", "d")],
        ),
        (
            "P:/ m[GET]->g; P:/ h[v=1]->h; P:/ h[v=1] h[w=2]->hh; P:/->d",
            &[
                (39, "GET v:1", "g"),
                (40, "GET v:1 w:2", "g"),
                (41, "POST v:1", "h"),
                (42, "DELETE", "d"),
                (43, "GET", "g"),
            ],
        ),
        (
            "P:/ q[a=1]->a; P:/ q[a=1] q[b=2]->b; P:/ h[v=1]->h; P:/->d",
            &[
                (44, "/?a=1", "a"),
                (45, "/?b=2&a=1", "b"),
                (46, "/?A=1", "d"),
                (47, "/?a=1&a=2", "a"),
                (48, "/?a=2&a=1", "d"),
                (49, "/?a=1 v:1", "h"),
                (50, "/?a=", "d"),
                (51, "/?a=1&b=2&c=3", "b"),
            ],
        ),
        (
            "R:/v[0-9]+/x->r; P:/v1->p; E:/v1/x->e; P:/v1/x/y/z->l",
            &[
                (52, "/v2/x", "r"),
                (53, "/v1/x", "e"),
                (54, "/v1/x/y", "p"),
                (55, "/v1/x/y/z", "l"),
                (57, "/av1/x", "404"),
            ],
        ),
        ("R:/v[0-9]+/x->r; P:/v1->p; P:/v1/x/y/z->l", &[(56, "/v1/x", "r")]),
    ];
    for (rules, rows) in tables {
        let text = GATEWAY.replace("HOST", "") + &route("r", "", "", rules) + &services(rules);
        let checked = checked(text);
        assert_eq!(checked.findings.count(Level::Error), 0, "{rules}: {:?}", checked.findings);
        let hosts = &checked.topology.gateways[0].listeners[0].hosts;
        for (row, request, want) in rows {
            assert_eq!(taken(hosts, "any", request), *want, "row {row}: {request}");
        }
    }
}

/// Table I: one host is chosen, and no other is tried.
#[test]
fn the_most_precise_host_takes_a_request() {
    let text = GATEWAY.replace("HOST", ", hostname: '*.example.com'")
        + &route("a", "", "api.example.com", "P:/v1->a")
        + &route("n", "", "", "P:/->n")
        + &route("o", "", "other.net", "P:/->o")
        + &route("w", "", "'*.example.com'", "P:/->w")
        + &["a", "n", "o", "w"].map(service).concat();
    let checked = checked(text);
    let hosts = &checked.topology.gateways[0].listeners[0].hosts;
    for (row, host, path, want) in [
        (58, "api.example.com", "/v1", "a"),
        (59, "api.example.com", "/zzz", "404"),
        (60, "b.example.com", "/", "n"),
        (61, "a.b.example.com", "/", "n"),
        (62, "example.com", "/", "404"),
        (63, "other.net", "/", "404"),
        (64, "api.example.com:8080", "/v1", "a"),
        (65, "API.EXAMPLE.COM", "/v1", "a"),
    ] {
        assert_eq!(taken(hosts, host, path), want, "row {row}");
    }
    let refused: Vec<_> =
        checked.topology.conditions.iter().filter(|it| it.object == "HTTPRoute default/o").collect();
    assert_eq!(refused[0].reason, "NoMatchingListenerHostname");
}

/// Table K: of equal matches the older route counts, then the first by name, then the first rule.
#[test]
fn ties_are_broken_by_age_and_name() {
    let all = GATEWAY.replace("port: 80HOST", "port: 80, allowedRoutes: {namespaces: {from: All}}");
    let older = ", creationTimestamp: '2025-01-01T00:00:00Z'";
    let younger = ", creationTimestamp: '2025-02-01T00:00:00Z'";
    for (row, routes, want) in [
        (82, [route("b", older, "", "P:/x->b"), route("a", younger, "", "P:/x->a")], "b"),
        (83, [route("b", "", "", "P:/x->b"), route("a", "", "", "P:/x->a")], "a"),
        (83, [route("b", older, "", "P:/x->b"), route("a", older, "", "P:/x->a")], "a"),
        (84, [route("a", "", "", "P:/x->b; P:/x->a"), String::new()], "b"),
        (
            85,
            [route("a", ", namespace: b-ns", "", "P:/x->a"), route("z", ", namespace: a-ns", "", "P:/x->b")],
            "a-ns",
        ),
    ] {
        let checked = checked(all.clone() + &routes.concat() + &service("a") + &service("b"));
        let entry = &checked.topology.gateways[0].listeners[0].hosts[0].entries[0];
        let told = format!("{} {}", entry.route, entry.answer);
        assert!(
            told.contains(&format!("/{want}")) || told.contains(&format!(" {want}/")),
            "row {row}: {told}"
        );
        assert!(checked.findings.count(Level::Warning) > 0, "row {row}: the other one is never reached");
    }
}

/// Table J: what a rule with these backends answers, and the route's condition.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn backends_get_their_shares() {
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: x, namespace: \
                 other}\nspec:\n  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]\n  to: \
                 [{group: '', kind: Service}]\n";
    let (a, b, other) =
        ("Service default/a:80", "Service default/b:80", "{name: c, port: 80, namespace: other}");
    for (row, backends, more, want, reason) in [
        (
            66,
            "{name: a, port: 80, weight: 1}, {name: b, port: 80, weight: 3}",
            "",
            format!("1/4 {a}, 3/4 {b}"),
            "ResolvedRefs",
        ),
        (
            67,
            "{name: a, port: 80}, {name: b, port: 80, weight: 1}",
            "",
            format!("1/2 {a}, 1/2 {b}"),
            "ResolvedRefs",
        ),
        (68, "{name: a, port: 80, weight: 0}, {name: b, port: 80}", "", b.to_owned(), "ResolvedRefs"),
        (69, "{name: a, port: 80, weight: 0}", "", "500 (all weights are 0)".to_owned(), "ResolvedRefs"),
        (
            70,
            "{name: no, port: 80}, {name: b, port: 80}",
            "",
            format!("1/2 500 (Service default/no not found), 1/2 {b}"),
            "BackendNotFound",
        ),
        (71, "{name: no, port: 80, weight: 0}, {name: b, port: 80}", "", b.to_owned(), "ResolvedRefs"),
        (72, "{name: no, port: 80}", "", "500 (Service default/no not found)".to_owned(), "BackendNotFound"),
        (
            73,
            "{kind: Foo, name: a, port: 80}",
            "",
            "500 (no backend can be a Foo of the core group)".to_owned(),
            "InvalidKind",
        ),
        (
            74,
            other,
            "",
            "500 (no ReferenceGrant in namespace other permits it)".to_owned(),
            "RefNotPermitted",
        ),
        (75, other, grant, "Service other/c:80".to_owned(), "ResolvedRefs"),
        (76, "", "", "500 (no backendRefs)".to_owned(), "ResolvedRefs"),
        (
            78,
            "{name: a}",
            "",
            "500 (the port of Service default/a is missing)".to_owned(),
            "PortNotSpecified",
        ),
        (79, "{name: a, port: 81}", "", "500 (Service default/a has no port 81)".to_owned(), "PortNotFound"),
    ] {
        let rule = route("r", "", "", "P:/->X").replace("{name: X, port: 80}", backends);
        let more = service("a") + &service("b") + &service("c, namespace: other") + more;
        let checked = checked(GATEWAY.replace("HOST", "") + &rule + &more);
        let entry = &checked.topology.gateways[0].listeners[0].hosts[0].entries[0];
        assert_eq!(entry.answer.to_string(), want, "row {row}");
        let mut conditions = checked.topology.conditions.iter();
        let found = conditions.find(|it| it.object == "HTTPRoute default/r" && it.kind == "ResolvedRefs");
        assert_eq!(found.unwrap().reason, reason, "row {row}");
    }
}

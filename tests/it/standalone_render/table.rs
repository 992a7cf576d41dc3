//! The rows of routes and requests, as data: [`TABLES`], [`SPLITS`]; and their notation → manifests.
//!
//! `E:/p` exact, `P:/p` prefix, `R:/p` expression; `h[n=v]` header, `h[n~v]` expression; `m[GET]`; `q[a=1]`; `->` and
//! backends with weights; behind `|` further members of the rule.

/// Routes of a host, and what becomes of requests.
pub(super) struct Table {
    pub(super) host: &'static str,
    /// Name and time of creation of each route, its hosts if not that of the table, and its rules.
    pub(super) routes:
        &'static [(&'static str, &'static str, &'static [&'static str], &'static [&'static str])],
    /// Number of the row, request, and what becomes of it.
    pub(super) rows: &'static [(u16, &'static str, &'static str)],
}

/// A row may begin with `@HOST`. What becomes of it is a backend or a status, and then `SIDE:LINE`: headers of the answer
/// (`<`), or lines of what the backend got (`>`, or `!` if it must not be there).
pub(super) const TABLES: &[Table] = &[
    Table {
        host: "a.test",
        routes: &[("a", "", &[], &["E:/foo -> e", "P:/foo -> p", "P:/foo/bar -> q", "P:/ -> d"])],
        rows: &[
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
            (11, "//foo", "e"),
            (12, "/foo/./bar", "q"),
            (13, "/foo/../baz", "d"),
            (14, "/foo%2Fbar", "307 <location=/foo/bar"),
            (15, "/foo/bar/../x", "p"),
        ],
    },
    Table {
        host: "b.test",
        routes: &[("b", "", &[], &["P:/v1 -> a"])],
        rows: &[
            (16, "/v1", "a"),
            (17, "/v1/chat/completions", "a"),
            (18, "/v2", "404"),
            (19, "/", "404"),
            (20, "/v1beta/x", "404"),
        ],
    },
    Table {
        host: "c.test",
        routes: &[("c", "", &[], &["P:/abc/ -> a", "E:/z/ -> b"])],
        rows: &[
            (21, "/abc", "a"),
            (22, "/abc/", "a"),
            (23, "/abc/d", "a"),
            (24, "/abcd", "404"),
            (25, "/z", "404"),
            (26, "/z/", "b"),
        ],
    },
    Table {
        host: "d.test",
        routes: &[("d", "", &[], &["P:/ h[v=1] -> a", "P:/ h[v=1] h[w=2] -> b", "P:/ -> d", "P:/x -> x"])],
        rows: &[
            (27, "/", "d"),
            (28, "/ v:1", "a"),
            (29, "/ v:1 w:2", "b"),
            (30, "/ V:1", "a"),
            (31, "/ v:01", "d"),
            // Envoy 1.40 compares each line by itself; the API would have them joined.
            (32, "/ v:1 v:2", "a"),
            (32, "/ v:1,2", "d"),
            (33, "/x v:1 w:2", "x"),
            (34, "/ w:2", "d"),
        ],
    },
    Table {
        host: "e.test",
        routes: &[(
            "e",
            "",
            &[],
            &["P:/ h[user~bot.*] -> b", "P:/ h[user~.*] -> u", "P:/ h[user=bot7] -> s", "P:/ -> d"],
        )],
        rows: &[
            (35, "/ user:bot9", "b"),
            (36, "/ user:robot", "u"),
            (37, "/ user:bot7", "s"),
            (38, "/", "d"),
        ],
    },
    Table {
        host: "f.test",
        routes: &[(
            "f",
            "",
            &[],
            &["P:/ m[GET] -> g", "P:/ h[v=1] -> h", "P:/ h[v=1] h[w=2] -> hh", "P:/ -> d"],
        )],
        rows: &[
            (39, "/ v:1", "g"),
            (40, "/ v:1 w:2", "g"),
            (41, "POST / v:1", "h"),
            (42, "DELETE /", "d"),
            (43, "/", "g"),
        ],
    },
    Table {
        host: "g.test",
        routes: &[(
            "g",
            "",
            &[],
            &["P:/ q[a=1] -> a", "P:/ q[a=1] q[b=2] -> b", "P:/ h[v=1] -> h", "P:/ -> d"],
        )],
        rows: &[
            (44, "/?a=1", "a"),
            (45, "/?b=2&a=1", "b"),
            (46, "/?A=1", "d"),
            (47, "/?a=1&a=2", "a"),
            (48, "/?a=2&a=1", "d"),
            (49, "/?a=1 v:1", "h"),
            (50, "/?a=", "d"),
            (51, "/?a=1&b=2&c=3", "b"),
        ],
    },
    Table {
        host: "h.test",
        routes: &[("h", "", &[], &["R:/v[0-9]+/x -> r", "P:/v1 -> p", "E:/v1/x -> e", "P:/v1/x/y/z -> l"])],
        rows: &[
            (52, "/v2/x", "r"),
            (53, "/v1/x", "e"),
            (54, "/v1/x/y", "p"),
            (55, "/v1/x/y/z", "l"),
            (57, "/av1/x", "404"),
        ],
    },
    Table {
        host: "h2.test",
        routes: &[("h2", "", &[], &["R:/v[0-9]+/x -> r", "P:/v1 -> p", "P:/v1/x/y/z -> l"])],
        rows: &[(56, "/v1/x", "r")],
    },
    Table {
        host: "example.com",
        routes: &[
            ("i-a", "", &["api.example.com"], &["P:/v1 -> a"]),
            ("i-n", "", &["*"], &["P:/ -> n"]),
            ("i-o", "", &["other.net"], &["P:/ -> o"]),
            ("i-w", "", &["*.example.com"], &["P:/ -> w"]),
        ],
        rows: &[
            (58, "@api.example.com /v1", "a"),
            (59, "@api.example.com /zzz", "404"),
            (60, "@b.example.com /", "n"),
            (61, "@a.b.example.com /", "n"),
            (62, "@example.com /", "404"),
            (63, "@other.net /", "404"),
            (64, "@api.example.com:8080 /v1", "a"),
            (65, "@API.EXAMPLE.COM /v1", "a"),
        ],
    },
    Table {
        host: "k82.test",
        routes: &[
            ("a82", "2025-02-01T00:00:00Z", &[], &["P:/x -> a"]),
            ("b82", "2025-01-01T00:00:00Z", &[], &["P:/x -> b"]),
        ],
        rows: &[(82, "/x", "b")],
    },
    Table {
        host: "k83.test",
        routes: &[("b83", "", &[], &["P:/x -> b"]), ("a83", "", &[], &["P:/x -> a"])],
        rows: &[(83, "/x", "a")],
    },
    Table {
        host: "k84.test",
        routes: &[("k84", "", &[], &["P:/x -> a", "P:/x -> b"])],
        rows: &[(84, "/x", "a")],
    },
    Table {
        host: "l.test",
        routes: &[(
            "l",
            "",
            &[],
            &[
                "P:/86 -> | filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]",
                "P:/87 -> | filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301, hostname: n.com}}]",
                "P:/88 -> | filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 8443}}]",
                "P:/90 -> u | filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /v1}}}]",
                "P:/92 -> u | filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]",
                "P:/95 -> u | filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /x}}}]",
                "P:/96 -> u | filters: [{type: URLRewrite, urlRewrite: {hostname: up.com}}]",
                "P:/97 -> u | filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: '1'}, {name: p, value: '100%'}], add: [{name: b, value: '2'}], remove: [c]}}]",
                "P:/98 -> u | filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: server, value: x}]}}]",
                "P:/99 -> u",
                "P:/104 -> u | timeouts: {request: 1s}",
                "P:/110 -> u | timeouts: {backendRequest: 5s}, retry: {attempts: 2, codes: [503]}",
            ],
        )],
        rows: &[
            (86, "/86/p?q=1", "302 <location=https://l.test/86/p?q=1"),
            (87, "/87/p", "301 <location=http://n.com/87/p"),
            (88, "/88/p", "302 <location=https://l.test:8443/88/p"),
            (90, "/90/bar", "u >path=/v1/bar"),
            (91, "/90", "u >path=/v1"),
            (92, "/92/bar", "u >path=/bar"),
            (93, "/92", "u >path=/"),
            (94, "/90bar", "404"),
            (95, "/95/any?k=1", "u >path=/x?k=1"),
            (96, "/96 x-a:1", "u >host=up.com"),
            (97, "/97 a:0 b:1 c:9", "u >a=1 >b=1,2 >p=100% !c=9"),
            (98, "/98", "u <server=x"),
            // Without a modifier the backend's own word stands.
            (98, "/99", "u <server=a-backend"),
            (104, "/104 x-hangs:1", "504"),
            (110, "/110 x-fails:2 x-case:110", "u"),
            (110, "/110 x-fails:3 x-case:110-more", "503"),
            // No rule, no tries.
            (110, "/99 x-fails:1 x-case:once", "503"),
        ],
    },
];

/// Number of the row, the rule, and all that becomes of some requests.
pub(super) const SPLITS: &[(u16, &str, &[&str])] = &[
    (66, "P:/66 -> a:1,b:3", &["a", "b"]),
    (67, "P:/67 -> a,b:1", &["a", "b"]),
    (68, "P:/68 -> a:0,b:1", &["b"]),
    (69, "P:/69 -> a:0", &["500"]),
    (70, "P:/70 -> missing:1,b:1", &["500", "b"]),
    (71, "P:/71 -> missing:0,b:1", &["b"]),
    (72, "P:/72 -> missing", &["500"]),
    (73, "P:/73 -> | backendRefs: [{group: g.io, kind: Foo, name: a}]", &["500"]),
    (74, "P:/74 -> | backendRefs: [{name: far, namespace: other, port: 80}]", &["500"]),
    (75, "P:/75 -> | backendRefs: [{name: near, namespace: granted, port: 80}]", &["b"]),
    (76, "P:/76 -> ", &["500"]),
    (77, "P:/77 -> empty", &["503"]),
    (79, "P:/79 -> | backendRefs: [{name: a, port: 81}]", &["500"]),
];

/// A rule in YAML.
pub(super) fn rule(text: &str) -> String {
    let (matches, rest) = text.split_once("->").unwrap();
    let (backends, more) = rest.split_once('|').unwrap_or((rest, ""));
    let (mut path, mut headers, mut query, mut method) =
        (String::new(), Vec::new(), Vec::new(), String::new());
    for word in matches.split_whitespace() {
        let value = |text: &str| {
            let text = &text[2..text.len() - 1];
            let at = text.find(['=', '~']).unwrap();
            let kind = if &text[at..=at] == "~" { "RegularExpression" } else { "Exact" };
            format!("{{name: '{}', type: {kind}, value: '{}'}}", &text[..at], &text[at + 1..])
        };
        match &word[..2] {
            "h[" => headers.push(value(word)),
            "q[" => query.push(value(word)),
            "m[" => method = format!(", method: {}", &word[2..word.len() - 1]),
            kind => {
                let kind = match kind {
                    "E:" => "Exact",
                    "R:" => "RegularExpression",
                    _ => "PathPrefix",
                };
                path = format!("{{type: {kind}, value: '{}'}}", &word[2..]);
            }
        }
    }
    let refs = backends.split(',').map(str::trim).filter(|name| !name.is_empty()).map(|backend| {
        let (name, weight) = backend.split_once(':').unwrap_or((backend, "1"));
        format!("{{name: '{name}', port: 80, weight: {weight}}}")
    });
    let refs: Vec<_> = refs.collect();
    let refs = if refs.is_empty() { String::new() } else { format!(", backendRefs: [{}]", refs.join(", ")) };
    let more = if more.is_empty() { String::new() } else { format!(", {}", more.trim()) };
    format!(
        "{{matches: [{{path: {path}, headers: [{}], queryParams: [{}]{method}}}]{refs}{more}}}",
        headers.join(", "),
        query.join(", ")
    )
}

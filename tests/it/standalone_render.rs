//! What `standalone` renders, at a real Envoy: it takes every file, and does with requests what the tables of the Gateway
//! API's rules say. Names and settings are tested beside the renderer.

mod ai;
mod backends;
mod command;
mod files;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use backends::{Backends, Told, ask};
use epp::standalone::finding::Findings;
use epp::standalone::input::Source;
use epp::standalone::render::{Rendered, Settings, render};
use epp::standalone::topology::Address;
use epp::standalone::{Checked, check};
use table::{SPLITS, TABLES, Table, rule};

use crate::support::envoy::Envoy;

/// Settings of tests: no port is fixed, but for those of listeners.
fn settings() -> Settings {
    Settings {
        address: [127, 0, 0, 1].into(),
        ports: epp::standalone::render::PortMap::default(),
        picker: ([127, 0, 0, 1], 1).into(),
        picker_tells_health: false,
        model_extractor: ([127, 0, 0, 1], 1).into(),
        members: BTreeMap::new(),
        service_hosts: BTreeMap::new(),
        rate_limit: None,
        admin: Address::Host("127.0.0.1".to_owned(), 0),
        access_log: "/dev/stdout".to_owned(),
        trust_client_headers: false,
        buffer_bytes: 50 << 20,
        folder: "/nowhere".into(),
        authorities: "/etc/ssl/certs/ca-certificates.crt".into(),
        created: 1_700_000_000,
    }
}

/// What manifests come to; none of them may be wrong, but for hosts that no listener has.
fn checked(sources: &[Source]) -> Checked {
    let mut checked = check(sources, "default", epp_plugins::BUILT_IN);
    let told = epp::standalone::report::lines(&mut checked.findings, sources);
    let mut errors = told.lines().filter(|line| line.contains(": error: "));
    assert!(errors.all(|line| line.contains("no hostname fits")), "{told}");
    checked
}

fn rendered(manifests: &str, settings: &Settings) -> Rendered {
    let checked = checked(&[Source { name: "test.yaml".to_owned(), text: manifests.to_owned() }]);
    render(&checked.topology, settings, &mut Findings::default())
}

fn address(at: SocketAddr) -> Address {
    Address::Host(at.ip().to_string(), at.port())
}

/// An Envoy with this configuration, whose one listener is wherever the system says.
async fn envoy(bootstrap: &str) -> (Envoy, SocketAddr) {
    let port = "          port_value: 8080\n";
    assert_eq!(bootstrap.matches(port).count(), 1, "{bootstrap}");
    let envoy = Envoy::with_config(&bootstrap.replace(port, "          port_value: 0\n")).await;
    let at = envoy.http().strip_prefix("http://").unwrap().parse().unwrap();
    (envoy, at)
}

const GATEWAY: &str = "
kind: Gateway
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: gateway}
spec:
  gatewayClassName: any
  listeners:
    - {name: all, port: 80, protocol: HTTP}
    - {name: wild, port: 80, protocol: HTTP, hostname: '*.example.com'}
";

fn route(name: &str, created: &str, section: &str, hosts: &[&str], rules: &[&str]) -> String {
    let created =
        if created.is_empty() { String::new() } else { format!(", creationTimestamp: '{created}'") };
    let hosts: Vec<_> = hosts.iter().map(|host| format!("'{host}'")).collect();
    let rules: Vec<_> = rules.iter().map(|text| rule(text)).collect();
    format!(
        "---\nkind: HTTPRoute\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {{name: {name}{created}}}\nspec:\n  \
         parentRefs: [{{name: gateway, sectionName: {section}}}]\n  hostnames: [{}]\n  rules:\n    - {}\n",
        hosts.join(", "),
        rules.join("\n    - ")
    )
}

fn service(namespace: &str, name: &str) -> String {
    format!(
        "---\nkind: Service\napiVersion: v1\nmetadata: {{name: '{name}', namespace: {namespace}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    )
}

/// All tables and splits as manifests, and the names of the servers that they need.
fn manifests() -> (String, BTreeSet<String>) {
    let mut text = GATEWAY.to_owned();
    for Table { host, routes, .. } in TABLES {
        for (name, created, hosts, rules) in *routes {
            let section = if hosts.is_empty() { "all" } else { "wild" };
            let hosts: Vec<_> = if hosts.is_empty() { vec![*host] } else { hosts.to_vec() };
            let hosts: Vec<_> = hosts.into_iter().filter(|host| *host != "*").collect();
            // A route whose hosts are another's is told, and serves nothing.
            text += &route(name, created, section, &hosts, rules);
        }
    }
    let rules: Vec<_> = SPLITS.iter().map(|(_, rule, _)| *rule).collect();
    text += &route("j", "", "all", &["j.test"], &rules);
    let mut names = BTreeSet::new();
    for name in ["a", "b", "d", "e", "g", "h", "hh", "l", "n", "o", "p", "q", "r", "s", "u", "w", "x"] {
        text += &service("default", name);
        names.insert(name.to_owned());
    }
    text += &service("default", "empty");
    text += &service("other", "far");
    text += &service("granted", "near");
    text += "---\nkind: ReferenceGrant\napiVersion: gateway.networking.k8s.io/v1beta1\nmetadata: {name: it, namespace: granted}\n\
             spec:\n  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]\n  \
             to: [{group: '', kind: Service}]\n";
    (text, names)
}

/// Whether an answer is what `want` says, and why not.
fn differs(told: &Told, want: &str) -> Option<String> {
    let mut words = want.split(' ');
    let by = words.next().unwrap();
    if told.by() != by {
        return Some(format!("{} instead of {by}", told.by()));
    }
    words.find_map(|word| {
        let (side, line) = word.split_at(1);
        let holds = match side {
            "<" => {
                let (name, value) = line.split_once('=').unwrap();
                told.header(name) == Some(value)
            }
            ">" => told.has_line(line),
            _ => !told.has_line(line),
        };
        (!holds).then(|| format!("not {word}"))
    })
}

/// Rows 1 to 98, 104 and 110 of the tables of matching; the others are of manifests that are refused, or of times, which
/// are tested without waiting for them.
#[tokio::test]
async fn requests_go_where_the_tables_say() {
    let (text, names) = manifests();
    let backends = Backends::start(names).await;
    let mut settings = settings();
    for (name, at) in &backends.at {
        settings.service_hosts.insert((format!("{name}.default.svc.cluster.local"), 80), vec![address(*at)]);
    }
    let (far, near) = (backends.at["a"], backends.at["b"]);
    settings.service_hosts.insert(("far.other.svc.cluster.local".to_owned(), 80), vec![address(far)]);
    settings.service_hosts.insert(("near.granted.svc.cluster.local".to_owned(), 80), vec![address(near)]);
    settings.service_hosts.insert(("empty.default.svc.cluster.local".to_owned(), 80), Vec::new());
    let (gateway, at) = envoy(&rendered(&text, &settings).bootstrap()).await;
    let mut wrong = Vec::new();
    for Table { host, rows, .. } in TABLES {
        for (row, request, want) in *rows {
            let at_host = request.strip_prefix('@').and_then(|rest| rest.split_once(' '));
            let (host, request) = at_host.unwrap_or((host, request));
            let told = ask(at, host, request).await;
            if let Some(why) = differs(&told, want) {
                wrong.push(format!("row {row}: {host} {request}: {why}\n{}", told.text));
            }
        }
    }
    for (row, rule, want) in SPLITS {
        let path = format!("/{row}");
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..80 {
            *seen.entry(ask(at, "j.test", &path).await.by()).or_default() += 1;
        }
        let outcomes: Vec<_> = seen.keys().map(String::as_str).collect();
        let mut want = want.to_vec();
        want.sort_unstable();
        // One of four at 66; the odds of leaving this range are below one in a million.
        let is_even = *row != 66 || (2..=42).contains(&seen.get("a").copied().unwrap_or_default());
        if outcomes != want || !is_even {
            wrong.push(format!("row {row}: {rule}: {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), gateway.access_log());
}

/// Row 89: where the listener's port is another than usual, redirects say it.
#[tokio::test]
async fn redirects_stay_at_the_listeners_port() {
    let gateway = GATEWAY.replace("port: 80,", "port: 8080,");
    let redirect = "P:/ -> | filters: [{type: RequestRedirect, requestRedirect: {statusCode: 302}}]";
    let text = gateway + &route("r", "", "all", &[], &[redirect]);
    let (_envoy, at) = envoy(&rendered(&text, &settings()).bootstrap()).await;
    for host in ["h", "h:8080"] {
        let told = ask(at, host, "/p").await;
        assert_eq!((told.status, told.header("location")), (302, Some("http://h:8080/p")), "{}", told.text);
    }
}

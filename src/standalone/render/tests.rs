//! What is rendered, field by field where it matters; `tests/it/standalone_render.rs` shows that a real Envoy does it.

use std::time::Duration;

use serde_json::{Value, json};

mod clusters;
mod listeners;

use super::*;
use crate::standalone::input::Source;
use crate::standalone::manifest::route::{MODEL_HEADER, Match, ValueMatch};
use crate::standalone::topology::{
    Answer, BodyMode, Certificate, Edits, Entry, GatewayPlan, Host, Limits, ListenerPlan, Model, Retry,
    Share, Target, UpstreamTls,
};
use crate::standalone::xds::XdsKind;
use crate::standalone::{Checked, check};

fn settings() -> Settings {
    Settings {
        address: [127, 0, 0, 1].into(),
        ports: PortMap::default(),
        picker: ([127, 0, 0, 1], 9002).into(),
        picker_tells_health: false,
        model_extractor: ([127, 0, 0, 1], 9005).into(),
        members: BTreeMap::new(),
        service_hosts: BTreeMap::new(),
        rate_limit: None,
        admin: Address::Host("127.0.0.1".to_owned(), 9901),
        access_log: "/dev/stdout".to_owned(),
        trust_client_headers: false,
        buffer_bytes: 50 << 20,
        folder: "/run/xds".into(),
        authorities: "/ca.pem".into(),
        created: 7,
    }
}

fn entry(name: &str, answer: Answer) -> Entry {
    Entry {
        name: format!("httproute/ns/{name}/rule/0/match/0"),
        requests: Match::any(),
        route: format!("HTTPRoute ns/{name}"),
        rule: "spec.rules[0]".to_owned(),
        is_ai: false,
        answer,
        limits: Limits::default(),
        edits: Edits::default(),
        rates: Vec::new(),
    }
}

fn ai(name: &str, model: &str, answer: Answer) -> Entry {
    let mut entry = Entry { is_ai: true, ..entry(name, answer) };
    if !model.is_empty() {
        let value = ValueMatch { name: MODEL_HEADER.to_owned(), is_regex: false, value: model.to_owned() };
        entry.requests.headers.push(value);
    }
    entry
}

fn share(target: Target) -> Share {
    Share { weight: 1, priority: 0, target, model: None, edits: Edits::default() }
}

fn to_pool(name: &str) -> Target {
    Target::Pool { group: "inference.networking.k8s.io", namespace: "ns".to_owned(), name: name.to_owned() }
}

fn backend(name: &str, port: u16) -> Target {
    let endpoints = vec![Address::Host(name.to_owned(), port)];
    Target::Backend { namespace: "ns".to_owned(), name: name.to_owned(), endpoints, tls: None }
}

fn pool(name: &str) -> PoolPlan {
    PoolPlan {
        group: "inference.networking.k8s.io",
        namespace: "ns".to_owned(),
        name: name.to_owned(),
        selector: BTreeMap::new(),
        ports: vec![8000],
        is_h2c: false,
        authority: format!("{name}-epp.ns.svc:9002"),
        config: None,
        body_mode: BodyMode::Duplex,
        allow_mode_override: false,
        fail_open: false,
        members: Some(vec![Address::Host("127.0.0.1".to_owned(), 8000)]),
        replicas: Vec::new(),
        objectives: BTreeMap::new(),
        model_priorities: BTreeMap::new(),
        rewrites: crate::discovery::index::rewrites::Rewrites::default(),
        costs: Vec::new(),
    }
}

fn topology(entries: Vec<Entry>, pools: Vec<PoolPlan>) -> Topology {
    let hosts = vec![Host { name: "*".to_owned(), entries }];
    let listener =
        ListenerPlan { name: "http".to_owned(), port: 80, hostname: None, certificates: Vec::new(), hosts };
    let gateway =
        GatewayPlan { namespace: "ns".to_owned(), name: "gw".to_owned(), listeners: vec![listener] };
    Topology { gateways: vec![gateway], pools, ..Topology::default() }
}

/// The static configuration as a value, and what was told.
fn config(topology: &Topology, settings: &Settings) -> (Value, Vec<String>) {
    let mut findings = Findings::default();
    let rendered = render(topology, settings, &mut findings);
    let value = serde_yaml::from_str(&rendered.bootstrap()).unwrap();
    (value, findings.sort().iter().map(|finding| finding.message.clone()).collect())
}

fn manager(config: &Value) -> &Value {
    &config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

fn routes(config: &Value) -> &[Value] {
    manager(config)["route_config"]["virtual_hosts"][0]["routes"].as_array().unwrap()
}

fn cluster<'c>(config: &'c Value, name: &str) -> &'c Value {
    let all = config["static_resources"]["clusters"].as_array().unwrap();
    all.iter().find(|cluster| cluster["name"] == name).unwrap_or(&Value::Null)
}

fn filters(config: &Value) -> Vec<&str> {
    let filters = manager(config)["http_filters"].as_array().unwrap();
    filters.iter().map(|filter| filter["name"].as_str().unwrap()).collect()
}

const ONE: &str = "envoy.filters.http.ext_proc/endpointpicker/one_ns_ext_proc";
const TWO: &str = "envoy.filters.http.ext_proc/endpointpicker/two_ns_ext_proc";
const AI: &str = "envoy.filters.http.ext_proc/aigateway";

/// Which filters a route switches: `-` off, `+` on.
fn switched(route: &Value) -> Vec<String> {
    let Some(map) = route["typed_per_filter_config"].as_object() else { return Vec::new() };
    let mark = |value: &Value| if value["disabled"] == true { "-" } else { "+" };
    map.iter().map(|(name, value)| format!("{}{name}", mark(value))).collect()
}

/// Chapter 4.8 in small: two pools, a backend and the catch-all.
#[test]
fn each_entry_switches_off_the_pickers_of_others_and_ai_entries_the_model_extractor_on() {
    let entries = vec![
        ai("a", "m1", Answer::Forward(vec![share(to_pool("one"))])),
        ai("b", "m2", Answer::Forward(vec![share(to_pool("two"))])),
        ai("c", "m3", Answer::Forward(vec![share(backend("up.test", 80))])),
        entry(
            "d",
            Answer::Models(vec![Model { id: "m1".to_owned(), owned_by: "me".to_owned(), created: None }]),
        ),
        ai("e", "", Answer::Status(404, String::new())),
        entry("f", Answer::Forward(vec![share(backend("up.test", 80))])),
    ];
    let (config, told) = config(&topology(entries, vec![pool("two"), pool("one")]), &settings());
    assert_eq!(told, Vec::<String>::new());
    assert_eq!(filters(&config), [AI, ONE, TWO, "envoy.filters.http.router"]);
    assert_eq!(manager(&config)["http_filters"][0]["disabled"], true);
    assert_eq!(manager(&config)["http_filters"][1]["disabled"], Value::Null);
    let off = |name: &str| format!("-{name}");
    let on = || format!("+{AI}");
    let want = [
        vec![on(), off(TWO)],
        vec![on(), off(ONE)],
        vec![on(), off(ONE), off(TWO)],
        vec![off(ONE), off(TWO)],
        vec![on(), off(ONE), off(TWO)],
        // Nothing is read where it does not matter.
        vec![off(ONE), off(TWO)],
        vec![off(ONE), off(TWO)],
    ];
    let routes = routes(&config);
    assert_eq!(routes.iter().map(switched).collect::<Vec<_>>(), want);
    let body = r#"{"object":"list","data":[{"id":"m1","object":"model","created":7,"owned_by":"me"}]}"#;
    assert_eq!(routes[3]["direct_response"]["body"]["inline_string"], body);
    assert_eq!(routes[0]["match"]["prefix"], "/", "the model is enough");
    assert!(routes[4]["match"]["safe_regex"].is_object(), "only known paths");
    assert_eq!(routes[5]["match"]["prefix"], "/");
    assert_eq!(routes[2]["route"]["auto_host_rewrite"], true);
    assert_eq!(routes[0]["route"]["auto_host_rewrite"], Value::Null);
    assert_eq!(routes[6]["route"]["auto_host_rewrite"], Value::Null);
    let picker = &manager(&config)["http_filters"][1]["typed_config"];
    assert_eq!(picker["grpc_service"]["envoy_grpc"]["authority"], "one-epp.ns.svc:9002");
    for name in ["one", "two"] {
        let cluster = cluster(&config, &format!("envoy.clusters.endpointpicker_{name}_ns_ext_proc"));
        assert!(cluster.is_object(), "{name}");
    }
}

#[test]
fn no_filter_is_there_that_nobody_needs() {
    let entries = vec![entry("a", Answer::Forward(vec![share(backend("up.test", 80))]))];
    let (config, _) = config(&topology(entries, vec![pool("one")]), &settings());
    assert_eq!(filters(&config), ["envoy.filters.http.router"]);
    assert_eq!(cluster(&config, "ai-gateway-extproc-uds"), &Value::Null);
}

#[test]
fn a_rule_may_split_between_pools_and_others() {
    let shares = vec![
        Share { weight: 3, ..share(to_pool("one")) },
        share(to_pool("two")),
        share(Target::Nowhere("why".to_owned())),
    ];
    let entries = vec![entry("a", Answer::Forward(shares))];
    let (config, _) = config(&topology(entries, vec![pool("one"), pool("two")]), &settings());
    let route = &routes(&config)[0];
    assert_eq!(switched(route), Vec::<String>::new());
    let clusters = route["route"]["weighted_clusters"]["clusters"].as_array().unwrap();
    let of = |cluster: &Value| {
        (cluster["name"].as_str().unwrap().to_owned(), cluster["weight"].clone(), switched(cluster))
    };
    assert_eq!(
        clusters.iter().map(of).collect::<Vec<_>>(),
        [
            ("httproute/ns/a/rule/0/backend/0".to_owned(), json!(3), vec![format!("-{TWO}")]),
            ("httproute/ns/a/rule/0/backend/1".to_owned(), json!(1), vec![format!("-{ONE}")]),
            ("invalid-backend-cluster".to_owned(), json!(1), vec![format!("-{ONE}"), format!("-{TWO}")]),
        ]
    );
    assert_eq!(route["route"]["cluster_not_found_response_code"], "INTERNAL_SERVER_ERROR");
}

/// The table of timeouts and retries (2.7), and rows 104 to 107 and 110.
#[test]
fn limits_become_these() {
    let s = Duration::from_secs;
    let retry = Retry {
        attempts: 2,
        on: vec!["reset".to_owned()],
        statuses: vec![503],
        per_try: None,
        backoff: Some((s(1), s(2))),
    };
    let limits = Limits::default();
    for (name, limits, want) in [
        ("none", limits.clone(), json!([null, null, null])),
        ("request", Limits { request: Some(s(60)), ..limits.clone() }, json!(["60s", "3600s", null])),
        ("long", Limits { request: Some(s(7200)), ..limits.clone() }, json!(["7200s", "7200s", null])),
        ("zero", Limits { request: Some(s(0)), ..limits.clone() }, json!(["0s", "0s", null])),
        (
            "backend",
            Limits {
                request: Some(s(9)),
                backend_request: Some(Duration::from_millis(1500)),
                ..limits.clone()
            },
            json!(["1.500s", "3600s", null]),
        ),
        (
            "backend and retry",
            Limits { request: Some(s(9)), backend_request: Some(s(2)), retry: Some(retry), ..limits.clone() },
            json!(["9s", "3600s", {
                "retry_on": "reset,retriable-status-codes", "num_retries": 2, "retriable_status_codes": [503],
                "per_try_timeout": "2s", "retry_back_off": {"base_interval": "1s", "max_interval": "2s"},
            }]),
        ),
        (
            "idle",
            Limits { stream_idle: Some(s(5)), ..limits },
            json!([null, null, {"per_try_idle_timeout": "5s"}]),
        ),
    ] {
        let entry = Entry { limits, ..entry("a", Answer::Forward(vec![share(backend("up.test", 80))])) };
        let (config, _) = config(&topology(vec![entry], Vec::new()), &settings());
        let route = &routes(&config)[0]["route"];
        let mut policy = route["retry_policy"].clone();
        if let Some(policy) = policy.as_object_mut() {
            let predicates = policy.remove("retry_host_predicate").is_some();
            assert_eq!(predicates, policy.remove("host_selection_retry_max_attempts").is_some(), "{name}");
            assert_eq!(predicates, policy.contains_key("num_retries"), "{name}");
        }
        assert_eq!(json!([route["timeout"], route["idle_timeout"], policy]), want, "{name}");
    }
}

/// X9, X10: names with slashes become names of files, and nothing changes by itself.
#[test]
fn files_have_these_names_and_only_what_changed_differs() {
    let of = |members: &[u16]| {
        let entries = vec![entry("a", Answer::Forward(vec![share(to_pool("one"))]))];
        let mut settings = settings();
        let members = members.iter().map(|port| Address::Host("127.0.0.1".to_owned(), *port)).collect();
        settings.members.insert(("ns".to_owned(), "one".to_owned()), members);
        render(&topology(entries, vec![pool("one")]), &settings, &mut Findings::default()).files()
    };
    let (old, new) = (of(&[1]), of(&[1, 2]));
    let names: Vec<_> = old.iter().map(|file| file.path.as_str()).collect();
    let [endpoints, clusters, routes, listeners] = names[..] else { panic!("{names:?}") };
    assert_eq!([endpoints, clusters, listeners], ["eds/ns~one.yaml", "cds.yaml", "lds.yaml"]);
    // The digest of the filters: routes of others have another name.
    assert!(routes.starts_with("rds/ns~gw~http~"), "{routes}");
    let changed: Vec<_> = new.iter().filter(|file| !old.contains(file)).map(|file| file.kind).collect();
    assert_eq!(changed, [XdsKind::Endpoints]);
    assert!(old.windows(2).all(|pair| pair[0].kind <= pair[1].kind));
    assert_eq!(old, of(&[1]));
    for file in &old {
        assert!(file.text.starts_with("version_info: "), "{}", file.text);
    }
}

#[test]
fn long_lists_of_models_are_answered_whole() {
    let model = Model { id: "m".repeat(100), owned_by: "me".to_owned(), created: Some(1) };
    let entries = vec![entry("a", Answer::Models(vec![model; 50]))];
    let (config, _) = config(&topology(entries, Vec::new()), &settings());
    let body = routes(&config)[0]["direct_response"]["body"]["inline_string"].as_str().unwrap().len();
    assert_eq!(manager(&config)["route_config"]["max_direct_response_body_size_bytes"], body);
}

/// The pages of examples that we have ourselves.
#[test]
fn manifests_are_rendered_without_errors() {
    let text = "kind: Gateway\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {name: g}\n\
                spec: {gatewayClassName: c, listeners: [{name: h, port: 80, protocol: HTTP}]}\n";
    let sources = [Source { name: "g.yaml".to_owned(), text: text.to_owned() }];
    let Checked { topology, mut findings, .. } = check(&sources, "default", &[]);
    let rendered = render(&topology, &settings(), &mut findings);
    assert_eq!(findings.count(Level::Error), 0);
    let config: Value = serde_yaml::from_str(&rendered.dynamic_bootstrap()).unwrap();
    let lds = &config["dynamic_resources"]["lds_config"]["path_config_source"];
    assert_eq!(lds, &json!({"path": "/run/xds/lds.yaml", "watched_directory": {"path": "/run/xds"}}));
}

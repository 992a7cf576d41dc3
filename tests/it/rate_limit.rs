//! Limits of rates through a real Envoy: its filters as `standalone::rates` configures them, and our own service.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use epp::rate_limit::metrics::RateLimitMetrics;
use epp::rate_limit::serve;
use epp::standalone::manifest::route::{Match, ValueMatch};
use epp::standalone::rates::{domain, http_filters, of_route, service};
use epp::standalone::topology::{
    Answer as Does, Edits, Entry, GatewayPlan, Host, Limits, ListenerPlan, RateCost, RateHeader, RateRule,
    RateUnit, Topology,
};
use prometheus::{Registry, TextEncoder};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::envoy::Envoy;
use crate::support::envoy_config::EnvoySetup;
use crate::support::epp::Epp;
use crate::support::upstream::{Answer, Upstream};
use crate::support::{Protocol, client, eventually};

/// A request that the server echoes, so that its answer says 7 + 5 tokens.
const ECHOED: &str =
    r#"{"model":"m","prompt":"p","usage":{"prompt_tokens":7,"total_tokens":12,"completion_tokens":5}}"#;

/// One request of each kind, an hour.
fn rule(index: usize, clients: Vec<RateHeader>) -> RateRule {
    RateRule {
        policy: "default/policy".to_owned(),
        index,
        is_shared: false,
        is_local: false,
        clients,
        requests: 1,
        unit: RateUnit::Hour,
        request_cost: RateCost::Number(1),
        response_cost: None,
        is_shadow: false,
    }
}

fn is(name: &str, value: &str, is_regex: bool, is_inverted: bool) -> RateHeader {
    RateHeader::Is(ValueMatch { name: name.to_owned(), is_regex, value: value.to_owned() }, is_inverted)
}

/// An entry for requests whose `x-entry` is its name.
fn entry(name: &str, rates: &[RateRule]) -> Entry {
    Entry {
        name: name.to_owned(),
        requests: Match::any(),
        route: "HTTPRoute default/r".to_owned(),
        rule: "spec.rules[0]".to_owned(),
        is_ai: false,
        answer: Does::Forward(Vec::new()),
        limits: Limits::default(),
        edits: Edits::default(),
        rates: rates.iter().cloned().map(Arc::new).collect(),
    }
}

/// A gateway with limits: Envoy, `epp` and a model server, and the service, half an hour into an hour.
struct Limited {
    upstream: Upstream,
    epp: Epp,
    envoy: Envoy,
    registry: Registry,
    service: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Limited {
    async fn start(entries: Vec<Entry>) -> Self {
        let host = Host { name: "*".to_owned(), entries };
        let listener = ListenerPlan {
            name: "http".to_owned(),
            port: 80,
            hostname: None,
            certificates: Vec::new(),
            hosts: vec![host],
        };
        let (namespace, name) = ("default".to_owned(), "gw".to_owned());
        let gateway = GatewayPlan { namespace, name, listeners: vec![listener] };
        let topology = Topology { gateways: vec![gateway], ..Topology::default() };

        let (registry, stop, mut tasks) = (Registry::new(), watch::Sender::new(false), JoinSet::new());
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = port.local_addr().unwrap();
        let limits = watch::Sender::new(Arc::from(service(&topology))).subscribe();
        let metrics = RateLimitMetrics::register(&registry).unwrap();
        let stopped = stop.subscribe();
        tasks.spawn(async move {
            serve(port, limits, || Duration::from_secs(1_800), stopped, metrics).await.unwrap();
        });
        let upstream = Upstream::start(Answer::Echo);
        let epp = Epp::start(&[upstream.addr()]).await;
        let setup = EnvoySetup::new(epp.ext_proc);
        let envoy = Envoy::with(|access_log| config(setup.render(access_log), &topology, at)).await;
        Self { upstream, epp, envoy, registry, service: tasks, stop }
    }

    async fn post(&self, entry: &str, headers: &[(&str, &str)]) -> Response {
        let request = client(Protocol::Http1).post(format!("{}/v1/completions", self.envoy.http()));
        let request = headers
            .iter()
            .fold(request.header("x-entry", entry), |request, (name, value)| request.header(*name, *value));
        request.body(ECHOED).send().await.unwrap()
    }

    /// Posts, and asserts the status and the headers that tell what is left: limit, remaining, reset.
    async fn expect(&self, entry: &str, headers: &[(&str, &str)], status: u16, told: Option<[&str; 3]>) {
        let answer = self.post(entry, headers).await;
        assert_eq!(answer.status(), status, "{entry} {headers:?}");
        let said = ["limit", "remaining", "reset"]
            .map(|name| answer.headers().get(format!("x-ratelimit-{name}")))
            .map(|value| value.map(|value| value.to_str().unwrap().to_owned()));
        assert_eq!(said.each_ref().map(Option::as_deref), told.map_or([None; 3], |told| told.map(Some)));
        answer.bytes().await.unwrap();
    }

    /// Waits until this much was taken from the budgets of the policy's first rule.
    async fn charged(&self, hits: u64) {
        eventually("answers are charged", async || {
            let page = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
            let labels = r#"domain="default/gw/http",policy="default/policy",rule="0""#;
            page.contains(&format!("epp_rate_limit_hits_total{{{labels}}} {hits}\n")).then_some(())
        })
        .await;
    }
}

/// The configuration of a test, with a route for each entry and the filters of rates.
fn config(mut config: Value, topology: &Topology, at: SocketAddr) -> Value {
    let gateway = &topology.gateways[0];
    let domain = domain(gateway, &gateway.listeners[0]);
    let mut cluster = config["static_resources"]["clusters"][1].clone();
    cluster["name"] = json!("rates");
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
        ["port_value"] = json!(at.port());
    config["static_resources"]["clusters"].as_array_mut().unwrap().push(cluster);
    let manager =
        &mut config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let filters = manager["http_filters"].as_array_mut().unwrap();
    // Routes say theirs.
    for (n, filter) in http_filters("elsewhere", "rates").iter().enumerate() {
        filters.insert(n, serde_json::to_value(filter).unwrap());
    }
    let routes = gateway.listeners[0].hosts[0].entries.iter().map(|entry| {
        json!({
            "match": {
                "prefix": "/",
                "headers": [{ "name": "x-entry", "string_match": { "exact": entry.name } }],
            },
            "route": { "cluster": "pool", "timeout": "0s" },
            "typed_per_filter_config": of_route(entry, &domain),
        })
    });
    manager["route_config"]["virtual_hosts"][0]["routes"] = routes.collect();
    config
}

/// The worked example of row 3.7, with answers of 7 tokens.
#[tokio::test]
async fn tokens_of_answers_are_charged_to_tenants() {
    let cost = RateCost::Metadata("io.envoy.ai_gateway".to_owned(), "llm_input_token".to_owned());
    let tokens = RateRule {
        requests: 10,
        request_cost: RateCost::Number(0),
        response_cost: Some(cost),
        ..rule(0, vec![RateHeader::Distinct("x-tenant-id".to_owned())])
    };
    let mut gateway = Limited::start(vec![entry("tokens", &[tokens])]).await;
    let (t1, t2) = ([("x-tenant-id", "t1")], [("x-tenant-id", "t2")]);
    let left = |left| Some(["10, 10;w=3600", left, "1800"]);
    gateway.expect("tokens", &t1, 200, left("10")).await;
    gateway.charged(7).await;
    gateway.expect("tokens", &t1, 200, left("3")).await;
    gateway.charged(14).await;
    let refused = gateway.post("tokens", &t1).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["x-envoy-ratelimited"], "true");
    assert_eq!(refused.text().await.unwrap(), "");
    gateway.expect("tokens", &t1, 429, left("0")).await;
    assert_eq!(gateway.upstream.received().len(), 2, "a refused request reaches nobody");

    // What failed costs nothing.
    gateway.upstream.answer(Answer::Status(500));
    gateway.expect("tokens", &t2, 500, left("10")).await;
    gateway.upstream.answer(Answer::Echo);
    gateway.expect("tokens", &t2, 200, left("10")).await;
    gateway.charged(21).await;

    // Who names no tenant has no limit.
    for _ in 0..3 {
        gateway.expect("tokens", &[], 200, None).await;
    }
    gateway.expect("tokens", &t2, 200, left("3")).await;
    gateway.charged(28).await;

    // Without the service nobody is refused.
    gateway.stop.send_replace(true);
    gateway.service.join_next().await.unwrap().unwrap();
    gateway.expect("tokens", &t1, 200, None).await;
    gateway.epp.wait_until_idle().await;
    gateway.envoy.assert_clean().await;
}

#[tokio::test]
async fn requests_are_limited_by_who_sends_them() {
    let shared = RateRule {
        is_shared: true,
        requests: 2,
        unit: RateUnit::Week,
        ..rule(0, vec![is("x-tier", "(free|trial).*", true, false)])
    };
    let shadow = RateRule { is_shadow: true, requests: 0, ..rule(1, Vec::new()) };
    let nobody_but_root = RateRule { requests: 0, ..rule(2, vec![is("x-user", "root", false, true)]) };
    // What metadata says that nobody wrote is 0.
    let cost = RateCost::Metadata("nobody".to_owned(), "wrote.it".to_owned());
    let unknown = RateRule { request_cost: cost, ..rule(3, Vec::new()) };
    let entries = [
        entry("a", &[shared.clone(), shadow.clone()]),
        entry("b", &[shared.clone(), shared]),
        entry("root", &[nobody_but_root, shadow]),
        entry("unknown", &[unknown]),
        entry("free", &[]),
    ];
    let gateway = Limited::start(entries.into()).await;
    let tier = |tier| [("x-tier", tier)];
    let left = |left| Some(["2, 2;w=604800", left, "603000"]);
    gateway.expect("a", &tier("free"), 200, left("1")).await;
    gateway.expect("b", &tier("trial-1"), 200, left("0")).await;
    gateway.expect("a", &tier("trial-1"), 429, left("0")).await;
    gateway.expect("b", &tier("free"), 429, left("0")).await;
    for others in [&tier("paid")[..], &tier("not-free"), &[]] {
        gateway.expect("a", others, 200, None).await;
        gateway.expect("free", others, 200, None).await;
    }
    gateway.expect("root", &[("x-user", "root")], 200, None).await;
    for others in [&[("x-user", "roots")][..], &[]] {
        gateway.expect("root", others, 429, Some(["0, 0;w=3600", "0", "1800"])).await;
    }
    for _ in 0..2 {
        gateway.expect("unknown", &[], 200, Some(["1, 1;w=3600", "1", "1800"])).await;
    }
}

#[tokio::test]
async fn envoy_limits_locally_without_the_service() {
    let local = |rule: RateRule| RateRule { is_local: true, ..rule };
    let users = RateRule { requests: 2, ..rule(0, vec![RateHeader::Distinct("x-user".to_owned())]) };
    let blocked = RateRule { requests: 0, ..rule(1, vec![is("x-blocked", "yes", false, false)]) };
    let shadow = RateRule { is_shadow: true, requests: 0, ..rule(2, Vec::new()) };
    let entries = [
        entry("users", &[local(users.clone()), local(blocked)]),
        entry("others", &[local(users)]),
        entry("shadow", &[local(shadow)]),
    ];
    let mut gateway = Limited::start(entries.into()).await;
    gateway.stop.send_replace(true);
    gateway.service.join_next().await.unwrap().unwrap();
    for (entry, headers, want, left) in [
        ("users", &[("x-user", "u1")][..], 200, Some("1")),
        ("users", &[("x-user", "u1")], 200, Some("0")),
        ("users", &[("x-user", "u1")], 429, Some("0")),
        ("users", &[("x-user", "u2")], 200, Some("1")),
        ("others", &[("x-user", "u1")], 200, Some("1")),
        ("users", &[], 200, None),
        ("users", &[], 200, None),
        ("users", &[], 200, None),
        ("users", &[("x-blocked", "yes")], 429, None),
        ("users", &[("x-blocked", "no")], 200, None),
        ("shadow", &[], 200, None),
        ("shadow", &[], 200, None),
    ] {
        let answer = gateway.post(entry, headers).await;
        assert_eq!(answer.status(), want, "{entry} {headers:?}");
        let said = answer.headers().get("x-ratelimit-remaining").map(|left| left.to_str().unwrap());
        assert_eq!(said, left, "{entry} {headers:?}");
    }
    assert_eq!(gateway.upstream.received().len(), 10);
}

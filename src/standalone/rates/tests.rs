//! What Envoy would ask, and what the service knows.

use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::*;
use crate::rate_limit::limiter::{Hits, Limiter, Standing};
use crate::standalone::manifest::route::{Match, ValueMatch};
use crate::standalone::topology::{Answer, Edits, Host, Limits, RateUnit};

const NAMESPACE: &str = "io.envoy.ai_gateway";

/// Ten requests an hour.
fn rule(index: usize, clients: Vec<RateHeader>) -> RateRule {
    RateRule {
        policy: "default/policy".to_owned(),
        index,
        is_shared: false,
        is_local: false,
        clients,
        requests: 10,
        unit: RateUnit::Hour,
        request_cost: RateCost::Number(1),
        response_cost: None,
        is_shadow: false,
    }
}

/// Ten tokens an hour.
fn tokens(index: usize, clients: Vec<RateHeader>) -> RateRule {
    let cost = RateCost::Metadata(NAMESPACE.to_owned(), "total".to_owned());
    RateRule { request_cost: RateCost::Number(0), response_cost: Some(cost), ..rule(index, clients) }
}

fn distinct(name: &str) -> RateHeader {
    RateHeader::Distinct(name.to_owned())
}

fn is(name: &str, sign: &str, value: &str) -> RateHeader {
    let is_regex = sign.ends_with('~');
    let value = ValueMatch { name: name.to_owned(), is_regex, value: value.to_owned() };
    RateHeader::Is(value, sign.starts_with('!'))
}

fn entry(name: &str, rates: Vec<RateRule>) -> Entry {
    Entry {
        name: name.to_owned(),
        requests: Match::any(),
        route: "HTTPRoute default/r".to_owned(),
        rule: "spec.rules[0]".to_owned(),
        is_ai: false,
        answer: Answer::Status(500, String::new()),
        limits: Limits::default(),
        edits: Edits::default(),
        rates: rates.into_iter().map(Arc::new).collect(),
    }
}

fn listener(name: &str, entries: Vec<Entry>) -> ListenerPlan {
    ListenerPlan {
        name: name.to_owned(),
        port: 80,
        hostname: None,
        certificates: Vec::new(),
        hosts: vec![Host { name: "*".to_owned(), entries }],
    }
}

fn topology(listeners: Vec<ListenerPlan>) -> Topology {
    let gateway = GatewayPlan { namespace: "default".to_owned(), name: "gw".to_owned(), listeners };
    Topology { gateways: vec![gateway], ..Topology::default() }
}

/// What is configured at a route, without what is always the same.
fn at_route(rates: Vec<RateRule>) -> Json {
    serde_json::to_value(of_route(&entry("e", rates), "d")).unwrap()
}

#[test]
fn filters_ask_for_their_domain_and_let_requests_pass_without_an_answer() {
    let filters = serde_json::to_value(http_filters("default/gw/http", "rates")).unwrap();
    let want = json!([
        {
            "name": "envoy.filters.http.local_ratelimit",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
                "stat_prefix": "rates",
            },
        },
        {
            "name": "envoy.filters.http.ratelimit",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
                "domain": "default/gw/http",
                "timeout": "0.5s",
                "failure_mode_deny": false,
                "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
                "rate_limit_service": {
                    "transport_api_version": "V3",
                    "grpc_service": { "envoy_grpc": { "cluster_name": "rates" } },
                },
            },
        },
    ]);
    assert_eq!(filters, want);
}

/// The worked example of row 3.7 as Envoy is told of it.
#[test]
fn tokens_are_asked_for_before_and_charged_behind() {
    let actions = json!([
        { "generic_key": { "descriptor_key": "entry", "descriptor_value": "e" } },
        { "generic_key": { "descriptor_key": "rule", "descriptor_value": "default/policy/3" } },
        { "request_headers": { "header_name": "x-tenant-id", "descriptor_key": "header/x-tenant-id" } },
    ]);
    let want = json!({ "envoy.filters.http.ratelimit": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
        "domain": "d",
        "rate_limits": [
            { "actions": actions, "hits_addend": { "number": 0 } },
            {
                "actions": actions,
                "hits_addend": { "format": "%DYNAMIC_METADATA(io.envoy.ai_gateway:total)%" },
                "apply_on_stream_done": true,
            },
        ],
    }});
    assert_eq!(at_route(vec![tokens(3, vec![distinct("x-tenant-id")])]), want);
    assert_eq!(at_route(Vec::new()), json!({}));
}

#[test]
fn each_cost_is_asked_for_in_its_way() {
    let metadata = |namespace: &str, key: &str| RateCost::Metadata(namespace.to_owned(), key.to_owned());
    let number = |number: u32| json!({ "number": number });
    let format = json!({ "format": "%DYNAMIC_METADATA(ns:k.x/y-z)%" });
    for (request, response, want) in [
        (RateCost::Number(1), None, vec![(Json::Null, false)]),
        (RateCost::Number(0), None, vec![(number(0), false)]),
        (RateCost::Number(u32::MAX), None, vec![(number(1_000_000_000), false)]),
        (metadata("ns", "k.x/y-z"), None, vec![(number(0), false), (format.clone(), false)]),
        (metadata("ns", "a)%REQ(b"), None, vec![(number(0), false)]),
        (
            RateCost::Number(2),
            Some(RateCost::Number(u32::MAX)),
            vec![(number(2), false), (number(1_000_000_000), true)],
        ),
        (
            RateCost::Number(2),
            Some(metadata("ns", "k.x/y-z")),
            vec![(number(2), false), (format.clone(), true)],
        ),
        (RateCost::Number(2), Some(metadata("n:s", "k")), vec![(number(2), false)]),
        (RateCost::Number(2), Some(metadata("ns", "")), vec![(number(2), false)]),
    ] {
        let name = format!("{request:?} {response:?}");
        let rule = RateRule { request_cost: request, response_cost: response, ..rule(0, Vec::new()) };
        let config = at_route(vec![rule]);
        let limits = config[GLOBAL]["rate_limits"].as_array().unwrap();
        let costs: Vec<_> = limits
            .iter()
            .map(|limit| (limit["hits_addend"].clone(), limit["apply_on_stream_done"] == true))
            .collect();
        assert_eq!(costs, want, "{name}");
    }
}

#[test]
fn local_limits_are_buckets_of_the_route() {
    let blocked = RateRule { requests: 0, unit: RateUnit::Second, ..rule(1, Vec::new()) };
    let users = vec![distinct("x-user"), is("x-tier", "=", "free")];
    let users = RateRule { is_shared: true, is_shadow: true, ..rule(0, users) };
    let rules = [users.clone(), blocked, users].map(|rule| RateRule { is_local: true, ..rule });
    let config = &at_route(rules.to_vec())[LOCAL];
    let [of_entry, of_rule] = ["entry", "rule"].map(|key| json!({ "key": key, "value": "e" }));
    let of_rule = |index: usize| {
        let mut of_rule = of_rule.clone();
        of_rule["value"] = json!(format!("default/policy/{index}"));
        of_rule
    };
    let want = json!([
        {
            "entries": [
                of_entry,
                of_rule(0),
                { "key": "header/x-user", "value": "" },
                { "key": "match/x-tier", "value": "=free" },
            ],
            "token_bucket": { "max_tokens": 10, "tokens_per_fill": 10, "fill_interval": "3600s" },
            "shadow_mode": true,
        },
        {
            "entries": [of_entry, of_rule(1)],
            "token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1s" },
        },
    ]);
    assert_eq!(config["descriptors"], want);
    assert_eq!(config["rate_limits"][0].get("hits_addend"), None);
    assert_eq!(config["rate_limits"][1]["hits_addend"], json!({ "number": 1_000_000_000 }));
    assert_eq!(config["rate_limits"].as_array().unwrap().len(), 2);
    let open = json!({ "max_tokens": u32::MAX, "tokens_per_fill": u32::MAX, "fill_interval": "1s" });
    assert_eq!(
        (&config["token_bucket"], &config["always_consume_default_token_bucket"]),
        (&open, &json!(false))
    );
    let told = at_route(vec![RateRule { is_local: true, ..rule(0, Vec::new()) }]);
    let of = |config: &Json| config["rate_limits"][0]["x_ratelimit_option"].clone();
    assert_eq!((of(config), of(&told[LOCAL])), (Json::Null, json!("DRAFT_VERSION_03")));
    let whole = json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } });
    assert_eq!((&config["filter_enabled"], &config["filter_enforced"]), (&whole, &whole));
}

/// The descriptor that Envoy makes of these actions for a request with these headers.
fn made(limit: &RateLimit, headers: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    let value = |name: &str| headers.iter().find(|(header, _)| *header == name).map(|(_, value)| *value);
    let entry = |action: &Action| match action {
        Action::GenericKey { descriptor_key, descriptor_value } => {
            Some(((*descriptor_key).to_owned(), descriptor_value.clone()))
        }
        Action::RequestHeaders { header_name, descriptor_key } => {
            value(header_name).map(|value| (descriptor_key.clone(), value.to_owned()))
        }
        Action::HeaderValueMatch { descriptor_key, descriptor_value, expect_match, headers } => {
            let is_match = headers.iter().all(|header| match &header.string_match {
                StringMatcher::Exact(text) => value(&header.name) == Some(text),
                StringMatcher::SafeRegex { regex } => value(&header.name).is_some_and(|value| {
                    regex::Regex::new(&format!("^(?:{regex})$")).unwrap().is_match(value)
                }),
            });
            (is_match == *expect_match).then(|| (descriptor_key.clone(), descriptor_value.clone()))
        }
    };
    limit.actions.iter().map(entry).collect()
}

/// A request at an entry: it passes unless one of its limits is over. Every answer costs 6.
fn request(limiter: &mut Limiter, domain: &str, entry: &Entry, headers: &[(&str, &str)]) -> bool {
    let configs = of_route(entry, domain);
    let Some(RouteRates::Global(config)) = configs.get(GLOBAL) else { return true };
    let mut charge = |limit: &RateLimit| {
        let Some(descriptor) = made(limit, headers) else { return true };
        let descriptor: Vec<_> =
            descriptor.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let hits = match &limit.hits_addend {
            None => 1,
            Some(HitsAddend::Number(number)) => u64::from(*number),
            Some(HitsAddend::Format(_)) => 6,
        };
        let verdict = limiter.charge(&config.domain, &descriptor, Hits::Take(hits), Duration::ZERO);
        verdict.expect("the service knows every descriptor").standing != Standing::Over
    };
    let (behind, before): (Vec<_>, Vec<_>) =
        config.rate_limits.iter().partition(|limit| limit.apply_on_stream_done);
    // All of them are asked about, whatever the first one says.
    let mut passes = true;
    for limit in before {
        passes &= charge(limit);
    }
    if passes {
        for limit in behind {
            charge(limit);
        }
    }
    passes
}

/// Rules, and one request after the other: its entry, its headers, and whether it passes.
type Case = (&'static str, Vec<RateRule>, Vec<Request>);
type Request = (&'static str, &'static [(&'static str, &'static str)], bool);

fn cases() -> Vec<Case> {
    const T1: &[(&str, &str)] = &[("x-tenant-id", "t1")];
    const T2: &[(&str, &str)] = &[("x-tenant-id", "t2")];
    let tenants = || vec![distinct("x-tenant-id")];
    let matching = |sign| vec![is("x-tier", sign, "(free|trial).*")];
    let one = |rule: RateRule| RateRule { requests: 1, ..rule };
    let shared = RateRule { is_shared: true, ..tokens(0, tenants()) };
    vec![
        (
            "the worked example of row 3.7",
            vec![tokens(0, tenants())],
            vec![("a", T1, true), ("a", T1, true), ("a", T1, false), ("a", T2, true)],
        ),
        ("without the header nothing is limited", vec![one(rule(0, tenants()))], vec![("a", &[], true); 3]),
        (
            "each entry has its own budget",
            vec![one(rule(0, tenants()))],
            vec![("a", T1, true), ("a", T1, false), ("b", T1, true)],
        ),
        (
            "a shared budget",
            vec![shared],
            vec![("a", T1, true), ("b", T1, true), ("a", T1, false), ("b", T1, false)],
        ),
        (
            "all rules count",
            vec![one(rule(0, Vec::new())), rule(1, tenants())],
            vec![("a", T1, true), ("a", &[], false)],
        ),
        (
            "clients with a header",
            vec![one(rule(0, matching("~")))],
            vec![
                ("a", &[("x-tier", "free-1")], true),
                ("a", &[("x-tier", "trial")], false),
                ("a", &[("x-tier", "paid")], true),
            ],
        ),
        (
            "clients without one",
            vec![one(rule(0, matching("!~")))],
            vec![("a", &[("x-tier", "paid")], true), ("a", &[], false), ("a", &[("x-tier", "free")], true)],
        ),
        (
            "a value that looks like a match of another selector",
            vec![one(rule(0, vec![distinct("x")])), one(rule(0, vec![is("x", "=", "v")]))],
            vec![("a", &[("x", "v")], true), ("a", &[("x", "=v")], true), ("a", &[("x", "w")], true)],
        ),
        ("a rule that is there twice", vec![rule(0, Vec::new()); 2], vec![("a", &[], true); 10]),
    ]
}

/// The service's limits and Envoy's questions fit each other, rule by rule.
#[test]
fn budgets_are_told_apart_as_the_policy_says() {
    for (name, rules, requests) in cases() {
        let entries = ["a", "b"].map(|name| entry(name, rules.clone()));
        let topology = topology(vec![listener("http", entries.to_vec())]);
        let mut limiter = Limiter::new(100, RandomState::new());
        limiter.set(service(&topology).into());
        for (n, (at, headers, want)) in requests.into_iter().enumerate() {
            let entry = entries.iter().find(|entry| entry.name == at).unwrap();
            let domain = domain(&topology.gateways[0], &topology.gateways[0].listeners[0]);
            let passes = request(&mut limiter, &domain, entry, headers);
            assert_eq!(passes, want, "{name}: request {n} to {at} with {headers:?}");
        }
    }
}

#[test]
fn the_service_knows_each_limit_once() {
    let shared = RateRule { is_shared: true, is_shadow: true, ..rule(1, Vec::new()) };
    let local = RateRule { is_local: true, ..rule(2, Vec::new()) };
    let rules = vec![rule(0, Vec::new()), shared, local];
    let both = || vec![entry("a", rules.clone()), entry("a", rules.clone()), entry("b", Vec::new())];
    let topology = topology(vec![listener("http", both()), listener("https", both())]);
    let limits: Vec<_> = service(&topology)
        .into_iter()
        .map(|limit| {
            let entries: Vec<_> =
                limit.entries.iter().map(|(key, value)| format!("{key} {value:?}")).collect();
            let domain = limit.domain.as_deref().unwrap_or("*");
            format!("{domain}: {} ({}/{}, {})", entries.join(", "), limit.policy, limit.rule, limit.is_shadow)
        })
        .collect();
    assert_eq!(
        limits,
        [
            r#"default/gw/http: entry Is("a"), rule Is("default/policy/0") (default/policy/0, false)"#,
            r#"*: rule Is("default/policy/1") (default/policy/1, true)"#,
            r#"default/gw/https: entry Is("a"), rule Is("default/policy/0") (default/policy/0, false)"#,
        ]
    );
    let listeners = &topology.gateways[0].listeners;
    assert!(listeners.iter().all(has_limits));
    assert!(!has_limits(&listener("http", vec![entry("a", Vec::new())])));
}

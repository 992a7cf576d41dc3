//! What calls of Envoy are answered.

use std::hash::RandomState;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::google::protobuf::UInt64Value;
use prometheus::{Registry, TextEncoder};

use super::super::limiter::Value;
use super::*;

fn limit(rule: usize, requests: u32, unit: RateUnit, is_shadow: bool) -> Limit {
    Limit {
        domain: (rule != 2).then(|| "d".to_owned()),
        entries: vec![("rule".to_owned(), Value::Is(rule.to_string()))],
        requests,
        unit,
        is_shadow,
        policy: "default/policy".to_owned(),
        rule,
    }
}

fn service(registry: &Registry) -> Service<fn() -> Duration> {
    let limits = [
        limit(0, 3, RateUnit::Minute, false),
        limit(1, 0, RateUnit::Hour, true),
        limit(2, 10, RateUnit::Week, false),
    ];
    let mut limiter = Limiter::new(10, RandomState::new());
    let metrics = RateLimitMetrics::register(registry).unwrap();
    metrics.keep_only(&limits);
    limiter.set(Arc::from(limits));
    Service::new(Arc::new(Mutex::new(limiter)), || Duration::from_secs(100), Arc::new(metrics))
}

/// A descriptor of a rule, with hits of its own.
fn descriptor(rule: &str, hits: Option<u64>) -> RateLimitDescriptor {
    RateLimitDescriptor {
        entries: vec![Entry { key: "rule".to_owned(), value: rule.to_owned() }],
        hits_addend: hits.map(|value| UInt64Value { value }),
        ..RateLimitDescriptor::default()
    }
}

fn ask<C: Fn() -> Duration>(
    service: &Service<C>,
    hits: u32,
    descriptors: Vec<RateLimitDescriptor>,
) -> String {
    let call = RateLimitRequest { domain: "d".to_owned(), descriptors, hits_addend: hits };
    let answer = service.judge(&call);
    let mut told = vec![format!("{:?}", answer.overall_code())];
    told.extend(answer.statuses.iter().map(|status| {
        let limit = status.current_limit.as_ref().map(|limit| {
            let reset = status.duration_until_reset.as_ref().map_or(-1, |reset| reset.seconds);
            format!(
                " {}/{} per {:?}, {reset} s",
                status.limit_remaining,
                limit.requests_per_unit,
                limit.unit()
            )
        });
        format!("{:?}{}", status.code(), limit.unwrap_or_default())
    }));
    told.join("; ")
}

#[test]
fn calls_are_answered_descriptor_by_descriptor() {
    let service = service(&Registry::new());
    for (hits, descriptors, want) in [
        (0, vec![], "Ok"),
        (0, vec![descriptor("unknown", Some(9))], "Ok; Ok"),
        (0, vec![descriptor("0", None)], "Ok; Ok 2/3 per Minute, 20 s"),
        (2, vec![descriptor("0", Some(0))], "Ok; Ok 2/3 per Minute, 20 s"),
        (2, vec![descriptor("0", None)], "Ok; Ok 0/3 per Minute, 20 s"),
        (0, vec![descriptor("0", Some(0))], "OverLimit; OverLimit 0/3 per Minute, 20 s"),
        // A rule in the shadow refuses nothing, and is not told of.
        (0, vec![descriptor("1", None)], "Ok; Ok"),
        (
            0,
            vec![descriptor("0", None), descriptor("2", Some(4)), descriptor("1", None)],
            "OverLimit; OverLimit 0/3 per Minute, 20 s; Ok 6/10 per Week, 604700 s; Ok",
        ),
        (
            0,
            vec![RateLimitDescriptor { is_negative_hits: true, ..descriptor("2", Some(3)) }],
            "Ok; Ok 9/10 per Week, 604700 s",
        ),
    ] {
        let name = format!("{hits} {descriptors:?}");
        assert_eq!(ask(&service, hits, descriptors), want, "{name}");
    }
}

#[test]
fn metrics_tell_what_was_taken_and_how_it_went() {
    let registry = Registry::new();
    let service = service(&registry);
    for (rule, hits) in [("0", 2), ("0", 1), ("0", 1), ("1", 5), ("2", 0), ("unknown", 7)] {
        ask(&service, 0, vec![descriptor(rule, Some(hits))]);
    }
    let page = || {
        let page = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let label = |rule: usize| {
            let domain = if rule == 2 { "*" } else { "d" };
            (format!("domain=\"{domain}\""), format!("policy=\"default/policy\",rule=\"{rule}\"}}"), rule)
        };
        let short = |line: &str| {
            [0, 1, 2].map(label).iter().fold(line.to_owned(), |line, (domain, policy, rule)| {
                if line.contains(domain.as_str()) && line.contains(policy.as_str()) {
                    line.replace(domain.as_str(), &rule.to_string()).replace(&format!(",{policy}"), "}")
                } else {
                    line
                }
            })
        };
        lines.map(short).collect::<Vec<_>>()
    };
    assert_eq!(
        page(),
        [
            "epp_rate_limit_counters 2",
            r#"epp_rate_limit_descriptors_total{2,outcome="within"} 1"#,
            r#"epp_rate_limit_descriptors_total{0,outcome="near"} 1"#,
            r#"epp_rate_limit_descriptors_total{0,outcome="over"} 1"#,
            r#"epp_rate_limit_descriptors_total{1,outcome="shadowed"} 1"#,
            r#"epp_rate_limit_descriptors_total{0,outcome="within"} 1"#,
            "epp_rate_limit_hits_total{2} 0",
            "epp_rate_limit_hits_total{0} 4",
            "epp_rate_limit_hits_total{1} 5",
            "epp_rate_limit_uncounted_total 0",
        ]
    );
    service.metrics.keep_only(&[limit(1, 0, RateUnit::Hour, true)]);
    assert_eq!(page().iter().filter(|line| line.contains("{0") || line.contains("{2")).count(), 0);
    assert_eq!(page().iter().filter(|line| line.contains("{1")).count(), 2);
}

//! Limits of rates → what Envoy asks, by [`http_filters`] and [`of_route`], and what the rate limit service answers by,
//! [`service`].
//!
//! Both sides meet in descriptors, lists of keys and values. That of a rule is: the entry of the route, unless all share
//! one budget; the policy's rule; and one more for each header by which clients are told apart. Each host's entry of the
//! same rule of a route has the same name, and so the same budget.

use std::collections::{BTreeMap, HashSet};

use super::envoy::rates::{
    Action, DescriptorEntry, EnvoyGrpc, Fraction, GLOBAL, GrpcService, HeaderMatcher, HitsAddend, LOCAL,
    LocalDescriptor, LocalRateLimit, RateFilter, RateFilterConfig, RateLimit, RateLimitFilter,
    RateLimitPerRoute, RateLimitService, RouteRates, RuntimeFraction, StringMatcher, TokenBucket,
};
use super::topology::{Entry, GatewayPlan, ListenerPlan, RateCost, RateHeader, RateRule, RateUnit, Topology};
use crate::rate_limit::limiter::{Limit, Value};

/// Headers that tell clients their limits, as an Internet-Draft has them.
const HEADERS: &str = "DRAFT_VERSION_03";

/// The most that Envoy lets one request take.
const MAX_HITS: u32 = 1_000_000_000;

/// Buckets that Envoy keeps of each rule that tells clients apart; those that were not used for longest go first.
const MAX_LOCAL_BUCKETS: u32 = 10_000;

const ALL: RuntimeFraction =
    RuntimeFraction { default_value: Fraction { numerator: 100, denominator: "HUNDRED" } };

/// What calls of a listener say where they come from.
pub fn domain(gateway: &GatewayPlan, listener: &ListenerPlan) -> String {
    format!("{}/{}/{}", gateway.namespace, gateway.name, listener.name)
}

/// Whether any request of a listener is limited, so that it needs the filters.
pub fn has_limits(listener: &ListenerPlan) -> bool {
    listener.hosts.iter().flat_map(|host| &host.entries).any(|entry| !entry.rates.is_empty())
}

/// The filters of a listener; they do nothing where a route does not say so. `cluster` is that of the rate limit
/// service, without whose answer requests pass.
pub fn http_filters(domain: &str, cluster: &str) -> Vec<RateFilter> {
    let local = LocalRateLimit { stat_prefix: "rates", ..LocalRateLimit::default() };
    let global = RateLimitFilter {
        domain: domain.to_owned(),
        timeout: "0.5s",
        failure_mode_deny: false,
        enable_x_ratelimit_headers: HEADERS,
        rate_limit_service: RateLimitService {
            transport_api_version: "V3",
            grpc_service: GrpcService { envoy_grpc: EnvoyGrpc { cluster_name: cluster.to_owned() } },
        },
    };
    vec![
        RateFilter { name: LOCAL, typed_config: RateFilterConfig::Local(local) },
        RateFilter { name: GLOBAL, typed_config: RateFilterConfig::Global(global) },
    ]
}

/// What the filters do at a route's entry, by their names, for `typed_per_filter_config`; nothing where nothing is
/// limited. `domain` is the [`domain`] of its listener, also where Envoy serves several by the same filters.
pub fn of_route(entry: &Entry, domain: &str) -> BTreeMap<&'static str, RouteRates> {
    let (mut asked, mut local) = (Vec::new(), LocalRateLimit::default());
    let mut seen = HashSet::new();
    for rule in &entry.rates {
        let parts = descriptor(entry, rule);
        if !seen.insert((rule.is_local, entries(&parts))) {
            // A descriptor that comes twice would be charged twice.
            continue;
        }
        let actions: Vec<_> = parts.into_iter().map(|part| part.action).collect();
        if rule.is_local {
            local.descriptors.push(bucket(entry, rule));
            local.rate_limits.push(local_limit(rule, actions));
        } else {
            asked.extend(limits(rule, &actions));
        }
    }
    let mut configs = BTreeMap::new();
    if !asked.is_empty() {
        let config = RateLimitPerRoute { domain: domain.to_owned(), rate_limits: asked };
        configs.insert(GLOBAL, RouteRates::Global(config));
    }
    if !local.descriptors.is_empty() {
        let config = LocalRateLimit {
            stat_prefix: "rates",
            filter_enabled: Some(ALL),
            filter_enforced: Some(ALL),
            token_bucket: Some(tokens(u32::MAX, RateUnit::Second)),
            always_consume_default_token_bucket: Some(false),
            max_dynamic_descriptors: Some(MAX_LOCAL_BUCKETS),
            ..local
        };
        configs.insert(LOCAL, RouteRates::Local(config));
    }
    configs
}

/// What the rate limit service limits, each once.
pub fn service(topology: &Topology) -> Vec<Limit> {
    let (mut limits, mut seen) = (Vec::new(), HashSet::new());
    for gateway in &topology.gateways {
        for listener in &gateway.listeners {
            for entry in listener.hosts.iter().flat_map(|host| &host.entries) {
                for rule in entry.rates.iter().filter(|rule| !rule.is_local) {
                    // What is shared is so by all listeners.
                    let domain = (!rule.is_shared).then(|| domain(gateway, listener));
                    let entries = entries(&descriptor(entry, rule));
                    if seen.insert((domain.clone(), entries.clone())) {
                        limits.push(limit(rule, domain, entries));
                    }
                }
            }
        }
    }
    limits
}

fn limit(rule: &RateRule, domain: Option<String>, entries: Vec<(String, Value)>) -> Limit {
    Limit {
        domain,
        entries,
        requests: rule.requests,
        unit: rule.unit,
        is_shadow: rule.is_shadow,
        policy: rule.policy.clone(),
        rule: rule.index,
    }
}

/// One entry of a descriptor: how Envoy makes it, and what the service is told.
struct Part {
    action: Action,
    key: String,
    value: Value,
}

fn entries(parts: &[Part]) -> Vec<(String, Value)> {
    parts.iter().map(|part| (part.key.clone(), part.value.clone())).collect()
}

/// The descriptor of a rule at an entry.
fn descriptor(entry: &Entry, rule: &RateRule) -> Vec<Part> {
    // A local limit is the entry's own anyway.
    let own = (!rule.is_shared || rule.is_local).then(|| fixed("entry", entry.name.clone()));
    let rule_itself = fixed("rule", format!("{}/{}", rule.policy, rule.index));
    own.into_iter().chain([rule_itself]).chain(rule.clients.iter().map(client)).collect()
}

fn fixed(key: &'static str, value: String) -> Part {
    let action = Action::GenericKey { descriptor_key: key, descriptor_value: value.clone() };
    Part { action, key: key.to_owned(), value: Value::Is(value) }
}

fn client(header: &RateHeader) -> Part {
    match header {
        RateHeader::Distinct(name) => {
            let key = format!("header/{name}");
            let action = Action::RequestHeaders { header_name: name.clone(), descriptor_key: key.clone() };
            Part { action, key, value: Value::Any }
        }
        RateHeader::Is(wanted, is_inverted) => {
            let not = if *is_inverted { "!" } else { "" };
            let sign = if wanted.is_regex { "~" } else { "=" };
            let (key, value) = (format!("match/{}", wanted.name), format!("{not}{sign}{}", wanted.value));
            let text = wanted.value.clone();
            let string_match = if wanted.is_regex {
                StringMatcher::SafeRegex { regex: text }
            } else {
                StringMatcher::Exact(text)
            };
            let action = Action::HeaderValueMatch {
                descriptor_key: key.clone(),
                descriptor_value: value.clone(),
                expect_match: !is_inverted,
                headers: vec![HeaderMatcher { name: wanted.name.clone(), string_match }],
            };
            Part { action, key, value: Value::Is(value) }
        }
    }
}

/// What the service is asked for one rule: before the request, and where answers cost something behind it.
fn limits(rule: &RateRule, actions: &[Action]) -> Vec<RateLimit> {
    let limit = |hits_addend, apply_on_stream_done| RateLimit {
        actions: actions.to_vec(),
        hits_addend,
        apply_on_stream_done,
        x_ratelimit_option: None,
    };
    let mut limits = match &rule.request_cost {
        RateCost::Number(1) => vec![limit(None, false)],
        RateCost::Number(number) => vec![limit(Some(HitsAddend::Number(*number.min(&MAX_HITS))), false)],
        // Envoy does not ask where it cannot say how much, and then a budget that is spent would not be seen.
        RateCost::Metadata(namespace, key) => {
            let look = limit(Some(HitsAddend::Number(0)), false);
            let take = metadata(namespace, key).map(|hits| limit(Some(hits), false));
            std::iter::once(look).chain(take).collect()
        }
    };
    let answer = match &rule.response_cost {
        None => None,
        Some(RateCost::Number(number)) => Some(HitsAddend::Number(*number.min(&MAX_HITS))),
        Some(RateCost::Metadata(namespace, key)) => metadata(namespace, key),
    };
    limits.extend(answer.map(|hits| limit(Some(hits), true)));
    limits
}

/// What the metadata has, unless its name cannot be said to Envoy: then it costs nothing, as where there is none.
fn metadata(namespace: &str, key: &str) -> Option<HitsAddend> {
    let is_plain =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && !":%()\"".contains(c));
    let format = || HitsAddend::Format(format!("%DYNAMIC_METADATA({namespace}:{key})%"));
    (is_plain(namespace) && is_plain(key)).then(format)
}

/// What a request takes of a bucket of Envoy's own.
fn local_limit(rule: &RateRule, actions: Vec<Action>) -> RateLimit {
    let hits_addend = match &rule.request_cost {
        // There is no empty bucket, but one that is too small.
        _ if rule.requests == 0 => Some(HitsAddend::Number(MAX_HITS)),
        RateCost::Number(1) => None,
        RateCost::Number(number) => Some(HitsAddend::Number(*number.min(&MAX_HITS))),
        RateCost::Metadata(namespace, key) => Some(metadata(namespace, key).unwrap_or(HitsAddend::Number(0))),
    };
    // Here and not in the filter: there, who has no bucket would be told of the one that is without end.
    let is_told = rule.requests > 0 && !rule.is_shadow;
    let x_ratelimit_option = is_told.then_some(HEADERS);
    RateLimit { actions, hits_addend, apply_on_stream_done: false, x_ratelimit_option }
}

/// A bucket of Envoy's own. Envoy fills it bit by bit: with two an hour there is one again after half of it.
fn bucket(entry: &Entry, rule: &RateRule) -> LocalDescriptor {
    let entries = descriptor(entry, rule).into_iter().map(|part| DescriptorEntry {
        key: part.key,
        value: match part.value {
            Value::Is(value) => value,
            Value::Any => String::new(),
        },
    });
    LocalDescriptor {
        entries: entries.collect(),
        token_bucket: tokens(rule.requests.max(1), rule.unit),
        shadow_mode: rule.is_shadow,
    }
}

fn tokens(count: u32, unit: RateUnit) -> TokenBucket {
    TokenBucket { max_tokens: count, tokens_per_fill: count, fill_interval: format!("{}s", unit.seconds()) }
}

#[cfg(test)]
mod tests;

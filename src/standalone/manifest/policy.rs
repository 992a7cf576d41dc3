//! BackendTrafficPolicy and BackendSecurityPolicy, as far as they mean something here; GatewayConfig's costs.

use std::sync::Arc;
use std::time::Duration;

use super::ai_gateway_route::costs;
use super::http_route::{ATTEMPTS, TRIGGERS};
use super::map::Map;
use super::route::CostRule;
use super::{Meta, Object, rates, values};
use crate::config::Located;
use crate::config::problem::Position;
use crate::standalone::topology::{RateRule, Retry};

/// The metadata in which costs are.
pub const COST_NAMESPACE: &str = "io.envoy.ai_gateway";

/// Limits and retries for routes or gateways.
#[derive(Debug)]
pub struct BackendTrafficPolicy {
    /// Its name, and where it is.
    pub meta: Meta,
    /// What it is for.
    pub targets: Vec<Target>,
    /// Its rules of rates; the index is that among all rules of its block.
    pub rates: Vec<Arc<RateRule>>,
    /// Metadata that its costs are read from.
    pub costs: Vec<Cost>,
    /// What is tried again.
    pub retry: Option<Retry>,
    /// Longest request.
    pub request: Option<Duration>,
    /// Longest pause of an answer.
    pub stream_idle: Option<Duration>,
}

/// An object that a policy is for.
#[derive(Debug)]
pub struct Target {
    /// Where it is written.
    pub at: Position,
    /// Its path in the policy.
    pub path: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The rule or the listener, if it is for one only.
    pub section: Option<String>,
}

/// Metadata that a limit counts by.
#[derive(Debug)]
pub struct Cost {
    /// Its path in the policy.
    pub path: String,
    /// The namespace.
    pub namespace: Located<String>,
    /// The key.
    pub key: Located<String>,
}

/// Reads what a policy is for.
pub(super) fn targets(spec: &Map<'_>) -> Vec<Target> {
    let mut maps = spec.maps("targetRefs", 16);
    maps.extend(spec.map("targetRef"));
    let targets = maps.into_iter().filter_map(|map| {
        map.checked("group", values::group);
        let kind = map.required_checked("kind", values::kind);
        let name = map.required_checked("name", values::name);
        let section = map.text("sectionName").map(|section| section.value);
        let (at, path) = (map.at, map.path.clone());
        map.finish();
        Some(Target { at, path, kind: kind?.value, name: name?.value, section })
    });
    targets.collect()
}

/// Reads a BackendTrafficPolicy.
pub fn read_traffic(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    if !["targetRefs", "targetRef", "targetSelectors"].iter().any(|key| spec.has(key)) {
        spec.lacks("targetRefs");
    }
    let targets = targets(&spec);
    let (mut costs, mut rates) = (Vec::new(), Vec::new());
    if let Some(map) = spec.map("rateLimit") {
        rates = rates::read(&map, &meta.full_name(), &mut costs);
        map.finish();
    }
    let retry = retry(&spec);
    let (mut request, mut stream_idle) = (None, None);
    if let Some(map) = spec.map("timeout") {
        if let Some(http) = map.map("http") {
            request = http.duration("requestTimeout");
            stream_idle = http.duration("streamIdleTimeout");
            http.ignore(&["maxStreamDuration", "connectionIdleTimeout", "maxConnectionDuration"]);
            http.finish();
        }
        map.ignore(&["tcp"]);
        map.finish();
    }
    spec.ignore(&["targetSelectors", "mergeType", "loadBalancer", "healthCheck", "proxyProtocol"]);
    spec.ignore(&[
        "circuitBreaker",
        "faultInjection",
        "tcpKeepalive",
        "connection",
        "dns",
        "http2",
        "compression",
    ]);
    spec.ignore(&[
        "compressor",
        "responseOverride",
        "useClientProtocol",
        "telemetry",
        "httpUpgrade",
        "requestBuffer",
    ]);
    spec.finish();
    Some(Object::TrafficPolicy(BackendTrafficPolicy {
        meta,
        targets,
        rates,
        costs,
        retry,
        request,
        stream_idle,
    }))
}

/// One of the conditions that a policy may name.
fn trigger(text: &str) -> Result<(), String> {
    const KNOWN: [&str; 13] = [
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    ];
    if KNOWN.contains(&text) { Ok(()) } else { Err(format!("one of {}", KNOWN.join(", "))) }
}

fn retry(spec: &Map<'_>) -> Option<Retry> {
    let map = spec.map("retry")?;
    let attempts = map.integer("numRetries", 0..=i64::from(i32::MAX));
    map.ignore(&["numAttemptsPerPriority"]);
    let (mut per_try, mut backoff) = (None, None);
    if let Some(inner) = map.map("perRetry") {
        per_try = inner.duration("timeout");
        if let Some(waits) = inner.map("backOff") {
            let (first, longest) = (waits.duration("baseInterval"), waits.duration("maxInterval"));
            backoff = first.map(|first| (first, longest.unwrap_or(first * 10).max(first)));
            waits.finish();
        }
        inner.finish();
    }
    let (mut on, mut statuses) = (Vec::new(), Vec::new());
    if let Some(inner) = map.map("retryOn") {
        on = inner.texts("triggers", 16, trigger).into_iter().map(|trigger| trigger.value).collect();
        for (path, node) in inner.items("httpStatusCodes", 100) {
            match node.whole_number().filter(|code| (100..=599).contains(code)) {
                Some(code) => statuses.extend(u16::try_from(code).ok()),
                None => inner.log().error(node.at, format!("{path}: expected a status from 100 to 599")),
            }
        }
        inner.finish();
    }
    map.finish();
    if !statuses.is_empty() && !on.is_empty() && !on.iter().any(|it| it == "retriable-status-codes") {
        on.push("retriable-status-codes".to_owned());
    }
    if on.is_empty() {
        on = TRIGGERS.map(str::to_owned).to_vec();
        if statuses.is_empty() {
            statuses.push(503);
        }
    }
    let attempts = attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(ATTEMPTS);
    Some(Retry { attempts, on, statuses, per_try, backoff })
}

/// Credentials for backends.
#[derive(Debug)]
pub struct BackendSecurityPolicy {
    /// Its name, and where it is.
    pub meta: Meta,
    /// What it is for.
    pub targets: Vec<Target>,
    /// The Secret of an API key, if that is what it gives: namespace and name.
    pub secret: Option<(Option<String>, String)>,
}

/// Reads a BackendSecurityPolicy; of its types only `APIKey` is done.
pub fn read_security(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let targets = targets(&spec);
    let kind = spec.text("type");
    let mut secret = None;
    if kind.is_some_and(|kind| kind.value == "APIKey")
        && let Some(inner) = spec.required_map("apiKey").and_then(|map| map.required_map("secretRef"))
    {
        let name = inner.required_checked("name", values::name);
        let namespace = inner.checked("namespace", values::namespace).map(|namespace| namespace.value);
        secret = name.map(|name| (namespace, name.value));
    }
    Some(Object::SecurityPolicy(BackendSecurityPolicy { meta, targets, secret }))
}

/// What holds for all routes of a gateway.
#[derive(Debug)]
pub struct GatewayConfig {
    /// Its name, and where it is.
    pub meta: Meta,
    /// Keys under which the tokens of answers are left.
    pub costs: Vec<CostRule>,
}

/// Reads a GatewayConfig.
pub fn read_config(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let costs = costs(&spec, "globalLLMRequestCosts");
    spec.ignore(&["extProc", "mcp"]);
    spec.finish();
    Some(Object::GatewayConfig(GatewayConfig { meta, costs }))
}

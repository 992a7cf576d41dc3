//! BackendTrafficPolicy and BackendSecurityPolicy, as far as they mean something here; GatewayConfig's costs.

use super::ai_gateway_route::costs;
use super::map::Map;
use super::{Meta, Object, values};
use crate::config::Located;
use crate::config::problem::Position;

/// The metadata in which costs are.
pub const COST_NAMESPACE: &str = "io.envoy.ai_gateway";

/// Limits and retries for routes or gateways.
#[derive(Debug)]
pub struct BackendTrafficPolicy {
    /// Its name, and where it is.
    pub meta: Meta,
    /// What it is for.
    pub targets: Vec<Target>,
    /// Where it limits rates, if it does.
    pub limits: Option<Position>,
    /// Metadata that its costs are read from.
    pub costs: Vec<Cost>,
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

fn targets(spec: &Map<'_>) -> Vec<Target> {
    let mut maps = spec.maps("targetRefs", 16);
    maps.extend(spec.map("targetRef"));
    let targets = maps.into_iter().filter_map(|map| {
        map.checked("group", values::group);
        let kind = map.required_checked("kind", values::kind);
        let name = map.required_checked("name", values::name);
        map.text("sectionName");
        let (at, path) = (map.at, map.path.clone());
        map.finish();
        Some(Target { at, path, kind: kind?.value, name: name?.value })
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
    let (mut all, mut limits) = (Vec::new(), None);
    if let Some(map) = spec.map("rateLimit") {
        limits = Some(map.at);
        let kind = map.choice("type", &["Global", "Local"]).map(|kind| kind.value);
        for (key, word) in [("global", "Global"), ("local", "Local")] {
            if kind == Some(word) && !map.has(key) {
                map.lacks(key);
            }
            let Some(block) = map.map(key) else { continue };
            for rule in block.maps("rules", 256) {
                read_limit(&rule, word == "Local", &mut all);
                rule.finish();
            }
            block.pass(&["shared"]);
            block.finish();
        }
        map.finish();
    }
    spec.ignore(&[
        "retry",
        "timeout",
        "targetSelectors",
        "mergeType",
        "loadBalancer",
        "healthCheck",
        "proxyProtocol",
    ]);
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
    Some(Object::TrafficPolicy(BackendTrafficPolicy { meta, targets, limits, costs: all }))
}

fn read_limit(rule: &Map<'_>, is_local: bool, all: &mut Vec<Cost>) {
    for selector in rule.maps("clientSelectors", 8) {
        for header in selector.maps("headers", 16) {
            let kind = header.choice("type", &["Exact", "RegularExpression", "Distinct"]);
            header.required_checked("name", values::header_name);
            let is_regex = kind.is_some_and(|kind| kind.value == "RegularExpression");
            header.checked("value", if is_regex { values::regex } else { values::anything });
            header.boolean("invert");
            header.finish();
        }
        selector.pass(&["methods", "path", "sourceCIDR", "queryParams"]);
        selector.finish();
    }
    if let Some(limit) = rule.required_map("limit") {
        if !limit.has("requests") {
            limit.lacks("requests");
        }
        limit.integer("requests", 0..=i64::from(u32::MAX));
        if !limit.has("unit") {
            limit.lacks("unit");
        }
        limit.choice("unit", &["Second", "Minute", "Hour", "Day", "Week", "Month", "Year"]);
        limit.finish();
    }
    if let Some(cost) = rule.map("cost") {
        for key in ["request", "response"] {
            let Some(map) = cost.map(key) else { continue };
            all.extend(read_cost(&map));
            map.finish();
        }
        if is_local && cost.has("response") {
            cost.error("response", "a local limit cannot count by answers; use `type: Global`");
        }
        cost.finish();
    }
    rule.boolean("shared");
    rule.boolean("shadowMode");
    rule.text("name");
}

fn read_cost(map: &Map<'_>) -> Option<Cost> {
    if !map.has("from") {
        map.lacks("from");
    }
    map.choice("from", &["Number", "Metadata"]);
    map.integer("number", 0..=i64::from(u32::MAX));
    let inner = map.map("metadata")?;
    let (namespace, key) = (inner.required("namespace"), inner.required("key"));
    let path = inner.path.clone();
    inner.finish();
    Some(Cost { path, namespace: namespace?, key: key? })
}

/// Credentials for backends.
#[derive(Debug)]
pub struct BackendSecurityPolicy {
    /// Its name, and where it is.
    pub meta: Meta,
    /// What it is for.
    pub targets: Vec<Target>,
}

/// Reads a BackendSecurityPolicy, as far as to say that nothing is done with it.
pub fn read_security(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let targets = targets(&spec);
    Some(Object::SecurityPolicy(BackendSecurityPolicy { meta, targets }))
}

/// What holds for all routes of a gateway.
#[derive(Debug)]
pub struct GatewayConfig {
    /// Its name, and where it is.
    pub meta: Meta,
    /// Keys under which the tokens of answers are left.
    pub costs: Vec<Located<String>>,
}

/// Reads a GatewayConfig.
pub fn read_config(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let costs = costs(&spec, "globalLLMRequestCosts");
    spec.ignore(&["extProc", "mcp"]);
    spec.finish();
    Some(Object::GatewayConfig(GatewayConfig { meta, costs }))
}

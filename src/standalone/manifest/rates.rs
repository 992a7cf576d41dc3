//! `rateLimit` of a BackendTrafficPolicy: a [`RateRule`] for each of its rules. Entry point: [`read`].

use std::sync::Arc;

use super::map::Map;
use super::policy::Cost;
use super::route::ValueMatch;
use super::values;
use crate::standalone::topology::{RateCost, RateHeader, RateRule, RateUnit};

/// Reads all rules of `policy`; `costs` gets the metadata that they count by.
pub(super) fn read(map: &Map<'_>, policy: &str, costs: &mut Vec<Cost>) -> Vec<Arc<RateRule>> {
    let mut rates = Vec::new();
    let kind = map.choice("type", &["Global", "Local"]).map(|kind| kind.value);
    for (key, word) in [("global", "Global"), ("local", "Local")] {
        if kind == Some(word) && !map.has(key) {
            map.lacks(key);
        }
        let Some(block) = map.map(key) else { continue };
        let is_shared = block.boolean("shared") == Some(true);
        for (index, rule) in block.maps("rules", 256).into_iter().enumerate() {
            let read = rate(&rule, word == "Local", costs);
            rule.finish();
            // A block of the other type has no effect.
            let read = read.filter(|_| kind.is_none_or(|kind| kind == word));
            rates.extend(read.map(|rule| {
                let is_shared = rule.is_shared || is_shared;
                Arc::new(RateRule { policy: policy.to_owned(), index, is_shared, ..rule })
            }));
        }
        block.finish();
    }
    rates
}

fn rate(rule: &Map<'_>, is_local: bool, costs: &mut Vec<Cost>) -> Option<RateRule> {
    let clients = clients(rule);
    let (mut requests, mut unit) = (None, None);
    if let Some(limit) = rule.required_map("limit") {
        if !limit.has("requests") {
            limit.lacks("requests");
        }
        requests = limit.integer("requests", 0..=i64::from(u32::MAX));
        if !limit.has("unit") {
            limit.lacks("unit");
        }
        unit = limit.choice("unit", &["Second", "Minute", "Hour", "Day", "Week", "Month", "Year"]);
        limit.finish();
    }
    let (mut request_cost, mut response_cost) = (None, None);
    if let Some(map) = rule.map("cost") {
        request_cost = map.map("request").and_then(|map| cost(map, costs));
        if is_local && map.has("response") {
            map.error("response", "a local limit cannot count by answers; use `type: Global`");
        }
        response_cost = map.map("response").and_then(|map| cost(map, costs));
        map.finish();
    }
    let (is_shared, is_shadow) = (rule.boolean("shared"), rule.boolean("shadowMode"));
    rule.text("name");
    let unit = match unit?.value {
        "Second" => RateUnit::Second,
        "Minute" => RateUnit::Minute,
        "Hour" => RateUnit::Hour,
        "Day" => RateUnit::Day,
        "Week" => RateUnit::Week,
        "Month" => RateUnit::Month,
        _ => RateUnit::Year,
    };
    Some(RateRule {
        policy: String::new(),
        index: 0,
        is_shared: is_shared == Some(true),
        is_local,
        clients: clients?,
        requests: u32::try_from(requests?).ok()?,
        unit,
        request_cost: request_cost.unwrap_or(RateCost::Number(1)),
        response_cost,
        is_shadow: is_shadow == Some(true),
    })
}

/// Whom a rule is for; `None` if that cannot be told here.
fn clients(rule: &Map<'_>) -> Option<Vec<RateHeader>> {
    let (mut clients, mut is_known) = (Vec::new(), true);
    for selector in rule.maps("clientSelectors", 8) {
        for header in selector.maps("headers", 16) {
            clients.extend(client(&header));
            header.finish();
        }
        for key in ["methods", "path", "sourceCIDR", "queryParams"] {
            if selector.has(key) {
                selector.warning(key, "clients are told apart by headers alone here; the rule is left out");
                is_known = false;
            }
            selector.pass(&[key]);
        }
        selector.finish();
    }
    is_known.then_some(clients)
}

fn client(header: &Map<'_>) -> Option<RateHeader> {
    let kind = header.choice("type", &["Exact", "RegularExpression", "Distinct"]);
    let name = header.required_checked("name", values::header_name);
    let kind = kind.map_or("Exact", |kind| kind.value);
    let is_regex = kind == "RegularExpression";
    if kind != "Distinct" && !header.has("value") {
        header.lacks("value");
    }
    let value = header.checked("value", if is_regex { values::regex } else { values::anything });
    let is_inverted = header.boolean("invert") == Some(true);
    let name = name?.value.to_ascii_lowercase();
    if kind == "Distinct" {
        return Some(RateHeader::Distinct(name));
    }
    Some(RateHeader::Is(ValueMatch { name, is_regex, value: value?.value }, is_inverted))
}

fn cost(map: Map<'_>, costs: &mut Vec<Cost>) -> Option<RateCost> {
    if !map.has("from") {
        map.lacks("from");
    }
    let from = map.choice("from", &["Number", "Metadata"]).map(|from| from.value);
    let number = map.integer("number", 0..=i64::from(u32::MAX));
    let metadata = map.map("metadata").and_then(|inner| {
        let (namespace, key) = (inner.required("namespace"), inner.required("key"));
        let path = inner.path.clone();
        inner.finish();
        Some(Cost { path, namespace: namespace?, key: key? })
    });
    if from == Some("Metadata") && !map.has("metadata") {
        map.lacks("metadata");
    }
    map.finish();
    if from? == "Number" {
        return Some(RateCost::Number(u32::try_from(number.unwrap_or(1)).ok()?));
    }
    let cost = metadata?;
    let found = RateCost::Metadata(cost.namespace.value.clone(), cost.key.value.clone());
    costs.push(cost);
    Some(found)
}

//! `/debug/endpoints`: what is known of each endpoint, as JSON. The entry point is [`show`].

use std::collections::BTreeMap;

use axum::response::Json;
use epp_framework::attribute::AttributeValue;
use epp_framework::endpoint::Endpoint;
use serde_json::{Value, json};

use crate::admin::chosen::Chosen;
use crate::admin::decisions::freshness_word;
use crate::pool::PoolState;

/// The page.
pub(super) async fn show(Chosen(chosen): Chosen) -> Json<Value> {
    let pool = &chosen.state;
    let snapshot = pool.store.snapshot();
    let endpoints: Vec<_> = snapshot.endpoints.iter().map(|endpoint| endpoint_json(pool, endpoint)).collect();
    Json(json!({ "pool": pool.name, "endpoints": endpoints }))
}

fn endpoint_json(pool: &PoolState, endpoint: &Endpoint) -> Value {
    let load = endpoint.sample(pool.clock.now(), pool.staleness);
    let lora = endpoint.lora();
    let mut attributes: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for (key, value) in endpoint.attributes().iter() {
        if let Some((producer, name)) = pool.slots.attribute_name(key) {
            let value = match value {
                AttributeValue::Number(number) => json!(number),
                AttributeValue::Words(words) => json!(words[..]),
            };
            attributes.entry(producer).or_default().insert(name, value);
        }
    }
    json!({
        "endpoint": endpoint.meta.name,
        "namespace": endpoint.meta.namespace,
        "address": endpoint.destination,
        "labels": **endpoint.labels(),
        "freshness": freshness_word(load.freshness),
        "waiting": load.waiting,
        "running": load.running,
        "kv_used": load.kv_used,
        "kv_capacity_tokens": load.kv_capacity_tokens,
        "in_flight": load.in_flight.requests,
        "since_scrape": load.since_scrape.requests,
        "lora": { "running": lora.running(), "waiting": lora.waiting(), "max": lora.max() },
        "attributes": attributes,
    })
}

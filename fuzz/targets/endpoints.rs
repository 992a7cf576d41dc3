//! Endpoints files: what is accepted is a pool that can be written down and read again, and leads to itself.

use std::collections::BTreeSet;

use epp::config::problem::Problem;
use epp::discovery::diff;
use epp::discovery::file::{PoolFile, parse};
use serde_json::{Value, json};

use crate::problems;

/// Namespace of entries without one.
const NAMESPACE: &str = "default";

/// Reads `input` if it is text.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match parse(text, NAMESPACE) {
        Err(told) => {
            problems::check(text, &told);
            assert!(told.iter().any(Problem::is_error), "refused without an error: {told:?}");
        }
        Ok(file) => check(&file),
    }
}

fn check(file: &PoolFile) {
    let endpoints = &file.endpoints;
    let names: BTreeSet<_> = endpoints.iter().map(|one| (&one.namespace, &one.name)).collect();
    let destinations: BTreeSet<_> = endpoints.iter().map(|one| (one.address, one.port)).collect();
    assert_eq!(
        (names.len(), destinations.len()),
        (endpoints.len(), endpoints.len()),
        "some are listed twice"
    );
    for one in endpoints {
        assert!(one.port != 0 && !one.address.is_unspecified() && !one.address.is_multicast(), "{one:?}");
        assert!(!one.name.is_empty() && !one.namespace.is_empty(), "{one:?}");
    }
    assert_eq!(parse(&written(file).to_string(), "another").as_ref(), Ok(file));
    assert_eq!(diff(endpoints, endpoints), []);
    assert_eq!(diff(&[], endpoints).len(), endpoints.len());
    assert_eq!(diff(endpoints, &[]).len(), endpoints.len());
}

/// The file as JSON, which is YAML.
fn written(file: &PoolFile) -> Value {
    let endpoints = file.endpoints.iter().map(|one| {
        json!({
            "name": one.name, "namespace": one.namespace, "address": one.address, "port": one.port,
            "labels": one.labels,
        })
    });
    let objectives =
        file.objectives.iter().map(|(name, priority)| json!({"name": name, "priority": priority}));
    json!({"endpoints": endpoints.collect::<Value>(), "objectives": objectives.collect::<Value>()})
}

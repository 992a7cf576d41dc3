//! What a request's duration spans; what the pool says of requests.

use std::collections::BTreeMap;

use epp_framework::endpoint::EndpointMeta;

use super::*;
use crate::datastore;
use crate::discovery::Change;
use crate::discovery::index::rewrites::{ModelRewrite, RewriteRule, RewriteTarget, Rewrites};
use crate::pool;

/// A director of a pool of one endpoint.
fn director() -> Director {
    directed(Rules::default(), RequestRules::default())
}

/// The same of a pool that says something of requests.
fn directed(rules: Rules, said: RequestRules) -> Director {
    let (store, mut writer) = datastore::store();
    let endpoint = EndpointMeta {
        name: "a".into(),
        namespace: "default".into(),
        address: [10, 0, 0, 1].into(),
        port: 8000,
        labels: BTreeMap::new(),
    };
    writer.apply(vec![Change::Upsert(endpoint)], |_| {});
    writer.update_rules(|rules| *rules = said);
    let pool = pool::testing::pool(store, Duration::from_secs(1));
    Director::new(Arc::new(pool), rules)
}

/// A request for `model`, as it was resolved.
fn resolved(director: &Director, headers: &[(&str, &str)], model: &str) -> InferenceRequest {
    let body = format!(r#"{{"model":"{model}","prompt":"p"}}"#);
    let headers =
        headers.iter().map(|&(name, value)| (name.to_owned(), Bytes::from(value.to_owned()))).collect();
    let raw = RawRequest { body: Some(Bytes::from(body)), headers, ..RawRequest::default() };
    let mut request = InferenceRequest::default();
    let (parsed, _) = director.read(&raw, &director.pool.pipeline()).unwrap();
    director.resolve(&raw, parsed, &mut request).unwrap();
    request
}

#[tokio::test(start_paused = true)]
async fn a_requests_duration_is_from_its_headers_to_the_end_of_its_answer() {
    let director = director();
    let received = director.now();
    tokio::time::advance(Duration::from_secs(3)).await;
    let body = Bytes::from_static(br#"{"model":"m","prompt":"p"}"#);
    let raw = RawRequest { body: Some(body), ..RawRequest::default() };
    let mut ticket = director.decide(raw, received).expect("there is an endpoint").ticket;
    tokio::time::advance(Duration::from_secs(5)).await;
    ticket.on_response_chunk(br#"{"usage":{"prompt_tokens":1,"completion_tokens":4}}"#);
    ticket.complete();
    let page = director.pool.metrics_page();
    for (name, seconds) in [("request_duration_seconds", 8), ("normalized_time_per_output_token_seconds", 2)]
    {
        let line =
            format!("inference_model_{name}_sum{{model_name=\"m\",target_model_name=\"m\"}} {seconds}\n");
        assert!(page.contains(&line), "{line}{page}");
    }
}

#[test]
fn priorities_come_from_the_objective_then_from_the_model() {
    let priorities = |list: &[(&str, i32)]| list.iter().map(|&(name, n)| (name.to_owned(), n)).collect();
    let said = RequestRules {
        objectives: priorities(&[("high", 5), ("like-a-model", 7)]),
        model_priorities: priorities(&[("critical", 1), ("sheddable", -1)]),
        ..RequestRules::default()
    };
    let named = |name| [("x-gateway-inference-objective", name)];
    for (headers, model, want, want_v0_5_1) in [
        (&[][..], "unknown", 0, -1),
        (&[], "critical", 1, 1),
        (&[], "sheddable", -1, -1),
        (&named("high"), "sheddable", 5, 5),
        (&named("nowhere"), "critical", 1, 1),
        (&named("nowhere"), "unknown", 0, -1),
        (&[], "like-a-model", 0, 7),
    ] {
        for (compat, want) in [(Compat::V1_0_1, want), (Compat::V0_5_1, want_v0_5_1)] {
            let director = directed(Rules { compat, ..Rules::default() }, said.clone());
            let priority = resolved(&director, headers, model).priority;
            assert_eq!(priority, want, "{headers:?} {model} {compat:?}");
        }
    }
}

#[test]
fn models_are_rewritten_as_the_pool_says_or_else_as_a_header_does() {
    let targets = |models: &[&str]| {
        let target = |&model: &&str| RewriteTarget { model: model.to_owned(), weight: None };
        models.iter().map(target).collect::<Vec<_>>()
    };
    let rule =
        |matched: &str, models| RewriteRule { matches: vec![matched.into()], targets: targets(models) };
    let rules = vec![rule("old", &["new"]), rule("split", &["a", "b"])];
    let rewrite = ModelRewrite { name: "r".into(), rules, ..ModelRewrite::default() };
    let said = RequestRules { rewrites: Rewrites::new([&rewrite], []), ..RequestRules::default() };
    let director = directed(Rules::default(), said.clone());
    let target = |headers: &[(&str, &str)], model: &str| resolved(&director, headers, model).target_model;
    assert_eq!(target(&[], "old"), "new");
    assert_eq!(target(&[], "other"), "other");
    let header = [("x-gateway-model-name-rewrite", "explicit")];
    assert_eq!(target(&header, "old"), "new");
    assert_eq!(target(&header, "other"), "explicit");
    let drawn: std::collections::BTreeSet<_> = (0..200).map(|_| target(&[], "split")).collect();
    assert_eq!(drawn, ["a", "b"].map(str::to_owned).into(), "2 in 10^60 that one of them never comes");
    let strict = directed(Rules { trust_client_headers: false, ..Rules::default() }, said);
    assert_eq!(resolved(&strict, &header, "old").target_model, "new", "what a client says does not count");
}

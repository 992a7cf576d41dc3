//! What a request's duration spans; what the pool says of requests.

use std::collections::BTreeMap;

use epp_framework::endpoint::EndpointMeta;

use super::*;
use crate::config::DEFAULT_CONFIG;
use crate::datastore;
use crate::discovery::Change;
use crate::discovery::index::rewrites::{ModelRewrite, RewriteRule, RewriteTarget, Rewrites};
use crate::pool;
use crate::raw_request::ResponseHead;

/// A director of a pool of one endpoint.
fn director() -> Director {
    directed(Rules::default(), RequestRules::default())
}

/// The same of a pool that says something of requests.
fn directed(rules: Rules, said: RequestRules) -> Director {
    configured(DEFAULT_CONFIG, rules, said)
}

/// The same under this configuration.
fn configured(config: &str, rules: Rules, said: RequestRules) -> Director {
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
    let pool = pool::testing::pool_under(config, store, Duration::from_secs(1));
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
    let page = director.pool.metrics.render();
    for (name, seconds) in [("request_duration_seconds", 8), ("normalized_time_per_output_token_seconds", 2)]
    {
        let line =
            format!("inference_model_{name}_sum{{model_name=\"m\",target_model_name=\"m\"}} {seconds}\n");
        assert!(page.contains(&line), "{line}{page}");
    }
}

/// What a request for the model `m` reports of this answer; `complete` is asked twice, as a gateway that sends trailers
/// behind a whole body has it.
fn reported(head: &ResponseHead, answer: &str) -> Vec<(String, String, u64)> {
    let director = director();
    let body = Bytes::from_static(br#"{"model":"m","prompt":"p"}"#);
    let raw = RawRequest { body: Some(body), ..RawRequest::default() };
    let mut ticket = director.decide(raw, director.now()).expect("there is an endpoint").ticket;
    ticket.on_response_headers(head);
    ticket.on_response_chunk(answer.as_bytes());
    let mut attributes = ticket.complete();
    attributes.extend(ticket.complete());
    attributes.into_iter().map(|told| (told.namespace, told.key, told.value)).collect()
}

#[test]
fn what_an_answer_cost_is_reported_once_if_the_server_said_it() {
    let costs = |costs: &[(&str, u64)]| -> Vec<_> {
        let one =
            |&(key, tokens): &(&str, u64)| ("io.envoy.ai_gateway".into(), format!("llm_{key}_token"), tokens);
        costs.iter().map(one).collect()
    };
    let usage = r#""usage":{"prompt_tokens":7,"total_tokens":12,"completion_tokens":5}"#;
    let counted = costs(&[("input", 7), ("output", 5), ("total", 12)]);
    let (json, sse) = ("application/json", "text/event-stream");
    for (content_type, answer, want) in [
        (json, format!("{{{usage}}}"), counted.clone()),
        (sse, format!("data: {{{usage}}}\n\ndata: [DONE]\n\n"), counted),
        (sse, format!("data: {{{usage}}}\n\ndata: {{\"error\":{{}}}}\n\n"), Vec::new()),
        (
            json,
            r#"{"usage":{"prompt_tokens":7}}"#.into(),
            costs(&[("input", 7), ("output", 0), ("total", 7)]),
        ),
        (json, r#"{"error":{"message":"no"}}"#.into(), Vec::new()),
        (sse, "data: [DONE]\n\n".into(), Vec::new()),
    ] {
        let head = ResponseHead { content_type: content_type.into(), ..ResponseHead::default() };
        assert_eq!(reported(&head, &answer), want, "{answer}");
        let failed = ResponseHead { status: Some(500), ..head };
        assert_eq!(reported(&failed, &answer), [], "{answer}");
    }
}

#[test]
fn an_answer_without_its_request_reports_nothing() {
    let mut ticket = director().unrouted_ticket();
    ticket.on_response_chunk(br#"{"usage":{"prompt_tokens":1}}"#);
    assert_eq!(ticket.complete(), []);
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

#[test]
fn a_request_without_a_body_is_told_as_the_profile_handler_has_it() {
    const STAGES: &str = "- {type: always-disagg-pd-decider, name: always}\n- type: decode-filter\n\
                          schedulingProfiles: [{name: prefill, plugins: []}, {name: decode, plugins: []}]\n";
    let with = |handler: &str| {
        format!(
            "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- {{type: {handler}}}\n{STAGES}"
        )
    };
    let (rank, own) = (Some("10.0.0.1:8000"), "10.0.0.1:8000");
    for (name, config, destination, rank) in [
        ("the default", DEFAULT_CONFIG.to_owned(), own, None),
        (
            "ranks",
            "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n\
             plugins: [{type: data-parallel-profile-handler, parameters: {primaryPort: 9000}}]"
                .to_owned(),
            "10.0.0.1:9000",
            rank,
        ),
        (
            "stages and ranks",
            with("pd-profile-handler, parameters: {deciderPluginName: always, primaryPort: 9000}"),
            "10.0.0.1:9000",
            rank,
        ),
        (
            "nobody works for it",
            with("disagg-profile-handler, parameters: {stageOrder: prefill-first}"),
            own,
            None,
        ),
        ("a header that names no profile", with("header-profile-handler"), own, None),
    ] {
        let director = configured(&config, Rules::default(), RequestRules::default());
        let sent = ["x-prefiller-host-port", "x-encoder-hosts-ports", "x-data-parallel-host-port"];
        let headers = sent.map(|name| (name.to_owned(), Bytes::from_static(b"6.6.6.6:6")));
        let raw = RawRequest { headers: headers.into(), ..RawRequest::default() };
        let Routed { destination: told, headers, remove_headers, .. } =
            director.decide(raw, director.now()).expect(name);
        assert_eq!(told, destination, "{name}");
        let want = rank.map(|rank| ("x-data-parallel-host-port", rank.to_owned()));
        assert_eq!(headers.into_vec(), Vec::from_iter(want), "{name}");
        let removed: Vec<_> =
            sent.into_iter().filter(|name| rank.is_none() || !name.contains("parallel")).collect();
        assert!(removed.iter().all(|name| remove_headers.iter().any(|other| other == name)), "{name}");
        assert_eq!(remove_headers.len(), removed.len(), "{name}");
    }
}

//! What the gateway is told of an answer's cost, over real gRPC and without Envoy.

use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode::{
    self, Buffered, FullDuplexStreamed, Streamed,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpTrailers, ProcessingRequest, ProcessingResponse, ProtocolConfiguration,
};
use envoy_types::pb::google::protobuf::{Struct, value::Kind};

use crate::support::hermetic::{
    Hermetic, SEED_CONFIG, request_body, request_headers, response_body, response_headers,
};

const USAGE: &str = r#"{"usage":{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10}}"#;

/// Numbers by namespace and key, as `namespace/key=number`, sorted.
fn told(metadata: Option<&Struct>) -> Vec<String> {
    let mut told = Vec::new();
    for (namespace, fields) in metadata.map(|metadata| &metadata.fields).into_iter().flatten() {
        let Some(Kind::StructValue(fields)) = &fields.kind else { panic!("{namespace}: {fields:?}") };
        for (key, value) in &fields.fields {
            let Some(Kind::NumberValue(number)) = value.kind else { panic!("{key}: {value:?}") };
            told.push(format!("{namespace}/{key}={number}"));
        }
    }
    told.sort();
    told
}

/// What the answers to these response messages carry, behind a request that was routed.
async fn reported(epp: &Hermetic, mode: BodySendMode, response: Vec<ProcessingRequest>) -> Vec<Vec<String>> {
    let config = ProtocolConfiguration {
        request_body_mode: mode.into(),
        response_body_mode: mode.into(),
        send_body_without_waiting_for_header_response: false,
    };
    let head = ProcessingRequest { protocol_config: Some(config), ..request_headers(&[], false) };
    let mut messages = vec![head, request_body(r#"{"model":"m","prompt":"p"}"#, true)];
    let n_expected = messages.len() + response.len();
    messages.extend(response);
    let (answers, end) = epp.exchange(messages).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(answers.len(), n_expected, "one answer for each message");
    let carried = |answer: &ProcessingResponse| told(answer.dynamic_metadata.as_ref());
    answers[2..].iter().map(carried).collect()
}

/// Row 28 of the functional specification.
#[tokio::test]
async fn row_28_an_attribute_is_reported_as_its_expression_says() {
    let config = r#"
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- name: total-tokens-cost-reporter
  type: request-attribute-reporter
  parameters:
    attributes:
    - key: {namespace: envoy.lb, name: x-gateway-inference-request-cost}
      expression: usage.completion_tokens
      condition: "has(usage.completion_tokens)"
schedulingProfiles:
- name: default
  plugins: [{pluginRef: queue-scorer}, {pluginRef: total-tokens-cost-reporter}]
"#;
    let epp = Hermetic::with_config(&[(0, 0.1, "")], config, epp_plugins::BUILT_IN).await;
    let head = response_headers(&[("content-type", "application/json"), ("status", "200")]);
    let carried = reported(&epp, FullDuplexStreamed, vec![head, response_body(USAGE, true)]).await;
    assert_eq!(carried, [vec![], vec!["envoy.lb/x-gateway-inference-request-cost=10".to_owned()]]);
}

/// Row 47 of the functional specification: what plugins say stands beside what is said of the pick's namespace. It comes with
/// the answer's end, since no plugin has anything to say before.
#[tokio::test]
async fn row_47_other_namespaces_stand_beside_ours() {
    let config = r"
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: request-attribute-reporter
  parameters:
    attributes:
    - key: {namespace: existing_namespace, name: existing_key}
      expression: usage.prompt_tokens
    - key: {namespace: envoy.lb, name: x-gateway-inference-request-cost}
      expression: usage.completion_tokens
";
    let epp = Hermetic::with_config(&[(0, 0.1, "")], config, epp_plugins::BUILT_IN).await;
    let head = response_headers(&[("content-type", "application/json"), ("status", "200")]);
    let carried = reported(&epp, FullDuplexStreamed, vec![head, response_body(USAGE, true)]).await;
    let want = ["envoy.lb/x-gateway-inference-request-cost=10", "existing_namespace/existing_key=7"];
    assert_eq!(carried, [vec![], want.map(str::to_owned).to_vec()]);
}

/// What an expression cannot compute is left out, and can be seen.
#[tokio::test]
async fn errors_of_expressions_are_counted() {
    let config = r#"
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: llm-request-costs
  parameters:
    llmRequestCosts:
    - {metadataKey: bad, type: CEL, cel: "model == 'm' ? -1 : 1"}
    - {metadataKey: good, type: OutputToken}
"#;
    let epp = Hermetic::with_config(&[(0, 0.1, "")], config, epp_plugins::BUILT_IN).await;
    let carried = reported(&epp, FullDuplexStreamed, vec![response_body(USAGE, true)]).await;
    assert_eq!(carried, [vec!["io.envoy.ai_gateway/good=10".to_owned()]]);
    assert!(epp.metrics().contains("\nepp_request_cost_errors_total 1\n"));
}

fn trailers() -> ProcessingRequest {
    let trailers = Request::ResponseTrailers(HttpTrailers::default());
    ProcessingRequest { request: Some(trailers), ..ProcessingRequest::default() }
}

#[tokio::test]
async fn the_last_answer_carries_the_counts_in_every_mode() {
    let epp = Hermetic::with_config(&[(0, 0.0, "")], SEED_CONFIG, epp_plugins::BUILT_IN).await;
    let namespace = "io.envoy.ai_gateway";
    let counts = [("input", 7), ("output", 10), ("total", 17)];
    let counts: Vec<_> = counts.iter().map(|(of, n)| format!("{namespace}/llm_{of}_token={n}")).collect();
    let json = || response_headers(&[("content-type", "application/json"), (":status", "200")]);
    let events = || response_headers(&[("content-type", "text/event-stream"), (":status", "200")]);
    let (none, event) = (Vec::new, format!("data: {USAGE}\n\n"));
    let error = r#"{"error":{"message":"out of memory"}}"#;
    for (name, mode, response, want) in [
        (
            "chunks",
            FullDuplexStreamed,
            vec![json(), response_body(&USAGE[..20], false), response_body(&USAGE[20..], true)],
            vec![none(), none(), counts.clone()],
        ),
        (
            "an empty last chunk",
            FullDuplexStreamed,
            vec![events(), response_body(&event, false), response_body("", true)],
            vec![none(), none(), counts.clone()],
        ),
        (
            "trailers",
            FullDuplexStreamed,
            vec![events(), response_body(&event, false), trailers()],
            vec![none(), none(), counts.clone()],
        ),
        (
            "streamed",
            Streamed,
            vec![events(), response_body(&event, false), response_body("data: [DONE]\n\n", true)],
            vec![none(), none(), counts.clone()],
        ),
        ("buffered", Buffered, vec![json(), response_body(USAGE, true)], vec![none(), counts.clone()]),
        (
            "buffered, with trailers",
            Buffered,
            vec![json(), response_body(USAGE, false), trailers()],
            vec![none(), counts.clone(), none()],
        ),
        (
            "an error page",
            FullDuplexStreamed,
            vec![response_headers(&[(":status", "500")]), response_body(error, true)],
            vec![none(), none()],
        ),
        (
            "a stream that breaks off",
            FullDuplexStreamed,
            vec![events(), response_body(&event, false)],
            vec![none(), none()],
        ),
    ] {
        assert_eq!(reported(&epp, mode, response).await, want, "{name}");
    }
}

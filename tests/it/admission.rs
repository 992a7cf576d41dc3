//! Shedding, wording of refusals and trust in client headers: an `ext_proc` stream in, its answers out.

use std::time::Duration;

use envoy_types::pb::envoy::service::ext_proc::v3::{ProcessingResponse, processing_response::Response};
use epp::admission::Thresholds;
use epp::compat::Compat;
use epp::director::Rules;

use crate::support::hermetic::{Hermetic, Pod, request_body, request_headers, with_subset};

/// Rules whose staleness does not depend on how fast the test runs.
fn rules(compat: Compat) -> Rules {
    let room = Thresholds { age: Duration::from_secs(3600), ..Thresholds::default() };
    Rules { compat, room, ..Rules::default() }
}

/// The error page's status and body, or 200 and the headers that the pick sets.
fn outcome(answers: &[ProcessingResponse]) -> (i32, String) {
    match &answers[0].response {
        Some(Response::ImmediateResponse(page)) => {
            let status = page.status.as_ref().expect("a status").code;
            (status, String::from_utf8(page.body.clone()).expect("UTF-8"))
        }
        Some(Response::RequestHeaders(_)) => (200, String::new()),
        other => panic!("expected an answer to the request, found {other:?}"),
    }
}

async fn ask(epp: &Hermetic, objective: Option<&str>, model: &str) -> (i32, String) {
    let objective = objective.map(|name| ("x-gateway-inference-objective", name));
    let headers: Vec<_> = objective.into_iter().collect();
    let body = format!(r#"{{"model":"{model}","prompt":"hello"}}"#);
    let messages = vec![request_headers(&headers, false), request_body(body, true)];
    let (answers, end) = epp.exchange(messages).await;
    end.expect("the stream ends well");
    outcome(&answers)
}

const FULL: &[Pod] = &[(6, 0.2, ""), (0, 0.85, ""), (10, 0.9, "")];
const ROOM: &[Pod] = &[(4, 0.2, ""), (0, 0.85, ""), (10, 0.9, "")];

/// Rows 4 and U13 of the specification (v1.0.1); rows 20 to 23, 32 to 35 of that of v0.5.1.
#[tokio::test]
async fn what_may_be_shed_is_shed_when_nobody_has_room() {
    let shed =
        "inference gateway: InferencePoolResourceExhausted - system saturated, sheddable request dropped";
    let shed_legacy =
        "inference gateway: InferencePoolResourceExhausted - system saturated, non-critical request dropped";
    let (now, legacy) = (Compat::V1_0_1, Compat::V0_5_1);
    for (row, compat, pods, objective, model, want) in [
        ("4", now, FULL, Some("sql-lora"), "m", (200, "")),
        ("U13 and 83: priority -1", now, FULL, Some("batch"), "m", (429, shed)),
        ("U13 priority 0", now, FULL, Some("standard"), "m", (200, "")),
        ("81: no objective", now, FULL, None, "m", (200, "")),
        ("82: room", now, ROOM, Some("batch"), "m", (200, "")),
        ("84: no pods", now, &[], Some("batch"), "m", (429, shed)),
        ("v0.5.1 21", legacy, FULL, Some("batch"), "m", (429, shed_legacy)),
        ("v0.5.1 22", legacy, ROOM, Some("batch"), "m", (200, "")),
        ("v0.5.1 32", legacy, FULL, Some("sql-lora"), "m", (200, "")),
        ("v0.5.1 32, by the model's name", legacy, FULL, None, "sql-lora", (200, "")),
        ("v0.5.1 33", legacy, ROOM, None, "food-review-1", (200, "")),
        ("v0.5.1 34", legacy, FULL, None, "food-review-1", (429, shed_legacy)),
        ("v0.5.1 35", legacy, FULL, None, "standard", (429, shed_legacy)),
    ] {
        let epp = Hermetic::with_rules(pods, rules(compat)).await;
        let (status, body) = ask(&epp, objective, model).await;
        assert_eq!((status, body.as_str()), want, "row {row}");
        let error = r#"error_code="InferencePoolResourceExhausted""#;
        assert_eq!(epp.metrics().contains(error), status == 429, "row {row}");
        assert_eq!(epp.held(), (0, 0, 0), "row {row}");
    }
}

/// Rows 20, 21 and 22 of the functional specification: the same refusal as each generation words it.
#[tokio::test]
async fn rows_20_21_22_refusals_are_worded_as_compat_says() {
    let text = "failed to find endpoint candidates for serving the request";
    for (compat, body, reason) in [
        (
            Compat::V1_0_1,
            "inference gateway: ServiceUnavailable - failed to find candidate pods for serving the request"
                .to_owned(),
            None,
        ),
        (Compat::V1_5, format!("inference error: ServiceUnavailable - {text}"), None),
        (
            Compat::LlmD,
            format!("inference error: ServiceUnavailable - {text}"),
            Some("rejected-no-endpoints"),
        ),
    ] {
        let epp = Hermetic::with_rules(&[(0, 0.2, "")], rules(compat)).await;
        let messages = [request_headers(&[], false), request_body(r#"{"model":"m","prompt":"hello"}"#, true)]
            .map(|message| with_subset(message, &["192.168.1.99:8000"]));
        let (answers, _) = epp.exchange(messages.into()).await;
        assert_eq!(outcome(&answers), (503, body), "{compat:?}");
        let Some(Response::ImmediateResponse(page)) = &answers[0].response else { panic!("{answers:?}") };
        let header = page.headers.as_ref().and_then(|headers| headers.set_headers[0].header.as_ref());
        let header = header.map(|header| (header.key.as_str(), header.raw_value.as_slice()));
        let want = reason.map(|reason: &str| ("x-llm-d-request-dropped-reason", reason.as_bytes()));
        assert_eq!(header, want, "{compat:?}");
    }
}

#[tokio::test]
async fn headers_of_clients_are_believed_only_when_told_to() {
    for (trust_client_headers, status, target) in [(true, 429, "tuned"), (false, 200, "base")] {
        let rules = Rules { trust_client_headers, ..rules(Compat::V1_0_1) };
        let epp = Hermetic::with_rules(FULL, rules).await;
        assert_eq!(ask(&epp, Some("batch"), "base").await.0, status, "{trust_client_headers}");
        let headers = [("x-gateway-model-name-rewrite", "tuned")];
        let body = request_body(r#"{"model":"base","prompt":"hello"}"#, true);
        epp.exchange(vec![request_headers(&headers, false), body]).await.1.expect("the stream ends well");
        let counted = format!(r#"model_name="base",target_model_name="{target}""#);
        assert!(epp.metrics().contains(&counted), "{trust_client_headers}: {}", epp.metrics());
    }
}

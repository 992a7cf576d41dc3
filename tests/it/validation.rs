//! Requests that break the schema of their API, over real gRPC and without Envoy: refused if the configuration asks.

use envoy_types::pb::envoy::service::ext_proc::v3::{ProcessingResponse, processing_response::Response};

use crate::support::hermetic::{Hermetic, request_body, request_headers};

const VALIDATING: &str = "plugins: [{type: openai-parser, parameters: {validate: true}}]";
const PLAIN: &str = "plugins: [{type: openai-parser}]";

/// Status and text of the page, if the answer is one.
fn refused(answer: &ProcessingResponse) -> Option<(i32, &str)> {
    let Some(Response::ImmediateResponse(page)) = &answer.response else { return None };
    let text = std::str::from_utf8(&page.body).expect("UTF-8");
    Some((page.status.as_ref().expect("a status").code, text))
}

/// Row 58, and that the page says nothing of what the request says.
#[tokio::test]
async fn row_58_a_request_that_breaks_the_schema_is_refused_if_that_is_asked_for() {
    let (chat, completions) = ("/v1/chat/completions?a=b", "/v1/completions");
    for (path, body, want) in [
        (
            chat,
            r#"{"model":"m","messages":[{"role":"user","content":"secret"},{"role":["secret"]}]}"#,
            Some("invalid chat completions request: /messages/1/role: expected a string, found a list"),
        ),
        (
            completions,
            r#"{"model":"m","prompt":"secret","stream":"secret"}"#,
            Some("invalid completions request: /stream: expected a boolean or null, found a string"),
        ),
        (completions, r#"{"model":"m","prompt":"secret","stream":"no","secret":[]}"#, None),
        ("/rerank", r#"{"model":"m","messages":5}"#, None),
    ] {
        for (config, want) in [(VALIDATING, want), (PLAIN, None)] {
            let epp = Hermetic::with_config(&[(0, 0.0, "")], config, epp_plugins::BUILT_IN).await;
            let messages = vec![request_headers(&[(":path", path)], false), request_body(body, true)];
            let (answers, end) = epp.exchange(messages).await;
            assert!(end.is_ok(), "{body}: {end:?}");
            let page = want.map(|text| (400, format!("inference gateway: BadRequest - {text}")));
            let found = refused(&answers[0]);
            assert_eq!(found, page.as_ref().map(|(code, text)| (*code, text.as_str())), "{config}: {body}");
            let counted = epp.metrics().contains("error_code=\"BadRequest\"");
            assert_eq!(counted, want.is_some(), "{config}: {body}");
            assert_eq!(epp.held(), (0, 0, 0), "{config}: {body}");
        }
    }
}

//! What a request's duration spans.

use std::collections::BTreeMap;

use epp_framework::endpoint::EndpointMeta;

use super::*;
use crate::datastore;
use crate::discovery::Change;
use crate::pool;

/// A director of a pool of one endpoint.
fn director() -> Director {
    let (store, mut writer) = datastore::store();
    let endpoint = EndpointMeta {
        name: "a".into(),
        namespace: "default".into(),
        address: [10, 0, 0, 1].into(),
        port: 8000,
        labels: BTreeMap::new(),
    };
    writer.apply(vec![Change::Upsert(endpoint)], |_| {});
    let pool = pool::testing::pool(store, Duration::from_secs(1));
    Director::new(Arc::new(pool), Rules::default())
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

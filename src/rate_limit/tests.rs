//! The service over real gRPC.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use prometheus::Registry;
use tokio::task::JoinSet;

use super::limiter::Value;
use super::*;
use crate::standalone::topology::RateUnit;

fn limits(requests: u32) -> Arc<[Limit]> {
    let limit = Limit {
        domain: None,
        entries: vec![("user".to_owned(), Value::Any)],
        requests,
        unit: RateUnit::Year,
        is_shadow: false,
        policy: "default/policy".to_owned(),
        rule: 0,
    };
    Arc::from([limit])
}

#[tokio::test]
async fn limits_that_change_keep_what_was_counted_and_a_stop_ends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (changes, stop) = (watch::Sender::new(limits(1)), watch::Sender::new(false));
    let metrics = RateLimitMetrics::register(&Registry::new()).unwrap();
    let now = || Duration::from_secs(1);
    let mut server = JoinSet::new();
    server.spawn(serve(listener, changes.subscribe(), now, stop.subscribe(), metrics));
    let mut client = RateLimitServiceClient::connect(format!("http://{at}")).await.unwrap();
    let mut ask = async || {
        let entries = vec![Entry { key: "user".to_owned(), value: "u".to_owned() }];
        let descriptors = vec![RateLimitDescriptor { entries, ..RateLimitDescriptor::default() }];
        let call = RateLimitRequest { domain: "d".to_owned(), descriptors, hits_addend: 0 };
        let answer = client.should_rate_limit(call).await.unwrap().into_inner();
        (answer.overall_code(), answer.statuses[0].limit_remaining)
    };
    assert_eq!(ask().await, (Code::Ok, 0));
    assert_eq!(ask().await, (Code::OverLimit, 0));

    changes.send_replace(limits(1_000_000));
    let mut n_asked = 2;
    let left = loop {
        n_asked += 1;
        match ask().await {
            (Code::Ok, left) => break left,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(left, 1_000_000 - n_asked, "those of before count");

    drop(changes);
    assert_eq!(ask().await.0, Code::Ok, "nobody changes them any more");
    stop.send_replace(true);
    server.join_next().await.unwrap().unwrap().unwrap();
}

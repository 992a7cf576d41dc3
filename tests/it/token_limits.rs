//! Budgets of tokens through a real Envoy with `config/envoy/token-rate-limit.yaml`: what the rate limit service is told.

use reqwest::StatusCode;

use crate::support::envoy::Envoy;
use crate::support::epp::{Epp, EppSetup};
use crate::support::rate_limit::RateLimit;
use crate::support::upstream::{AfterEvents, Answer, Upstream};
use crate::support::{Protocol, client, eventually};

const CONFIG: &str = include_str!("../../config/envoy/token-rate-limit.yaml");

/// A request that the server echoes, so that its answer says 7 + 5 tokens.
const ECHOED: &str =
    r#"{"model":"m","prompt":"p","usage":{"prompt_tokens":7,"total_tokens":12,"completion_tokens":5}}"#;

const SSE_USAGE: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":7,"total_tokens":10,"completion_tokens":3}}"#;

/// The configuration as it is, on other ports.
fn config(epp: &Epp, rate_limit: &RateLimit) -> String {
    let mut config = CONFIG.to_owned();
    for (port, other) in [(9901, 0), (8080, 0), (9002, epp.ext_proc.port()), (8081, rate_limit.at.port())] {
        let port = format!("port_value: {port} ");
        assert_eq!(config.matches(&port).count(), 1, "{port}");
        config = config.replace(&port, &format!("port_value: {other} "));
    }
    config
}

async fn start(upstream: &Upstream, rate_limit: &RateLimit) -> (Epp, Envoy) {
    let epp = Epp::with(EppSetup { secure: true, ..EppSetup::new(&[upstream.addr()]) }).await;
    let envoy = Envoy::with_config(&config(&epp, rate_limit)).await;
    (epp, envoy)
}

fn post(envoy: &Envoy, user: &str) -> reqwest::RequestBuilder {
    client(Protocol::Http1)
        .post(format!("{}/v1/completions", envoy.http()))
        .header("x-user-id", user)
        .body(ECHOED)
}

/// The descriptor of a user's budget.
fn of(user: &str) -> String {
    format!("epp-tokens/user={user}/budget=total")
}

/// Waits until the service was called `count` times for `user`; the hits of all of them.
async fn hits(rate_limit: &RateLimit, user: &str, count: usize) -> Vec<u64> {
    let calls = eventually("the rate limit service was called", async || {
        Some(rate_limit.calls(&of(user))).filter(|calls| calls.len() >= count)
    })
    .await;
    calls.into_iter().map(|(_, hits)| hits.expect("each descriptor says its hits")).collect()
}

#[tokio::test]
async fn each_answer_is_charged_what_it_reported_until_the_budget_is_spent() {
    let upstream = Upstream::start(Answer::Echo);
    let rate_limit = RateLimit::start(30).await;
    let (epp, envoy) = start(&upstream, &rate_limit).await;
    let events = vec![r#"{"choices":[{"text":"a"}]}"#.into(), SSE_USAGE.into(), "[DONE]".into()];
    let sse = Answer::Sse { events, then: AfterEvents::End };
    let mut want = Vec::new();
    for (answer, cost) in [(Answer::Echo, 12), (sse, 10), (Answer::Echo, 12)] {
        upstream.answer(answer);
        let answer = post(&envoy, "u1").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "22 of 30 are spent at most");
        answer.bytes().await.unwrap();
        want.extend([0, cost]);
        assert_eq!(hits(&rate_limit, "u1", want.len()).await, want);
    }
    let refused = post(&envoy, "u1").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let header = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("x-envoy-ratelimited"), "true");
    assert_eq!(header("x-ratelimit-limit"), "30, 30;w=3600");
    assert_eq!((header("x-ratelimit-remaining"), header("x-ratelimit-reset")), ("0".into(), "1800".into()));
    assert_eq!(upstream.received().len(), 3, "a refused request reaches nobody");

    // Another user has a budget of their own, and the refused request was charged nothing.
    let other = post(&envoy, "u2").send().await.unwrap();
    assert_eq!(other.status(), StatusCode::OK);
    other.bytes().await.unwrap();
    assert_eq!(hits(&rate_limit, "u2", 2).await, [0, 12]);
    want.push(0);
    assert_eq!(hits(&rate_limit, "u1", want.len()).await, want);
    epp.wait_until_idle().await;
    for name in ["spurious_msgs_received", "streams_failed", "server_half_closed"] {
        assert_eq!(envoy.stat(&format!("http.clients.ext_proc.{name}")).await, 0, "{name}");
    }
}

/// Who failed, broke off or left is not charged, although usage may have come before.
#[tokio::test]
async fn failed_and_aborted_requests_are_charged_nothing() {
    let upstream = Upstream::start(Answer::Status(500));
    let rate_limit = RateLimit::start(30).await;
    let (epp, envoy) = start(&upstream, &rate_limit).await;

    let failed = post(&envoy, "failed").send().await.unwrap();
    assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
    failed.bytes().await.unwrap();

    upstream.answer(Answer::Close);
    let closed = post(&envoy, "closed").send().await.unwrap();
    assert_eq!(closed.status(), StatusCode::SERVICE_UNAVAILABLE);

    let hold = Answer::Sse { events: vec![SSE_USAGE.into()], then: AfterEvents::Hold };
    upstream.answer(hold);
    let mut left = post(&envoy, "left").send().await.unwrap();
    assert!(left.chunk().await.unwrap().is_some(), "the usage has come");
    drop(left);
    epp.wait_until_idle().await;

    // What comes behind them is charged, so they would have been.
    upstream.answer(Answer::Echo);
    post(&envoy, "whole").send().await.unwrap().bytes().await.unwrap();
    assert_eq!(hits(&rate_limit, "whole", 2).await, [0, 12]);

    upstream.answer(Answer::Sse { events: vec![SSE_USAGE.into()], then: AfterEvents::Hold });
    let mut broken = post(&envoy, "broken").send().await.unwrap();
    assert!(broken.chunk().await.unwrap().is_some(), "the usage has come");
    upstream.kill();
    assert!(broken.chunk().await.is_err(), "the answer breaks off");
    let log = eventually("every request is in the access log", async || {
        Some(envoy.access_log()).filter(|log| log.lines().count() == 5)
    })
    .await;
    for user in ["failed", "closed", "left", "broken"] {
        assert_eq!(hits(&rate_limit, user, 1).await, [0], "{user}");
        let line = log.lines().find(|line| line.contains(&format!("user={user} "))).expect(user);
        assert!(line.ends_with("tokens=-"), "{line}");
    }
    assert!(log.contains("user=whole tokens=12\n"), "{log}");
}

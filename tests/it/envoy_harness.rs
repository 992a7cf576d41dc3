//! Proof of the harness: requests through a real Envoy, with a stub in the EPP's place.
//!
//! Deliberately says nothing about `epp`.

use std::time::Duration;

use reqwest::StatusCode;

use crate::support::envoy::Envoy;
use crate::support::envoy_config::{BodyMode, EnvoySetup, Pool};
use crate::support::stub_epp::StubEpp;
use crate::support::upstream::{AfterEvents, Answer, RefusingPort, Upstream};
use crate::support::{Protocol, client, eventually};

/// Every byte value, in an order that shows a lost, doubled or swapped piece.
fn odd_bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)).to_le_bytes()[0]).collect()
}

#[tokio::test]
async fn posts_reach_the_picked_upstream_byte_for_byte() {
    let (other, picked) = (Upstream::start(Answer::Echo), Upstream::start(Answer::Echo));
    let epp = StubEpp::start(&picked.addr());
    let body = odd_bytes(300_020);
    let mut posts = 0;
    for pool in [Pool::OriginalDstHeader, Pool::OverrideHost(vec![other.addr(), picked.addr()])] {
        for mode in [BodyMode::Duplex, BodyMode::Buffered] {
            let setup = EnvoySetup { request_body: mode, response_body: mode, ..EnvoySetup::new(epp.addr()) };
            let envoy = Envoy::start(EnvoySetup { pool: pool.clone(), ..setup }).await;
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let case = format!("{pool:?} {mode:?} {protocol:?}");
                let post = client(protocol).post(format!("{}/v1/completions?a=b", envoy.http()));
                let post = post
                    .header("content-type", "application/json")
                    .header("x-odd", "1, 2")
                    .body(body.clone());
                let answer = post.send().await.unwrap();
                assert_eq!(answer.status(), 200, "{case}");
                assert_eq!(answer.headers()["content-type"], "application/json", "{case}");
                assert!(answer.bytes().await.unwrap() == body, "{case}: the response differs");
                posts += 1;

                let received = picked.received();
                assert_eq!(received.len(), posts, "{case}");
                let last = &received[posts - 1];
                assert_eq!((last.method.as_str(), &*last.path), ("POST", "/v1/completions?a=b"), "{case}");
                assert!(last.body.as_deref() == Some(&*body), "{case}: the request differs");
                assert_eq!(last.headers["x-odd"], "1, 2", "{case}");
                let destination = last.headers["x-gateway-destination-endpoint"].to_str().unwrap();
                assert_eq!(destination, picked.addr().to_string(), "{case}");
            }
            envoy.assert_clean().await;
            assert_eq!(envoy.stat("http.it.ext_proc.streams_started").await, 2);
        }
    }
    assert!(other.received().is_empty());
}

#[tokio::test]
async fn every_pair_of_body_modes_is_accepted() {
    let upstream = Upstream::start(Answer::Echo);
    let epp = StubEpp::start(&upstream.addr());
    for (request_body, response_body) in [
        (BodyMode::None, BodyMode::None),
        (BodyMode::Streamed, BodyMode::Streamed),
        (BodyMode::Duplex, BodyMode::None),
        (BodyMode::Buffered, BodyMode::Streamed),
        (BodyMode::Streamed, BodyMode::Duplex),
    ] {
        let envoy =
            Envoy::start(EnvoySetup { request_body, response_body, ..EnvoySetup::new(epp.addr()) }).await;
        for body in ["", "hello"] {
            let post = client(Protocol::Http1).post(envoy.http()).body(body).send().await.unwrap();
            assert_eq!(post.text().await.unwrap(), body, "{request_body:?} {response_body:?}");
        }
        envoy.assert_clean().await;
    }
}

#[tokio::test]
async fn the_epp_is_reached_over_tls() {
    let upstream = Upstream::start(Answer::Echo);
    let epp = StubEpp::start_tls(&upstream.addr());
    let envoy = Envoy::start(EnvoySetup { epp_tls: true, ..EnvoySetup::new(epp.addr()) }).await;
    let answer = client(Protocol::Http2).post(envoy.http()).body("hello").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "hello");
    envoy.assert_clean().await;
}

#[tokio::test]
async fn the_subset_hint_comes_with_every_message_if_asked_for() {
    let upstream = Upstream::start(Answer::Echo);
    for hint in [None, Some(vec!["127.0.0.2:8000".to_owned(), "127.0.0.3:8000".to_owned()])] {
        let epp = StubEpp::start(&upstream.addr());
        let envoy =
            Envoy::start(EnvoySetup { subset_hint: hint.clone(), ..EnvoySetup::new(epp.addr()) }).await;
        client(Protocol::Http1).post(envoy.http()).body("hello").send().await.unwrap();
        envoy.assert_clean().await;
        let messages = epp.messages();
        assert!(messages.len() >= 4, "headers and bodies, both ways");
        for message in messages {
            let metadata = message.metadata_context.unwrap().filter_metadata;
            let found = metadata.get("envoy.lb.subset_hint").map(|hint| format!("{hint:?}"));
            assert_eq!(found.is_some(), hint.is_some());
            for endpoint in hint.iter().flatten() {
                assert!(found.as_deref().is_some_and(|hint| hint.contains(endpoint)), "{found:?}");
            }
        }
    }
}

#[tokio::test]
async fn events_arrive_while_the_stream_is_open() {
    let three = ["0", "1", "2"].map(str::to_owned).to_vec();
    let whole = "data: 0\n\ndata: 1\n\ndata: 2\n\n";
    let upstream = Upstream::start(Answer::Sse { events: three.clone(), then: AfterEvents::End });
    let epp = StubEpp::start(&upstream.addr());
    let envoy = Envoy::start(EnvoySetup::new(epp.addr())).await;
    let post = async || client(Protocol::Http1).post(envoy.http()).body("{}").send().await.unwrap();

    let answer = post().await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.text().await.unwrap(), whole);

    upstream.answer(Answer::Sse { events: three, then: AfterEvents::Hold });
    let (mut left, mut cut) = (post().await, post().await);
    for open in [&mut left, &mut cut] {
        let mut got = Vec::new();
        while got.len() < whole.len() {
            got.extend(open.chunk().await.unwrap().expect("the stream is held open"));
        }
        assert_eq!(String::from_utf8(got).unwrap(), whole);
    }
    drop(left);
    upstream.kill();
    cut.chunk().await.expect_err("the model server died");
    envoy.assert_clean().await;
}

#[tokio::test]
async fn upstreams_fail_as_told() {
    let refusing = RefusingPort::reserve();
    let upstream = Upstream::start(Answer::Close);
    let members = vec![refusing.addr(), upstream.addr()];
    let one = StubEpp::start(&upstream.addr());
    let dead_first = StubEpp::start(&format!("{},{}", refusing.addr(), upstream.addr()));
    let envoy = Envoy::start(EnvoySetup::new(one.addr())).await;
    let pool = Pool::OverrideHost(members);
    let failing_over = Envoy::start(EnvoySetup { pool, ..EnvoySetup::new(dead_first.addr()) }).await;
    let post =
        async |envoy: &Envoy| client(Protocol::Http1).post(envoy.http()).body("{}").send().await.unwrap();

    assert_eq!(post(&envoy).await.status(), StatusCode::SERVICE_UNAVAILABLE, "closed without an answer");
    upstream.answer(Answer::Status(418));
    let answer = post(&envoy).await;
    assert_eq!((answer.status().as_u16(), &*answer.text().await.unwrap()), (418, "as told\n"));
    upstream.answer(Answer::Echo);
    assert_eq!(post(&failing_over).await.status(), StatusCode::OK, "the second of the list answers");

    upstream.answer(Answer::Hang);
    let before = upstream.received().len();
    let waiting =
        client(Protocol::Http1).post(envoy.http()).body("{}").timeout(Duration::from_secs(60)).send();
    let (answer, ()) = tokio::join!(waiting, async {
        upstream.wait_for(before + 1).await;
        upstream.kill();
    });
    assert_eq!(answer.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE, "died while asked");
    assert_eq!(post(&envoy).await.status(), StatusCode::SERVICE_UNAVAILABLE, "nobody listens any more");
    for envoy in [envoy, failing_over] {
        envoy.assert_clean().await;
    }
}

#[tokio::test]
async fn a_buffered_body_is_held_to_the_buffer_limit() {
    let upstream = Upstream::start(Answer::Echo);
    let epp = StubEpp::start(&upstream.addr());
    for (buffer_limit, want) in [(None, 413), (Some(8 << 20), 200)] {
        let (request_body, response_body) = (BodyMode::Buffered, BodyMode::None);
        let setup = EnvoySetup { request_body, response_body, buffer_limit, ..EnvoySetup::new(epp.addr()) };
        let envoy = Envoy::start(setup).await;
        let post = client(Protocol::Http1).post(envoy.http()).body(odd_bytes(2 << 20)).send().await.unwrap();
        assert_eq!(post.status(), want, "{buffer_limit:?}");
    }
}

#[tokio::test]
#[should_panic(expected = "streams_failed")]
async fn a_failed_stream_is_not_clean() {
    let nobody = RefusingPort::reserve();
    let envoy = Envoy::start(EnvoySetup::new(nobody.addr())).await;
    let post = client(Protocol::Http1).post(envoy.http()).body("{}").send().await.unwrap();
    assert_eq!(post.status(), StatusCode::INTERNAL_SERVER_ERROR);
    eventually("the access log says why", async || envoy.access_log().contains("gRPC").then_some(())).await;
    envoy.assert_clean().await;
}

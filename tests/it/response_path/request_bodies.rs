//! Requests that Envoy may pass and we may not, or the other way round: compressed, too long, too deep.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{BODY, GZIP, unread};
use crate::support::envoy::Envoy;
use crate::support::envoy_config::{BodyMode, EnvoySetup};
use crate::support::epp::{Epp, EppSetup};
use crate::support::upstream::{Answer, Upstream};
use crate::support::{Protocol, client};

/// What is not read is not judged either.
#[tokio::test]
async fn compressed_requests_pass_untouched_and_are_counted() {
    let upstream = Upstream::start(Answer::Echo);
    let epp = Epp::start(&[upstream.addr()]).await;
    let mut n_sent = 0.0;
    for mode in [BodyMode::Duplex, BodyMode::Buffered] {
        let envoy = Envoy::start(EnvoySetup { request_body: mode, ..EnvoySetup::new(epp.ext_proc) }).await;
        for (protocol, header) in [
            (Protocol::Http1, Some("gzip")),
            (Protocol::Http2, Some("gzip")),
            (Protocol::Http1, Some("br, gzip")),
            (Protocol::Http2, None),
        ] {
            let post = client(protocol).post(envoy.http()).header("x-gateway-model-name-rewrite", "tuned");
            let post = if let Some(header) = header { post.header("content-encoding", header) } else { post };
            let got = post.body(GZIP).send().await.unwrap();
            assert_eq!(got.status(), 200, "{mode:?} {protocol:?} {header:?}: {}", envoy.access_log());
            assert_eq!(got.bytes().await.unwrap(), GZIP, "{mode:?} {protocol:?} {header:?}");
            let received = upstream.received().pop().unwrap();
            assert_eq!(received.body.as_deref(), Some(GZIP), "{mode:?} {protocol:?} {header:?}");
            let encoding = received.headers.get("content-encoding").map(|value| value.to_str().unwrap());
            assert_eq!(encoding, header, "{mode:?} {protocol:?}");
            n_sent += 1.0;
        }
        envoy.assert_clean().await;
    }
    epp.wait_until_idle().await;
    assert!(
        (unread(&epp, "request", "compressed").await - n_sent).abs() < 0.5,
        "{}",
        epp.get("/metrics").await
    );
    let total = "inference_model_request_total{model_name=\"\",target_model_name=\"\"}";
    assert_eq!(epp.metric(total).await, Some(n_sent));
}

#[tokio::test]
async fn a_body_of_50_megabytes_passes_below_the_limit_and_is_refused_above_it() {
    let upstream = Upstream::start(Answer::Status(200));
    let body = format!(r#"{{"model":"m","prompt":"{}"}}"#, "0123456789".repeat(5 << 20));
    let mut n_passed = 0;
    for (limit, status) in [("64MiB", 200), ("40MiB", 413)] {
        let args = vec![format!("--max-body-bytes={limit}")];
        let epp = Epp::with(EppSetup { args, ..EppSetup::new(&[upstream.addr()]) }).await;
        let envoy = Envoy::start(EnvoySetup { retries: false, ..EnvoySetup::new(epp.ext_proc) }).await;
        let got = client(Protocol::Http2).post(envoy.http()).body(body.clone()).send().await.unwrap();
        assert_eq!(got.status(), status, "{limit}: {}", envoy.access_log());
        let page = got.text().await.unwrap();
        if status == 413 {
            let want = "inference gateway: PayloadTooLarge - request body is longer than 41943040 bytes";
            assert_eq!(page, want);
        } else {
            n_passed += 1;
        }
        let received = upstream.received();
        assert_eq!(received.len(), n_passed, "{limit}");
        assert!(received[0].body.as_deref() == Some(body.as_bytes()), "{limit}: the request differs");
        epp.wait_until_idle().await;
        envoy.assert_clean().await;
    }
}

#[tokio::test]
async fn json_that_is_nested_too_deep_is_400() {
    let upstream = Upstream::start(Answer::Echo);
    let epp = Epp::start(&[upstream.addr()]).await;
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    for mode in [BodyMode::Duplex, BodyMode::Buffered] {
        let envoy = Envoy::start(EnvoySetup { request_body: mode, ..EnvoySetup::new(epp.ext_proc) }).await;
        for body in [
            format!(r#"{{"model":"m","prompt":{open}{close}}}"#),
            format!(r#"{{"model":"m","x":{open}{close},"prompt":"p"}}"#),
            format!("{open}{close}"),
            "{\"a\":".repeat(100_000),
        ] {
            let got = client(Protocol::Http2).post(envoy.http()).body(body).send().await.unwrap();
            assert_eq!(got.status(), 400, "{mode:?}: {}", envoy.access_log());
            assert_eq!(
                got.text().await.unwrap(),
                "inference gateway: BadRequest - Error unmarshaling request body"
            );
        }
        let sound = client(Protocol::Http2).post(envoy.http()).body(BODY).send().await.unwrap();
        assert_eq!(sound.status(), 200, "{mode:?}: it still serves");
        envoy.assert_clean().await;
    }
    assert_eq!(upstream.received().len(), 2);
    epp.wait_until_idle().await;
}

/// Envoy itself answers 100; nobody waits for the server to.
#[tokio::test]
async fn a_client_may_wait_for_100_continue() {
    let upstream = Upstream::start(Answer::Echo);
    let epp = Epp::start(&[upstream.addr()]).await;
    for mode in [BodyMode::Duplex, BodyMode::Buffered, BodyMode::Streamed] {
        let envoy = Envoy::start(EnvoySetup { request_body: mode, ..EnvoySetup::new(epp.ext_proc) }).await;
        let address = envoy.http().strip_prefix("http://").unwrap().to_owned();
        let mut socket = TcpStream::connect(&address).await.unwrap();
        let length = BODY.len();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        socket.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n", "{mode:?}");
        socket.write_all(BODY.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(BODY), "{mode:?}: {answer}");
        envoy.assert_clean().await;
    }
    epp.wait_until_idle().await;
}

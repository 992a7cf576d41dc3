//! `epp` behind a real Envoy: what clients send reaches the picked server byte for byte, and comes back so.

use std::net::SocketAddr;

use reqwest::StatusCode;
use serde_json::json;

use crate::support::envoy::Envoy;
use crate::support::envoy_config::{BodyMode, EnvoySetup, Pool};
use crate::support::epp::{Epp, EppSetup};
use crate::support::upstream::{AfterEvents, Answer, Upstream};
use crate::support::{Protocol, client, eventually};

/// A body that no re-encoding would leave alone.
const ODD_BODY: &str = "{ \"model\" : \"m\",\"n\":9007199254740993, \"prompt\": \"caf\u{e9} \\u00e9 <&>\", \"x\":1.0,\n \"x\": 2 }";

async fn envoy(epp: &Epp) -> Envoy {
    Envoy::start(EnvoySetup::new(epp.ext_proc)).await
}

#[tokio::test]
async fn requests_reach_the_picked_server_byte_for_byte() {
    let upstreams = [Upstream::start(Answer::Echo), Upstream::start(Answer::Echo)];
    let members: Vec<SocketAddr> = upstreams.iter().map(Upstream::addr).collect();
    let epp = Epp::with(EppSetup { secure: true, ..EppSetup::new(&members) }).await;
    let long = format!(r#"{{"prompt":"{}","model":"m"}}"#, "0123456789".repeat(30_000));
    for pool in [Pool::OriginalDstHeader, Pool::OverrideHost(members.clone())] {
        for mode in [BodyMode::Duplex, BodyMode::Buffered] {
            let setup =
                EnvoySetup { request_body: mode, response_body: mode, ..EnvoySetup::new(epp.ext_proc) };
            let envoy = Envoy::start(EnvoySetup { pool: pool.clone(), epp_tls: true, ..setup }).await;
            for protocol in [Protocol::Http1, Protocol::Http2] {
                for body in [ODD_BODY, &long] {
                    let case = format!("{pool:?} {mode:?} {protocol:?} {} bytes", body.len());
                    let post = client(protocol).post(format!("{}/v1/completions?a=b", envoy.http()));
                    let post = post.header("x-gateway-destination-endpoint", "127.0.0.1:1");
                    let answer = post
                        .header("x-prefiller-host-port", "x:1")
                        .body(body.to_owned())
                        .send()
                        .await
                        .unwrap();
                    assert_eq!(answer.status(), 200, "{case}: {}", envoy.access_log());
                    assert_eq!(answer.headers()["x-went-into-resp-headers"], "true", "{case}");
                    assert!(answer.bytes().await.unwrap() == body, "{case}: the answer differs");
                    let all: Vec<_> = upstreams
                        .iter()
                        .flat_map(|u| u.received().into_iter().map(|r| (u.addr(), r)))
                        .collect();
                    let (at, received) =
                        all.iter().find(|(_, r)| r.body.as_deref() == Some(body.as_bytes())).expect(&case);
                    let destination = received.headers["x-gateway-destination-endpoint"].to_str().unwrap();
                    assert_eq!(destination, at.to_string(), "{case}: a client cannot choose its server");
                    assert!(!received.headers.contains_key("x-prefiller-host-port"), "{case}");
                }
            }
            envoy.assert_clean().await;
        }
    }
    epp.wait_until_idle().await;
}

#[tokio::test]
async fn only_the_model_is_rewritten() {
    let upstream = Upstream::start(Answer::Echo);
    let epp = Epp::start(&[upstream.addr()]).await;
    for mode in [BodyMode::Duplex, BodyMode::Buffered] {
        let envoy = Envoy::start(EnvoySetup { request_body: mode, ..EnvoySetup::new(epp.ext_proc) }).await;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let post =
                client(protocol).post(envoy.http()).header("x-gateway-model-name-rewrite", "tuned \"1\"");
            let answer = post.body(ODD_BODY).send().await.unwrap();
            assert_eq!(
                answer.text().await.unwrap(),
                ODD_BODY.replace(r#""m""#, r#""tuned \"1\"""#),
                "{mode:?} {protocol:?}"
            );
            let received = upstream.received().pop().unwrap();
            assert!(!received.headers.contains_key("x-gateway-model-name-rewrite"), "{mode:?} {protocol:?}");
        }
        envoy.assert_clean().await;
    }
}

#[tokio::test]
async fn chunks_of_16_mib_and_of_one_byte_pass() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let upstream = Upstream::start(Answer::Status(200));
    let epp = Epp::start(&[upstream.addr()]).await;
    let envoy =
        Envoy::start(EnvoySetup { buffer_limit: Some(50 << 20), ..EnvoySetup::new(epp.ext_proc) }).await;
    let body = format!(r#"{{"model":"m","prompt":"{}"}}"#, "x".repeat(16 << 20));
    let answer = client(Protocol::Http1).post(envoy.http()).body(body.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", envoy.access_log());
    assert!(upstream.received().pop().unwrap().body.as_deref() == Some(body.as_bytes()));

    let address = envoy.http().strip_prefix("http://").unwrap().to_owned();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    for byte in ODD_BODY.bytes() {
        socket.write_all(&[b"1\r\n", &[byte][..], b"\r\n"].concat()).await.unwrap();
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(upstream.received().pop().unwrap().body.as_deref(), Some(ODD_BODY.as_bytes()));
    envoy.assert_clean().await;
}

#[tokio::test]
async fn bodies_may_end_by_trailers() {
    use bytes::Bytes;
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;
    let upstream = Upstream::start(Answer::Echo);
    let epp = Epp::start(&[upstream.addr()]).await;
    for mode in [BodyMode::Duplex, BodyMode::Buffered] {
        // With retries, Envoy 1.40 sends a duplex body that ends by trailers twice (docs/envoy.md).
        let setup = EnvoySetup { request_body: mode, retries: false, ..EnvoySetup::new(epp.ext_proc) };
        let envoy = Envoy::start(setup).await;
        let address = envoy.http().strip_prefix("http://").unwrap().to_owned();
        let socket = hyper_util::rt::TokioIo::new(tokio::net::TcpStream::connect(&address).await.unwrap());
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, socket).await.unwrap();
        let mut connections = tokio::task::JoinSet::new();
        connections.spawn(connection);
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-checksum", "1".parse().unwrap());
        let frames = [Frame::data(Bytes::from_static(ODD_BODY.as_bytes())), Frame::trailers(trailers)];
        let body = StreamBody::new(tokio_stream::iter(frames.map(Ok::<_, std::io::Error>)));
        let request = http::Request::post(envoy.http()).body(body).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200, "{mode:?}");
        let received = upstream.received().pop().unwrap();
        assert_eq!(received.body.as_deref(), Some(ODD_BODY.as_bytes()), "{mode:?}");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), ODD_BODY, "{mode:?}");
        envoy.assert_clean().await;
    }
    epp.wait_until_idle().await;
}

#[tokio::test]
async fn requests_without_a_body_and_heads_pass() {
    let upstream = Upstream::start(Answer::Status(200));
    let epp = Epp::start(&[upstream.addr()]).await;
    for mode in [BodyMode::Duplex, BodyMode::Buffered] {
        let setup = EnvoySetup { request_body: mode, response_body: mode, ..EnvoySetup::new(epp.ext_proc) };
        let envoy = Envoy::start(setup).await;
        let models = format!("{}/v1/models", envoy.http());
        for protocol in [Protocol::Http1, Protocol::Http2] {
            assert_eq!(
                client(protocol).get(&models).send().await.unwrap().status(),
                200,
                "{mode:?} {protocol:?}"
            );
            assert_eq!(
                client(protocol).head(&models).send().await.unwrap().status(),
                200,
                "{mode:?} {protocol:?}"
            );
            let received = upstream.received().pop().unwrap();
            assert_eq!(received.headers["x-gateway-destination-endpoint"], upstream.addr().to_string());
        }
        envoy.assert_clean().await;
    }
    epp.wait_until_idle().await;
}

#[tokio::test]
async fn events_arrive_while_the_stream_is_open_and_usage_is_counted() {
    let usage =
        json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 10, "total_tokens": 17}});
    let events = vec![json!({"choices": [{"delta": {"role": "assistant"}}]}).to_string(), usage.to_string()];
    let upstream = Upstream::start(Answer::Sse { events: events.clone(), then: AfterEvents::Hold });
    let epp = Epp::start(&[upstream.addr()]).await;
    let envoy = envoy(&epp).await;
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut answer = client(protocol).post(envoy.http()).body(body).send().await.unwrap();
        let whole = events.iter().fold(String::new(), |whole, event| whole + "data: " + event + "\n\n");
        let mut seen = Vec::new();
        while seen.len() < whole.len() {
            seen.extend_from_slice(&answer.chunk().await.unwrap().expect("the stream is open"));
        }
        assert_eq!(String::from_utf8(seen).unwrap(), whole, "{protocol:?}");
        assert_eq!(epp.metric("inference_model_running_requests{model_name=\"m\"}").await, Some(1.0));
        drop(answer);
        epp.wait_until_idle().await;
    }
    upstream.answer(Answer::Sse { events, then: AfterEvents::End });
    let answer = client(Protocol::Http1).post(envoy.http()).body(body).send().await.unwrap();
    answer.text().await.unwrap();
    let labels = "{model_name=\"m\",target_model_name=\"m\"}";
    eventually("the usage is counted", async || {
        (epp.metric(&format!("inference_model_input_tokens_sum{labels}")).await == Some(7.0)).then_some(())
    })
    .await;
    assert_eq!(epp.metric(&format!("inference_model_output_tokens_sum{labels}")).await, Some(10.0));
    assert_eq!(epp.metric(&format!("inference_model_request_total{labels}")).await, Some(3.0));
    epp.wait_until_idle().await;
}

#[tokio::test]
async fn bad_requests_are_refused_and_cost_no_server_anything() {
    let upstream = Upstream::start(Answer::Echo);
    let epp = Epp::start(&[upstream.addr()]).await;
    for mode in [BodyMode::Duplex, BodyMode::Buffered] {
        let envoy = Envoy::start(EnvoySetup { request_body: mode, ..EnvoySetup::new(epp.ext_proc) }).await;
        let deep = format!(r#"{{"model":"m","prompt":{}}}"#, "[".repeat(20_000));
        for (body, text) in [
            (b"hello".as_slice(), "Error unmarshaling request body"),
            (b"[1]", "Error unmarshaling request body"),
            (b"{\"model\":\"m\",\"prompt\":\"\xff\"}", "Error unmarshaling request body"),
            (b"{\"model\":\"m\",\"prompt\":\"cut", "Error unmarshaling request body"),
            (deep.as_bytes(), "Error unmarshaling request body"),
            (b"{\"prompt\":\"a\"}", "model not found in request body"),
            (b"{\"model\":\"m\"}", "prompt not found in request"),
            (b"{\"model\":\"m\",\"prompt\":7}", "prompt is not a string"),
            (b"{\"model\":\"m\",\"messages\":[]}", "messages is empty"),
        ] {
            let answer = client(Protocol::Http1).post(envoy.http()).body(body.to_vec()).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{mode:?} {text}");
            let page = answer.text().await.unwrap();
            assert_eq!(page, format!("inference gateway: BadRequest - {text}"), "{mode:?}");
        }
        envoy.assert_clean().await;
    }
    assert!(upstream.received().is_empty());
    epp.wait_until_idle().await;
}

#[tokio::test]
async fn an_empty_pool_answers_503_and_a_subset_is_kept_to() {
    let upstreams = [Upstream::start(Answer::Echo), Upstream::start(Answer::Echo)];
    let members: Vec<SocketAddr> = upstreams.iter().map(Upstream::addr).collect();
    let body = r#"{"model":"m","prompt":"a"}"#;
    for (endpoints, hint, want) in [
        (vec![], None, 503),
        (members.clone(), Some(vec!["127.0.0.9:1".to_owned()]), 503),
        (members.clone(), Some(vec![members[1].to_string()]), 200),
    ] {
        let epp = Epp::start(&endpoints).await;
        let envoy = Envoy::start(EnvoySetup { subset_hint: hint, ..EnvoySetup::new(epp.ext_proc) }).await;
        for _ in 0..5 {
            let answer = client(Protocol::Http1).post(envoy.http()).body(body).send().await.unwrap();
            assert_eq!(answer.status(), want);
        }
        envoy.assert_clean().await;
    }
    assert_eq!((upstreams[0].received().len(), upstreams[1].received().len()), (0, 5));
}

#[tokio::test]
async fn whatever_happens_to_a_stream_everything_held_is_given_back() {
    let upstream = Upstream::start(Answer::Close);
    let epp = Epp::start(&[upstream.addr()]).await;
    let envoy = envoy(&epp).await;
    let body = r#"{"model":"m","prompt":"a"}"#;
    let post = |protocol| client(protocol).post(envoy.http()).body(body);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        // The server dies: Envoy's own error page passes through.
        upstream.answer(Answer::Close);
        assert_eq!(post(protocol).send().await.unwrap().status(), 503);
        upstream.answer(Answer::Status(500));
        assert_eq!(post(protocol).send().await.unwrap().status(), 500);
        // The client leaves while the server thinks.
        upstream.answer(Answer::Hang);
        let before = upstream.received().len();
        let asked = post(protocol).send();
        tokio::select! {
            answer = asked => panic!("the server hangs, yet {answer:?}"),
            _ = upstream.wait_for(before + 1) => {}
        }
        epp.wait_until_idle().await;
    }
    assert_eq!(epp.metric("epp_extproc_streams").await, Some(0.0));
}

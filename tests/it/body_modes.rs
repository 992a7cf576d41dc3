//! `epp` behind a real Envoy in every mix of body modes: the pick, the bytes both ways, and what is counted.

use std::net::SocketAddr;

use bytes::Bytes;
use epp::ext_proc::destination::DESTINATION;
use http::HeaderMap;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::envoy::Envoy;
use crate::support::envoy_config::{BodyMode, EnvoySetup};
use crate::support::epp::Epp;
use crate::support::upstream::{AfterEvents, Answer, Upstream};
use crate::support::{Protocol, client, eventually};

const MODES: [BodyMode; 5] =
    [BodyMode::Duplex, BodyMode::Buffered, BodyMode::Partial, BodyMode::Streamed, BodyMode::None];

const BODY: &str = r#"{"model":"m","prompt":"caf\u00e9 <&>","n":9007199254740993}"#;

/// What came back to the client.
struct Answered {
    status: u16,
    body: Bytes,
    trailers: HeaderMap,
}

/// Sends a POST in these chunks, without announcing its length, and these trailers behind them.
async fn post_in_chunks(
    envoy: &Envoy,
    protocol: Protocol,
    chunks: Vec<Bytes>,
    trailers: HeaderMap,
) -> Answered {
    let address = envoy.http().strip_prefix("http://").unwrap().to_owned();
    let socket = hyper_util::rt::TokioIo::new(tokio::net::TcpStream::connect(&address).await.unwrap());
    let mut frames: Vec<_> = chunks.into_iter().map(Frame::data).collect();
    let announced: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
    let mut request = http::Request::post(envoy.http()).header("te", "trailers");
    if !announced.is_empty() {
        request = request.header("trailer", announced.join(","));
        frames.push(Frame::trailers(trailers));
    }
    let body = StreamBody::new(tokio_stream::iter(frames.into_iter().map(Ok::<_, std::io::Error>)));
    let mut connections = tokio::task::JoinSet::new();
    let answer = match protocol {
        Protocol::Http1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(socket).await.unwrap();
            connections.spawn(connection);
            sender.send_request(request.header("host", address).body(body).unwrap()).await.unwrap()
        }
        Protocol::Http2 => {
            let executor = hyper_util::rt::TokioExecutor::new();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(executor, socket).await.unwrap();
            connections.spawn(connection);
            sender.send_request(request.body(body).unwrap()).await.unwrap()
        }
    };
    let status = answer.status().as_u16();
    let whole = answer.into_body().collect().await.unwrap();
    let trailers = whole.trailers().cloned().unwrap_or_default();
    Answered { status, body: whole.to_bytes(), trailers }
}

/// The sum of a family's series, whatever their labels.
async fn sum(epp: &Epp, family: &str) -> f64 {
    let page = epp.get("/metrics").await;
    let values = page.lines().filter(|line| line.starts_with(&format!("{family}{{")));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Every response mode with this request mode.
async fn every_mix_with(request_body: BodyMode) {
    let upstreams = [Upstream::start(Answer::Echo), Upstream::start(Answer::Echo)];
    let members: Vec<SocketAddr> = upstreams.iter().map(Upstream::addr).collect();
    let epp = Epp::start(&members).await;
    let events = vec!["1".to_owned(), r#"{"usage":{"prompt_tokens":7}}"#.to_owned()];
    let stream = events.iter().fold(String::new(), |whole, event| whole + "data: " + event + "\n\n");
    let long = Bytes::from(format!(r#"{{"model":"m","prompt":"{}"}}"#, "0123456789".repeat(300_000)));
    let small = Bytes::from_static(BODY.as_bytes());
    let mut n_with_body = 0.0;
    for response_body in MODES {
        let setup = EnvoySetup { request_body, response_body, ..EnvoySetup::new(epp.ext_proc) };
        let envoy = Envoy::start(EnvoySetup { buffer_limit: Some(8 << 20), ..setup }).await;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let case = format!("{request_body:?} {response_body:?} {protocol:?}");
            for upstream in &upstreams {
                upstream.answer(Answer::Echo);
            }
            for body in [&small, &long, &Bytes::new()] {
                let before = upstreams.each_ref().map(|upstream| upstream.received().len());
                let post = client(protocol).post(envoy.http()).body(body.clone()).send().await.unwrap();
                assert_eq!(post.status(), 200, "{case}: {}", envoy.access_log());
                assert_eq!(post.headers()["x-went-into-resp-headers"], "true", "{case}");
                assert!(post.bytes().await.unwrap() == body, "{case}: the answer differs");
                let at = (0..2).find(|&at| upstreams[at].received().len() > before[at]).expect(&case);
                let received = upstreams[at].received().pop().unwrap();
                assert!(received.body.as_ref() == Some(body), "{case}: the request differs");
                assert_eq!(
                    received.headers["x-gateway-destination-endpoint"],
                    members[at].to_string(),
                    "{case}"
                );
                n_with_body += if body.is_empty() { 0.0 } else { 1.0 };
            }
            let pieces = small.chunks(7).map(Bytes::copy_from_slice).collect();
            let chunked = post_in_chunks(&envoy, protocol, pieces, HeaderMap::new()).await;
            assert!((chunked.status, &chunked.body) == (200, &small), "{case}: in chunks");
            for upstream in &upstreams {
                upstream.answer(Answer::Sse { events: events.clone(), then: AfterEvents::End });
            }
            let streamed = client(protocol).post(envoy.http()).body(BODY).send().await.unwrap();
            assert_eq!(streamed.text().await.unwrap(), stream, "{case}");
            n_with_body += 2.0;
        }
        envoy.assert_clean().await;
    }
    epp.wait_until_idle().await;
    let seen = !matches!(request_body, BodyMode::Streamed | BodyMode::None);
    let model = if seen { "m" } else { "" };
    let total =
        format!("inference_model_request_total{{model_name=\"{model}\",target_model_name=\"{model}\"}}");
    assert_eq!(epp.metric(&total).await, Some(n_with_body), "{request_body:?}");
    let completed = sum(&epp, "inference_model_request_duration_seconds_count").await;
    assert!(
        (completed - n_with_body).abs() < 0.5,
        "{request_body:?}: {completed} of {n_with_body} are complete"
    );
}

#[tokio::test]
async fn duplex_requests_mix_with_every_response_mode() {
    every_mix_with(BodyMode::Duplex).await;
}

#[tokio::test]
async fn buffered_requests_mix_with_every_response_mode() {
    every_mix_with(BodyMode::Buffered).await;
}

#[tokio::test]
async fn partly_buffered_requests_mix_with_every_response_mode() {
    every_mix_with(BodyMode::Partial).await;
}

#[tokio::test]
async fn streamed_requests_mix_with_every_response_mode() {
    every_mix_with(BodyMode::Streamed).await;
}

#[tokio::test]
async fn requests_streamed_ahead_mix_with_every_response_mode() {
    every_mix_with(BodyMode::Ahead).await;
}

#[tokio::test]
async fn unseen_requests_mix_with_every_response_mode() {
    every_mix_with(BodyMode::None).await;
}

#[tokio::test]
async fn trailers_pass_in_every_mode_and_version_of_http() {
    let upstream = Upstream::start(Answer::Grpc);
    let epp = Epp::start(&[upstream.addr()]).await;
    let mut sent = HeaderMap::new();
    sent.insert("x-checksum", "1".parse().unwrap());
    // Streamed ahead, Envoy holds trailers back until the chunks are answered: the pick has to lose patience.
    for mode in MODES.into_iter().chain([BodyMode::Ahead]) {
        for (trailers, upstream_speaks) in
            [(true, Protocol::Http1), (true, Protocol::Http2), (false, Protocol::Http2)]
        {
            // With retries, Envoy 1.40 sends a duplex body that ends by trailers twice (docs/envoy.md).
            let setup = EnvoySetup { trailers, retries: false, ..EnvoySetup::new(epp.ext_proc) };
            let setup = EnvoySetup { request_body: mode, response_body: mode, ..setup };
            let envoy = Envoy::start(EnvoySetup { upstream: upstream_speaks, ..setup }).await;
            for trailers_of_request in [HeaderMap::new(), sent.clone()] {
                let case = format!("{mode:?} {upstream_speaks:?} sent {trailers}, {trailers_of_request:?}");
                let chunks = vec![Bytes::from_static(BODY.as_bytes())];
                let answer =
                    post_in_chunks(&envoy, upstream_speaks, chunks, trailers_of_request.clone()).await;
                assert!((answer.status, &*answer.body) == (200, BODY.as_bytes()), "{case}");
                let status = answer.trailers.get("grpc-status").map(|status| status.to_str().unwrap());
                assert_eq!(status, Some("0"), "{case}: {:?}", answer.trailers);
                let received = upstream.received().pop().unwrap();
                assert_eq!(received.body.as_deref(), Some(BODY.as_bytes()), "{case}");
                assert_eq!(received.trailers, trailers_of_request, "{case}");
            }
            envoy.assert_clean().await;
        }
    }
    epp.wait_until_idle().await;
}

/// A body that is not seen is scheduled nevertheless, and counts at its endpoint until its answer ends.
#[tokio::test]
async fn unseen_requests_are_scheduled_by_load() {
    let upstreams = [Upstream::start(Answer::Hang), Upstream::start(Answer::Hang)];
    let epp = Epp::start(&upstreams.each_ref().map(Upstream::addr)).await;
    eventually("both servers were found to have no metrics", async || {
        let scraped = epp.metric("epp_scrape_total{result=\"no_metrics\"}").await?;
        (scraped >= 6.0).then_some(())
    })
    .await;
    for request_body in [BodyMode::None, BodyMode::Streamed] {
        let setup = EnvoySetup { request_body, ..EnvoySetup::new(epp.ext_proc) };
        let envoy = Envoy::start(EnvoySetup { response_body: BodyMode::None, ..setup }).await;
        let before = upstreams.each_ref().map(|upstream| upstream.received().len());
        let mut asked = tokio::task::JoinSet::new();
        for n in 1..=8 {
            asked.spawn(client(Protocol::Http1).post(envoy.http()).body(BODY).send());
            eventually("the request arrived", async || {
                let arrived = upstreams.iter().zip(before).map(|(u, before)| u.received().len() - before);
                (arrived.sum::<usize>() == n).then_some(())
            })
            .await;
        }
        for (upstream, before) in upstreams.iter().zip(before) {
            assert_eq!(
                upstream.received().len() - before,
                4,
                "{request_body:?}: spread by what is in flight"
            );
        }
        let running = epp.metric("inference_model_running_requests{model_name=\"\"}").await;
        assert_eq!(running, Some(8.0), "{request_body:?}");
        drop(asked);
        epp.wait_until_idle().await;
    }
}

/// Whoever sends the response trailers keeps the stream, so that what is in flight is known to the answer's end.
#[tokio::test]
async fn an_unseen_answer_counts_until_its_end_if_trailers_are_sent() {
    let hold = Answer::Sse { events: vec!["1".to_owned()], then: AfterEvents::Hold };
    let upstream = Upstream::start(hold);
    let epp = Epp::start(&[upstream.addr()]).await;
    for (trailers, running) in [(true, 1.0), (false, 0.0)] {
        let setup = EnvoySetup { response_body: BodyMode::None, trailers, ..EnvoySetup::new(epp.ext_proc) };
        let envoy = Envoy::start(setup).await;
        let mut answer = client(Protocol::Http1).post(envoy.http()).body(BODY).send().await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: 1\n\n");
        eventually("Envoy kept the stream, or closed it", async || {
            let page = epp.metric("inference_model_running_requests{model_name=\"m\"}").await;
            (page == Some(running)).then_some(())
        })
        .await;
        drop(answer);
        epp.wait_until_idle().await;
        envoy.assert_clean().await;
    }
}

/// The model is replaced wherever it is seen, also when the rest of the body is not.
#[tokio::test]
async fn the_model_is_rewritten_where_it_is_seen() {
    let upstream = Upstream::start(Answer::Echo);
    let epp = Epp::start(&[upstream.addr()]).await;
    let prompt = "0123456789".repeat(300_000);
    let long = format!(r#"{{"model":"m","prompt":"{prompt}"}}"#);
    let model_last = format!(r#"{{"prompt":"{prompt}","model":"m"}}"#);
    for (request_body, body, rewritten) in [
        (BodyMode::Partial, BODY, true),
        (BodyMode::Partial, long.as_str(), true),
        (BodyMode::Ahead, BODY, true),
        (BodyMode::Ahead, long.as_str(), true),
        (BodyMode::Ahead, model_last.as_str(), false),
        (BodyMode::Streamed, BODY, false),
        (BodyMode::None, BODY, false),
    ] {
        let setup = EnvoySetup { request_body, ..EnvoySetup::new(epp.ext_proc) };
        let envoy = Envoy::start(setup).await;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let case = format!("{request_body:?} {protocol:?} {} bytes", body.len());
            let post = client(protocol).post(envoy.http()).header("x-gateway-model-name-rewrite", "tuned");
            let answer = post.body(body.to_owned()).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{case}");
            let want = if rewritten { body.replacen(r#""m""#, r#""tuned""#, 1) } else { body.to_owned() };
            assert!(answer.text().await.unwrap() == want, "{case}");
        }
        envoy.assert_clean().await;
    }
    epp.wait_until_idle().await;
}

/// A body that is announced and does not come, and trailers that Envoy hides: the pick never comes either, and the
/// client must not be able to name the server instead.
#[tokio::test]
async fn a_client_names_no_server_where_the_body_does_not_come() {
    let (member, elsewhere) = (Upstream::start(Answer::Echo), Upstream::start(Answer::Echo));
    let epp = Epp::start(&[member.addr()]).await;
    for mode in MODES {
        let setup = EnvoySetup { trailers: false, ..EnvoySetup::new(epp.ext_proc) };
        let envoy = Envoy::start(EnvoySetup { request_body: mode, response_body: mode, ..setup }).await;
        let address = envoy.http().strip_prefix("http://").unwrap().to_owned();
        let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: a\r\n{DESTINATION}: {}\r\nconnection: close\r\n\
             transfer-encoding: chunked\r\ntrailer: x-a\r\n\r\n0\r\nx-a: 1\r\n\r\n",
            elsewhere.addr()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 "), "{mode:?}: {answer}");
        assert!(elsewhere.received().is_empty(), "{mode:?}: {answer}");
    }
}

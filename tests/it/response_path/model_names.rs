//! `--rewrite-response-model` through a real Envoy: the client sees its own model's name, in a body of the right length.

use reqwest::header::CONTENT_LENGTH;

use super::{EVENTS, JSON, answer, ended, in_chunks};
use crate::support::envoy::Envoy;
use crate::support::envoy_config::{BodyMode, EnvoySetup};
use crate::support::epp::{Epp, EppSetup};
use crate::support::raw_upstream::{RawUpstream, Script};
use crate::support::{Protocol, client, eventually};

const TARGET: &str = "vllm-backend-01-of-many";
const CLIENT: &str = "m";

async fn mapping(upstream: &RawUpstream, args: &[&str]) -> Epp {
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    Epp::with(EppSetup { args, ..EppSetup::new(&[upstream.addr()]) }).await
}

fn post(envoy: &Envoy, protocol: Protocol) -> reqwest::RequestBuilder {
    let body = format!(r#"{{"model":"{CLIENT}","prompt":"p"}}"#);
    client(protocol).post(envoy.http()).header("x-gateway-model-name-rewrite", TARGET).body(body)
}

#[tokio::test]
async fn the_client_sees_its_own_name_in_every_mode() {
    let upstream = RawUpstream::start(Script::default());
    let mapping_epp = mapping(&upstream, &["--rewrite-response-model"]).await;
    let plain_epp = mapping(&upstream, &[]).await;
    let json = format!(r#"{{"id":"1","model": "{TARGET}","choices":[{{"text":"\"model\":\"{TARGET}\""}}]}}"#);
    let mapped_json = json.replacen(TARGET, CLIENT, 1);
    let event = format!("data: {{\"model\":\"{TARGET}\",\"choices\":[{{\"text\":\"a\"}}]}}\n\n");
    let stream = [event.as_str(), &event, "data: [DONE]\n\n"];
    let mapped_stream = stream.concat().replace(TARGET, CLIENT);
    for (epp, is_mapped) in [(&mapping_epp, true), (&plain_epp, false)] {
        for mode in
            [BodyMode::Duplex, BodyMode::Buffered, BodyMode::Partial, BodyMode::Streamed, BodyMode::None]
        {
            let envoy =
                Envoy::start(EnvoySetup { response_body: mode, ..EnvoySetup::new(epp.ext_proc) }).await;
            for (name, says, plain, mapped) in [
                ("JSON", answer(JSON, json.as_bytes()), &json, &mapped_json),
                ("JSON in chunks", in_chunks(JSON, &[&json], ""), &json, &mapped_json),
                ("JSON, trailers", in_chunks(JSON, &[&json], "x-a: 1\r\n"), &json, &mapped_json),
                ("events", in_chunks(EVENTS, &stream, ""), &stream.concat(), &mapped_stream),
                (
                    "events, trailers",
                    in_chunks(EVENTS, &stream, "x-a: 1\r\n"),
                    &stream.concat(),
                    &mapped_stream,
                ),
            ] {
                upstream.says(Script::answer(says));
                for protocol in [Protocol::Http1, Protocol::Http2] {
                    let case = format!("{name} {mode:?} {protocol:?}, mapped: {is_mapped}");
                    let got = post(&envoy, protocol).send().await.expect(&case);
                    assert_eq!(got.status(), 200, "{case}: {}", envoy.access_log());
                    let told = got.headers().get(CONTENT_LENGTH).cloned();
                    let body = got.text().await.unwrap_or_else(|error| panic!("{case}: {error}"));
                    let want = if is_mapped && mode != BodyMode::None { mapped } else { plain };
                    assert_eq!(&body, want, "{case}");
                    if let Some(told) = told {
                        assert_eq!(told.to_str().unwrap(), body.len().to_string(), "{case}");
                    }
                }
            }
            envoy.assert_clean().await;
        }
        epp.wait_until_idle().await;
    }
    let (head, _) = upstream.received().pop().expect("requests came");
    assert!(head.contains("x-gateway-destination-endpoint"), "{head}");
}

/// The client has the beginning before the rest is there; the name is cut in the middle.
#[tokio::test]
async fn a_name_that_is_cut_in_two_is_mapped_when_it_is_whole() {
    let event = format!("data: {{\"model\":\"{TARGET}\",\"choices\":[{{\"text\":\"a\"}}]}}\n\n");
    let last = "data: [DONE]\n\n";
    let (first, second) = event.split_at(event.find(TARGET).expect("it is there") + 5);
    let head = format!("HTTP/1.1 {EVENTS}\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let rest = chunk(second) + &chunk(last) + "0\r\n\r\n";
    let pieces = vec![(head + &chunk(first)).into_bytes(), rest.into_bytes()];
    let upstream = RawUpstream::start(Script { at_once: Vec::new(), pieces });
    let epp = mapping(&upstream, &["--rewrite-response-model"]).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        upstream.release(1);
        let mut got = post(&envoy, protocol).send().await.unwrap();
        let begun = got.chunk().await.unwrap().expect("the beginning goes on");
        assert_eq!(begun, "data: {\"model\":\"", "{protocol:?}: the name waits until it is whole");
        upstream.release(2);
        let rest = got.text().await.unwrap();
        let want = event.replace(TARGET, CLIENT) + last;
        assert_eq!(String::from_utf8_lossy(&begun).into_owned() + &rest, want, "{protocol:?}");
    }
    epp.wait_until_idle().await;
    envoy.assert_clean().await;
}

/// What was held back reaches the client also when nothing follows.
#[tokio::test]
async fn a_name_that_stays_cut_goes_on_as_it_is() {
    let event = format!("data: {{\"model\":\"{}", &TARGET[..5]);
    let upstream = RawUpstream::start(Script::default());
    let epp = mapping(&upstream, &["--rewrite-response-model"]).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    for trailers in ["", "x-a: 1\r\n"] {
        upstream.says(Script::answer(in_chunks(EVENTS, &[&event], trailers)));
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let got = post(&envoy, protocol).send().await.unwrap();
            assert_eq!(got.text().await.unwrap(), event, "{protocol:?} {trailers:?}");
        }
    }
    epp.wait_until_idle().await;
    envoy.assert_clean().await;
    eventually("all four are counted", async || {
        let labels = format!("model_name=\"{CLIENT}\",outcome=\"truncated\",target_model_name=\"{TARGET}\"");
        let truncated = epp.metric(&format!("epp_answers_total{{{labels}}}")).await?;
        (truncated > 3.5).then_some(())
    })
    .await;
    assert!(ended(&epp, "truncated").await < 0.5, "they are counted by their target");
}

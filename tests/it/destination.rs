//! The names under which the gateway is told where a request goes, if they are others than usual: what v0.5.1's flags
//! `-destinationEndpointHintKey` and `-DestinationEndpointHintMetadataNamespace` ask for.

use std::collections::HashMap;

use envoy_types::pb::envoy::service::ext_proc::v3::{
    CommonResponse, HeadersResponse, ProcessingResponse, processing_response::Response,
};
use envoy_types::pb::google::protobuf::{Value, value::Kind};
use epp::ext_proc::Options;
use epp::ext_proc::destination::{DESTINATION, DestinationHint};

use crate::support::envoy::Envoy;
use crate::support::envoy_config::{BodyMode, EnvoySetup, Pool};
use crate::support::epp::{Epp, EppSetup};
use crate::support::hermetic::{Hermetic, request_body, request_headers};
use crate::support::upstream::{Answer, Upstream};
use crate::support::{Protocol, client, eventually};

const BODY: &str = r#"{"model":"m","prompt":"p"}"#;

/// A name that begins like those of headers that are removed.
const LIKE_CONTROL: &str = "x-gateway-destination-endpoint-v2";

fn common(answer: ProcessingResponse) -> CommonResponse {
    match answer.response {
        Some(Response::RequestHeaders(HeadersResponse { response: Some(common) })) => common,
        other => panic!("{other:?}"),
    }
}

fn structure(value: Option<&Value>) -> HashMap<String, Value> {
    match value.and_then(|value| value.kind.clone()) {
        Some(Kind::StructValue(of)) => of.fields,
        other => panic!("{other:?}"),
    }
}

/// The specification of v0.5.1, section 7.2, the rows of the two flags.
#[tokio::test]
async fn header_and_metadata_have_the_names_that_were_asked_for() {
    let client_sent = [
        (DESTINATION, "1.1.1.1:1"),
        ("X-Mine", "1.1.1.1:2"),
        (LIKE_CONTROL, "1.1.1.1:3"),
        ("x-prefiller-host-port", "1.1.1.1:4"),
    ];
    for (key, namespace, removed) in [
        (DESTINATION, "my.lb", &[LIKE_CONTROL, "x-prefiller-host-port"][..]),
        ("x-mine", "envoy.lb", &[LIKE_CONTROL, "x-prefiller-host-port", DESTINATION]),
        ("x-mine", "", &[LIKE_CONTROL, "x-prefiller-host-port", DESTINATION]),
        (LIKE_CONTROL, "my.lb", &["x-prefiller-host-port", DESTINATION]),
    ] {
        let hint = DestinationHint::new(key, namespace).expect(key);
        let options = |_: &prometheus::Registry| Options { hint, ..Options::default() };
        let epp = Hermetic::with_options(&[(0, 0.1, "")], false, options).await;
        for bodiless in [false, true] {
            let case = format!("{key} in {namespace:?}, without a body: {bodiless}");
            let mut messages = vec![request_headers(&client_sent, bodiless)];
            messages.extend((!bodiless).then(|| request_body(BODY, true)));
            let (mut answers, end) = epp.exchange(messages).await;
            assert!(end.is_ok(), "{case}: {end:?}");
            let answer = answers.remove(0);
            let fields = answer.dynamic_metadata.clone().expect(&case).fields;
            let told = if namespace.is_empty() { fields } else { structure(fields.get(namespace)) };
            let destination = Kind::StringValue("192.168.1.1:8000".to_owned());
            assert_eq!(told, [(key.to_owned(), Value { kind: Some(destination) })].into(), "{case}");
            let mutation = common(answer).header_mutation.expect(&case);
            assert_eq!(mutation.remove_headers, removed, "{case}");
            let set: HashMap<_, _> = mutation
                .set_headers
                .into_iter()
                .filter_map(|set| set.header)
                .map(|h| (h.key, h.raw_value))
                .collect();
            assert_eq!(set.get(key).map(Vec::as_slice), Some(&b"192.168.1.1:8000"[..]), "{case}: {set:?}");
            assert!(removed.iter().all(|name| !set.contains_key(*name)), "{case}: {set:?}");
        }
    }
}

async fn epp(upstream: &Upstream, key: &str, namespace: &str) -> Epp {
    let args = ["-destinationEndpointHintKey", key, "-DestinationEndpointHintMetadataNamespace", namespace];
    let args = args.map(str::to_owned).to_vec();
    Epp::with(EppSetup { args, ..EppSetup::new(&[upstream.addr()]) }).await
}

#[tokio::test]
async fn envoy_follows_them() {
    let (upstream, elsewhere) = (Upstream::start(Answer::Echo), Upstream::start(Answer::Echo));
    let epp = epp(&upstream, "x-mine", "my.lb").await;
    let picked = upstream.addr().to_string();
    for pool in [Pool::OriginalDstHeader, Pool::OverrideHost(vec![elsewhere.addr(), upstream.addr()])] {
        for mode in [BodyMode::Duplex, BodyMode::Buffered] {
            let case = format!("{pool:?} {mode:?}");
            let setup =
                EnvoySetup { hint_key: "x-mine", hint_namespace: "my.lb", ..EnvoySetup::new(epp.ext_proc) };
            let envoy = Envoy::start(EnvoySetup { pool: pool.clone(), request_body: mode, ..setup }).await;
            let mut post = client(Protocol::Http1).post(envoy.http());
            for name in ["x-mine", "x-mine", DESTINATION] {
                post = post.header(name, elsewhere.addr().to_string());
            }
            let answer = post.body(BODY).send().await.expect(&case);
            assert_eq!(answer.status(), 200, "{case}");
            assert_eq!(answer.text().await.expect(&case), BODY, "{case}");
            let received = upstream.received().pop().expect(&case);
            let told: Vec<_> = received.headers.get_all("x-mine").iter().collect();
            assert_eq!(told, [picked.as_str()], "{case}");
            assert!(!received.headers.contains_key(DESTINATION), "{case}");
            let metadata = format!(r#"metadata={{"x-mine":"{picked}"}}"#);
            eventually(&metadata, async || envoy.access_log().contains(&metadata).then_some(())).await;
            envoy.assert_clean().await;
        }
    }
    assert_eq!((upstream.received().len(), elsewhere.received().len()), (4, 0), "clients choose no server");
    assert!(epp.log().contains("gateways of v1.0.1 and later expect"), "{}", epp.log());
}

/// Envoy takes structures as metadata; the key at the top is none, and does no harm.
#[tokio::test]
async fn without_a_namespace_envoy_follows_the_header() {
    let upstream = Upstream::start(Answer::Echo);
    let epp = epp(&upstream, "x-mine", "").await;
    for pool in [Pool::OriginalDstHeader, Pool::OverrideHost(vec![upstream.addr()])] {
        let setup =
            EnvoySetup { hint_key: "x-mine", hint_namespace: "x-mine", ..EnvoySetup::new(epp.ext_proc) };
        let envoy = Envoy::start(EnvoySetup { pool, ..setup }).await;
        let answer =
            client(Protocol::Http1).post(envoy.http()).body(BODY).send().await.expect("Envoy answers");
        assert_eq!(answer.text().await.expect("the body is text"), BODY);
        let line =
            eventually("the log line", async || Some(envoy.access_log()).filter(|l| !l.is_empty())).await;
        assert!(line.contains(&format!("picked={}", upstream.addr())), "{line}");
        assert!(line.contains("metadata=-") || line.contains("metadata={}"), "{line}");
        envoy.assert_clean().await;
    }
}

/// Why such a name is warned of.
#[tokio::test]
async fn envoy_ignores_a_picker_that_sets_its_own_headers() {
    const KEY: &str = "x-envoy-original-dst-host";
    let (upstream, elsewhere) = (Upstream::start(Answer::Echo), Upstream::start(Answer::Echo));
    let epp = epp(&upstream, KEY, "my.lb").await;
    assert!(epp.log().contains("allow_envoy"), "{}", epp.log());
    let envoy = Envoy::start(EnvoySetup { hint_key: KEY, ..EnvoySetup::new(epp.ext_proc) }).await;
    let answer = client(Protocol::Http1).post(envoy.http()).body(BODY).send().await.expect("Envoy answers");
    assert_eq!(answer.status(), 503);
    assert!(envoy.stat("http.it.ext_proc.rejected_header_mutations").await > 0);
    let post = client(Protocol::Http1).post(envoy.http()).header(KEY, elsewhere.addr().to_string());
    let answer = post.body(BODY).send().await.expect("Envoy answers");
    assert_eq!(answer.status(), 200);
    assert_eq!((upstream.received().len(), elsewhere.received().len()), (0, 1), "the client chose");
}

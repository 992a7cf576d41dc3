//! The headers that name workers, as they reach the server in every body mode, whatever the client sent.

use serde_json::json;

use crate::support::envoy::Envoy;
use crate::support::envoy_config::{BodyMode, EnvoySetup, Pool};
use crate::support::epp::{Epp, EppSetup};
use crate::support::upstream::{Answer, Received, Upstream};
use crate::support::{Protocol, client, eventually};

use super::{E_P_D, PD};

const E_PD: &str = include_str!("../fixtures/config/compositions/sim-e-pd-epp-config.yaml");
const DP: &str = include_str!("../fixtures/config/compositions/dp-epp-config.yaml");

const PREFILLER: &str = "x-prefiller-host-port";
const ENCODERS: &str = "x-encoder-hosts-ports";
const RANK: &str = "x-data-parallel-host-port";

const MODES: [BodyMode; 6] = [
    BodyMode::Duplex,
    BodyMode::Buffered,
    BodyMode::Partial,
    BodyMode::Streamed,
    BodyMode::Ahead,
    BodyMode::None,
];

/// Sends a chat with an image, and with headers that only the picker may set, each twice.
async fn send(envoy: &Envoy) {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "What do you see there? ".repeat(20)},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]}]});
    let mut post = client(Protocol::Http1).post(format!("{}/v1/chat/completions", envoy.http()));
    for name in [PREFILLER, ENCODERS, RANK].into_iter().flat_map(|name| [name, name]) {
        post = post.header(name, "6.6.6.6:6");
    }
    let answer = post.header("content-type", "application/json").body(body.to_string()).send().await;
    assert_eq!(answer.expect("Envoy answers").status(), 200);
}

/// Sends requests until one finds this many servers to choose among: none is chosen while it is not known whether it has
/// metrics, and another one is.
async fn known(epp: &Epp, envoy: &Envoy, n: u64) {
    eventually("all servers are known", async || {
        let post = client(Protocol::Http1).post(format!("{}/v1/completions", envoy.http()));
        post.body(r#"{"model":"m","prompt":"Hi"}"#).send().await.expect("Envoy answers");
        (epp.decisions().await[0]["eligible"] == n).then_some(())
    })
    .await;
}

fn values(received: &Received, name: &str) -> Vec<String> {
    received.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

async fn start(config: &str, servers: &[Upstream], roles: &[&'static str]) -> Epp {
    let endpoints: Vec<_> = servers.iter().map(Upstream::addr).collect();
    let (config, roles) = (config.to_owned(), roles.to_vec());
    Epp::with(EppSetup { roles, config, ..EppSetup::new(&endpoints) }).await
}

/// Rows D15, D16 and D18. Where the body is not seen, nobody can tell that it holds an image.
#[tokio::test]
async fn d15_d16_d18_workers_are_named_by_the_picker_alone() {
    let encode_both = |config: &str| {
        let picker = "- type: max-score-picker\n- {type: random-picker, name: two, parameters: {maxNumOfEndpoints: 2}}\n";
        let config = config.replacen("plugins:\n", &format!("plugins:\n{picker}"), 1);
        config.replace("  - pluginRef: encode-filter\n", "  - pluginRef: encode-filter\n  - pluginRef: two\n")
    };
    let always = "- type: disagg-profile-handler\n  parameters: {deciders: {prefill: always}}\n\
                  - {type: always-disagg-pd-decider, name: always}\n";
    let (head, rest) = PD.split_once("- type: disagg-profile-handler").expect("it has a handler");
    let profiles = rest.split_once("schedulingProfiles:").expect("it has profiles").1;
    let always = format!("{head}{always}schedulingProfiles:{profiles}");
    let servers = Upstream::pods(4, &Answer::Echo);
    let at: Vec<_> = servers.iter().map(|server| server.addr().to_string()).collect();
    for (name, config, prefills, encodes) in [
        ("always", always, true, false),
        ("e-p-d", encode_both(E_P_D), true, true),
        ("e-pd", encode_both(E_PD), false, true),
    ] {
        for mode in MODES {
            let case = format!("{name} {mode:?}");
            // A picker of its own: what the decode worker was sent before, it would hold.
            let epp = start(&config, &servers, &["decode", "prefill", "encode", "encode"]).await;
            let envoy =
                Envoy::start(EnvoySetup { request_body: mode, ..EnvoySetup::new(epp.ext_proc) }).await;
            known(&epp, &envoy, 4).await;
            let n_before = servers[0].received().len();
            send(&envoy).await;
            let received = servers[0].wait_for(n_before + 1).await.pop().expect(&case);
            let sees_body = !matches!(mode, BodyMode::Streamed | BodyMode::None);
            let want: &[_] = if prefills { &at[1..2] } else { &[] };
            assert_eq!(values(&received, PREFILLER), want, "D15, D16: {case}");
            let encoders = values(&received, ENCODERS);
            if encodes && sees_body {
                let [list] = &encoders[..] else { panic!("D18: {case}: {encoders:?}") };
                let mut list: Vec<_> = list.split(',').collect();
                list.sort_unstable();
                assert_eq!(list, &at[2..], "D18: {case}");
            } else {
                assert!(encoders.is_empty(), "D15: {case}: {encoders:?}");
            }
            assert!(values(&received, RANK).is_empty(), "D15: {case}");
            let told =
                format!(r#"picked={} metadata={{"x-gateway-destination-endpoint":"{}"}}"#, at[0], at[0]);
            eventually(&case, async || envoy.access_log().contains(&told).then_some(())).await;
            epp.wait_until_idle().await;
            envoy.assert_clean().await;
        }
    }
    assert!(
        servers[1..].iter().all(|server| server.received().is_empty()),
        "the gateway asks the decode worker only"
    );
}

/// Row D22: header and metadata have the one port, the server's side is told the rank.
#[tokio::test]
async fn d22_all_ranks_are_reached_at_one_port() {
    let (primary, ranks) =
        (Upstream::start(Answer::Echo), [Upstream::start(Answer::Echo), Upstream::start(Answer::Echo)]);
    let config = DP.replace("primaryPort: 8000", &format!("primaryPort: {}", primary.addr().port()));
    let epp = start(&config, &ranks, &[]).await;
    assert!(epp.log().contains("`data-parallel-profile-handler` is deprecated"), "{}", epp.log());
    let names: Vec<_> = ranks.iter().map(|rank| rank.addr().to_string()).collect();
    for (n, mode) in MODES.into_iter().enumerate() {
        for pool in [Pool::OriginalDstHeader, Pool::OverrideHost(vec![primary.addr()])] {
            let case = format!("{mode:?} {pool:?}");
            let setup = EnvoySetup { request_body: mode, pool, ..EnvoySetup::new(epp.ext_proc) };
            let envoy = Envoy::start(setup).await;
            send(&envoy).await;
            let received = primary.wait_for(2 * n + 1).await.pop().expect(&case);
            let [rank] = &values(&received, RANK)[..] else { panic!("D22: {case}: {:?}", received.headers) };
            assert!(names.contains(rank), "D22: {case}: {rank}");
            assert!(
                values(&received, PREFILLER).is_empty() && values(&received, ENCODERS).is_empty(),
                "{case}"
            );
            let at = primary.addr();
            // Behind it Envoy may say who served the request.
            let told = format!(r#"picked={at} metadata={{"x-gateway-destination-endpoint":"{at}""#);
            eventually(&case, async || envoy.access_log().contains(&told).then_some(())).await;
        }
    }
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    let n_before = primary.received().len();
    let get = client(Protocol::Http1).get(format!("{}/v1/models", envoy.http())).header(RANK, "6.6.6.6:6");
    assert_eq!(get.header(PREFILLER, "6.6.6.6:6").send().await.expect("Envoy answers").status(), 200);
    let received = primary.wait_for(n_before + 1).await.pop().expect("without a body");
    let [rank] = &values(&received, RANK)[..] else { panic!("without a body: {:?}", received.headers) };
    assert!(names.contains(rank) && values(&received, PREFILLER).is_empty(), "{:?}", received.headers);
    assert!(ranks.iter().all(|rank| rank.received().is_empty()));
}

/// A request may name its profile, and is told which there are.
#[tokio::test]
async fn a_header_chooses_the_profile() {
    let config = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: header-profile-handler\n\
                  - type: decode-filter\n- type: prefill-filter\nschedulingProfiles:\n\
                  - {name: decode, plugins: [{pluginRef: decode-filter}]}\n\
                  - {name: batch, plugins: [{pluginRef: prefill-filter}]}\n";
    let servers = Upstream::pods(2, &Answer::Echo);
    let epp = start(config, &servers, &["decode", "prefill"]).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    known(&epp, &envoy, 2).await;
    for (profile, want) in
        [(None, Ok(0)), (Some("batch"), Ok(1)), (Some("decode"), Ok(0)), (Some("secret"), Err(429))]
    {
        let mut post = client(Protocol::Http1).post(envoy.http());
        if let Some(profile) = profile {
            post = post.header("EPP-Profile", profile);
        }
        let before: Vec<_> = servers.iter().map(|server| server.received().len()).collect();
        let answer = post.body(r#"{"model":"m","prompt":"p"}"#).send().await.expect("Envoy answers");
        match want {
            Ok(at) => {
                assert_eq!((answer.status().as_u16(), servers[at].received().len()), (200, before[at] + 1));
            }
            Err(status) => {
                assert_eq!(answer.status().as_u16(), status);
                let text = answer.text().await.expect("a page");
                let told = "the header \"epp-profile\" names no profile, expected one of: decode, batch";
                assert!(text.ends_with(told), "{text}");
            }
        }
    }
    let split = epp.get("/metrics").await;
    assert!(!split.contains("epp_disagg"), "nothing is split here");
}

//! Requests that are split among decode, prefill and encode workers, through a real Envoy: rows of the plugin
//! specification, 2.4 and D13 to D22, with the compositions of its section 6.

mod headers;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use epp::sim::server::{SimConfig, SimServer};
use serde_json::{Value, json};

use crate::support::envoy::Envoy;
use crate::support::envoy_config::EnvoySetup;
use crate::support::epp::{Epp, EppSetup, with_roles};
use crate::support::{Protocol, client, eventually};

const PD: &str = include_str!("fixtures/config/compositions/pd-epp-config.yaml");
const SIM_PD: &str = include_str!("fixtures/config/compositions/sim-pd-epp-config.yaml");
const E_P_D: &str = include_str!("fixtures/config/compositions/sim-e-p-d-epp-config.yaml");

/// Simulated servers of these roles, named by role and number, and `epp` behind Envoy.
struct Stage {
    servers: Vec<(&'static str, SimServer)>,
    epp: Epp,
    envoy: Envoy,
}

impl Stage {
    async fn start(config: &str, roles: &[&'static str], ip: IpAddr) -> Self {
        let mut servers = Vec::new();
        for (n, &role) in roles.iter().enumerate() {
            let listen = SocketAddr::new(ip, 0);
            let config = SimConfig { name: format!("{role}-{n}"), listen, ..SimConfig::default() };
            servers.push((role, SimServer::start(config).await.expect("a free port")));
        }
        let endpoints: Vec<_> = servers.iter().map(|(_, server)| server.addr()).collect();
        let (config, roles) = (config.to_owned(), roles.to_vec());
        let epp = Epp::with(EppSetup { roles, config, ..EppSetup::new(&endpoints) }).await;
        let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
        let stage = Self { servers, epp, envoy };
        stage.scraped().await;
        stage
    }

    async fn scraped(&self) {
        let n = self.servers.len() as f64;
        eventually("the servers are scraped", async || {
            (self.epp.metric("inference_pool_ready_pods{name=\"it\"}").await == Some(n)).then_some(())
        })
        .await;
    }

    /// Takes the servers of a role out of the pool.
    async fn remove(&mut self, role: &str) {
        self.servers.retain(|(of, _)| *of != role);
        let endpoints: Vec<_> = self.servers.iter().map(|(_, server)| server.addr()).collect();
        let roles: Vec<_> = self.servers.iter().map(|(role, _)| *role).collect();
        std::fs::write(self.epp.endpoints_file(), with_roles(&endpoints, &roles)).expect("the file is ours");
        self.scraped().await;
    }

    async fn post(&self, body: &Value) -> reqwest::Response {
        let post = client(Protocol::Http1).post(format!("{}/v1/chat/completions", self.envoy.http()));
        post.header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .expect("an answer")
    }

    /// Asks about a text; returns who answered and who computed the prompt for it.
    async fn ask(&self, text: &str) -> (String, Option<String>) {
        let body = json!({
            "model": "sim-model", "max_tokens": 3, "stream": true, "messages": [{"role": "user", "content": text}],
        });
        let answer = self.post(&body).await;
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        let name = |header| answer.headers().get(header).map(|name| name.to_str().unwrap().to_owned());
        let by = (name("x-sim-server").expect("it signs"), name("x-sim-prefiller"));
        assert!(answer.text().await.expect("the answer is whole").ends_with("[DONE]\n\n"));
        by
    }

    async fn counted(&self, series: &str) -> f64 {
        self.epp.metric(series).await.unwrap_or(0.0)
    }

    async fn decided(&self, decision_type: &str) -> f64 {
        let labels = format!("{{decision_type=\"{decision_type}\",model_name=\"sim-model\"}}");
        self.counted(&format!("epp_disagg_decisions_total{labels}")).await
    }

    async fn fallbacks(&self, stage: &str) -> f64 {
        let labels = format!("{{model_name=\"sim-model\",stage=\"{stage}\"}}");
        self.counted(&format!("epp_disagg_fallbacks_total{labels}")).await
    }
}

fn is(name: Option<&String>, role: &str) -> bool {
    name.is_some_and(|name| name.starts_with(role))
}

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const FOUR: &[&str] = &["decode", "prefill", "decode", "prefill"];

#[tokio::test]
async fn long_prompts_that_nobody_holds_are_computed_by_a_prefill_worker() {
    for (name, config) in [("pd", PD), ("sim-pd", SIM_PD)] {
        let mut stage = Stage::start(config, FOUR, LOOPBACK).await;
        let (server, prefiller) = stage.ask("Hi").await;
        assert!(is(Some(&server), "decode") && prefiller.is_none(), "{name}: short: {server} {prefiller:?}");

        let text = "Remember every word of this. ".repeat(20);
        let (home, prefiller) = stage.ask(&text).await;
        assert!(
            is(Some(&home), "decode") && is(prefiller.as_ref(), "prefill"),
            "{name}: {home} {prefiller:?}"
        );
        let decision = &stage.epp.decisions().await[0];
        let profiles: Vec<_> =
            decision["profiles"].as_array().unwrap().iter().map(|of| &of["name"]).collect();
        assert_eq!(profiles, ["decode", "prefill"], "{name}");
        let at =
            |name: &str| stage.servers.iter().find(|(_, server)| server.name() == name).unwrap().1.addr();
        assert_eq!(decision["picked"], json!([at(&home).to_string()]), "{name}");
        let companion = json!([{"role": "prefill", "address": at(prefiller.as_ref().unwrap()).to_string()}]);
        assert_eq!(decision["companions"], companion, "{name}");

        assert_eq!(stage.ask(&text).await, (home.clone(), None), "{name}: the decode worker holds it now");
        let longer = format!("{text}{}", "And of this. ".repeat(20));
        let again = stage.ask(&longer).await;
        assert_eq!(again, (home, prefiller), "{name}: both hold the beginning");
        assert_eq!((stage.decided("decode-only").await, stage.decided("prefill-decode").await), (2.0, 2.0));
        assert!(stage.fallbacks("prefill").await < 1.0, "{name}");

        stage.remove("prefill").await;
        let (server, prefiller) = stage.ask(&"Quite another text. ".repeat(20)).await;
        assert!(is(Some(&server), "decode") && prefiller.is_none(), "D14 {name}: {server} {prefiller:?}");
        assert_eq!(
            (stage.decided("decode-only").await, stage.fallbacks("prefill").await),
            (3.0, 1.0),
            "D14 {name}"
        );
        stage.epp.wait_until_idle().await;
        stage.envoy.assert_clean().await;
    }
}

#[tokio::test]
async fn d13_without_a_decode_worker_the_request_is_refused() {
    for config in [PD, E_P_D] {
        let stage = Stage::start(config, &["prefill", "encode"], LOOPBACK).await;
        let body = json!({"model": "sim-model", "messages": [{"role": "user", "content": "Hi"}]});
        let answer = stage.post(&body).await;
        assert_eq!(answer.status(), 429, "D13");
        let want = "inference gateway: InferencePoolResourceExhausted - failed to find target pod: failed to find \
                    available decode workers";
        assert_eq!(answer.text().await.unwrap(), want, "D13");
        assert!(stage.decided("decode-only").await < 1.0, "D13: nothing was decided");
        stage.epp.wait_until_idle().await;
    }
}

/// Row D17: brackets around IPv6 addresses, in the destination and in the header that the decode worker's side reads.
#[tokio::test]
async fn d17_workers_with_ipv6_addresses_find_one_another() {
    let stage = Stage::start(PD, &["decode", "prefill"], IpAddr::V6(Ipv6Addr::LOCALHOST)).await;
    let (server, prefiller) = stage.ask(&"Remember every word of this. ".repeat(20)).await;
    assert_eq!((server.as_str(), prefiller.as_deref()), ("decode-0", Some("prefill-1")), "D17");
    let decision = &stage.epp.decisions().await[0];
    let address = decision["companions"][0]["address"].as_str().unwrap();
    assert!(address.starts_with("[::1]:"), "D17: {address}");
}

#[tokio::test]
async fn with_prefill_first_every_prompt_has_a_prefill_worker() {
    let config = PD.replace(
        "    deciders:\n      prefill: prefix-based-pd-decider\n",
        "    stageOrder: prefill-first\n",
    );
    assert_ne!(config, PD);
    let mut stage = Stage::start(&config, FOUR, LOOPBACK).await;
    for text in ["Hi", "Hi", &"Remember every word of this. ".repeat(20)] {
        let (server, prefiller) = stage.ask(text).await;
        assert!(is(Some(&server), "decode") && is(prefiller.as_ref(), "prefill"), "{server} {prefiller:?}");
    }
    stage.remove("prefill").await;
    assert_eq!(stage.ask("Hi").await.1, None);
    assert_eq!((stage.decided("prefill-decode").await, stage.fallbacks("prefill").await), (3.0, 1.0));
}

/// A prefill worker that dies between scrapes: the sidecar, here the simulated server, answers by itself.
#[tokio::test]
async fn a_prefill_worker_that_does_not_answer_costs_no_request() {
    let mut stage = Stage::start(PD, &["decode", "prefill"], LOOPBACK).await;
    stage.servers.pop();
    let text = "Remember every word of this. ".repeat(20);
    assert_eq!(stage.ask(&text).await, ("decode-0".to_owned(), None));
    stage.epp.wait_until_idle().await;
}

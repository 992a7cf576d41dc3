//! `epp` behind a real Envoy with simulated vLLM servers: what their metrics and caches say steers the picks.

use std::net::SocketAddr;

use epp::sim::server::{SimConfig, SimServer};
use serde_json::{Value, json};

use crate::support::envoy::Envoy;
use crate::support::envoy_config::EnvoySetup;
use crate::support::epp::Epp;
use crate::support::{Protocol, client, eventually};

/// One simulated server per name.
async fn servers(names: &[&str], listen: &[SocketAddr]) -> Vec<SimServer> {
    let mut servers = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let mut config = SimConfig { name: (*name).to_owned(), ..SimConfig::default() };
        config.listen = listen.get(n).copied().unwrap_or(config.listen);
        config.engine.max_num_seqs = 2;
        servers.push(SimServer::start(config).await.expect("a free port"));
    }
    servers
}

async fn ready(epp: &Epp, n: f64) {
    eventually("the servers are scraped", async || {
        (epp.metric("inference_pool_ready_pods{name=\"it\"}").await == Some(n)).then_some(())
    })
    .await;
}

/// Sends a chat request; returns who answered, how many prompt tokens were cached, and the answer's text.
async fn chat(base: &str, messages: &Value, max_tokens: u32) -> (String, u64, String) {
    let body = json!({"model": "sim-model", "messages": messages, "max_tokens": max_tokens});
    let post = client(Protocol::Http1).post(format!("{base}/v1/chat/completions"));
    let answer = post.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let server = answer.headers()["x-sim-server"].to_str().unwrap().to_owned();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
    (server, cached, answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned())
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

#[tokio::test]
async fn conversations_stay_and_the_dead_are_left_out_until_they_return() {
    let mut servers = servers(&["a", "b", "c"], &[]).await;
    let members: Vec<SocketAddr> = servers.iter().map(SimServer::addr).collect();
    let epp = Epp::start(&members).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    ready(&epp, 3.0).await;

    let mut history = vec![user(&"Remember all of this. ".repeat(40))];
    let (home, cached, answer) = chat(&envoy.http(), &json!(history), 8).await;
    assert_eq!(cached, 0);
    history.push(json!({"role": "assistant", "content": answer}));
    for turn in 0..3 {
        history.push(user(&format!("Question {turn}, with some words of its own.")));
        let (server, cached, answer) = chat(&envoy.http(), &json!(history), 8).await;
        assert_eq!(server, home, "turn {turn}");
        assert!(cached > 150, "turn {turn}: {cached} tokens cached");
        history.push(json!({"role": "assistant", "content": answer}));
    }
    let prefix_score = |decision: &Value| {
        let candidates = decision["profiles"][0]["candidates"].as_array().unwrap().clone();
        candidates.into_iter().find(|c| c["picked"] == true).unwrap()["scores"][2].as_f64().unwrap()
    };
    assert!(prefix_score(&epp.decisions().await[0]) > 0.8);

    let dead = servers.iter().position(|server| server.name() == home).unwrap();
    drop(servers.remove(dead));
    ready(&epp, 2.0).await;
    history.push(user("And now?"));
    let (server, ..) = chat(&envoy.http(), &json!(history), 8).await;
    assert_ne!(server, home, "the home of the conversation is dead");

    let listen = [members[dead]];
    let _returned = self::servers(&[home.as_str()], &listen).await;
    ready(&epp, 3.0).await;
    let mut seen = Vec::new();
    while !seen.contains(&home) {
        assert!(seen.len() < 200, "{home} came back, but got none of {seen:?}");
        seen.push(chat(&envoy.http(), &json!([user(&format!("new {}", seen.len()))]), 1).await.0);
    }
    envoy.assert_clean().await;
    epp.wait_until_idle().await;
}

#[tokio::test]
async fn a_server_with_a_queue_is_avoided() {
    let servers = servers(&["busy", "free"], &[]).await;
    let members: Vec<SocketAddr> = servers.iter().map(SimServer::addr).collect();
    let epp = Epp::start(&members).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    ready(&epp, 2.0).await;
    // Two seats and six requests without an end in sight: four wait.
    let direct = format!("http://{}", members[0]);
    let mut load = tokio::task::JoinSet::new();
    for n in 0..6 {
        let direct = direct.clone();
        load.spawn(async move { chat(&direct, &json!([user(&format!("long {n}"))]), 100_000).await });
    }
    let queue = "inference_pool_per_pod_queue_size{model_server_pod=\"server-0\",name=\"it\"}";
    eventually("epp sees the queue", async || (epp.metric(queue).await == Some(4.0)).then_some(())).await;
    for n in 0..10 {
        assert_eq!(chat(&envoy.http(), &json!([user(&format!("new {n}"))]), 1).await.0, "free");
    }
    load.shutdown().await;
    eventually("the queue is gone", async || (epp.metric(queue).await == Some(0.0)).then_some(())).await;
    envoy.assert_clean().await;
}

#[tokio::test]
async fn other_apis_are_answered_through_envoy() {
    let servers = servers(&["a", "b"], &[]).await;
    let members: Vec<SocketAddr> = servers.iter().map(SimServer::addr).collect();
    let epp = Epp::start(&members).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    ready(&epp, 2.0).await;
    let messages = [user("Where does the river go?")];
    let message = json!({"model": "sim-model", "max_tokens": 5, "messages": messages});
    let mut streamed = message.clone();
    streamed["stream"] = json!(true);
    let stopped = "data: {\"type\":\"message_stop\"}";
    for (path, body, media_type, ends_with) in [
        ("/v1/messages", &message, "application/json", "\"cache_read_input_tokens\":0}}"),
        ("/v1/messages", &streamed, "text/event-stream; charset=utf-8", stopped),
        ("/v1/messages/count_tokens", &message, "application/json", "{\"input_tokens\":17}"),
        ("/api/chat", &message, "application/x-ndjson", "\"eval_count\":64}"),
    ] {
        let post = client(Protocol::Http1).post(format!("{}{path}", envoy.http()));
        let post = post.header("content-type", "application/json").body(body.to_string());
        let answer = post.send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &media_type.parse().unwrap())
        );
        let server = answer.headers()["x-sim-server"].to_str().unwrap().to_owned();
        assert!(servers.iter().any(|known| known.name() == server), "{path}: {server}");
        let text = answer.text().await.unwrap();
        assert!(text.trim_end().ends_with(ends_with), "{path}: {text}");
    }
    envoy.assert_clean().await;
    epp.wait_until_idle().await;
}

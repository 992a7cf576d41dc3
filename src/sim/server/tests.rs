//! Servers over loopback, asked by an ordinary HTTP client.

mod apis;

use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::sim::engine::StepCost;

const MODEL: &str = "tiny";

/// A step takes a tenth of a millisecond.
fn quick() -> EngineConfig {
    let cost = StepCost {
        base_ns: 100_000,
        prefill_ns_per_token: 100,
        decode_ns_per_seq: 0,
        kv_ns_per_token: 0,
        attention_doubles_at: 0,
    };
    EngineConfig { num_gpu_blocks: 1001, max_model_len: 10_000, cost, ..EngineConfig::default() }
}

/// A step takes an hour: nothing ends by itself.
fn stuck() -> EngineConfig {
    let slow = StepCost { base_ns: 3_600_000_000_000, ..quick().cost };
    EngineConfig { cost: slow, ..quick() }
}

async fn start(engine: EngineConfig) -> SimServer {
    start_with(engine, Some(MetricsFilter::Honour)).await
}

async fn start_with(engine: EngineConfig, metrics: Option<MetricsFilter>) -> SimServer {
    let models = vec![MODEL.to_owned(), "other".to_owned()];
    SimServer::start(SimConfig { models, engine, metrics, ..SimConfig::default() }).await.unwrap()
}

fn client() -> Client {
    // The client brings no cryptography, and does not start without.
    rustls::crypto::ring::default_provider().install_default().ok();
    Client::builder().no_proxy().build().unwrap()
}

async fn get(server: &SimServer, path: &str) -> Response {
    client().get(format!("http://{}{path}", server.addr())).send().await.unwrap()
}

async fn post(server: &SimServer, path: &str, body: &Value) -> Response {
    post_raw(server, path, "application/json", body.to_string()).await
}

async fn post_raw(server: &SimServer, path: &str, content_type: &str, body: String) -> Response {
    let request = client().post(format!("http://{}{path}", server.addr()));
    request.header("content-type", content_type).body(body).send().await.unwrap()
}

async fn json_of(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn chat(messages: &Value, more: &Value) -> Value {
    let mut body = json!({ "model": MODEL, "messages": messages });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn one_turn(text: &str) -> Value {
    json!([{ "role": "user", "content": text }])
}

/// The data of each event; every event must be one `data:` line and a blank one.
fn events(stream: &str) -> Vec<&str> {
    let events = stream.strip_suffix("\n\n").unwrap().split("\n\n");
    events.map(|event| event.strip_prefix("data: ").unwrap()).collect()
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within ten seconds: {what}");
}

#[tokio::test]
async fn a_chat_body_has_the_keys_of_vllm() {
    let server = start(quick()).await;
    let response =
        post(&server, "/v1/chat/completions", &chat(&one_turn("Hello"), &json!({ "max_tokens": 4 }))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-sim-server"], "sim-0");
    let body = json_of(response).await;
    let recorded: Value = serde_json::from_str(
        r#"{"id":"","object":"","created":0,"model":"","choices":[{"index":0,"message":{"role":"","content":"",
        "refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},"logprobs":null,
        "finish_reason":"","stop_reason":null,"token_ids":null,"routed_experts":null}],"service_tier":null,
        "system_fingerprint":"","usage":{"prompt_tokens":0,"total_tokens":0,"completion_tokens":0,
        "prompt_tokens_details":null,"completion_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,
        "prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}"#,
    )
    .unwrap();
    assert_eq!(keys(&body), keys(&recorded));
    assert_eq!(keys(&body["choices"][0]), keys(&recorded["choices"][0]));
    assert_eq!(keys(&body["choices"][0]["message"]), keys(&recorded["choices"][0]["message"]));
    assert_eq!(keys(&body["usage"]), keys(&recorded["usage"]));
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["choices"][0]["message"]["content"].as_str().unwrap().split(' ').count(), 5);
    let usage = &body["usage"];
    assert_eq!(usage["completion_tokens"], 4);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
    assert_eq!(usage["total_tokens"].as_u64(), usage["prompt_tokens"].as_u64().map(|n| n + 4));
}

#[tokio::test]
async fn a_completion_body_defaults_to_sixteen_tokens() {
    let server = start(quick()).await;
    let body =
        json_of(post(&server, "/v1/completions", &json!({ "model": "other", "prompt": [1, 2, 3] })).await)
            .await;
    assert_eq!((&body["object"], &body["model"]), (&json!("text_completion"), &json!("other")));
    assert_eq!(
        (&body["usage"]["prompt_tokens"], &body["usage"]["completion_tokens"]),
        (&json!(3), &json!(16))
    );
    assert_eq!(body["choices"][0]["text"].as_str().unwrap().split(' ').count(), 17);
    assert_eq!(body["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn a_chat_stream_has_role_content_finish_usage_and_end() {
    let server = start(quick()).await;
    let more = json!({ "max_tokens": 6, "stream": true, "stream_options": { "include_usage": true } });
    let response = post(&server, "/v1/chat/completions", &chat(&one_turn("Hello"), &more)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(response.headers()["x-sim-server"], "sim-0");
    let text = response.text().await.unwrap();
    let mut events = events(&text);
    assert_eq!(events.pop(), Some("[DONE]"));
    let chunks: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let (usage, rest) = chunks.split_last().unwrap();
    let (role, contents) = rest.split_first().unwrap();
    assert_eq!(role["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(
        (&usage["usage"]["completion_tokens"], &usage["usage"]["prompt_tokens_details"]),
        (&json!(6), &json!({ "cached_tokens": 0 }))
    );
    let said: String =
        contents.iter().map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().unwrap()).collect();
    assert_eq!(said.split(' ').count(), 7);
    let (last, before) = contents.split_last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    assert!(keys(&last["choices"][0]).contains(&"stop_reason"));
    for chunk in before.iter().chain([role]) {
        assert_eq!(chunk["choices"][0]["finish_reason"], Value::Null);
    }
    for chunk in rest {
        assert_eq!((&chunk["object"], chunk.get("usage")), (&json!("chat.completion.chunk"), None));
        assert_eq!(chunk["id"], usage["id"]);
    }
    let whole = json_of(
        post(&server, "/v1/chat/completions", &chat(&one_turn("Hello"), &json!({ "max_tokens": 6 }))).await,
    );
    assert_eq!(
        whole.await["choices"][0]["message"]["content"],
        said,
        "streamed or not, the answer is the same"
    );
}

#[tokio::test]
async fn a_completion_stream_has_text_and_no_usage_unasked() {
    let server = start(quick()).await;
    let body = json!({ "model": MODEL, "prompt": "Once", "max_tokens": 3, "stream": true });
    let text = post(&server, "/v1/completions", &body).await.text().await.unwrap();
    let mut events = events(&text);
    assert_eq!(events.pop(), Some("[DONE]"));
    let chunks: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert!(chunks.iter().all(|chunk| chunk["object"] == "text_completion" && chunk.get("usage").is_none()));
    let said: String = chunks.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(said.split(' ').count(), 4);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn usage_can_come_with_every_chunk() {
    let server = start(quick()).await;
    let more =
        json!({ "max_tokens": 3, "stream": true, "stream_options": { "continuous_usage_stats": true } });
    let text =
        post(&server, "/v1/chat/completions", &chat(&one_turn("Hi"), &more)).await.text().await.unwrap();
    let events = events(&text);
    let counts: Vec<u64> = events[..events.len() - 1]
        .iter()
        .map(|event| {
            serde_json::from_str::<Value>(event).unwrap()["usage"]["completion_tokens"].as_u64().unwrap()
        })
        .collect();
    assert_eq!((counts.first(), counts.last()), (Some(&0), Some(&3)));
    assert!(counts.is_sorted());
}

#[tokio::test]
async fn the_next_turn_finds_the_last_one_cached() {
    let server = start(quick()).await;
    let question = "word ".repeat(50);
    let mut messages = one_turn(&question);
    let first = json_of(post(&server, "/v1/chat/completions", &chat(&messages, &json!({}))).await).await;
    assert_eq!(first["choices"][0]["finish_reason"], "stop");
    let answer = first["choices"][0]["message"]["content"].clone();
    messages.as_array_mut().unwrap().push(json!({ "role": "assistant", "content": answer }));
    messages.as_array_mut().unwrap().push(json!({ "role": "user", "content": "And then?" }));
    let second = json_of(post(&server, "/v1/chat/completions", &chat(&messages, &json!({}))).await).await;
    let n_first = first["usage"]["total_tokens"].as_u64().unwrap();
    // Everything of the first turn, but for its last token, in whole blocks.
    let want = (n_first - 1) / 16 * 16;
    assert_eq!(second["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64(), Some(want));
    let salted = chat(&messages, &json!({ "cache_salt": "other" }));
    let third = json_of(post(&server, "/v1/chat/completions", &salted).await).await;
    assert_eq!(third["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

#[tokio::test]
async fn errors_have_the_status_and_type_of_vllm() {
    let server = start(quick()).await;
    let ok = r#""model":"tiny","messages":[]"#;
    let long = "word ".repeat(20_000);
    for (name, path, body, status, kind) in [
        ("broken JSON", "chat/completions", "{".to_owned(), 400, "Bad Request"),
        ("not an object", "chat/completions", "[]".to_owned(), 400, "Bad Request"),
        ("a wrong type", "chat/completions", format!("{{{ok},\"max_tokens\":\"x\"}}"), 400, "Bad Request"),
        ("no messages", "chat/completions", r#"{"model":"tiny"}"#.to_owned(), 400, "BadRequestError"),
        ("no prompt", "completions", r#"{"model":"tiny"}"#.to_owned(), 400, "BadRequestError"),
        ("an empty prompt", "completions", r#"{"prompt":""}"#.to_owned(), 400, "BadRequestError"),
        ("no output", "chat/completions", format!("{{{ok},\"max_tokens\":0}}"), 400, "BadRequestError"),
        ("two choices", "chat/completions", format!("{{{ok},\"n\":2}}"), 400, "BadRequestError"),
        (
            "options of no stream",
            "chat/completions",
            format!("{{{ok},\"stream_options\":{{}}}}"),
            400,
            "BadRequestError",
        ),
        ("too long", "completions", json!({ "prompt": long }).to_string(), 400, "BadRequestError"),
        (
            "too much",
            "completions",
            r#"{"prompt":"a","max_tokens":4294967295}"#.to_owned(),
            400,
            "BadRequestError",
        ),
        ("unknown model", "completions", r#"{"model":"nope","prompt":"a"}"#.to_owned(), 404, "NotFoundError"),
    ] {
        let response = post_raw(&server, &format!("/v1/{path}"), "application/json", body).await;
        assert_eq!(response.status().as_u16(), status, "{name}");
        assert_eq!(response.headers()["x-sim-server"], "sim-0", "{name}");
        let error = json_of(response).await["error"].take();
        assert_eq!((&error["type"], &error["code"]), (&json!(kind), &json!(status)), "{name}: {error}");
    }
    let response = post_raw(&server, "/v1/completions", "text/plain", r#"{"prompt":"a"}"#.to_owned()).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let unknown = post(&server, "/v1/completions", &json!({ "model": "nope", "prompt": "a" })).await;
    let message = "The model `nope` does not exist. Valid aliases: tiny, other.";
    assert_eq!(json_of(unknown).await["error"]["message"], message);
}

#[tokio::test]
async fn other_routes_answer_as_the_framework_does() {
    let server = start(quick()).await;
    let health = get(&server, "/health").await;
    assert_eq!((health.status(), health.text().await.unwrap()), (StatusCode::OK, String::new()));
    let missing = get(&server, "/nope").await;
    assert_eq!(missing.headers()["x-sim-server"], "sim-0");
    assert_eq!(
        (missing.status(), json_of(missing).await),
        (StatusCode::NOT_FOUND, json!({ "detail": "Not Found" }))
    );
    assert_eq!(get(&server, "/v1/completions").await.status(), StatusCode::METHOD_NOT_ALLOWED);
    let models = json_of(get(&server, "/v1/models").await).await;
    assert_eq!((&models["data"][0]["id"], &models["data"][1]["id"]), (&json!(MODEL), &json!("other")));
    assert_eq!(models["data"][0]["max_model_len"], 10_000);
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_read_and_a_larger_one_refused() {
    let server = start(quick()).await;
    let body_of = |n_bytes: usize| format!("{{\"prompt\":\"{}\"}}", "a".repeat(n_bytes - 13));
    let mib = 1 << 20;
    for (n_bytes, want) in
        [(64 * mib, StatusCode::BAD_REQUEST), (64 * mib + 1, StatusCode::PAYLOAD_TOO_LARGE)]
    {
        let response = post_raw(&server, "/v1/completions", "application/json", body_of(n_bytes)).await;
        assert_eq!(response.status(), want);
    }
}

#[tokio::test]
async fn a_full_queue_is_service_unavailable() {
    let server = start(EngineConfig { max_num_seqs: 1, max_waiting: 1, ..stuck() }).await;
    let url = format!("http://{}/v1/completions", server.addr());
    let mut asked = JoinSet::new();
    for n_busy in 1..=2 {
        let request =
            client().post(&url).header("content-type", "application/json").body(r#"{"prompt":"a"}"#);
        asked.spawn(request.send());
        eventually("the request is taken", || {
            let gauges = server.gauges();
            gauges.running + gauges.waiting == n_busy && gauges.running == 1
        })
        .await;
    }
    let refused = post(&server, "/v1/completions", &json!({ "prompt": "a" })).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json_of(refused).await["error"]["type"], "Service Unavailable");
    let page = get(&server, "/metrics").await.text().await.unwrap();
    for line in [
        "vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 1.0",
        "vllm:num_requests_waiting{engine=\"0\",model_name=\"tiny\"} 1.0",
        "vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=\"tiny\",reason=\"capacity\"} 1.0",
        "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"tiny\"} 0.001",
        "vllm:admission_rejections_total{model_name=\"tiny\",reason=\"max_num_queued_reqs\"} 1.0",
    ] {
        assert!(page.lines().any(|got| got == line), "{line} in\n{page}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_aborts_its_request() {
    let slow = StepCost { base_ns: 20_000_000, ..quick().cost };
    let server = start(EngineConfig { max_num_seqs: 1, cost: slow, ..quick() }).await;
    let endless = json!({ "prompt": "a", "max_tokens": 9000, "stream": true });
    let mut streaming = post(&server, "/v1/completions", &endless).await;
    assert!(streaming.chunk().await.unwrap().is_some());
    // The second waits for the only seat; its caller waits for the headers.
    let url = format!("http://{}/v1/completions", server.addr());
    let body = json!({ "prompt": "b", "max_tokens": 9000 }).to_string();
    let mut whole = JoinSet::new();
    whole.spawn(client().post(url).header("content-type", "application/json").body(body).send());
    eventually("both are known", || server.gauges().running + server.gauges().waiting == 2).await;
    drop(whole);
    drop(streaming);
    eventually("both are aborted", || server.gauges().counts.aborted == 2).await;
    eventually("nothing is held", || server.gauges().blocks_used == 0).await;
    let page = get(&server, "/metrics").await.text().await.unwrap();
    let line = "vllm:request_success_total{engine=\"0\",finished_reason=\"abort\",model_name=\"tiny\"} 2.0";
    assert!(page.lines().any(|got| got == line));
}

#[tokio::test]
async fn a_dropped_server_cuts_streams_and_refuses_connections() {
    let server = start(stuck()).await;
    let addr = server.addr();
    let mut streaming = post(&server, "/v1/completions", &json!({ "prompt": "a", "stream": true })).await;
    drop(server);
    assert!(streaming.chunk().await.is_err());
    eventually("the port is closed", || std::net::TcpStream::connect(addr).is_err()).await;
}

#[tokio::test]
async fn only_the_slash_makes_the_metrics_filter_work() {
    let names =
        "name[]=vllm:num_requests_waiting&name%5B%5D=vllm:prompt_tokens_total&name[]=vllm:prompt_tokens";
    let two = "vllm:num_requests_waiting{engine=\"0\",model_name=\"tiny\"} 0.0,\
               vllm:prompt_tokens_total{engine=\"0\",model_name=\"tiny\"} 0.0";
    for (filter, path, want) in [
        (MetricsFilter::Honour, "/metrics/", Some(two)),
        (MetricsFilter::Honour, "/metrics", None),
        (MetricsFilter::Ignore, "/metrics/", None),
        (MetricsFilter::Ignore, "/metrics", None),
        (MetricsFilter::Empty, "/metrics/", Some("")),
        (MetricsFilter::Empty, "/metrics", Some("")),
    ] {
        let server = start_with(quick(), Some(filter)).await;
        let whole = get(&server, path).await.text().await.unwrap();
        let response = get(&server, &format!("{path}?{names}")).await;
        assert_eq!(response.headers()["content-type"], "text/plain; version=1.0.0; charset=utf-8");
        let got = response.text().await.unwrap();
        let samples: Vec<&str> = got.lines().filter(|line| !line.starts_with('#')).collect();
        match want {
            Some(want) => assert_eq!(samples.join(","), want, "{filter:?} {path}"),
            None => assert_eq!(got, whole, "{filter:?} {path}"),
        }
    }
    let server = start_with(quick(), None).await;
    assert_eq!(get(&server, "/metrics").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_metrics_page_counts_what_was_served() {
    let server = start(quick()).await;
    let prompt: Vec<u32> = (0..40).collect();
    for _ in 0..2 {
        let body = json!({ "prompt": prompt, "max_tokens": 5 });
        assert_eq!(post(&server, "/v1/completions", &body).await.status(), StatusCode::OK);
    }
    let page = get(&server, "/metrics").await.text().await.unwrap();
    for line in [
        "vllm:prefix_cache_queries_total{engine=\"0\",model_name=\"tiny\"} 80.0",
        "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"tiny\"} 32.0",
        "vllm:prompt_tokens_total{engine=\"0\",model_name=\"tiny\"} 80.0",
        "vllm:prompt_tokens_by_source_total{engine=\"0\",model_name=\"tiny\",source=\"local_cache_hit\"} 32.0",
        "vllm:generation_tokens_total{engine=\"0\",model_name=\"tiny\"} 10.0",
        "vllm:request_success_total{engine=\"0\",finished_reason=\"length\",model_name=\"tiny\"} 2.0",
        "vllm:request_prompt_tokens_bucket{engine=\"0\",le=\"20.0\",model_name=\"tiny\"} 0.0",
        "vllm:request_prompt_tokens_bucket{engine=\"0\",le=\"50.0\",model_name=\"tiny\"} 2.0",
        "vllm:request_prompt_tokens_sum{engine=\"0\",model_name=\"tiny\"} 80.0",
        "vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"tiny\"} 2.0",
        "vllm:inter_token_latency_seconds_count{engine=\"0\",model_name=\"tiny\"} 8.0",
        "http_requests_total{handler=\"/v1/completions\",method=\"POST\",status=\"2xx\"} 2.0",
    ] {
        assert!(page.lines().any(|got| got == line), "{line} in\n{page}");
    }
    let config = page.lines().find(|line| line.starts_with("vllm:cache_config_info{")).unwrap();
    assert!(config.contains("block_size=\"16\"") && config.contains("num_gpu_blocks=\"1001\""));
    assert!(page.lines().filter(|line| line.starts_with("# TYPE")).count() > 50);
}

#[tokio::test]
async fn a_server_without_a_model_or_a_sendable_name_does_not_start() {
    let nameless = SimConfig { models: Vec::new(), ..SimConfig::default() };
    assert!(matches!(SimServer::start(nameless).await, Err(StartError::NoModel(_))));
    let unsendable = SimConfig { name: "a\nb".to_owned(), ..SimConfig::default() };
    assert!(matches!(SimServer::start(unsendable).await, Err(StartError::Name(_))));
    let server = start(quick()).await;
    let taken = SimConfig { listen: server.addr(), ..SimConfig::default() };
    assert!(matches!(SimServer::start(taken).await, Err(StartError::Listen { .. })));
}

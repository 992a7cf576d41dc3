//! The other APIs beside chat and completions, held against what real servers were seen to answer.

use super::*;

const RESPONSES_STREAM: &str = include_str!("../../../../tests/it/fixtures/real_vllm/responses-stream.sse");
const MESSAGES_STREAM: &str = include_str!("../../../../tests/it/fixtures/real_vllm/anthropic-stream.sse");
const EMBEDDINGS: &str =
    include_str!("../../../../tests/it/fixtures/model_servers/samples/resp-embeddings.json");
const RENDERED_CHAT: &str = include_str!("../../../../tests/it/fixtures/real_vllm/render-chat.json");
const RENDERED_COMPLETION: &str =
    include_str!("../../../../tests/it/fixtures/real_vllm/render-completion.json");
const OLLAMA: &str =
    include_str!("../../../../tests/it/fixtures/model_servers/samples/resp-ollama-chat.ndjson");

fn parse(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

/// Name and data of each event; every event must be those two lines and a blank one.
fn named_events(stream: &str) -> Vec<(&str, Value)> {
    let events = stream.trim_end().split("\n\n");
    events
        .map(|event| {
            let (name, data) = event.split_once('\n').unwrap();
            (name.strip_prefix("event: ").unwrap(), parse(data.strip_prefix("data: ").unwrap()))
        })
        .collect()
}

/// The paths of all keys in a value; lists count by their first item.
fn shape(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = format!("{path}.{key}");
                out.push(path.clone());
                shape(value, &path, out);
            }
        }
        Value::Array(list) => list.iter().take(1).for_each(|item| shape(item, path, out)),
        _ => {}
    }
}

fn assert_same_keys(got: &Value, want: &Value, what: &str) {
    let (mut got_keys, mut want_keys) = (Vec::new(), Vec::new());
    shape(got, "", &mut got_keys);
    shape(want, "", &mut want_keys);
    assert_eq!(got_keys, want_keys, "{what}");
}

/// Events in the order of a recording, where any number of deltas stands for one.
fn assert_like_recorded(got: &[(&str, Value)], recorded: &[(&str, Value)], delta: &str) {
    let names = |events: &[(&str, Value)]| {
        let mut names: Vec<String> = events.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.dedup_by(|a, b| a == b && a == delta);
        names
    };
    assert_eq!(names(got), names(recorded));
    for (name, data) in got {
        assert_eq!(data["type"], **name);
        let (_, want) = recorded.iter().find(|(recorded, _)| recorded == name).unwrap();
        assert_same_keys(data, want, name);
    }
}

async fn stream_of(server: &SimServer, path: &str, body: &Value) -> String {
    let response = post(server, path, body).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(response.headers()["x-sim-server"], "sim-0");
    response.text().await.unwrap()
}

#[tokio::test]
async fn embeddings_come_as_floats_and_as_their_bytes() {
    let server = start(quick()).await;
    let inputs = json!(["a river", "the sea, far away"]);
    let body = json!({ "model": MODEL, "input": inputs });
    let floats = json_of(post(&server, "/v1/embeddings", &body).await).await;
    assert_same_keys(&floats, &parse(EMBEDDINGS), "the body");
    let n_prompt = floats["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(n_prompt, 2 + 4);
    let usage = json!({
        "prompt_tokens": n_prompt, "total_tokens": n_prompt, "completion_tokens": 0, "prompt_tokens_details": null,
    });
    assert_eq!(floats["usage"], usage);
    assert_eq!((&floats["data"][1]["index"], &floats["object"]), (&json!(1), &json!("list")));
    let vector =
        |n: usize| -> Vec<f32> { serde_json::from_value(floats["data"][n]["embedding"].clone()).unwrap() };
    for n in 0..2 {
        let length: f32 = vector(n).iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
        assert_eq!(vector(n).len(), 64);
    }
    assert_ne!(vector(0), vector(1));
    let body = json!({ "input": inputs, "encoding_format": "base64", "dimensions": 64 });
    let bytes = json_of(post(&server, "/v1/embeddings", &body).await).await;
    for n in 0..2 {
        let text = bytes["data"][n]["embedding"].as_str().unwrap();
        // 256 bytes.
        assert_eq!((text.len(), text.ends_with('=')), (344, true));
    }
    let again = json_of(post(&server, "/v1/embeddings", &json!({ "input": "a river" })).await).await;
    assert_eq!(again["data"][0]["embedding"], floats["data"][0]["embedding"]);

    let page = get(&server, "/metrics").await.text().await.unwrap();
    for line in [
        "vllm:generation_tokens_total{engine=\"0\",model_name=\"tiny\"} 0.0",
        "vllm:prompt_tokens_total{engine=\"0\",model_name=\"tiny\"} 14.0",
        "vllm:request_success_total{engine=\"0\",finished_reason=\"stop\",model_name=\"tiny\"} 5.0",
        "vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"tiny\"} 5.0",
        "vllm:request_params_max_tokens_count{engine=\"0\",model_name=\"tiny\"} 0.0",
        "http_requests_total{handler=\"/v1/embeddings\",method=\"POST\",status=\"2xx\"} 3.0",
    ] {
        assert!(page.lines().any(|got| got == line), "{line} in\n{page}");
    }
}

#[tokio::test]
async fn embeddings_of_what_cannot_be_embedded_are_refused() {
    let server = start(quick()).await;
    for (name, body, status, param) in [
        ("nothing", json!({}), 400, "input"),
        ("an empty text", json!({ "input": "" }), 400, "prompt"),
        ("one empty text", json!({ "input": ["a", ""] }), 400, "prompt"),
        ("an object", json!({ "input": {} }), 400, "input"),
        ("other dimensions", json!({ "input": "a", "dimensions": 65 }), 400, "dimensions"),
        ("too long", json!({ "input": "a ".repeat(20_000) }), 400, "input_tokens"),
        ("unknown model", json!({ "input": "a", "model": "nope" }), 404, "model"),
    ] {
        let response = post(&server, "/v1/embeddings", &body).await;
        assert_eq!(response.status().as_u16(), status, "{name}");
        assert_eq!(json_of(response).await["error"]["param"], param, "{name}");
    }
    eventually("no input is left behind", || server.gauges().running + server.gauges().waiting == 0).await;
}

#[tokio::test]
async fn a_response_is_streamed_as_vllm_does_it() {
    let server = start(quick()).await;
    let recorded = named_events(RESPONSES_STREAM);
    for (limit, status) in [(json!(3), "incomplete"), (Value::Null, "completed")] {
        let body =
            json!({ "model": MODEL, "input": "Say something.", "max_output_tokens": limit, "stream": true });
        let text = stream_of(&server, "/v1/responses", &body).await;
        let mut events = named_events(&text);
        let last = events.last_mut().unwrap();
        assert_eq!(last.0, format!("response.{status}"));
        // The recording is of an older release, which had one name for both and told the difference inside.
        *last = ("response.completed", last.1.clone());
        last.1["type"] = json!("response.completed");
        last.1["response"]["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        assert_like_recorded(&events, &recorded, "response.output_text.delta");
        for (number, (name, data)) in events.iter().enumerate() {
            assert_eq!(data["sequence_number"], number, "{name}");
            let is_last = number + 1 == events.len();
            assert_eq!(data["response"]["usage"].is_object(), is_last, "{name}");
        }
        let response = &events.last().unwrap().1["response"];
        assert_eq!(response["status"], status);
        let n_output = limit.as_u64().unwrap_or(64);
        let usage = &response["usage"];
        assert_eq!(usage["output_tokens"], n_output);
        assert_eq!(usage["total_tokens"].as_u64(), usage["input_tokens"].as_u64().map(|n| n + n_output));
        let deltas = events.iter().filter_map(|(_, data)| data["delta"].as_str());
        let said: String = deltas.collect();
        assert_eq!(response["output"][0]["content"][0]["text"], said);
        assert_eq!(said.split(' ').count() as u64, n_output + 1);
    }
}

#[tokio::test]
async fn a_response_is_the_same_whole_as_streamed() {
    let server = start(quick()).await;
    let body = json!({ "input": [{ "role": "user", "content": "Hello" }], "max_output_tokens": 4 });
    let whole = json_of(post(&server, "/v1/responses", &body).await).await;
    let (_, recorded) = named_events(RESPONSES_STREAM).pop().unwrap();
    assert_same_keys(&whole, &recorded["response"], "the body");
    assert_eq!((&whole["status"], &whole["max_output_tokens"]), (&json!("incomplete"), &json!(4)));
    let chat = json_of(
        post(&server, "/v1/chat/completions", &chat(&one_turn("Hello"), &json!({ "max_tokens": 4 }))).await,
    );
    let text = chat.await["choices"][0]["message"]["content"].take();
    assert_eq!(whole["output"][0]["content"][0]["text"], text, "the same conversation, the same answer");
    let next = json!({ "input": "And?", "previous_response_id": whole["id"] });
    let response = post(&server, "/v1/responses", &next).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(json_of(response).await["error"]["param"], "response_id");
}

#[tokio::test]
async fn a_response_begins_before_its_first_token() {
    let server = start(stuck()).await;
    let mut response = post(&server, "/v1/responses", &json!({ "input": "a", "stream": true })).await;
    let mut text = String::new();
    while text.matches("\n\n").count() < 2 {
        text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
    }
    let names: Vec<&str> = named_events(&text).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["response.created", "response.in_progress"]);
}

#[tokio::test]
async fn a_message_is_streamed_as_vllm_does_it() {
    let server = start(quick()).await;
    let question = "word ".repeat(50);
    let body =
        json!({ "model": MODEL, "max_tokens": 5, "system": "Be kind.", "messages": one_turn(&question) });
    let whole = json_of(post(&server, "/v1/messages", &body).await).await;
    let n_prompt = whole["usage"]["input_tokens"].as_u64().unwrap();
    assert_eq!(
        (&whole["usage"]["cache_read_input_tokens"], &whole["stop_reason"]),
        (&json!(0), &json!("max_tokens"))
    );
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let text = stream_of(&server, "/v1/messages", &streamed).await;
    let events = named_events(&text);
    assert_like_recorded(&events, &named_events(MESSAGES_STREAM), "content_block_delta");
    let said: String = events.iter().filter_map(|(_, data)| data["delta"]["text"].as_str()).collect();
    assert_eq!(whole["content"], json!([{ "type": "text", "text": said }]));
    assert_eq!(said.split(' ').count(), 6);
    assert_eq!(events[0].1["message"]["usage"], json!({ "input_tokens": n_prompt, "output_tokens": 0 }));
    let (_, delta) = &events[events.len() - 2];
    let n_cached = (n_prompt - 1) / 16 * 16;
    let usage = json!({
        "input_tokens": n_prompt - n_cached, "output_tokens": 5, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": n_cached,
    });
    assert_eq!((&delta["usage"], &delta["delta"]["stop_reason"]), (&usage, &json!("max_tokens")));

    let counted = post(&server, "/v1/messages/count_tokens", &body).await;
    assert_eq!(json_of(counted).await, json!({ "input_tokens": n_prompt }));
}

#[tokio::test]
async fn errors_of_messages_are_worded_as_anthropic_does() {
    let server = start(EngineConfig { max_waiting: 1, max_num_seqs: 1, ..stuck() }).await;
    let ok = json!({ "model": MODEL, "max_tokens": 5, "messages": one_turn("a") });
    let without = |key: &str| {
        let mut body = ok.clone();
        body.as_object_mut().unwrap().remove(key);
        body
    };
    let with = |key: &str, value: Value| {
        let mut body = ok.clone();
        body[key] = value;
        body
    };
    let invalid = (400, "invalid_request_error");
    for (name, path, body, (status, kind)) in [
        ("no limit", "messages", without("max_tokens"), invalid),
        ("no messages", "messages", without("messages"), invalid),
        ("a limit of zero", "messages", with("max_tokens", json!(0)), invalid),
        ("too long", "messages", with("max_tokens", json!(20_000)), invalid),
        ("unknown model", "messages", with("model", json!("nope")), (404, "not_found_error")),
        (
            "unknown model to count",
            "messages/count_tokens",
            with("model", json!("nope")),
            (404, "not_found_error"),
        ),
        ("no messages to count", "messages/count_tokens", without("messages"), invalid),
    ] {
        let response = post(&server, &format!("/v1/{path}"), &body).await;
        assert_eq!(response.status().as_u16(), status, "{name}");
        let body = json_of(response).await;
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)), "{name}");
        assert!(body["error"]["message"].is_string(), "{name}");
    }
    let mut streams = Vec::new();
    for n_busy in 1..=2 {
        streams.push(post(&server, "/v1/messages", &with("stream", json!(true))).await);
        eventually("the request is taken", || {
            let gauges = server.gauges();
            gauges.running + gauges.waiting == n_busy && gauges.running == 1
        })
        .await;
    }
    let refused = post(&server, "/v1/messages", &ok).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json_of(refused).await["error"]["type"], "overloaded_error");
}

#[tokio::test]
async fn what_is_rendered_can_be_generated_from() {
    let server = start(quick()).await;
    let body = chat(&one_turn("Hello"), &json!({ "max_tokens": 4 }));
    let rendered = json_of(post(&server, "/v1/chat/completions/render", &body).await).await;
    assert_same_keys(&rendered, &parse(RENDERED_CHAT), "chat");
    let whole = json_of(post(&server, "/v1/chat/completions", &body).await).await;
    let said = whole["choices"][0]["message"]["content"].as_str().unwrap();
    let n_prompt = rendered["token_ids"].as_array().unwrap().len() as u64;
    assert_eq!(whole["usage"]["prompt_tokens"], n_prompt);

    let generated = json_of(post(&server, "/inference/v1/generate", &rendered).await).await;
    let token_ids: Vec<u32> = serde_json::from_value(generated["choices"][0]["token_ids"].clone()).unwrap();
    assert_eq!(crate::sim::text::output_text(token_ids.iter().copied()), said);
    assert_eq!(generated["choices"][0]["finish_reason"], "length");
    assert_eq!(
        (&generated["usage"]["prompt_tokens"], &generated["usage"]["completion_tokens"]),
        (&json!(n_prompt), &json!(4))
    );

    let mut streamed = rendered.clone();
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({ "include_usage": true });
    let text = stream_of(&server, "/inference/v1/generate", &streamed).await;
    let mut events = events(&text);
    assert_eq!(events.pop(), Some("[DONE]"));
    let chunks: Vec<Value> = events.into_iter().map(parse).collect();
    let (usage, tokens) = chunks.split_last().unwrap();
    assert_eq!(usage["usage"]["completion_tokens"], 4);
    let streamed: Vec<u32> = tokens
        .iter()
        .flat_map(|chunk| {
            serde_json::from_value::<Vec<u32>>(chunk["choices"][0]["token_ids"].clone()).unwrap()
        })
        .collect();
    assert_eq!(streamed, token_ids);

    let body = json!({ "prompt": [7, 8, 9] });
    let rendered = json_of(post(&server, "/v1/completions/render", &body).await).await;
    let mut recorded = parse(RENDERED_COMPLETION);
    // Ours has the default that applies.
    recorded[0]["sampling_params"]["max_tokens"] = json!(16);
    assert_same_keys(&rendered, &recorded, "a completion");
    assert_eq!(rendered[0]["token_ids"], json!([7, 8, 9]));
    for (path, body, status) in [
        ("/v1/completions/render", json!({ "prompt": [] }), 400),
        ("/v1/completions/render", json!({ "prompt": "a ".repeat(20_000) }), 400),
        ("/v1/completions/render", json!({ "prompt": "a", "model": "nope" }), 404),
        ("/inference/v1/generate", json!({ "token_ids": [], "sampling_params": {} }), 400),
        ("/inference/v1/generate", json!({ "token_ids": [1] }), 400),
        ("/inference/v1/generate", json!({ "token_ids": [-1], "sampling_params": {} }), 400),
    ] {
        assert_eq!(post(&server, path, &body).await.status().as_u16(), status, "{path} {body}");
    }
}

#[tokio::test]
async fn ollama_streams_lines_unless_told_not_to() {
    let server = start(quick()).await;
    let body = json!({ "model": MODEL, "messages": one_turn("Hello"), "options": { "num_predict": 4 } });
    let response = post(&server, "/api/chat", &body).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    assert!(text.ends_with('\n'));
    let lines: Vec<Value> = text.lines().map(parse).collect();
    let recorded: Vec<Value> = OLLAMA.trim().lines().map(parse).collect();
    let (end, deltas) = lines.split_last().unwrap();
    assert_same_keys(end, &recorded[1], "the end");
    for delta in deltas {
        assert_same_keys(delta, &recorded[0], "a delta");
        assert_eq!(delta["done"], false);
    }
    assert_eq!(
        (&end["done"], &end["done_reason"], &end["eval_count"]),
        (&json!(true), &json!("length"), &json!(4))
    );
    let said: String = deltas.iter().map(|delta| delta["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(said.split(' ').count(), 5);
    let mut unstreamed = body;
    unstreamed["stream"] = json!(false);
    let whole = json_of(post(&server, "/api/chat", &unstreamed).await).await;
    assert_same_keys(&whole, &recorded[1], "the body");
    assert_eq!(
        (&whole["message"]["content"], &whole["prompt_eval_count"]),
        (&json!(said), &end["prompt_eval_count"])
    );
    let unknown = post(&server, "/api/chat", &json!({ "model": "nope", "messages": [] })).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert!(json_of(unknown).await["error"].is_string());
}

#[tokio::test]
async fn every_route_is_counted_under_its_name() {
    let server = start(quick()).await;
    let routes = [
        "/v1/chat/completions",
        "/v1/chat/completions/render",
        "/v1/completions",
        "/v1/completions/render",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/inference/v1/generate",
        "/api/chat",
    ];
    for route in routes {
        let response = post(&server, route, &json!({})).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{route}");
        assert_eq!(response.headers()["x-sim-server"], "sim-0", "{route}");
    }
    let images = post(&server, "/v1/images/generations", &json!({ "prompt": "a" })).await;
    assert_eq!(images.status(), StatusCode::NOT_FOUND);
    let page = get(&server, "/metrics").await.text().await.unwrap();
    for route in routes {
        let line = format!("http_requests_total{{handler=\"{route}\",method=\"POST\",status=\"4xx\"}} 1.0");
        assert!(page.lines().any(|got| got == line), "{line} in\n{page}");
    }
}

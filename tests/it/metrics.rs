//! Section 7.1 of the functional specification through `epp` as it is shipped: after some requests over ext_proc every
//! family is on its page, with the values that these requests make.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::service::ext_proc::v3::ProcessingRequest;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use crate::support::epp::Epp;
use crate::support::eventually;
use crate::support::hermetic::{request_body, request_headers, response_body, response_headers};
use crate::support::metrics_server::{MetricsServer, Pages};

const QUIET: Pages = &[("/metrics", "vllm:num_requests_waiting 3\nvllm:kv_cache_usage_perc 0.25\n")];
const BUSY: Pages = &[("/metrics", "vllm:num_requests_waiting 4\nvllm:kv_cache_usage_perc 0.75\n")];

const ANSWER: &str = r#"{"object":"text_completion","choices":[],"usage":{"prompt_tokens":64,"completion_tokens":4,"total_tokens":68}}"#;

/// A prompt of four blocks.
fn body() -> String {
    format!(r#"{{"model":"m","prompt":"{}"}}"#, "x".repeat(256))
}

fn request() -> Vec<ProcessingRequest> {
    let headers = [("x-request-id", "r"), ("x-gateway-model-name-rewrite", "t")];
    vec![request_headers(&headers, false), request_body(body(), true)]
}

fn answered() -> Vec<ProcessingRequest> {
    let answer = [response_headers(&[("content-type", "application/json")]), response_body(ANSWER, true)];
    request().into_iter().chain(answer).collect()
}

type Client = ExternalProcessorClient<Channel>;

/// Sends these messages on one stream and waits for its end.
async fn exchange(client: &mut Client, messages: Vec<ProcessingRequest>) {
    let mut answers =
        client.process(tokio_stream::iter(messages)).await.expect("it is accepted").into_inner();
    while answers.message().await.expect("it ends in order").is_some() {}
}

/// The samples of a page by series.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let samples = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    samples.map(|(series, value)| (series.to_owned(), value.parse().expect("a number"))).collect()
}

/// The default configuration's plugins with their extension points; their names are their types.
const PLUGINS: [(&str, &str); 8] = [
    ("DataProducer", "prefix-cache-scorer"),
    ("Picker", "max-score-picker"),
    ("PreRequest", "prefix-cache-scorer"),
    ("ProcessProfilesResults", "single-profile-handler"),
    ("ProfilePicker", "single-profile-handler"),
    ("Scorer", "kv-cache-utilization-scorer"),
    ("Scorer", "prefix-cache-scorer"),
    ("Scorer", "queue-scorer"),
];

const PAIR: &str = r#"{model_name="m",target_model_name="t"}"#;

/// Series and their values after four requests, of which three were answered, and a refusal.
fn wanted() -> Vec<(String, f64)> {
    let of_pair = |name: &str, value| (format!("inference_model_{name}{PAIR}"), value);
    let other = |name: &str, value| (format!("inference_{name}"), value);
    // The model's name is replaced by another of the same length.
    let (request_bytes, answer_bytes) = (body().len() as f64, ANSWER.len() as f64);
    let refused = r#"model_request_error_total{error_code="BadRequest",model_name="",target_model_name=""}"#;
    vec![
        of_pair("request_total", 4.0),
        other(refused, 1.0),
        other(r#"model_running_requests{model_name="m"}"#, 1.0),
        of_pair("request_sizes_sum", 4.0 * request_bytes),
        of_pair("request_sizes_count", 4.0),
        of_pair("response_sizes_sum", 3.0 * answer_bytes),
        of_pair("response_sizes_count", 3.0),
        of_pair("input_tokens_sum", 3.0 * 64.0),
        of_pair("input_tokens_count", 3.0),
        of_pair("output_tokens_sum", 3.0 * 4.0),
        of_pair("output_tokens_count", 3.0),
        of_pair("request_duration_seconds_count", 3.0),
        of_pair("normalized_time_per_output_token_seconds_count", 3.0),
        other(r#"pool_average_kv_cache_utilization{name="it"}"#, 0.5),
        other(r#"pool_average_queue_size{name="it"}"#, 3.5),
        other(r#"pool_ready_pods{name="it"}"#, 2.0),
        other(r#"pool_per_pod_queue_size{model_server_pod="server-0",name="it"}"#, 3.0),
        other(r#"pool_per_pod_queue_size{model_server_pod="server-1",name="it"}"#, 4.0),
        other("extension_scheduler_e2e_duration_seconds_count", 4.0),
        // All go where the queue is shorter; all but the first find the whole prompt there.
        other("extension_prefix_indexer_size", 4.0),
        other("extension_prefix_indexer_hit_ratio_count", 4.0),
        other("extension_prefix_indexer_hit_ratio_sum", 3.0),
        other("extension_prefix_indexer_hit_bytes_count", 4.0),
        other("extension_prefix_indexer_hit_bytes_sum", 3.0 * 256.0),
    ]
}

#[tokio::test]
async fn every_family_of_section_7_1_tells_what_happened() {
    let (quiet, busy) = (MetricsServer::start(QUIET, None).await, MetricsServer::start(BUSY, None).await);
    let epp = Epp::start(&[quiet.addr, busy.addr]).await;
    eventually("both are scraped", async || {
        (epp.metric("inference_pool_ready_pods{name=\"it\"}").await == Some(2.0)).then_some(())
    })
    .await;
    let mut client = Client::connect(format!("http://{}", epp.ext_proc)).await.expect("it listens");
    for _ in 0..3 {
        exchange(&mut client, answered()).await;
    }
    exchange(&mut client, vec![request_headers(&[], false), request_body("[]", true)]).await;
    let open = tokio_stream::iter(request()).chain(tokio_stream::pending());
    let mut open = client.process(open).await.expect("it is accepted").into_inner();
    open.message().await.expect("it goes on").expect("an answer");

    let page = epp.get("/metrics").await;
    let found = samples(&page);
    let value = |series: &str| found.get(series).copied().unwrap_or_else(|| panic!("no {series} in\n{page}"));
    for (series, want) in wanted() {
        assert!((value(&series) - want).abs() < 1e-9, "{series}: {}, want {want}", value(&series));
    }
    let seconds = value(&format!("inference_model_request_duration_seconds_sum{PAIR}"));
    let per_token = value(&format!("inference_model_normalized_time_per_output_token_seconds_sum{PAIR}"));
    assert!(seconds > 0.0 && (per_token - seconds / 4.0).abs() < 1e-9, "{per_token} of {seconds}");
    assert!(value("inference_extension_scheduler_e2e_duration_seconds_sum") > 0.0);
    let beginning_with = |beginning: &str| {
        let samples = found.iter().filter(|(series, _)| series.starts_with(beginning));
        samples.map(|(series, &value)| (series.clone(), value)).collect::<Vec<_>>()
    };
    let info = beginning_with("inference_extension_info{");
    assert!(info.len() == 1 && (info[0].1 - 1.0).abs() < 1e-9, "{info:?}");
    let timed = "inference_extension_plugin_duration_seconds_count";
    let plugins = PLUGINS.map(|(point, name)| {
        (format!(r#"{timed}{{extension_point="{point}",plugin_name="{name}",plugin_type="{name}"}}"#), 1.0)
    });
    assert_eq!(beginning_with(timed), plugins, "the first of sixteen requests is timed");
}

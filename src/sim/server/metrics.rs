//! The metrics page of a simulated server: vLLM's families in vLLM's order, as far as the simulation has a value.
//! Entry point: [`render`]. Families of features that are not simulated show the zeros of an unused feature.

use super::page::Page;
use super::record::Record;
use crate::sim::engine::{EngineConfig, Gauges};

/// What a page shows.
pub(super) struct Shown<'a> {
    pub(super) model_name: &'a str,
    /// Unix time in seconds.
    pub(super) started: f64,
    pub(super) gauges: Gauges,
    pub(super) config: &'a EngineConfig,
    pub(super) record: &'a Record,
    /// Requests by handler, method and class of status.
    pub(super) http: &'a [(HttpLabels, u64)],
}

/// Handler, method and status class of an HTTP request, all from closed sets.
pub(super) type HttpLabels = (&'static str, &'static str, &'static str);

/// Writes the page, or only the samples named in `only`.
pub(super) fn render(shown: &Shown<'_>, only: Option<&[String]>) -> String {
    let mut page = Page::new(shown.model_name, shown.started, only);
    process(&mut page, shown);
    engine_gauges(&mut page, shown);
    cache_counters(&mut page, shown);
    request_counters(&mut page, shown);
    request_sizes(&mut page, shown.record);
    request_times(&mut page, shown.record);
    cache_config(&mut page, shown.config);
    http(&mut page, shown);
    page.finish()
}

fn process(page: &mut Page<'_>, shown: &Shown<'_>) {
    page.family("python_info", "gauge", "The Python that a real server would run on.");
    let python = "implementation=\"CPython\",major=\"3\",minor=\"12\",patchlevel=\"0\",version=\"3.12.0\"";
    page.sample("python_info", python, 1.0);
    page.family("process_start_time_seconds", "gauge", "Unix time at which the process started.");
    page.sample("process_start_time_seconds", "", shown.started);
}

fn engine_gauges(page: &mut Page<'_>, shown: &Shown<'_>) {
    let (running, waiting) = (shown.gauges.running as f64, shown.gauges.waiting as f64);
    page.gauge("vllm:num_requests_running", "Requests in the batch.", &[(None, running)]);
    page.gauge("vllm:num_requests_waiting", "Requests in the queue.", &[(None, waiting)]);
    page.gauge(
        "vllm:num_requests_waiting_by_reason",
        "Requests in the queue, by what they wait for.",
        &[(Some(("reason", "capacity")), waiting), (Some(("reason", "deferred")), 0.0)],
    );
    page.gauge(
        "vllm:engine_sleep_state",
        "One for the state that the engine is in.",
        &[
            (Some(("sleep_state", "awake")), 1.0),
            (Some(("sleep_state", "weights_offloaded")), 0.0),
            (Some(("sleep_state", "discard_all")), 0.0),
        ],
    );
    let kv_used = shown.gauges.kv_used;
    page.gauge("vllm:kv_cache_usage_perc", "Fraction of KV blocks in use, 0 to 1.", &[(None, kv_used)]);
}

fn cache_counters(page: &mut Page<'_>, shown: &Shown<'_>) {
    let counts = shown.gauges.counts;
    for (name, help, value) in [
        ("vllm:prefix_cache_queries", "Tokens looked up in the prefix cache.", counts.prefix_cache_queries),
        ("vllm:prefix_cache_hits", "Tokens found in the prefix cache.", counts.prefix_cache_hits),
        ("vllm:external_prefix_cache_queries", "Tokens looked up through a KV connector.", 0),
        ("vllm:external_prefix_cache_hits", "Tokens found through a KV connector.", 0),
        ("vllm:mm_cache_queries", "Media items looked up.", 0),
        ("vllm:mm_cache_hits", "Media items found.", 0),
        ("vllm:num_preemptions", "Requests thrown out of the batch.", counts.preemptions),
        ("vllm:prompt_tokens", "Prompt tokens processed, cached ones included.", counts.prompt_tokens),
    ] {
        page.counter(name, help, &[(None, value)]);
    }
    let cached = shown.record.prompt_tokens_cached;
    page.counter(
        "vllm:prompt_tokens_by_source",
        "Prompt tokens by where their KV came from.",
        &[
            (Some(("source", "local_compute")), counts.prompt_tokens.saturating_sub(cached)),
            (Some(("source", "local_cache_hit")), cached),
            (Some(("source", "external_kv_transfer")), 0),
        ],
    );
    page.counter("vllm:prompt_tokens_cached", "Prompt tokens that were cached.", &[(None, cached)]);
}

fn request_counters(page: &mut Page<'_>, shown: &Shown<'_>) {
    let counts = shown.gauges.counts;
    page.counter("vllm:generation_tokens", "Output tokens.", &[(None, counts.generation_tokens)]);
    page.counter(
        "vllm:request_success",
        "Requests ended, by reason.",
        &[
            (Some(("finished_reason", "stop")), shown.record.n_stopped),
            (Some(("finished_reason", "length")), shown.record.n_cut_by_length),
            (Some(("finished_reason", "abort")), counts.aborted),
            (Some(("finished_reason", "error")), 0),
            (Some(("finished_reason", "repetition")), 0),
        ],
    );
    let name = "vllm:admission_rejections_total";
    page.family(name, "counter", "Requests refused by a queue limit.");
    let labels = |reason: &str| {
        format!("model_name=\"{}\",reason=\"{reason}\"", super::page::escape(shown.model_name))
    };
    page.sample(name, &labels("max_num_queued_reqs"), counts.rejected as f64);
    page.sample(name, &labels("max_num_queued_tokens"), 0.0);
}

fn request_sizes(page: &mut Page<'_>, record: &Record) {
    for (name, help, histogram) in [
        ("vllm:request_prompt_tokens", "Prompt tokens of a request.", &record.prompt_tokens),
        ("vllm:request_generation_tokens", "Output tokens of a request.", &record.generation_tokens),
        ("vllm:request_max_num_generation_tokens", "Most output tokens of a request.", &record.max_tokens),
        ("vllm:request_params_n", "Choices that a request asks for.", &record.choices),
        ("vllm:request_params_max_tokens", "Output tokens that a request asks for.", &record.max_tokens),
    ] {
        page.histogram(name, help, histogram);
    }
}

fn request_times(page: &mut Page<'_>, record: &Record) {
    for (name, help, histogram) in [
        ("time_to_first_token_seconds", "Arrival to first token.", &record.time_to_first_token),
        ("inter_token_latency_seconds", "One token to the next.", &record.inter_token_latency),
        (
            "request_time_per_output_token_seconds",
            "Mean over one answer's tokens.",
            &record.time_per_output_token,
        ),
        ("e2e_request_latency_seconds", "Arrival to last token.", &record.e2e_latency),
        ("request_queue_time_seconds", "Arrival to admission.", &record.queue_time),
        ("request_inference_time_seconds", "Admission to last token.", &record.inference_time),
        ("request_prefill_time_seconds", "Admission to first token.", &record.prefill_time),
        ("request_decode_time_seconds", "First to last token.", &record.decode_time),
        (
            "request_prefill_kv_computed_tokens",
            "Prompt tokens computed, not cached.",
            &record.computed_tokens,
        ),
    ] {
        page.histogram(&format!("vllm:{name}"), help, histogram);
    }
}

fn cache_config(page: &mut Page<'_>, config: &EngineConfig) {
    let name = "vllm:cache_config_info";
    let (block_size, num_gpu_blocks) = (config.block_size, config.num_gpu_blocks);
    let labels = format!(
        "block_size=\"{block_size}\",cache_dtype=\"auto\",enable_prefix_caching=\"True\",engine=\"0\",\
         gpu_memory_utilization=\"0.92\",hash_block_size=\"None\",is_attention_free=\"False\",\
         kv_cache_size_tokens=\"{}\",num_cpu_blocks=\"None\",num_gpu_blocks=\"{num_gpu_blocks}\",\
         num_gpu_blocks_override=\"None\",prefix_caching_hash_algo=\"sha256\",sliding_window=\"None\"",
        u64::from(block_size) * u64::from(num_gpu_blocks),
    );
    page.family(name, "gauge", "Settings of the KV cache.");
    page.sample(name, &labels, 1.0);
}

fn http(page: &mut Page<'_>, shown: &Shown<'_>) {
    let name = "http_requests_total";
    page.family(name, "counter", "HTTP requests by handler, method and class of status.");
    for ((handler, method, status), n_requests) in shown.http {
        let labels = format!("handler=\"{handler}\",method=\"{method}\",status=\"{status}\"");
        page.sample(name, &labels, *n_requests as f64);
    }
}

//! What each engine calls its metrics, and which engine an endpoint's labels name.
//!
//! Entry points: [`ENGINES`], [`vllm`] and [`named_by`]. Where a page is (scheme, port, path) is not told here:
//! flags and the data source say so for the whole pool. How samples are read is in `mapping`. Pure.

use std::collections::BTreeMap;

use epp_framework::metric_spec::{MetricSpec, MetricSpecs};

/// The labels that name an endpoint's engine: llm-d's, then that of the Gateway API Inference Extension. The first that
/// is there and not empty counts.
pub const ENGINE_LABELS: [&str; 2] = ["llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type"];

/// A name for the default engine, as without a label.
const DEFAULT: &str = "default";

/// An engine, and its metrics in the flags' syntax; an empty text where it has none.
#[derive(Debug)]
pub struct Engine {
    /// What labels call it.
    pub name: &'static str,
    waiting: &'static str,
    running: &'static str,
    kv_used: &'static str,
    lora: &'static str,
    cache_config: &'static str,
    block_size: &'static str,
    num_blocks: &'static str,
}

/// vLLM: V1, and V0 with the one spelling that `mapping` adds.
static VLLM: Engine = Engine {
    name: "vllm",
    waiting: "vllm:num_requests_waiting",
    running: "vllm:num_requests_running",
    kv_used: "vllm:kv_cache_usage_perc",
    lora: "vllm:lora_requests_info",
    cache_config: "vllm:cache_config_info",
    block_size: "",
    num_blocks: "",
};

/// `SGLang`. llm-d's table has the labels of the cache settings alone; 0.5.23 shows gauges in their place.
static SGLANG: Engine = Engine {
    name: "sglang",
    waiting: "sglang:num_queue_reqs",
    running: "sglang:num_running_reqs",
    kv_used: "sglang:token_usage",
    lora: "",
    cache_config: "sglang:cache_config_info",
    block_size: "sglang:page_size",
    num_blocks: "sglang:num_pages",
};

/// TensorRT-LLM's own server, as its page for Prometheus has it (2026).
static TRTLLM_SERVE: Engine = Engine {
    name: "trtllm-serve",
    waiting: "trtllm_num_requests_waiting",
    running: "trtllm_num_requests_running",
    kv_used: "trtllm_kv_cache_utilization",
    lora: "",
    cache_config: "",
    block_size: "trtllm_kv_cache_tokens_per_block",
    num_blocks: "trtllm_kv_cache_max_blocks",
};

/// Triton with the TensorRT-LLM backend. `scheduled` are those in the batch, context phase included.
static TRITON_TENSORRT_LLM: Engine = Engine {
    name: "triton-tensorrt-llm",
    waiting: "nv_trt_llm_request_metrics{request_type=waiting}",
    running: "nv_trt_llm_request_metrics{request_type=scheduled}",
    kv_used: "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}",
    lora: "",
    cache_config: "",
    block_size: "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}",
    num_blocks: "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}",
};

/// Triton with any other backend. llm-d's table takes `nv_inference_exec_count` for the requests that run, but that
/// counts executions since the start, and nothing on the page tells what runs now.
static TRITON: Engine = Engine {
    name: "triton",
    waiting: "nv_inference_pending_request_count",
    running: "",
    kv_used: "",
    lora: "",
    cache_config: "",
    block_size: "",
    num_blocks: "",
};

/// The engines that are known by name: those of llm-d, with its names for them and their metrics unless an entry says
/// otherwise.
pub static ENGINES: [&Engine; 5] = [&VLLM, &SGLANG, &TRTLLM_SERVE, &TRITON_TENSORRT_LLM, &TRITON];

impl Engine {
    /// What to read off its page.
    pub fn specs(&self) -> MetricSpecs {
        let spec = |text| MetricSpec::parse(text).expect("a test reads every constant of the table");
        MetricSpecs {
            waiting: spec(self.waiting),
            running: spec(self.running),
            kv_used: spec(self.kv_used),
            lora: spec(self.lora),
            cache_config: spec(self.cache_config),
            block_size_label: String::new(),
            num_blocks_label: String::new(),
            block_size: spec(self.block_size),
            num_blocks: spec(self.num_blocks),
        }
    }
}

/// What is read off vLLM's page.
pub fn vllm() -> MetricSpecs {
    VLLM.specs()
}

/// The engine that `labels` name, which may be none that is known; `None` for the default one. A label that was chosen
/// takes the place of llm-d's.
pub fn named_by<'l>(labels: &'l BTreeMap<String, String>, chosen: Option<&str>) -> Option<&'l str> {
    let keys = [chosen.unwrap_or(ENGINE_LABELS[0]), ENGINE_LABELS[1]];
    let mut names = keys.iter().filter_map(|label| labels.get(*label)).map(String::as_str);
    names.find(|name| !name.is_empty()).filter(|name| *name != DEFAULT)
}

#[cfg(test)]
mod tests;

//! What each engine calls its metrics, and which engine an endpoint's labels name.
//!
//! Entry points: [`ENGINES`], [`MetricSpecs`] and [`named_by`]. Where a page is (scheme, port, path) is not told here:
//! the flags say so for the whole pool. How samples are read is in `mapping`. Pure.

use std::collections::BTreeMap;

use super::spec::MetricSpec;

/// The labels that name an endpoint's engine: llm-d's, then that of the Gateway API Inference Extension. The first that
/// is there and not empty counts.
pub const ENGINE_LABELS: [&str; 2] = ["llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type"];

/// A name for the engine that the flags describe, as without a label.
const DEFAULT: &str = "default";

/// Which samples tell what. A field without a spec is not scraped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricSpecs {
    /// Requests waiting.
    pub waiting: Option<MetricSpec>,
    /// Requests running.
    pub running: Option<MetricSpec>,
    /// Fraction of KV blocks in use.
    pub kv_used: Option<MetricSpec>,
    /// LoRA adapters, as labels.
    pub lora: Option<MetricSpec>,
    /// Size and number of KV blocks, as labels; what it says comes before the two below.
    pub cache_config: Option<MetricSpec>,
    /// Tokens per KV block, as the value.
    pub block_size: Option<MetricSpec>,
    /// Number of KV blocks, as the value.
    pub num_blocks: Option<MetricSpec>,
}

impl Default for MetricSpecs {
    /// vLLM's.
    fn default() -> Self {
        VLLM.specs()
    }
}

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
            block_size: spec(self.block_size),
            num_blocks: spec(self.num_blocks),
        }
    }
}

/// The engine that `labels` name, which may be none that is known; `None` for the one that the flags describe.
pub fn named_by(labels: &BTreeMap<String, String>) -> Option<&str> {
    let mut names = ENGINE_LABELS.iter().filter_map(|label| labels.get(*label)).map(String::as_str);
    names.find(|name| !name.is_empty()).filter(|name| *name != DEFAULT)
}

#[cfg(test)]
mod tests;

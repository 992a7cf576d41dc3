//! `core-metrics-extractor`: which samples of a model server's page tell its load, by engine; further samples become
//! attributes.

use std::collections::BTreeSet;

use epp_framework::data::{CustomMetric, EngineExtractor, EngineMetrics, Extractor, Payload};
use epp_framework::metric_spec::{MetricSpec, MetricSpecs};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Review, releases};

use super::of;

/// Its name, which stands for any of its instances.
pub(crate) const NAME: &str = "core-metrics-extractor";

/// `core-metrics-extractor`.
pub(crate) const TYPE: PluginType = PluginType {
    name: NAME,
    summary: "Reads load, KV cache and LoRA adapters off the metrics pages of model servers, by engine; further samples \
              become attributes.",
    parameters: PARAMETERS,
    kinds: &[Kind::Extractor(Payload::Metrics)],
    leaves,
    build,
    releases: releases::SINCE_V1_5,
    check,
    review,
    ..PluginType::PLAIN
};

/// Engines that the server knows by name.
const KNOWN: [&str; 5] = ["vllm", "sglang", "trtllm-serve", "triton-tensorrt-llm", "triton"];

const PARAMETERS: &[Parameter] = &[
    text(
        "engineLabelKey",
        "Label that names an endpoint's engine; without it `llm-d.ai/engine-type`, then \
         `inference.networking.k8s.io/engine-type`.",
    ),
    text(
        "defaultEngine",
        "Engine of endpoints whose labels name none that is known; without it they are read as the flags say, usually as \
         vLLM.",
    ),
    list(
        "engineConfigs",
        || ENGINE,
        "Engines beside `vllm`, `sglang`, `trtllm-serve`, `triton-tensorrt-llm`, `triton`, \
                                      or in the place of those.",
    ),
    CUSTOM_METRICS,
];

const ENGINE: &[Parameter] = &[
    Parameter {
        name: "name",
        kind: ParameterKind::Text { default: None, check: check_engine_name },
        unit: "",
        summary: "What labels call the engine.",
    },
    spec("queuedRequestsSpec", "Sample with the requests that wait."),
    spec("runningRequestsSpec", "Sample with the requests that run."),
    spec("kvUsageSpec", "Sample with the fraction of the KV cache in use, 0 to 1."),
    spec(
        "loraSpec",
        "Sample with LoRA adapters, in the labels `running_lora_adapters`, `waiting_lora_adapters`, \
                      `max_lora`.",
    ),
    residency("loraLoadedSpec"),
    residency("loraGPULoadedSpec"),
    residency("loraGPUSlotsSpec"),
    spec("cacheInfoSpec", "Sample with tokens per KV block and number of blocks, as labels."),
    text("cacheBlockSizeLabelName", "Label of tokens per block; without it `block_size`, then `page_size`."),
    text(
        "cacheNumBlocksLabelName",
        "Label of the number of blocks; without it `num_gpu_blocks`, then `num_pages`.",
    ),
    spec("cacheBlockSizeSpec", "Sample with tokens per KV block as its value."),
    spec("cacheNumBlocksSpec", "Sample with the number of KV blocks as its value."),
    CUSTOM_METRICS,
];

const CUSTOM_METRICS: Parameter =
    list("customMetrics", || CUSTOM, "Samples whose values become attributes of the endpoint.");

const CUSTOM: &[Parameter] = &[
    Parameter {
        name: "attributeKey",
        kind: ParameterKind::Text { default: None, check: |_| None },
        unit: "",
        summary: "Name of the attribute.",
    },
    Parameter {
        name: "metricSpec",
        kind: ParameterKind::Text { default: None, check: check_spec },
        unit: "",
        summary: "The sample, as `name` or `name{label=value}`; the newest of several, else the first.",
    },
    Parameter {
        name: "optional",
        kind: ParameterKind::Boolean { default: false },
        unit: "",
        summary: "Does nothing: a sample that is missing takes the attribute away and is no failure.",
    },
];

const fn residency(name: &'static str) -> Parameter {
    let kind =
        ParameterKind::Ignored { because: "adapters are known by those that run and wait, from `loraSpec`" };
    Parameter { name, kind, unit: "", summary: "Which LoRA adapters are in memory." }
}

const fn text(name: &'static str, summary: &'static str) -> Parameter {
    Parameter { name, kind: ParameterKind::Text { default: Some(""), check: |_| None }, unit: "", summary }
}

const fn spec(name: &'static str, summary: &'static str) -> Parameter {
    Parameter { name, kind: ParameterKind::Text { default: Some(""), check: check_spec }, unit: "", summary }
}

const fn list(name: &'static str, fields: fn() -> &'static [Parameter], summary: &'static str) -> Parameter {
    let kind = ParameterKind::List { fields, required: false, check: |_| None };
    Parameter { name, kind, unit: "", summary }
}

fn check_engine_name(name: &str) -> Option<String> {
    (name == "default").then(|| "`default` stands for the engine of endpoints without a label".to_owned())
}

fn check_spec(text: &str) -> Option<String> {
    match MetricSpec::parse(text) {
        Ok(Some(_)) => None,
        Ok(None) => Some("expected a metric, found blanks".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

fn check(parameters: &Parameters) -> Vec<String> {
    let mut wrong = Vec::new();
    let engines = parameters.list("engineConfigs").unwrap_or_default();
    let mut names = BTreeSet::new();
    for engine in engines {
        if !names.insert(engine.text("name")) {
            wrong.push(format!("`engineConfigs` has two engines `{}`", engine.text("name")));
        }
    }
    let everywhere = keys(parameters);
    for (whose, metrics) in
        engines.iter().map(|engine| (engine.text("name"), keys(engine))).chain([("", keys(parameters))])
    {
        let shared = if whose.is_empty() { &[][..] } else { &everywhere[..] };
        for (n, key) in metrics.iter().enumerate() {
            if metrics[..n].contains(key) || shared.contains(key) {
                wrong.push(format!("`customMetrics` has the attribute `{key}` twice"));
            }
        }
    }
    let default = parameters.text("defaultEngine");
    if !default.is_empty() && !KNOWN.contains(&default) && !names.contains(default) {
        let known: Vec<_> = KNOWN.into_iter().chain(names).collect();
        wrong.push(format!("`defaultEngine`: expected one of {}, found `{default}`", known.join(", ")));
    }
    wrong
}

/// The attributes of the custom metrics in these parameters.
pub(crate) fn keys(parameters: &Parameters) -> Vec<&str> {
    let metrics = parameters.list("customMetrics").unwrap_or_default();
    metrics.iter().map(|metric| metric.text("attributeKey")).collect()
}

/// The attributes of custom metrics, of one engine or of all.
fn leaves(parameters: &Parameters) -> Vec<&str> {
    let engines = parameters.list("engineConfigs").unwrap_or_default();
    engines.iter().chain([parameters]).flat_map(keys).collect()
}

/// An entry that takes the place of a known engine takes all of it.
fn review(review: &Review<'_>) -> Vec<String> {
    let engines = review.parameters.list("engineConfigs").unwrap_or_default();
    let silent = engines.iter().filter(|engine| {
        let specs = ["queuedRequestsSpec", "runningRequestsSpec", "kvUsageSpec"];
        KNOWN.contains(&engine.text("name")) && specs.iter().all(|spec| engine.text(spec).is_empty())
    });
    let told = |engine: &Parameters| {
        format!(
            "the entry `{}` of `engineConfigs` takes the place of the built-in one and names no load, so none is read; \
             `customMetrics` beside `engineConfigs` are read of every engine",
            engine.text("name")
        )
    };
    silent.map(told).collect()
}

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let text = |name| Some(parameters.text(name)).filter(|text| !text.is_empty()).map(str::to_owned);
    let engines = parameters.list("engineConfigs").unwrap_or_default();
    let engine = |engine: &Parameters| EngineMetrics {
        name: engine.text("name").to_owned(),
        specs: specs(engine),
        custom: custom(engine, cx),
    };
    of(Extractor::Engine(EngineExtractor {
        label: text("engineLabelKey"),
        default: text("defaultEngine").filter(|name| name != "default"),
        engines: engines.iter().map(engine).collect(),
        custom: custom(parameters, cx),
    }))
}

fn specs(engine: &Parameters) -> MetricSpecs {
    let spec = |name| MetricSpec::parse(engine.text(name)).expect("checked when read");
    MetricSpecs {
        waiting: spec("queuedRequestsSpec"),
        running: spec("runningRequestsSpec"),
        kv_used: spec("kvUsageSpec"),
        lora: spec("loraSpec"),
        cache_config: spec("cacheInfoSpec"),
        block_size_label: engine.text("cacheBlockSizeLabelName").to_owned(),
        num_blocks_label: engine.text("cacheNumBlocksLabelName").to_owned(),
        block_size: spec("cacheBlockSizeSpec"),
        num_blocks: spec("cacheNumBlocksSpec"),
    }
}

fn custom(parameters: &Parameters, cx: &BuildContext<'_>) -> Vec<CustomMetric> {
    let metrics = parameters.list("customMetrics").unwrap_or_default();
    let metric = |metric: &Parameters| CustomMetric {
        keys: cx.own_attribute(NAME, metric.text("attributeKey")),
        spec: MetricSpec::parse(metric.text("metricSpec"))
            .expect("checked when read")
            .expect("an empty one is refused"),
    };
    metrics.iter().map(metric).collect()
}

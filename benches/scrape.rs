//! What reading one metrics page costs: the full page of a vLLM under load, against a count of its newlines.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use epp::scrape::mapping::EngineMapping;
use epp_framework::metric_spec::{MetricSpec, MetricSpecs};

const FULL: &[u8] = include_bytes!("../tests/it/fixtures/real_vllm/metrics-loaded.prom");
const FILTERED: &[u8] = include_bytes!("../tests/it/fixtures/real_vllm/metrics-filtered.prom");

const TRITON: &[u8] = include_bytes!("../tests/it/fixtures/model_servers/triton.prom");

fn main() {
    divan::main();
}

/// The floor: what a pass over the bytes costs at all.
#[divan::bench]
fn count_newlines_of_the_full_page(bencher: Bencher<'_, '_>) {
    let count = || memchr::memchr_iter(b'\n', black_box(FULL)).count();
    bencher.counter(BytesCount::of_slice(FULL)).bench(count);
}

#[divan::bench]
fn read_the_full_page(bencher: Bencher<'_, '_>) {
    let mapping = EngineMapping::vllm();
    bencher.counter(BytesCount::of_slice(FULL)).bench(|| mapping.read(black_box(FULL)));
}

#[divan::bench]
fn read_the_filtered_page(bencher: Bencher<'_, '_>) {
    let mapping = EngineMapping::vllm();
    bencher.counter(BytesCount::of_slice(FILTERED)).bench(|| mapping.read(black_box(FILTERED)));
}

/// Specs with labels: three series out of ten of two names.
#[divan::bench]
fn read_tritons_page_by_labels(bencher: Bencher<'_, '_>) {
    let spec = |text| MetricSpec::parse(text).expect("a constant");
    let mapping = EngineMapping::new(&MetricSpecs {
        waiting: spec("nv_trt_llm_request_metrics{request_type=waiting}"),
        running: spec("nv_trt_llm_request_metrics{request_type=scheduled}"),
        kv_used: spec("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}"),
        ..MetricSpecs::default()
    });
    bencher.counter(BytesCount::of_slice(TRITON)).bench(|| mapping.read(black_box(TRITON)));
}

//! The table of engines against their pages, and the labels that choose among them.

use epp_framework::endpoint::ScrapedLoad;

use super::*;
use crate::scrape::mapping::EngineMapping;

macro_rules! page {
    ($file:literal) => {
        include_str!(concat!("../../../tests/it/fixtures/", $file))
    };
}

fn engine(name: &str) -> MetricSpecs {
    ENGINES.iter().find(|engine| engine.name == name).expect(name).specs()
}

/// Waiting, running, KV use, tokens per block and number of blocks.
type Columns = (Option<u32>, Option<u32>, Option<f64>, Option<u32>, Option<u32>);

/// Reads `page` by the names of `engine`: its columns, and whether it counts as having metrics.
fn read(engine_name: &str, page: &str) -> (Columns, bool) {
    let found = EngineMapping::new(&engine(engine_name)).read(page.as_bytes());
    assert_eq!(found.skipped_lines, 0, "{engine_name}");
    let ScrapedLoad { waiting, running, kv_used, block_size, num_gpu_blocks } = found.load;
    ((waiting, running, kv_used, block_size, num_gpu_blocks), !found.families.is_empty())
}

#[test]
fn every_engine_of_section_6_4_is_read_off_its_page_in_all_columns() {
    let trtllm = (Some(2), Some(5), Some(0.1875), Some(32), Some(8192));
    let triton_trtllm = (Some(3), Some(6), Some(0.4125), Some(64), Some(6239));
    for (engine, page, want) in [
        (
            "vllm",
            page!("model_servers/vllm-1engine.prom"),
            (Some(2), Some(7), Some(0.314_236_111_111_111_1), Some(16), Some(27648)),
        ),
        (
            "sglang",
            page!("model_servers/sglang.prom"),
            (Some(1), Some(6), Some(0.27), Some(1), Some(338_000)),
        ),
        (
            "sglang",
            page!("model_servers/sglang-cache-info.prom"),
            (Some(0), Some(8), Some(0.75), Some(64), Some(6144)),
        ),
        // Two ranks, and a series per priority beside that of all.
        (
            "sglang",
            page!("model_servers/sglang-dp.prom"),
            (Some(5), Some(11), Some(0.375), Some(16), Some(39_000)),
        ),
        ("trtllm-serve", page!("model_servers/trtllm.prom"), trtllm),
        ("triton-tensorrt-llm", page!("model_servers/triton.prom"), triton_trtllm),
        // The sum over models. That of TensorRT-LLM is also a Triton.
        ("triton", page!("model_servers/triton-onnx.prom"), (Some(13), None, None, None, None)),
        ("triton", page!("model_servers/triton.prom"), (Some(3), None, None, None, None)),
    ] {
        assert_eq!(read(engine, page), (want, true), "{engine}");
    }
}

#[test]
fn pages_of_one_engine_say_nothing_to_another() {
    let pages = [
        ("vllm", page!("real_vllm/metrics-loaded.prom")),
        ("sglang", page!("model_servers/sglang-dp.prom")),
        ("trtllm-serve", page!("model_servers/trtllm.prom")),
        ("triton", page!("model_servers/triton-onnx.prom")),
    ];
    for Engine { name, .. } in ENGINES {
        for (other, page) in pages {
            assert_eq!(read(name, page).1, *name == other, "{other}'s page as {name}'s");
        }
    }
}

#[test]
fn an_engine_that_offers_a_part_has_metrics() {
    let none = (None, None, None, None, None);
    for (name, engine, page, want) in [
        (
            "no KV use without iteration statistics",
            "trtllm-serve",
            "trtllm_num_requests_waiting 4\ntrtllm_num_requests_running 9\n",
            (Some(4), Some(9), None, None, None),
        ),
        (
            "an older backend: neither `waiting` nor `fraction`",
            "triton-tensorrt-llm",
            "nv_trt_llm_request_metrics{request_type=\"scheduled\"} 6\n\
             nv_trt_llm_request_metrics{request_type=\"active\"} 9\n\
             nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"tokens_per\"} 64\n\
             nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"max\"} 100\n",
            (None, Some(6), None, Some(64), Some(100)),
        ),
        (
            "KV use alone",
            "sglang",
            "sglang:token_usage{tp_rank=\"0\"} 0.5\n",
            (None, None, Some(0.5), None, None),
        ),
    ] {
        assert_eq!(read(engine, page), (want, true), "{name}");
    }
    for (name, engine, page) in [
        ("no such series", "triton-tensorrt-llm", "nv_trt_llm_request_metrics{request_type=\"active\"} 9\n"),
        ("executions since the start are no load", "triton", "nv_inference_exec_count{model=\"m\"} 438\n"),
    ] {
        assert_eq!(read(engine, page), (none, false), "{name}");
    }
}

#[test]
fn block_sizes_and_numbers_are_read_off_values() {
    let page = |size: &str, number: &str| {
        format!("sglang:page_size{{tp_rank=\"0\"}} {size}\nsglang:num_pages{{tp_rank=\"0\"}} {number}\n")
    };
    let labels = "sglang:cache_config_info{page_size=\"64\",num_pages=\"10\"} 1\n";
    for (name, page, want) in [
        ("both", page("16.0", "1000.0"), (Some(16), Some(1000))),
        ("zero tokens in a block", page("0", "7"), (None, Some(7))),
        ("no number", page("NaN", "+Inf"), (None, None)),
        ("negative", page("-16", "-1"), (None, None)),
        ("beyond 32 bits", page("16", "1e12"), (Some(16), Some(u32::MAX))),
        ("labels come before, wherever they stand", page("16", "1000") + labels, (Some(64), Some(10))),
        (
            "ranks of a size have their blocks together",
            page("16", "1000").replace("tp_rank", "dp_rank") + &page("16", "500"),
            (Some(16), Some(1500)),
        ),
    ] {
        let (_, _, _, size, number) = read("sglang", &page).0;
        assert_eq!((size, number), want, "{name}");
    }
}

#[test]
fn labels_name_an_engine_llm_d_s_first() {
    let [llm_d, gie] = ENGINE_LABELS;
    for (name, labels, want) in [
        ("none", &[][..], None),
        ("other labels", &[("engine-type", "sglang"), ("app", "vllm")], None),
        ("llm-d's", &[(llm_d, "sglang")], Some("sglang")),
        ("that of the extension", &[(gie, "triton")], Some("triton")),
        ("both", &[(gie, "triton"), (llm_d, "sglang")], Some("sglang")),
        ("an empty one is none", &[(gie, "triton"), (llm_d, "")], Some("triton")),
        ("both empty", &[(gie, ""), (llm_d, "")], None),
        ("what is not known is told", &[(llm_d, "SGLang")], Some("SGLang")),
        ("unknown before known", &[(llm_d, "x"), (gie, "triton")], Some("x")),
        ("that of the flags", &[(llm_d, "default"), (gie, "triton")], None),
    ] {
        let owned = |&(label, name): &(&str, &str)| (label.to_owned(), name.to_owned());
        let labels = labels.iter().map(owned).collect();
        assert_eq!(named_by(&labels, None), want, "{name}");
    }
}

#[test]
fn a_label_that_was_chosen_takes_the_place_of_llm_d_s() {
    let [llm_d, gie] = ENGINE_LABELS;
    for (name, labels, want) in [
        ("the chosen one", &[("engine", "a"), (llm_d, "b"), (gie, "c")][..], Some("a")),
        ("llm-d's no longer counts", &[(llm_d, "b"), (gie, "c")], Some("c")),
        ("nor alone", &[(llm_d, "b")], None),
    ] {
        let labels = labels.iter().map(|&(label, name)| (label.to_owned(), name.to_owned())).collect();
        assert_eq!(named_by(&labels, Some("engine")), want, "{name}");
    }
}

#[test]
fn names_are_no_other_names() {
    let names: std::collections::BTreeSet<_> = ENGINES.iter().map(|engine| engine.name).collect();
    assert_eq!(names.len(), ENGINES.len());
    assert!(!names.contains(DEFAULT) && !names.contains(""));
    assert_eq!(engine("vllm"), vllm());
}

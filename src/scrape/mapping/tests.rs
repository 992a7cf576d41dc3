//! What the pages of model servers mean: one table over the fixtures, and the LoRA rows.

use proptest::prelude::*;

use super::*;

const LOADED: &[u8] = include_bytes!("../../../tests/it/fixtures/real_vllm/metrics-loaded.prom");
const LORA: &[u8] = include_bytes!("../../../tests/it/fixtures/real_vllm/metrics-lora-2.prom");

fn read(page: &str) -> PageFindings {
    EngineMapping::vllm().read(page.as_bytes())
}

fn load(
    waiting: Option<u32>,
    running: Option<u32>,
    kv_used: Option<f64>,
    blocks: Option<(u32, u32)>,
) -> ScrapedLoad {
    let (block_size, num_gpu_blocks) = blocks.unzip();
    ScrapedLoad { waiting, running, kv_used, block_size, num_gpu_blocks }
}

fn adapters(running: &[&str], waiting: &[&str], max: u32) -> LoraAdapters {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    LoraAdapters::new(owned(running), owned(waiting), max)
}

/// The metrics pages among the fixtures, by their place in there.
fn pages() -> BTreeMap<String, Vec<u8>> {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures");
    let mut pages = BTreeMap::new();
    for folder in ["real_vllm", "model_servers"] {
        for entry in std::fs::read_dir(format!("{fixtures}/{folder}")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "prom") {
                let name = path.file_name().unwrap().to_str().unwrap();
                pages.insert(format!("{folder}/{name}"), std::fs::read(&path).unwrap());
            }
        }
    }
    pages
}

#[test]
fn pages_of_model_servers_are_understood() {
    let idle = load(Some(0), Some(0), Some(0.0), Some((128, 8192)));
    let two = &["ad-1", "ad-2"][..];
    let three = &["a", "b", "c"][..];
    let cases = [
        ("real_vllm/metrics-after.prom", load(Some(0), Some(0), Some(0.0), Some((32, 32768))), None),
        ("real_vllm/metrics-filtered.prom", idle, None),
        ("real_vllm/metrics-idle.prom", idle, None),
        (
            "real_vllm/metrics-loaded.prom",
            load(Some(4), Some(2), Some(0.000_671_407_208_471_919_1), Some((32, 32768))),
            None,
        ),
        (
            "real_vllm/metrics-lora-2.prom",
            load(Some(2), Some(4), Some(0.904_761_904_761_904_8), Some((32, 64))),
            Some(adapters(two, two, 2)),
        ),
        (
            "model_servers/vllm-1engine.prom",
            load(Some(2), Some(7), Some(0.314_236_111_111_111_1), Some((16, 27648))),
            None,
        ),
        (
            "model_servers/vllm-8engines.prom",
            load(Some(15), Some(76), Some(0.326_25), Some((16, 8 * 27648))),
            None,
        ),
        (
            "model_servers/vllm-lora.prom",
            load(Some(3), Some(4), Some(0.55), Some((16, 27648))),
            Some(adapters(&["sql-adapter", "tone-a"], &["tone-b", "tone-c"], 4)),
        ),
        ("model_servers/vllm-lora-both.prom", load(None, None, None, None), Some(adapters(three, three, 2))),
        ("model_servers/vllm-multiproc-pid.prom", load(Some(1), Some(13), Some(0.415), None), None),
        (
            "model_servers/vllm-v0.prom",
            load(Some(1), Some(3), Some(0.0421), Some((16, 27837))),
            Some(LoraAdapters::default()),
        ),
        ("model_servers/odd.prom", load(Some(5), None, None, None), None),
        ("model_servers/openmetrics.prom", load(Some(2), None, None, None), None),
        // Other engines: nothing is taken for a family of vLLM. By their own names they are read in `engine`'s tests.
        ("model_servers/sglang.prom", load(None, None, None, None), None),
        ("model_servers/sglang-cache-info.prom", load(None, None, None, None), None),
        ("model_servers/sglang-dp.prom", load(None, None, None, None), None),
        ("model_servers/triton.prom", load(None, None, None, None), None),
        ("model_servers/triton-onnx.prom", load(None, None, None, None), None),
        ("model_servers/trtllm.prom", load(None, None, None, None), None),
    ];
    let mut pages = pages();
    for (name, want_load, want_lora) in cases {
        let mut found = EngineMapping::vllm().read(&pages.remove(name).expect(name));
        // A mean of decimal fractions is no decimal fraction.
        found.load.kv_used = found.load.kv_used.map(|kv_used| (kv_used * 1e15).round() / 1e15);
        let want_load =
            ScrapedLoad { kv_used: want_load.kv_used.map(|used| (used * 1e15).round() / 1e15), ..want_load };
        assert_eq!((found.load, found.lora, found.skipped_lines), (want_load, want_lora, 0), "{name}");
    }
    assert!(pages.is_empty(), "no expectation for {:?}", pages.keys());
}

fn spec(text: &str) -> Option<MetricSpec> {
    MetricSpec::parse(text).unwrap()
}

/// Specs of queue, running and KV use; adapters and cache settings are off.
fn specs(waiting: &str, running: &str, kv_used: &str) -> MetricSpecs {
    let [waiting, running, kv_used] = [waiting, running, kv_used].map(spec);
    MetricSpecs { waiting, running, kv_used, ..MetricSpecs::default() }
}

#[test]
fn pages_of_other_servers_are_understood_by_specs() {
    macro_rules! page {
        ($file:literal) => {
            &include_bytes!(concat!("../../../tests/it/fixtures/model_servers/", $file))[..]
        };
    }
    let triton = specs(
        "nv_trt_llm_request_metrics{request_type=waiting}",
        "nv_trt_llm_request_metrics{request_type=scheduled}",
        "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}",
    );
    let trtllm =
        specs("trtllm_num_requests_waiting", "trtllm_num_requests_running", "trtllm_kv_cache_utilization");
    let sglang = specs("sglang:num_queue_reqs", "sglang:num_running_reqs", "sglang:token_usage");
    let other_type = specs("nv_trt_llm_request_metrics{request_type=paused}", "", "");
    for (name, specs, page, want) in [
        ("Triton", &triton, page!("triton.prom"), load(Some(3), Some(6), Some(0.4125), None)),
        ("trtllm-serve", &trtllm, page!("trtllm.prom"), load(Some(2), Some(5), Some(0.1875), None)),
        ("SGLang", &sglang, page!("sglang.prom"), load(Some(1), Some(6), Some(0.27), None)),
        ("nothing matches", &other_type, page!("triton.prom"), ScrapedLoad::default()),
        ("another server", &triton, page!("trtllm.prom"), ScrapedLoad::default()),
        ("nothing wanted", &specs("", "", ""), page!("triton.prom"), ScrapedLoad::default()),
    ] {
        let found = EngineMapping::new(specs).read(page);
        assert_eq!((found.load, found.skipped_lines), (want, 0), "{name}");
        assert_eq!(found.families.is_empty(), want == ScrapedLoad::default(), "{name}");
    }
    assert_eq!(
        EngineMapping::new(&triton).wanted_query(),
        "name[]=nv_trt_llm_request_metrics&name[]=nv_trt_llm_kv_cache_block_metrics",
        "a name is asked for once"
    );
}

#[test]
fn row_139_the_newest_series_counts_then_the_first() {
    for (name, waiting, page, want) in [
        ("139", "q", "q{a=\"1\"} 5 1000\nq{a=\"2\"} 7 2000\n", Some(7)),
        ("139, other order", "q", "q{a=\"2\"} 7 2000\nq{a=\"1\"} 9 1000\n", Some(7)),
        ("139 among those that match", "q{a=1}", "q{a=\"1\"} 5 1000\nq{a=\"2\"} 7 2000\n", Some(5)),
        ("a stamp beats none", "q{a=1}", "q{a=\"1\"} 5\nq{a=\"1\",b=\"\"} 7 -2000\n", Some(7)),
        ("none: the first", "q{a=1}", "q{a=\"1\",b=\"x\"} 5\nq{a=\"1\",b=\"y\"} 7\n", Some(5)),
        ("a tie: the first", "q{a=1}", "q{a=\"1\",b=\"x\"} 5 9\nq{b=\"y\",a=\"1\"} 7 9\n", Some(5)),
        ("the first that has a value", "q{a=1}", "q{a=\"1\",b=\"x\"} NaN 9\nq{a=\"1\"} 7\n", Some(7)),
        ("all labels", "q{a=1,b=2}", "q{a=\"1\"} 5\nq{b=\"2\"} 6\nq{b=\"2\",c=\"3\",a=\"1\"} 7\n", Some(7)),
        ("escapes", "q{a=x\\y}", "q{a=\"xy\"} 5\nq{a=\"x\\\\y\"} 7\n", Some(7)),
        ("ranks without labels in the spec", "q", "q{engine=\"0\"} 5 1\nq{engine=\"1\"} 7 2\n", Some(12)),
        ("no match", "q{a=1}", "q{a=\"2\"} 5\nq 6\n", None),
    ] {
        let found = EngineMapping::new(&specs(waiting, "", "")).read(page.as_bytes());
        assert_eq!(found.load.waiting, want, "{name}");
        assert_eq!(found.families.is_empty(), want.is_none(), "{name}");
    }
}

#[test]
fn kv_use_takes_the_configured_spelling_before_the_other() {
    let both = "vllm:kv_cache_usage_perc 0.5\nvllm:gpu_cache_usage_perc 0.25\n";
    let old = "vllm:gpu_cache_usage_perc{a=\"1\"} 0.125\nvllm:gpu_cache_usage_perc{a=\"2\"} 0.25\n";
    for (kv_used, page, want) in [
        ("vllm:kv_cache_usage_perc", both, Some(0.5)),
        ("vllm:gpu_cache_usage_perc", both, Some(0.25)),
        ("vllm:kv_cache_usage_perc{a=2}", old, Some(0.25)),
        ("other:kv_cache_usage_perc", both, None),
        ("", both, None),
    ] {
        let found = EngineMapping::new(&specs("", "", kv_used)).read(page.as_bytes());
        assert_eq!(found.load.kv_used, want, "{kv_used}");
    }
}

#[test]
fn adapters_and_cache_settings_can_be_renamed_and_switched_off() {
    let page = "x:lora{running_lora_adapters=\"a\",max_lora=\"2\",pool=\"p\"} 1\n\
                x:lora{running_lora_adapters=\"b\",max_lora=\"3\",pool=\"q\"} 2\n\
                sglang:cache_config_info{page_size=\"64\",num_pages=\"100\"} 1\n";
    let specs = |lora, cache_config| MetricSpecs {
        lora: spec(lora),
        cache_config: spec(cache_config),
        ..engine::vllm()
    };
    let found =
        EngineMapping::new(&specs("x:lora{pool=p}", "sglang:cache_config_info")).read(page.as_bytes());
    assert_eq!(found.lora, Some(adapters(&["a"], &[], 2)));
    assert_eq!(found.load, load(None, None, None, Some((64, 100))));
    assert_eq!(EngineMapping::new(&specs("", "")).read(LORA).lora, None);
}

#[test]
fn custom_metrics_are_one_series_each_and_may_be_negative() {
    let names = epp_framework::slot::SlotNames::default();
    let metric = |text| CustomMetric {
        keys: std::iter::once(names.attribute("p", text)).collect(),
        spec: spec(text).unwrap(),
    };
    let custom = ["q", "q{a=2}", "depth", "absent", "broken"].map(metric);
    let mapping = EngineMapping::with_custom(&specs("q", "", ""), custom.to_vec());
    let page = "q{model_name=\"m\",a=\"1\"} 5\nq{model_name=\"n\",a=\"2\"} 7\ndepth -1.5\nbroken NaN\n";
    let found = mapping.read(page.as_bytes());
    assert_eq!(found.load.waiting, Some(12), "of the load, models add up");
    assert_eq!(found.custom, [(0, 5.0), (1, 7.0), (2, -1.5)]);
    assert_eq!(mapping.wanted_query(), "name[]=q&name[]=depth&name[]=absent&name[]=broken");
    let newest = mapping.read(b"depth{a=\"1\"} 1 1000\ndepth{a=\"2\"} 2 2000\ndepth{a=\"3\"} 3\n");
    assert_eq!(newest.custom, [(2, 2.0)]);
    assert!(newest.families.is_empty(), "a custom metric is no load");
    assert!(mapping.read(b"q 1\n").families.covers(found.families), "and may be missing");
    let many = vec![metric("many"); 300];
    let found = EngineMapping::with_custom(&specs("q", "", ""), many).read(b"many 1\n");
    assert_eq!(found.custom.len(), 240);
}

#[test]
fn labels_of_cache_settings_can_be_renamed() {
    let page =
        "c{block_size=\"1\",page_size=\"2\",num_gpu_blocks=\"3\",num_pages=\"4\",size=\"5\",n=\"6\"} 1\n";
    for (size, number, want) in
        [("", "", (1, 3)), ("size", "", (5, 3)), ("size", "n", (5, 6)), ("page_size", "num_pages", (2, 4))]
    {
        let specs = MetricSpecs {
            cache_config: spec("c"),
            block_size_label: size.to_owned(),
            num_blocks_label: number.to_owned(),
            ..MetricSpecs::default()
        };
        let found = EngineMapping::new(&specs).read(page.as_bytes());
        assert_eq!(found.load, load(None, None, None, Some(want)), "{size} {number}");
    }
}

#[test]
fn kv_use_takes_the_new_spelling_before_the_old() {
    let cases = [
        ("new", "vllm:kv_cache_usage_perc 0.5\n", Some(0.5)),
        ("old", "vllm:gpu_cache_usage_perc 0.25\n", Some(0.25)),
        ("both, old first", "vllm:gpu_cache_usage_perc 0.25\nvllm:kv_cache_usage_perc 0.5\n", Some(0.5)),
        ("new without a value", "vllm:kv_cache_usage_perc NaN\nvllm:gpu_cache_usage_perc 0.25\n", Some(0.25)),
        ("neither", "vllm:num_requests_waiting 1\n", None),
        (
            "of one rank the largest",
            "vllm:kv_cache_usage_perc{engine=\"0\",pid=\"1\"} 0.1\nvllm:kv_cache_usage_perc{engine=\"0\",pid=\"2\"} 0.3\n",
            Some(0.3),
        ),
        (
            "over ranks the mean",
            "vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.75\n",
            Some(0.5),
        ),
        (
            "a rank without value does not count",
            "vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\nvllm:kv_cache_usage_perc{engine=\"1\"} NaN\n",
            Some(0.25),
        ),
        ("zero is a value", "vllm:kv_cache_usage_perc 0\n", Some(0.0)),
        (
            "beyond a double in sum",
            "vllm:kv_cache_usage_perc{engine=\"0\"} 1e308\nvllm:kv_cache_usage_perc{engine=\"1\"} 1e308\n",
            None,
        ),
    ];
    for (name, page, want) in cases {
        assert_eq!(read(page).load.kv_used, want, "{name}");
    }
}

#[test]
fn queue_lengths_are_summed_truncated_and_saturated() {
    let cases = [
        ("one", "vllm:num_requests_waiting 3.0\n", Some(3)),
        (
            "ranks",
            "vllm:num_requests_waiting{engine=\"0\"} 2\nx 1\nvllm:num_requests_waiting{engine=\"1\"} 3\n",
            Some(5),
        ),
        (
            "models",
            "vllm:num_requests_waiting{model_name=\"a\"} 2\nvllm:num_requests_waiting{model_name=\"b\"} 3\n",
            Some(5),
        ),
        (
            "processes of one rank",
            "vllm:num_requests_waiting{pid=\"1\"} 2\nvllm:num_requests_waiting{pid=\"2\"} 3\n",
            Some(3),
        ),
        (
            "the parts are not added to the whole",
            "vllm:num_requests_waiting 4\nvllm:num_requests_waiting_by_reason{reason=\"capacity\"} 4\n",
            Some(4),
        ),
        ("fraction", "vllm:num_requests_waiting 3.9\n", Some(3)),
        ("beyond 32 bits", "vllm:num_requests_waiting 1e12\n", Some(u32::MAX)),
        ("infinite", "vllm:num_requests_waiting +Inf\n", None),
        ("beyond a double", "vllm:num_requests_waiting 1e400\n", None),
        ("not a number", "vllm:num_requests_waiting NaN\n", None),
        ("negative", "vllm:num_requests_waiting -1\n", None),
        ("zero", "vllm:num_requests_waiting 0.0\n", Some(0)),
        ("broken", "vllm:num_requests_waiting x\n", None),
        ("absent", "vllm:num_requests_running 1\n", None),
    ];
    for (name, page, want) in cases {
        assert_eq!(read(page).load.waiting, want, "{name}");
    }
}

#[test]
fn cache_settings_are_read_off_labels() {
    let one = |labels: &str| format!("vllm:cache_config_info{{{labels}}} 1.0\n");
    let cases = [
        ("both", one("block_size=\"16\",num_gpu_blocks=\"100\""), (Some(16), Some(100))),
        (
            "hash_block_size is another",
            one("hash_block_size=\"64\",num_gpu_blocks=\"100\""),
            (None, Some(100)),
        ),
        ("None", one("block_size=\"None\",num_gpu_blocks=\"None\""), (None, None)),
        (
            "unresolved, then known",
            one("block_size=\"None\"") + &one("block_size=\"32\",num_gpu_blocks=\"7\""),
            (Some(32), Some(7)),
        ),
        (
            "ranks",
            one("block_size=\"16\",engine=\"0\",num_gpu_blocks=\"100\"")
                + &one("block_size=\"16\",engine=\"1\",num_gpu_blocks=\"50\""),
            (Some(16), Some(150)),
        ),
        ("empty", one("block_size=\"\",num_gpu_blocks=\"\""), (None, None)),
        ("signs and fractions", one("block_size=\"-16\",num_gpu_blocks=\"1.5\""), (None, None)),
        ("zero tokens in a block", one("block_size=\"0\",num_gpu_blocks=\"0\""), (None, Some(0))),
        (
            "beyond 32 bits",
            one("block_size=\"16\",num_gpu_blocks=\"99999999999999999999999\""),
            (Some(16), Some(u32::MAX)),
        ),
        ("no labels", "vllm:cache_config_info 1.0\n".to_owned(), (None, None)),
    ];
    for (name, page, want) in cases {
        let load = read(&page).load;
        assert_eq!((load.block_size, load.num_gpu_blocks), want, "{name}");
    }
}

/// The epp rows 140 to 142, and 143 below.
#[test]
fn lora_adapters_come_from_the_newest_series() {
    let series = |labels: &str, at: &str| format!("vllm:lora_requests_info{{{labels}}} {at}\n");
    let old = series("max_lora=\"4\",running_lora_adapters=\"lora2,lora3\"", "1000");
    let new = series("max_lora=\"2\",running_lora_adapters=\"lora1\"", "3000");
    let idle = series("max_lora=\"2\",running_lora_adapters=\"\",waiting_lora_adapters=\"\"", "4000");
    let cases = [
        ("140", new.clone() + &old, Some(adapters(&["lora1"], &[], 2))),
        ("140, other order", old.clone() + &new, Some(adapters(&["lora1"], &[], 2))),
        ("141", series("max_lora=\"2\"", "3000"), None),
        (
            "141 beside a good series",
            series("max_lora=\"2\"", "3000") + &old,
            Some(adapters(&["lora2", "lora3"], &[], 4)),
        ),
        (
            "142",
            series("max_lora=\"invalid\",waiting_lora_adapters=\"a\"", "1"),
            Some(adapters(&[], &["a"], 0)),
        ),
        ("idle is the truth too", new + &idle, Some(adapters(&[], &[], 2))),
        (
            "blanks and empty entries",
            series("running_lora_adapters=\" a , b ,,\"", "1"),
            Some(adapters(&["a", "b"], &[], 0)),
        ),
        (
            "escaped names",
            series("running_lora_adapters=\"a\\\"b,c\\\\d\"", "1"),
            Some(adapters(&["a\"b", "c\\d"], &[], 0)),
        ),
        ("no time", series("running_lora_adapters=\"a\"", "NaN"), None),
    ];
    for (name, page, want) in cases {
        assert_eq!(read(&page).lora, want, "{name}");
    }
}

#[test]
fn a_missing_family_is_absent_and_not_zero_143() {
    let found = read("vllm:num_requests_running 1\nvllm:kv_cache_usage_perc 0.5\n");
    assert_eq!(found.load, load(None, Some(1), Some(0.5), None));
    let none = read("");
    assert_eq!(none, PageFindings::default());
    assert!(none.families.is_empty());
    assert!(!read("vllm:num_requests_waiting NaN\n").families.is_empty(), "present, though without a value");
}

#[test]
fn family_sets_cover_their_parts() {
    let (one, both) =
        (read("vllm:num_requests_running 1\n").families, EngineMapping::vllm().read(LOADED).families);
    assert!(both.covers(one) && both.covers(both) && one.covers(FamilySet::default()));
    assert!(!one.covers(both));
    assert!(EngineMapping::vllm().read(LORA).families.covers(both));
}

#[test]
fn the_query_names_every_wanted_sample() {
    assert_eq!(
        EngineMapping::vllm().wanted_query(),
        "name[]=vllm:num_requests_waiting&name[]=vllm:num_requests_running&name[]=vllm:kv_cache_usage_perc\
         &name[]=vllm:gpu_cache_usage_perc&name[]=vllm:cache_config_info&name[]=vllm:lora_requests_info"
    );
}

proptest! {
    #[test]
    fn mutated_pages_do_not_panic(
        lora in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut page = if lora { LORA } else { LOADED }.to_vec();
        for (at, byte) in edits {
            let at = at.index(page.len());
            page[at] = byte;
        }
        page.truncate(cut.index(page.len() + 1));
        let found = EngineMapping::vllm().read(&page);
        prop_assert!(found.load.kv_used.is_none_or(f64::is_finite));
    }

    #[test]
    fn mutated_wanted_lines_do_not_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[{}\",=\\\\ \n#0-9]"), 1..10),
    ) {
        let mut page = include_str!("../../../tests/it/fixtures/real_vllm/metrics-filtered.prom").to_owned();
        for (at, text) in edits {
            let at = at.index(page.len());
            page.replace_range(at..=at, &text);
        }
        read(&page);
    }
}

#[test]
fn a_page_cannot_make_us_keep_more_adapters_than_a_server_can_have() {
    let names = (0..300_000).map(|n| format!("a{n}")).collect::<Vec<_>>().join(",");
    let long = "b".repeat(1000);
    let page = format!(
        "vllm:lora_requests_info{{max_lora=\"1\",running_lora_adapters=\"{names}\",waiting_lora_adapters=\"{long},c\"}} 1.0\n"
    );
    let lora = EngineMapping::vllm().read(page.as_bytes()).lora.expect("the series is there");
    assert_eq!((lora.running().len(), lora.waiting()), (MAX_ADAPTERS, &["c".to_owned()][..]));
}

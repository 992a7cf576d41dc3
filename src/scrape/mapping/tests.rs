//! What the pages of model servers mean: one table over the fixtures, and the LoRA rows.

use proptest::prelude::*;

use super::*;

const LOADED: &[u8] = include_bytes!("../../../tests/it/fixtures/metrics/metrics-loaded.prom");
const LORA: &[u8] = include_bytes!("../../../tests/it/fixtures/metrics/metrics-lora-2.prom");

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
    LoraAdapters { running: owned(running), waiting: owned(waiting), max }
}

#[test]
fn pages_of_real_servers_are_understood() {
    macro_rules! page {
        ($file:literal) => {
            ($file, &include_bytes!(concat!("../../../tests/it/fixtures/metrics/", $file))[..])
        };
    }
    let two = &["ad-1", "ad-2"][..];
    let three = &["a", "b", "c"][..];
    let cases = [
        (page!("metrics-filtered.prom"), load(Some(0), Some(0), Some(0.0), Some((128, 8192))), None),
        (
            page!("metrics-loaded.prom"),
            load(Some(4), Some(2), Some(0.000_671_407_208_471_919_1), Some((32, 32768))),
            None,
        ),
        (
            page!("metrics-lora-2.prom"),
            load(Some(2), Some(4), Some(0.904_761_904_761_904_8), Some((32, 64))),
            Some(adapters(two, two, 2)),
        ),
        (page!("vllm-lora-both.prom"), load(None, None, None, None), Some(adapters(three, three, 2))),
        (page!("vllm-multiproc-pid.prom"), load(Some(1), Some(13), Some(0.415), None), None),
        (
            page!("vllm-v0.prom"),
            load(Some(1), Some(3), Some(0.0421), Some((16, 27837))),
            Some(LoraAdapters::default()),
        ),
        (page!("odd.prom"), load(Some(5), None, None, None), None),
        (page!("openmetrics.prom"), load(Some(2), None, None, None), None),
    ];
    for ((name, page), want_load, want_lora) in cases {
        let found = EngineMapping::vllm().read(page);
        assert_eq!((found.load, found.lora, found.skipped_lines), (want_load, want_lora, 0), "{name}");
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
        let mut page = include_str!("../../../tests/it/fixtures/metrics/metrics-filtered.prom").to_owned();
        for (at, text) in edits {
            let at = at.index(page.len());
            page.replace_range(at..=at, &text);
        }
        read(&page);
    }
}

#[test]
fn a_page_cannot_make_us_keep_more_adapters_than_a_server_can_have() {
    let names = vec!["a"; 1_000_000].join(",");
    let long = "b".repeat(1000);
    let page = format!(
        "vllm:lora_requests_info{{max_lora=\"1\",running_lora_adapters=\"{names}\",waiting_lora_adapters=\"{long},c\"}} 1.0\n"
    );
    let lora = EngineMapping::vllm().read(page.as_bytes()).lora.expect("the series is there");
    assert_eq!((lora.running.len(), lora.waiting), (MAX_ADAPTERS, vec!["c".to_owned()]));
}

//! Families against the functional specification, and the bounds of what clients can make us show.

use std::collections::{BTreeMap, BTreeSet};

use super::pool::PoolCollector;
use super::*;
use crate::clock::Clock;
use crate::datastore;
use crate::discovery::Change;

/// Upper bounds of buckets as the page shows them.
const L: &str = "0.005 0.025 0.05 0.1 0.2 0.4 0.6 0.8 1 1.25 1.5 2 3 4 5 6 8 10 15 20 30 45 60 120 180 240 300 360 480 \
                 600 900 1200 1800 2700 3600";
const S: &str = "64 128 256 512 1024 2048 4096 8192 16384 32768 65536 131072 262144 524288 1048576 2097152 4194304 \
                 8388608 16777216 33554432 67108864 134217728 268435456 536870912 1073741824";
const P: &str = "0.0001 0.0002 0.0005 0.001 0.002 0.005 0.01 0.02 0.05 0.1";
const ANSWERS: &str = "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384 32778 65536";
const INPUT: &str =
    "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384 32778 65536 131072 262144 524288 1048576";
const OUTPUT: &str = "1 8 16 32 64 128 256 512 1024 2048 4096 8192";
const PER_TOKEN: &str = "0.001 0.002 0.005 0.01 0.02 0.05 0.1 0.2 0.5 1 2 5 10";
const RATIOS: &str = "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1";
const HIT_BYTES: &str = "0 16 32 64 128 256 512 1024 2048 4096 8192 16384 32768 65536";
const PAIR: &str = "model_name target_model_name";

/// Section 7.1 of the functional specification, whole: name, type, labels, buckets.
const SECTION_7_1: &[(&str, &str, &str, &str)] = &[
    ("inference_model_request_total", "counter", PAIR, ""),
    ("inference_model_request_error_total", "counter", "error_code model_name target_model_name", ""),
    ("inference_model_request_duration_seconds", "histogram", PAIR, L),
    ("inference_model_request_sizes", "histogram", PAIR, S),
    ("inference_model_response_sizes", "histogram", PAIR, ANSWERS),
    ("inference_model_input_tokens", "histogram", PAIR, INPUT),
    ("inference_model_output_tokens", "histogram", PAIR, OUTPUT),
    ("inference_model_running_requests", "gauge", "model_name", ""),
    ("inference_model_normalized_time_per_output_token_seconds", "histogram", PAIR, PER_TOKEN),
    ("inference_pool_average_kv_cache_utilization", "gauge", "name", ""),
    ("inference_pool_average_queue_size", "gauge", "name", ""),
    ("inference_pool_ready_pods", "gauge", "name", ""),
    ("inference_pool_per_pod_queue_size", "gauge", "model_server_pod name", ""),
    ("inference_extension_scheduler_e2e_duration_seconds", "histogram", "", P),
    (
        "inference_extension_plugin_duration_seconds",
        "histogram",
        "extension_point plugin_name plugin_type",
        P,
    ),
    ("inference_extension_prefix_indexer_size", "gauge", "", ""),
    ("inference_extension_prefix_indexer_hit_ratio", "histogram", "", RATIOS),
    ("inference_extension_prefix_indexer_hit_bytes", "histogram", "", HIT_BYTES),
    ("inference_extension_info", "gauge", "build_ref commit", ""),
];

/// A family as a scraper sees it: type, whether there is help, labels but `le`, upper bounds of one series.
#[derive(Default)]
struct Shown {
    kind: String,
    helped: bool,
    labels: BTreeSet<String>,
    bounds: Vec<String>,
}

/// The families of a page. The text comes before the samples, as parsers want it; label values hold neither `,` nor `=`.
fn families(page: &str) -> BTreeMap<String, Shown> {
    let mut families = BTreeMap::<String, Shown>::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().helped = !help.is_empty();
            continue;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut families.entry(name.to_owned()).or_default().kind);
            continue;
        }
        let (series, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let plain = |name: &str| {
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).map(str::to_owned)
        };
        let family = if families.contains_key(name) { Some(name.to_owned()) } else { plain(name) };
        let shown = families.get_mut(&family.expect("it belongs to one")).expect("the type comes first");
        for (label, value) in
            labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='))
        {
            let bound = value.trim_matches('"').to_owned();
            if label != "le" {
                shown.labels.insert(label.to_owned());
            } else if bound != "+Inf" && !shown.bounds.contains(&bound) {
                shown.bounds.push(bound);
            }
        }
    }
    families
}

/// The page of a process that has seen one request and one refusal.
fn used_page() -> String {
    let (store, mut writer) = datastore::store();
    let endpoint = epp_framework::endpoint::EndpointMeta {
        name: "a".into(),
        namespace: "default".into(),
        address: [10, 0, 0, 1].into(),
        port: 1,
        labels: BTreeMap::new(),
    };
    writer.apply(vec![Change::Upsert(endpoint)], |_| {});
    let metrics = Metrics::new();
    PoolCollector::register(metrics.registry(), "p", store, Clock::start(), Duration::from_secs(1));
    let model = metrics.model("m", "t");
    model.count_request(1);
    model.count_error("BadRequest");
    metrics.plugins.with_label_values(&["Scorer", "queue-scorer", "q"]).observe(0.5);
    page::page([
        (process::ProcessMetrics::new().registry().gather(), None),
        (metrics.registry().gather(), None),
    ])
}

#[test]
fn every_family_of_section_7_1_has_its_type_labels_and_buckets() {
    let shown = families(&used_page());
    for &(name, kind, labels, bounds) in SECTION_7_1 {
        let family = shown.get(name).unwrap_or_else(|| panic!("{name} is not on the page"));
        assert!(family.helped, "{name} has no help");
        assert_eq!(family.kind, kind, "{name}");
        assert_eq!(family.labels.iter().map(String::as_str).collect::<Vec<_>>().join(" "), labels, "{name}");
        assert_eq!(
            family.bounds.join(" "),
            bounds.split_whitespace().collect::<Vec<_>>().join(" "),
            "{name}"
        );
    }
    let of_ours = |name: &&String| !name.starts_with("epp_");
    let more: Vec<_> =
        shown.keys().filter(of_ours).filter(|name| !SECTION_7_1.iter().any(|row| row.0 == *name)).collect();
    assert!(more.is_empty(), "section 7.1 does not have {more:?}");
}

#[test]
fn time_per_token_is_observed_for_answers_with_output() {
    let metrics = Metrics::new();
    let model = metrics.model("m", "t");
    model.observe_response(Duration::from_secs(3), 10, 0);
    model.observe_response(Duration::from_secs(3), 10, 4);
    let page = metrics.render();
    let series = |end: &str| {
        format!(
            "inference_model_normalized_time_per_output_token_seconds_{end}{{model_name=\"m\",target_model_name=\"t\"}}"
        )
    };
    for line in [format!("{} 0.75\n", series("sum")), format!("{} 1\n", series("count"))] {
        assert!(page.contains(&line), "{line}{page}");
    }
}

#[test]
fn prompts_without_a_full_block_have_no_hit_ratio() {
    let metrics = Metrics::new();
    for (bytes, of_bytes) in [(0, 0), (64, 256), (0, 64)] {
        metrics.observe_prefix(PrefixHit { bytes, of_bytes });
    }
    let page = metrics.render();
    for line in ["hit_bytes_count 3", "hit_bytes_sum 64", "hit_ratio_count 2", "hit_ratio_sum 0.25"] {
        assert!(page.contains(&format!("inference_extension_prefix_indexer_{line}\n")), "{line}{page}");
    }
}

#[test]
fn the_number_of_model_series_is_bounded() {
    let metrics = Metrics::new();
    metrics.model(&"x".repeat(MAX_NAME_BYTES + 1), "t").count_request(1);
    for n in 0..MAX_MODELS + 5 {
        metrics.model(&format!("m{n}"), "t").count_request(1);
    }
    assert!(metrics.models.len() <= MAX_MODELS + 1);
    let page = metrics.render();
    let other = r#"inference_model_request_total{model_name="other",target_model_name="other"} 7"#;
    assert!(page.contains(other), "{}", page.lines().find(|line| line.contains("other")).unwrap_or_default());
    assert!(page.contains("# TYPE inference_model_request_total counter"));
    assert!(!page.contains("xxxx"));
}

#[test]
fn results_of_reloads_are_zero_from_the_start() {
    let page = Metrics::new().render();
    for result in ["ok", "refused"] {
        let line = format!("epp_endpoints_reload_total{{result=\"{result}\"}} 0\n");
        assert!(page.contains(&line), "{line}{page}");
    }
}

#[test]
fn model_names_with_control_characters_have_no_series_of_their_own() {
    let metrics = Metrics::new();
    for (model, target) in
        [("a\0b", "t"), ("m", "\u{1b}[31m"), ("m", "c\nd"), ("\u{9b}", "t"), ("\u{7f}", "t")]
    {
        metrics.model(model, target).count_request(1);
    }
    metrics.model("zürich/模型", "t").count_request(1);
    let page = metrics.render();
    let unprintable = |c: char| c.is_control() && c != '\n';
    assert!(!page.contains(unprintable) && !page.contains("c\\nd"), "{page:?}");
    for (pair, n) in [(("other", "other"), 5), (("zürich/模型", "t"), 1)] {
        let line = format!(
            "inference_model_request_total{{model_name=\"{}\",target_model_name=\"{}\"}} {n}\n",
            pair.0, pair.1
        );
        assert!(page.contains(&line), "{line}");
    }
}

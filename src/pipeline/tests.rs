//! What a rebuilt pipeline takes over from the one before.

use std::time::Duration;

use epp_framework::endpoint::{Cost, Endpoint, EndpointId, EndpointMeta, ScrapedLoad};
use epp_framework::prompt::Prompt;
use epp_framework::scheduling::Decision;
use epp_framework::snapshot::Snapshot;
use epp_framework::time::Timestamp;
use prometheus::core::Collector;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::config::build;
use crate::raw_request::Subset;
use crate::recorder::{DecisionRecord, Recorder};
use crate::scheduling::{Occasion, Scratch};

const NOW: Timestamp = Timestamp(1);

/// A pool of three fresh endpoints and the slots of its plugins.
struct Rig {
    slots: SlotNames,
    pool: Arc<Snapshot>,
}

impl Rig {
    fn new() -> Self {
        let endpoint = |slot: u8| {
            let meta = EndpointMeta {
                name: format!("pod-{slot}"),
                namespace: "default".into(),
                address: [10, 0, 0, slot + 1].into(),
                port: 8000,
                labels: std::collections::BTreeMap::new(),
            };
            let endpoint = Endpoint::new(EndpointId { slot: slot.into(), generation: 0 }, meta);
            endpoint.store_scrape(endpoint.begin_scrape(), &ScrapedLoad::default(), NOW);
            Arc::new(endpoint)
        };
        Self {
            slots: SlotNames::default(),
            pool: Arc::new(Snapshot { endpoints: (0..3).map(endpoint).collect() }),
        }
    }

    fn build(&self, config: &str, before: Option<&Pipeline>) -> Pipeline {
        let (composition, problems) = build::load(config, epp_plugins::BUILT_IN);
        Pipeline::build(&composition.unwrap_or_else(|| panic!("{problems:?}")), &self.slots, before)
    }

    /// Sends a prompt through `pipeline`; the best prefix score of an endpoint, and who was picked.
    fn send(&self, pipeline: &Pipeline) -> (f64, u32) {
        let prompt = Prompt::text("a conversation that goes on. ".repeat(40));
        let mut request = InferenceRequest { prompt, ..InferenceRequest::default() };
        pipeline.produce(&Hook { now: NOW, pool: &self.pool }, &mut request, None);
        let (record, decision) = self.decide(pipeline, &request);
        let profile = &record.profiles[0];
        let at = profile
            .outline
            .scorers
            .iter()
            .position(|(name, _)| &**name != "queue-scorer")
            .expect("it is referenced");
        let scores = profile.candidates.iter().map(|candidate| candidate.scores[at]);
        (scores.fold(0.0, f64::max), decision.targets[0])
    }

    fn occasion<'a>(&'a self, request: &'a InferenceRequest) -> Occasion<'a> {
        Occasion {
            request,
            pool: &self.pool,
            subset: &Subset::Any,
            staleness: Duration::from_secs(1),
            cost: Cost::default(),
            now: NOW,
            watch: None,
        }
    }

    fn decide(&self, pipeline: &Pipeline, request: &InferenceRequest) -> (DecisionRecord, Decision) {
        let occasion = self.occasion(request);
        let (mut recorder, mut rng) = (Recorder::default(), SmallRng::seed_from_u64(1));
        let decided = pipeline.scheduler.decide(&occasion, &mut Scratch::default(), &mut rng, &mut recorder);
        let (decision, _reservations) = decided.expect("somebody is left");
        (recorder.last(1, None).remove(0), decision)
    }
}

/// A configuration with a prefix scorer: its name, what else stands in the file before it, its parameter, and what
/// else the profile says.
fn config(name: &str, before: &str, parameter: &str, references: &str) -> String {
    let parameters =
        if parameter.is_empty() { String::new() } else { format!("  parameters: {{{parameter}}}\n") };
    format!(
        "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n{before}\
         - type: prefix-cache-scorer\n  name: {name}\n{parameters}\
         schedulingProfiles:\n- name: default\n  plugins:\n  - pluginRef: {name}\n{references}"
    )
}

#[test]
fn a_rebuilt_pipeline_keeps_what_unchanged_plugins_learned() {
    let queue = ("- type: queue-scorer\n", "  - pluginRef: queue-scorer\n");
    let cases = [
        ("nothing changed", config("prefix", "", "", ""), true),
        ("another weight", config("prefix", "", "", "    weight: 3\n"), true),
        ("a plugin before it", config("prefix", queue.0, "", queue.1), true),
        ("a default spelled out", config("prefix", "", "lruCapacityPerServer: 31250", ""), true),
        ("other blocks", config("prefix", "", "hashBlockSize: 32", ""), false),
        ("another capacity", config("prefix", "", "lruCapacityPerServer: 900", ""), false),
        ("another name", config("kv", "", "", ""), false),
    ];
    for (name, changed, keeps) in cases {
        let rig = Rig::new();
        let before = rig.build(&config("prefix", "", "", ""), None);
        assert_close(rig.send(&before).0, 0.0, &format!("{name}: nothing is known at first"));
        let (score, home) = rig.send(&before);
        assert_close(score, 1.0, &format!("{name}: learned"));
        let after = rig.build(&changed, Some(&before));
        let (score, picked) = rig.send(&after);
        assert_close(score, f64::from(keeps), name);
        assert!(!keeps || picked == home, "{name}: the request goes where its prefix is");
        assert_close(rig.send(&after).0, 1.0, &format!("{name}: the new one learns on"));
    }
}

/// Only the filter at the end of the chain changes, not the parameters of the trees above it.
#[test]
fn a_tree_is_rebuilt_with_what_it_refers_to() {
    let config = |threshold: u32| {
        format!(
            "plugins:\n- {{type: decision-tree-filter, name: tree, parameters: {{current: {{pluginRef: inner}}}}}}\n\
             - {{type: decision-tree-filter, name: inner, parameters: {{current: {{pluginRef: low}}}}}}\n\
             - {{type: low-queue-filter, name: low, parameters: {{threshold: {threshold}}}}}\n\
             schedulingProfiles:\n- {{name: default, plugins: [{{pluginRef: tree}}]}}\n"
        )
    };
    let rig = Rig::new();
    for (endpoint, waiting) in rig.pool.endpoints.iter().zip([5, 10, 20]) {
        let load = ScrapedLoad { waiting: Some(waiting), ..ScrapedLoad::default() };
        endpoint.store_scrape(endpoint.begin_scrape(), &load, NOW);
    }
    let mut before = rig.build(&config(5), None);
    for (threshold, want) in [(5, 1), (10, 2), (10, 2), (20, 3), (5, 1)] {
        let after = rig.build(&config(threshold), Some(&before));
        let (record, _) = rig.decide(&after, &InferenceRequest::default());
        assert_eq!(record.profiles[0].candidates.len(), want, "up to {threshold}");
        before = after;
    }
}

#[test]
fn only_headers_that_a_plugin_reads_reach_the_request() {
    let rig = Rig::new();
    let find = |name: &str| (name == "test-epp-endpoint-selection").then_some("10.0.0.2");
    let plain = rig.build(&config("prefix", "", "", ""), None).headers(find);
    assert_eq!(plain.get("test-epp-endpoint-selection"), None, "nobody reads it");
    let pipeline = rig.build("plugins: [{type: header-based-testing-filter}]", None);
    let headers = pipeline.headers(find);
    assert_eq!(headers.get("test-epp-endpoint-selection"), Some("10.0.0.2"));
    assert_eq!(format!("{headers:?}"), r#"["test-epp-endpoint-selection"]"#, "values are not printed");
    let request = InferenceRequest { headers, ..InferenceRequest::default() };
    assert_eq!(rig.decide(&pipeline, &request).1.targets[0], 1);
}

/// Series of plugins: extension point, type and name, and how often it was observed.
fn observed(family: &HistogramVec) -> Vec<(String, u64)> {
    let mut series = Vec::new();
    for shown in family.collect() {
        for metric in shown.get_metric() {
            let value = |name| {
                metric.get_label().iter().find(|label| label.name() == name).map_or("", |label| label.value())
            };
            let labels = [value("extension_point"), value("plugin_type"), value("plugin_name")].join(" ");
            series.push((labels, metric.get_histogram().get_sample_count()));
        }
    }
    series.sort();
    series
}

#[test]
fn plugins_are_observed_by_extension_point_type_and_name_and_leave_with_their_configuration() {
    let (rig, metrics) = (Rig::new(), crate::metrics::Metrics::new());
    let (filter, filtered) = ("- {type: low-queue-filter, name: low}\n", "  - pluginRef: low\n");
    let before = rig.build(&config("mine", filter, "", filtered), None).observed_in(&metrics.plugins);
    let watch = Stopwatch { now: &|| NOW, took: &|step, took| before.observe(step, took) };
    let mut request = InferenceRequest::default();
    before.produce(&Hook { now: NOW, pool: &rig.pool }, &mut request, Some(watch));
    let occasion = Occasion { watch: Some(watch), ..rig.occasion(&request) };
    let (mut recorder, mut rng) = (Recorder::default(), SmallRng::seed_from_u64(1));
    let decided = before.scheduler.decide(&occasion, &mut Scratch::default(), &mut rng, &mut recorder);
    assert!(decided.is_ok());
    let all = [
        "DataProducer prefix-cache-scorer mine",
        "Filter low-queue-filter low",
        "Picker max-score-picker max-score-picker",
        "PreRequest prefix-cache-scorer mine",
        "ProcessProfilesResults single-profile-handler single-profile-handler",
        "ProfilePicker single-profile-handler single-profile-handler",
        "Scorer prefix-cache-scorer mine",
    ];
    assert_eq!(observed(&metrics.plugins), all.map(|labels| (labels.to_owned(), 1)));

    let after = rig.build(&config("yours", "", "", ""), Some(&before)).observed_in(&metrics.plugins);
    before.retire(&after, &metrics.plugins);
    let left = [
        ("DataProducer prefix-cache-scorer yours", 0),
        ("Picker max-score-picker max-score-picker", 1),
        ("PreRequest prefix-cache-scorer yours", 0),
        ("ProcessProfilesResults single-profile-handler single-profile-handler", 1),
        ("ProfilePicker single-profile-handler single-profile-handler", 1),
        ("Scorer prefix-cache-scorer yours", 0),
    ];
    assert_eq!(observed(&metrics.plugins), left.map(|(labels, n)| (labels.to_owned(), n)));
}

#[test]
fn one_request_in_sixteen_is_timed_from_the_first_on() {
    let pipeline = Rig::new().build(&config("p", "", "", ""), None);
    assert!((0..40).all(|_| !pipeline.next_is_timed()), "nobody wants to know");
    let pipeline = pipeline.observed_in(&crate::metrics::Metrics::new().plugins);
    let timed: Vec<_> = (0..40).filter(|_| pipeline.next_is_timed()).collect();
    assert_eq!(timed, [0, 16, 32]);
}

#[test]
fn prefix_indices_tell_what_they_hold_and_what_they_knew() {
    let rig = Rig::new();
    let pipeline = rig.build(&config("p", "", "hashBlockSize: 32", ""), None);
    let hook = Hook { now: NOW, pool: &rig.pool };
    let hits = |prompt: &str, slot: Option<u32>| {
        let prompt = Prompt::text(prompt.to_owned());
        let mut request = InferenceRequest { prompt, ..InferenceRequest::default() };
        pipeline.produce(&hook, &mut request, None);
        let picked = rig.decide(&pipeline, &request).1.targets[0];
        let endpoint = rig.pool.endpoints[slot.unwrap_or(picked) as usize].id;
        (picked, pipeline.prefix_hits(&request, endpoint).collect::<Vec<_>>())
    };
    let hit = |bytes, of_bytes| vec![PrefixHit { bytes, of_bytes }];
    let (home, first) = hits(&"a".repeat(100), None);
    assert_eq!((first, pipeline.n_prefix_entries()), (hit(0, 96), 3), "it is asked before it learns");
    assert_eq!(hits(&format!("{}{}", "a".repeat(64), "b".repeat(64)), Some(home)).1, hit(64, 128));
    assert_eq!(hits("short", None).1, hit(0, 0));
    assert_eq!(pipeline.n_prefix_entries(), 5);
    assert_eq!(pipeline.prefix_hits(&InferenceRequest::default(), rig.pool.endpoints[0].id).count(), 0);
}

#[track_caller]
fn assert_close(found: f64, want: f64, name: &str) {
    assert!((found - want).abs() < 1e-9, "{name}: found {found}, want {want}");
}

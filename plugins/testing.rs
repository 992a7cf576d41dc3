//! A pool to test plugins against: [`Pool`]. Endpoints, loads and one request, and a call for each capability.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use epp_framework::attribute::{AttributeKey, AttributeValue};
use epp_framework::endpoint::{Endpoint, EndpointId, EndpointMeta, FixedMeta, Load};
use epp_framework::lifecycle::{Admitter, Denied, Hook, Producer};
use epp_framework::lora::LoraAdapters;
use epp_framework::parameters::{Parameter, ParameterKind, ParameterValue, Parameters};
use epp_framework::plugin::{BuildContext, Plugin, PluginType, Review};
use epp_framework::request::InferenceRequest;
use epp_framework::scheduling::{Commit, Cycle, Decision, Filter, Picker, Picks, ProfileRuns, Scorer};
use epp_framework::slot::SlotNames;
use epp_framework::snapshot::{Candidates, EndpointView, Snapshot};
use epp_framework::time::Timestamp;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::Value;
use smallvec::smallvec;

use crate::latency::{LatencyPredictions, Prediction};
use crate::prefix::PrefixMatches;
use crate::prefix::index::{Index, MAX_CAPACITY};

/// LoRA adapters of an endpoint: running, waiting, and how many fit.
pub(crate) type Adapters<'a> = (&'a [&'a str], &'a [&'a str], u32);

/// Endpoints whose slots are their indices, all of them candidates.
pub(crate) struct Pool {
    views: Vec<EndpointView>,
    eligible: Vec<u32>,
    /// The request to place.
    pub(crate) request: InferenceRequest,
    /// Profiles that ran.
    pub(crate) runs: ProfileRuns,
    /// Index of the endpoint that the picked one will work with.
    pub(crate) peer: Option<u32>,
    /// Names of the profiles.
    pub(crate) profiles: Vec<String>,
    /// When everything happens.
    pub(crate) now: Timestamp,
}

impl Pool {
    /// Makes a pool with one endpoint per load.
    pub(crate) fn new(loads: impl IntoIterator<Item = Load>) -> Self {
        let loads: Vec<_> = loads.into_iter().collect();
        let view = |(slot, &load)| EndpointView::new(endpoint(EndpointId { slot, generation: 0 }), load);
        let views = (0..).zip(&loads).map(view).collect();
        let (request, runs) = (InferenceRequest::default(), ProfileRuns::new());
        let eligible = (0..).zip(&loads).map(|(index, _)| index).collect();
        Self { views, eligible, request, runs, peer: None, profiles: Vec::new(), now: Timestamp(0) }
    }

    /// Makes a pool with one endpoint for each of `adapters`, and a request for the adapter `a`.
    pub(crate) fn with_adapters(adapters: &[Adapters<'_>]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let mut pool = Self::of(adapters, |endpoint, &(running, waiting, max)| {
            endpoint.store_lora(LoraAdapters::new(owned(running), owned(waiting), max));
        });
        pool.request.target_model = "a".into();
        pool
    }

    /// Makes a pool with one endpoint for each of `labels`, each with that label and its value if there is one.
    pub(crate) fn with_labels<'a>(labels: impl IntoIterator<Item = Option<(&'a str, &'a str)>>) -> Self {
        let labels: Vec<_> = labels.into_iter().collect();
        Self::of(&labels, |endpoint, label| set_labels(endpoint, *label))
    }

    /// Makes a pool with one endpoint for each number, which is its attribute `key`, if it is there.
    pub(crate) fn with_numbers(key: AttributeKey, numbers: &[Option<f64>]) -> Self {
        let number = |number: &Option<f64>| number.map(AttributeValue::Number);
        Self::of(numbers, |endpoint, given| endpoint.store_attributes(&[(key, number(given))]))
    }

    /// Makes `labels` those of the endpoint at `index`.
    pub(crate) fn label<'a>(&mut self, index: usize, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.change(index, |endpoint| set_labels(endpoint, labels));
    }

    /// Makes a pool with one endpoint for each of `given`, and lets `tell` tell it.
    fn of<T>(given: &[T], tell: impl Fn(&Endpoint, &T)) -> Self {
        let mut pool = Self::new(given.iter().map(|_| Load::default()));
        for (index, given) in given.iter().enumerate() {
            pool.change(index, |endpoint| tell(endpoint, given));
        }
        pool
    }

    /// Changes an endpoint, which keeps its load.
    fn change(&mut self, index: usize, change: impl FnOnce(&Endpoint)) {
        let EndpointView { endpoint, load, .. } = &self.views[index];
        change(endpoint);
        self.views[index] = EndpointView::new(endpoint.clone(), *load);
    }

    /// The endpoint at `index`.
    pub(crate) fn endpoint(&self, index: usize) -> &Arc<Endpoint> {
        &self.views[index].endpoint
    }

    /// Lets only the endpoints at these indices be candidates.
    pub(crate) fn only(mut self, indices: &[u32]) -> Self {
        self.eligible = indices.to_vec();
        self
    }

    /// Makes a pool with one endpoint for each place (`host/rack/zone/region`), which is its attribute `key`, unless it is
    /// empty.
    pub(crate) fn with_places(key: AttributeKey, places: &[&str]) -> Self {
        Self::of(places, |endpoint, place| {
            let words = place.split('/').map(str::to_owned).collect();
            endpoint.store_attributes(&[(key, (!place.is_empty()).then_some(AttributeValue::Words(words)))]);
        })
    }

    /// Puts another endpoint into the slot of the one at `index`.
    pub(crate) fn replace(&mut self, index: usize) {
        let EndpointView { endpoint: before, load, .. } = &self.views[index];
        let EndpointId { slot, generation } = before.id;
        self.views[index] =
            EndpointView::new(endpoint(EndpointId { slot, generation: generation + 1 }), *load);
    }

    /// The decision being made.
    pub(crate) fn cycle(&self) -> Cycle<'_> {
        Cycle {
            request: &self.request,
            pool: &self.views,
            runs: &self.runs,
            profiles: &self.profiles,
            peer: self.peer,
            now: self.now,
        }
    }

    /// One score per endpoint.
    pub(crate) fn score(&self, by: &dyn Scorer) -> Vec<f64> {
        let mut live = self.live();
        let mut scores = vec![f64::NAN; live.len()];
        by.score(&self.cycle(), &Candidates::new(&self.views, &mut live), &mut scores);
        scores
    }

    /// Shows the candidates.
    pub(crate) fn with_candidates(&self, show: impl FnOnce(&Candidates<'_>)) {
        show(&Candidates::new(&self.views, &mut self.live()));
    }

    /// Indices of the endpoints that are left.
    pub(crate) fn filter(&self, by: &dyn Filter, seed: u64) -> Vec<u32> {
        let mut live = self.live();
        let mut candidates = Candidates::new(&self.views, &mut live);
        by.filter(&self.cycle(), &mut candidates, &mut SmallRng::seed_from_u64(seed));
        live
    }

    /// Whether `admitter` lets the request in.
    pub(crate) fn admit(&self, admitter: &dyn Admitter, rng: &mut SmallRng) -> Result<(), Denied> {
        let mut live = self.live();
        let candidates = Candidates::new(&self.views, &mut live);
        admitter.admit(&self.cycle(), &candidates, rng)
    }

    /// Indices of the picked endpoints.
    pub(crate) fn pick(&self, picker: &dyn Picker, scores: &[f64], rng: &mut SmallRng) -> Vec<u32> {
        let (mut live, mut picks) = (self.live(), Picks::new());
        let candidates = Candidates::new(&self.views, &mut live);
        picker.pick(&self.cycle(), &candidates, scores, rng, &mut picks);
        picks.into_vec()
    }

    /// Lets `producer` work on the request.
    pub(crate) fn produce(&mut self, producer: &dyn Producer) {
        let endpoints = self.views.iter().map(|view| view.endpoint.clone()).collect();
        producer.produce(&Hook { now: self.now, pool: &Snapshot { endpoints } }, &mut self.request);
    }

    /// Tells `commit` that the request goes to the endpoint at index `to`.
    pub(crate) fn commit(&self, commit: &dyn Commit, to: u32) {
        commit.commit(&self.cycle(), &Decision::of(0, smallvec![to]));
    }

    fn live(&self) -> Vec<u32> {
        self.eligible.clone()
    }
}

fn endpoint(id: EndpointId) -> Arc<Endpoint> {
    let meta = EndpointMeta {
        name: format!("pod{}", id.slot + 1),
        namespace: "default".to_owned(),
        address: [10, 0, 0, u8::try_from(id.slot + 1).unwrap_or(u8::MAX)].into(),
        port: 8000,
        labels: BTreeMap::new(),
    };
    Arc::new(Endpoint::new(id, meta))
}

fn set_labels<'a>(endpoint: &Endpoint, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let FixedMeta { name, namespace, address, port } = endpoint.meta.clone();
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    assert!(endpoint.update(&EndpointMeta { name, namespace, address, port, labels }), "it is the same");
}

/// Builds a plugin of this type with parameters as JSON.
pub(crate) fn built(plugin_type: &PluginType, parameters: &str) -> Plugin {
    built_with(plugin_type, parameters, &[])
}

/// The same with plugins that the parameters refer to.
pub(crate) fn built_with(
    plugin_type: &PluginType,
    parameters: &str,
    references: &[(&str, Plugin)],
) -> Plugin {
    let given = serde_json::from_str(parameters).expect("the test's parameters are JSON");
    let slots = SlotNames::default();
    let cx = BuildContext::new(plugin_type.name, &slots).with_references(references);
    (plugin_type.build)(&parsed(plugin_type.parameters, &given), &cx)
}

/// Builds a plugin of this type in the pool that owns `slots`, so that others there can read what it leaves.
pub(crate) fn built_in(slots: &SlotNames, plugin_type: &PluginType, parameters: &str) -> Plugin {
    let given = serde_json::from_str(parameters).expect("the test's parameters are JSON");
    let cx = BuildContext::new(plugin_type.name, slots);
    (plugin_type.build)(&parsed(plugin_type.parameters, &given), &cx)
}

/// Headrooms to the first token and per token, and requests dispatched; `None` without a prediction.
pub(crate) type Predicted = Option<(f64, f64, u32)>;

/// Predictions for endpoints by their slots.
pub(crate) fn predictions(predicted: &[Predicted]) -> LatencyPredictions {
    let prediction = |(slot, predicted): (u32, &Predicted)| {
        let (ttft_headroom_ms, tpot_headroom_ms, n_dispatched) = predicted.unwrap_or_default();
        let valid = predicted.is_some();
        let prediction =
            Prediction { ttft_headroom_ms, tpot_headroom_ms, valid, n_dispatched, ..Prediction::default() };
        (EndpointId { slot, generation: 0 }, prediction)
    };
    (0..).zip(predicted).map(prediction).collect()
}

/// What a type warns of at these parameters, where no other plugin is declared.
pub(crate) fn reviewed(plugin_type: &PluginType, parameters: &str) -> String {
    let given = serde_json::from_str(parameters).expect("the test's parameters are JSON");
    let parameters = &parsed(plugin_type.parameters, &given);
    (plugin_type.review)(&Review { parameters, find: &|_| None, profiles: &[] }).join("; ")
}

/// What is wrong with these parameters together.
pub(crate) fn checked(plugin_type: &PluginType, parameters: &str) -> String {
    let given = serde_json::from_str(parameters).expect("the test's parameters are JSON");
    (plugin_type.check)(&parsed(plugin_type.parameters, &given)).join("; ")
}

/// What a producer finds of a prompt of `n_blocks` blocks, of which endpoints hold so many each, by their slots.
pub(crate) fn matches(block_tokens: u32, n_blocks: usize, held: &[usize]) -> PrefixMatches {
    let hashes: Vec<u64> = (1..).take(n_blocks).collect();
    let index = Index::new(MAX_CAPACITY);
    for (slot, &held) in (0..).zip(held) {
        index.insert(EndpointId { slot, generation: 0 }, &hashes[..held]);
    }
    let matches = index.matches(&hashes);
    PrefixMatches { hashes, matches, block_tokens }
}

/// Parameters from JSON that fits their declaration.
pub(crate) fn parsed(declared: &'static [Parameter], given: &Value) -> Parameters {
    let mut parameters = Parameters::defaults(declared);
    for (name, value) in given.as_object().expect("parameters are an object") {
        let parameter = declared.iter().find(|parameter| parameter.name == name).expect("it is declared");
        let text = || value.as_str().expect("a string").to_owned();
        let value = match parameter.kind {
            ParameterKind::Boolean { .. } => ParameterValue::Boolean(value.as_bool().expect("a boolean")),
            ParameterKind::Integer { .. } | ParameterKind::OptionalInteger { .. } => {
                ParameterValue::Integer(value.as_i64().expect("an integer"))
            }
            ParameterKind::Float { .. } | ParameterKind::OptionalFloat { .. } => {
                ParameterValue::Float(value.as_f64().expect("a number"))
            }
            ParameterKind::Span { .. } => {
                ParameterValue::Span(Duration::from_millis(value.as_u64().expect("milliseconds")))
            }
            ParameterKind::Texts { .. } => {
                let texts = value.as_array().expect("a list").iter();
                ParameterValue::Texts(texts.map(|text| text.as_str().expect("a string").to_owned()).collect())
            }
            ParameterKind::TextMap => {
                let entries = value.as_object().expect("an object").iter();
                let text = |value: &Value| value.as_str().expect("a string").to_owned();
                ParameterValue::TextMap(entries.map(|(key, value)| (key.clone(), text(value))).collect())
            }
            ParameterKind::Ignored { .. } => ParameterValue::Absent,
            ParameterKind::Text { .. } | ParameterKind::Word { .. } => ParameterValue::Text(text()),
            ParameterKind::Reference { .. } | ParameterKind::Producer { .. } => {
                ParameterValue::Reference(text())
            }
            ParameterKind::Map { fields, .. } => ParameterValue::Map(parsed(fields(), value)),
            ParameterKind::List { fields, .. } => {
                let maps = value.as_array().expect("a list").iter();
                ParameterValue::List(maps.map(|map| parsed(fields(), map)).collect())
            }
        };
        parameters.set(name, value);
    }
    parameters
}

/// What a picker of this type picks among candidates with these scores.
pub(crate) fn pick(plugin_type: &PluginType, parameters: &str, scores: &[f64], seed: u64) -> Vec<u32> {
    let pool = Pool::new(scores.iter().map(|_| Load::default()));
    let picker = built(plugin_type, parameters).picker.expect("it is a picker");
    pool.pick(&*picker, scores, &mut SmallRng::seed_from_u64(seed))
}

/// Panics unless both have the same length and agree to four digits.
#[track_caller]
pub(crate) fn assert_close(found: &[f64], want: &[f64], name: &str) {
    let close = found.iter().zip(want).all(|(found, want)| (found - want).abs() < 1e-4);
    assert!(close && found.len() == want.len(), "{name}: found {found:?}, want {want:?}");
}

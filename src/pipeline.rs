//! A configuration, built: every plugin instance, and the scheduler over them.
//!
//! [`Pipeline::build`] turns a checked [`Composition`] into instances. An instance whose type, name and parameters are
//! the same as in the pipeline before keeps living, so that a reload does not lose what it learned, unless something that
//! it refers to is built anew.

mod durations;
mod parsers;

use std::sync::Arc;
use std::time::Duration;

use epp_framework::data::Extractor;
use epp_framework::endpoint::EndpointId;
use epp_framework::lifecycle::{
    Admitter, AnswerFacts, Answered, Denied, Hook, Observer, PrefixHit, PrefixReport, Producer, Report,
    Reporter, Responder,
};
use epp_framework::parameters::Parameters;
use epp_framework::parsing::Parser;
use epp_framework::plugin::{BuildContext, Discovery, Plugin};
use epp_framework::request::{Headers, InferenceRequest};
use epp_framework::saturation::SaturationDetector;
use epp_framework::slot::SlotNames;
use prometheus::HistogramVec;
use rand::rngs::SmallRng;

use crate::config::build::{Composition, InstancePlan, ProfilePlan, SourcePlan};
use crate::data_layer::{DataLayer, Source};
use crate::recorder::ProfileOutline;
use crate::scheduling::{Costs, Occasion, Profile, Scheduler};
use crate::stopwatch::{Step, Stopwatch, timed};
use durations::Durations;
use parsers::Parsers;

/// One plugin instance.
#[derive(Clone)]
struct Instance {
    name: String,
    type_name: &'static str,
    parameters: Parameters,
    plugin: Plugin,
    /// Generation of the pipeline that it was built for.
    since: u64,
}

/// A built configuration. Requests hold the one they began with.
pub struct Pipeline {
    /// 1 for the first one of a pool, then one more than the one before.
    generation: u64,
    instances: Vec<Instance>,
    /// Decides.
    pub scheduler: Scheduler,
    producers: Vec<Arc<dyn Producer>>,
    observers: Vec<Arc<dyn Observer>>,
    reporters: Vec<Arc<dyn Reporter>>,
    admitters: Vec<Arc<dyn Admitter>>,
    responders: Vec<Arc<dyn Responder>>,
    /// Says how full the pool is, if the configuration names somebody for it.
    pub saturation: Option<Arc<dyn SaturationDetector>>,
    /// Which instance does which step.
    steps: Vec<(Step, usize)>,
    durations: Durations,
    parsers: Parsers,
    /// Headers that some plugin reads.
    request_headers: Vec<Arc<str>>,
    /// Where the endpoints of the pool are listed, if the configuration says it.
    pub discovery: Option<Discovery>,
    /// Where data on endpoints comes from.
    pub data_layer: Arc<DataLayer>,
}

impl Pipeline {
    /// Builds the instances of `composition`, taking over those of `before` that did not change.
    pub fn build(composition: &Composition, slots: &SlotNames, before: Option<&Self>) -> Self {
        let generation = before.map_or(1, |before| before.generation + 1);
        let kept = before.map_or(&[][..], |pipeline| &pipeline.instances);
        let instances = build_instances(composition, slots, (kept, generation));
        let scheduler = Scheduler {
            names: composition.profiles.iter().map(|profile| profile.name.clone()).collect(),
            profiles: composition.profiles.iter().map(|plan| build_profile(plan, &instances)).collect(),
            handler: instances[composition.handler]
                .plugin
                .profile_handler
                .clone()
                .expect("checked when composed"),
            commits: those_with(&instances, |plugin| &plugin.commit),
            costs: Costs {
                prefix_reports: those_with(&instances, |plugin| &plugin.prefix_report),
                estimator: those_with(&instances, |plugin| &plugin.estimator).into_iter().next(),
            },
        };
        let read = instances.iter().flat_map(|instance| &instance.plugin.request_headers);
        let mut request_headers: Vec<Arc<str>> = read.map(|name| name.as_str().into()).collect();
        request_headers.sort_unstable();
        request_headers.dedup();
        let parser = |&at: &usize| instances[at].plugin.parser.clone().expect("checked when composed");
        let parsers = Parsers::new(composition.parsers.iter().map(parser).collect());
        let discovery = composition.discovery.and_then(|at| instances[at].plugin.discovery.clone());
        let data_layer = Arc::new(data_layer(composition, &instances));
        Self {
            steps: steps(composition, &instances),
            data_layer,
            durations: Durations::default(),
            producers: those_with(&instances, |plugin| &plugin.producer),
            observers: those_with(&instances, |plugin| &plugin.observer),
            reporters: those_with(&instances, |plugin| &plugin.reporter),
            admitters: those_with(&instances, |plugin| &plugin.admitter),
            responders: those_with(&instances, |plugin| &plugin.responder),
            saturation: composition.saturation.and_then(|at| instances[at].plugin.saturation.clone()),
            generation,
            instances,
            scheduler,
            parsers,
            request_headers,
            discovery,
        }
    }

    /// Every plugin: its name, its type, and the generation of the pipeline that it was built for.
    pub fn instances(&self) -> impl Iterator<Item = (&str, &'static str, u64)> {
        self.instances.iter().map(|instance| (instance.name.as_str(), instance.type_name, instance.since))
    }

    /// Who reads requests on `path`; nobody if no parser claims it and there is none for what is left.
    pub fn parser(&self, path: &str) -> Option<&Arc<dyn Parser>> {
        self.parsers.of(path)
    }

    /// The headers that plugins read, out of all that `find` knows by their names in lower case.
    pub fn headers<'a>(&self, find: impl Fn(&str) -> Option<&'a str>) -> Headers {
        let read = |name: &Arc<str>| Some((name.clone(), find(name)?.to_owned()));
        self.request_headers.iter().filter_map(read).collect()
    }

    /// Lets every producer leave its value on the request.
    pub fn produce(&self, cx: &Hook<'_>, request: &mut InferenceRequest, watch: Option<Stopwatch<'_>>) {
        for (at, producer) in self.producers.iter().enumerate() {
            timed(watch, Step::Produce(at), || producer.produce(cx, request));
        }
    }

    /// Whether somebody may deny requests.
    pub fn admits(&self) -> bool {
        !self.admitters.is_empty()
    }

    /// Asks every admitter, until one denies.
    pub fn admit(&self, occasion: &Occasion<'_>, mut rng: SmallRng) -> Result<(), Denied> {
        self.scheduler.with_candidates(occasion, |cycle, candidates| {
            self.admitters.iter().try_for_each(|admitter| admitter.admit(cycle, candidates, &mut rng))
        })
    }

    /// Headers to set on an answer, if anybody sets some.
    pub fn respond(&self, answered: &Answered<'_>) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        for responder in &self.responders {
            responder.respond(answered, &mut headers);
        }
        headers
    }

    /// Whether somebody sets headers on answers.
    pub fn responds(&self) -> bool {
        !self.responders.is_empty()
    }

    fn prefix_reports(&self) -> &[Arc<dyn PrefixReport>] {
        &self.scheduler.costs.prefix_reports
    }

    /// Has the times of its plugins go into `family`, by extension point, type and name.
    #[must_use]
    pub fn observed_in(mut self, family: &HistogramVec) -> Self {
        let labels = |&(step, at): &(Step, usize)| {
            let Instance { name, type_name, .. } = &self.instances[at];
            (step, [step.extension_point().to_owned(), (*type_name).to_owned(), name.clone()])
        };
        self.durations = Durations::resolve(family, self.steps.iter().map(labels));
        self
    }

    /// Takes the series that `after`, which took over, does not have out of `family`.
    pub fn retire(&self, after: &Self, family: &HistogramVec) {
        self.durations.retire(&after.durations, family);
    }

    /// Whether the next request is one of those whose plugins are timed. Counts the requests.
    pub fn next_is_timed(&self) -> bool {
        self.durations.next_is_timed()
    }

    /// Observes what a step took.
    pub fn observe(&self, step: Step, took: Duration) {
        self.durations.observe(step, took);
    }

    /// What the reporters say of an answer.
    pub fn report(&self, facts: &AnswerFacts<'_>) -> Report {
        let mut report = Report::default();
        for reporter in &self.reporters {
            reporter.report(facts, &mut report);
        }
        report
    }

    /// What each prefix index knew of the request at `endpoint` before it was decided.
    pub fn prefix_hits(
        &self,
        request: &InferenceRequest,
        endpoint: EndpointId,
    ) -> impl Iterator<Item = PrefixHit> {
        self.prefix_reports().iter().filter_map(move |report| report.hit(request, endpoint))
    }

    /// Blocks in all prefix indices, once per endpoint that holds them.
    pub fn n_prefix_entries(&self) -> usize {
        self.prefix_reports().iter().map(|report| report.n_entries()).sum()
    }

    /// Tells every observer that an endpoint left.
    pub fn on_endpoint_removed(&self, endpoint: EndpointId) {
        for observer in &self.observers {
            observer.on_endpoint_removed(endpoint);
        }
    }
}

/// A capability of all instances that have it, in their order.
fn those_with<T: ?Sized>(
    instances: &[Instance],
    capability: impl Fn(&Plugin) -> &Option<Arc<T>>,
) -> Vec<Arc<T>> {
    instances.iter().filter_map(|instance| capability(&instance.plugin).clone()).collect()
}

/// Builds what is new or changed, and takes the rest from `before`.
fn build_instances(
    composition: &Composition,
    slots: &SlotNames,
    (before, generation): (&[Instance], u64),
) -> Vec<Instance> {
    let find = |plan: &InstancePlan| {
        before.iter().find(|old| {
            (&old.name, old.type_name, &old.parameters)
                == (&plan.name, plan.plugin_type.name, &plan.parameters)
        })
    };
    let kept = composition.kept(|plan| find(plan).is_some());
    let mut built: Vec<Option<Instance>> = vec![None; composition.instances.len()];
    for &at in &composition.build_order {
        let plan = &composition.instances[at];
        let old = find(plan).filter(|_| kept[at]);
        built[at] = Some(old.cloned().unwrap_or_else(|| {
            let references: Vec<_> = plan.references.iter().filter_map(|&to| built[to].as_ref()).collect();
            let references: Vec<_> =
                references.iter().map(|to| (to.name.as_str(), to.plugin.clone())).collect();
            let cx = BuildContext::new(&plan.name, slots).with_references(&references);
            Instance {
                name: plan.name.clone(),
                type_name: plan.plugin_type.name,
                parameters: plan.parameters.clone(),
                plugin: (plan.plugin_type.build)(&plan.parameters, &cx),
                since: generation,
            }
        }));
    }
    built.into_iter().map(|instance| instance.expect("the build order names every instance")).collect()
}

/// The sources that a configuration lists, and every extractor that needs none.
fn data_layer(composition: &Composition, instances: &[Instance]) -> DataLayer {
    let extractor = |&at: &usize| instances[at].plugin.extractor.clone();
    let source = |plan: &SourcePlan| {
        let Instance { name, type_name, plugin, .. } = &instances[plan.source];
        let mut extractors: Vec<_> = plan.extractors.iter().filter_map(extractor).collect();
        extractors.retain(|extractor| !matches!(extractor, Extractor::Place(_) | Extractor::Other));
        let mut source = Source::new(name, type_name, plugin.data_source.as_ref()?, extractors)?;
        source.page.interval = plan.interval.or(source.page.interval);
        Some(source)
    };
    let places = instances.iter().filter_map(|instance| match &instance.plugin.extractor {
        Some(Extractor::Place(place)) => Some(place.clone()),
        _ => None,
    });
    DataLayer { sources: composition.sources.iter().filter_map(source).collect(), places: places.collect() }
}

/// Which instance does which step, with the positions that [`Pipeline::build`] gives out.
fn steps(composition: &Composition, instances: &[Instance]) -> Vec<(Step, usize)> {
    let mut steps =
        vec![(Step::PickProfiles, composition.handler), (Step::ProcessResults, composition.handler)];
    for (profile, plan) in composition.profiles.iter().enumerate() {
        steps.extend(plan.filters.iter().enumerate().map(|(at, &who)| (Step::Filter { profile, at }, who)));
        steps.extend(
            plan.scorers.iter().enumerate().map(|(at, &(who, _))| (Step::Score { profile, at }, who)),
        );
        steps.push((Step::Pick { profile }, plan.picker));
    }
    let those =
        |has: fn(&Plugin) -> bool| (0..instances.len()).filter(move |&who| has(&instances[who].plugin));
    let producers = those(|plugin| plugin.producer.is_some()).enumerate();
    let commits = those(|plugin| plugin.commit.is_some()).enumerate();
    steps.extend(producers.map(|(at, who)| (Step::Produce(at), who)));
    steps.extend(commits.map(|(at, who)| (Step::Commit(at), who)));
    steps
}

fn build_profile(plan: &ProfilePlan, instances: &[Instance]) -> Profile {
    let filter = |&at: &usize| instances[at].plugin.filter.clone().expect("checked when composed");
    let scorer =
        |&(at, _): &(usize, f64)| instances[at].plugin.scorer.clone().expect("checked when composed");
    let named = |&(at, weight): &(usize, f64)| (instances[at].name.as_str().into(), weight);
    let outline =
        ProfileOutline { name: plan.name.clone(), scorers: plan.scorers.iter().map(named).collect() };
    Profile {
        outline: Arc::new(outline),
        filters: plan.filters.iter().map(filter).collect(),
        scorers: plan.scorers.iter().map(scorer).collect(),
        picker: instances[plan.picker].plugin.picker.clone().expect("checked when composed"),
    }
}

#[cfg(test)]
mod tests;

//! A configuration, built: every plugin instance, and the scheduler over them.
//!
//! [`Pipeline::build`] turns a checked [`Composition`] into instances. An instance whose type, name and parameters are
//! the same as in the pipeline before keeps living, so that a reload does not lose what it learned, unless something that
//! it refers to is built anew.

use std::sync::Arc;

use epp_framework::endpoint::EndpointId;
use epp_framework::lifecycle::{Hook, Observer, Producer};
use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Discovery, Plugin};
use epp_framework::request::{Headers, InferenceRequest};
use epp_framework::slot::SlotNames;

use crate::config::build::{Composition, ProfilePlan};
use crate::scheduling::{Profile, Scheduler, WeightedScorer};

/// One plugin instance.
#[derive(Clone)]
struct Instance {
    name: String,
    type_name: &'static str,
    parameters: Parameters,
    plugin: Plugin,
}

/// A built configuration. Requests hold the one they began with.
pub struct Pipeline {
    instances: Vec<Instance>,
    /// Decides.
    pub scheduler: Scheduler,
    producers: Vec<Arc<dyn Producer>>,
    observers: Vec<Arc<dyn Observer>>,
    /// Headers that some plugin reads.
    request_headers: Vec<&'static str>,
    /// Where the endpoints of the pool are listed, if the configuration says it.
    pub discovery: Option<Discovery>,
}

impl Pipeline {
    /// Builds the instances of `composition`, taking over those of `before` that did not change.
    pub fn build(composition: &Composition, slots: &SlotNames, before: Option<&Self>) -> Self {
        let instances =
            build_instances(composition, slots, before.map_or(&[], |pipeline| &pipeline.instances));
        let scheduler = Scheduler {
            names: composition.profiles.iter().map(|profile| profile.name.clone()).collect(),
            profiles: composition.profiles.iter().map(|plan| build_profile(plan, &instances)).collect(),
            handler: instances[composition.handler]
                .plugin
                .profile_handler
                .clone()
                .expect("checked when composed"),
            commits: instances.iter().filter_map(|instance| instance.plugin.commit.clone()).collect(),
        };
        let producers = instances.iter().filter_map(|instance| instance.plugin.producer.clone()).collect();
        let observers = instances.iter().filter_map(|instance| instance.plugin.observer.clone()).collect();
        let mut request_headers: Vec<_> =
            instances.iter().flat_map(|instance| instance.plugin.request_headers).copied().collect();
        request_headers.sort_unstable();
        request_headers.dedup();
        let discovery = composition.discovery.and_then(|at| instances[at].plugin.discovery.clone());
        Self { instances, scheduler, producers, observers, request_headers, discovery }
    }

    /// The headers that plugins read, out of all that `find` knows by their names in lower case.
    pub fn headers<'a>(&self, find: impl Fn(&str) -> Option<&'a str>) -> Headers {
        self.request_headers.iter().filter_map(|&name| Some((name, find(name)?.to_owned()))).collect()
    }

    /// Lets every producer leave its value on the request.
    pub fn produce(&self, cx: &Hook<'_>, request: &mut InferenceRequest) {
        for producer in &self.producers {
            producer.produce(cx, request);
        }
    }

    /// Tells every observer that an endpoint left.
    pub fn on_endpoint_removed(&self, endpoint: EndpointId) {
        for observer in &self.observers {
            observer.on_endpoint_removed(endpoint);
        }
    }
}

/// Builds what is new or changed, and takes the rest from `before`.
fn build_instances(composition: &Composition, slots: &SlotNames, before: &[Instance]) -> Vec<Instance> {
    let mut built: Vec<Option<Instance>> = vec![None; composition.instances.len()];
    let mut kept = vec![false; built.len()];
    for &at in &composition.build_order {
        let plan = &composition.instances[at];
        let same = |old: &&Instance| {
            (&old.name, old.type_name, &old.parameters)
                == (&plan.name, plan.plugin_type.name, &plan.parameters)
        };
        let old = before.iter().find(same).filter(|_| plan.references.iter().all(|&to| kept[to]));
        kept[at] = old.is_some();
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
            }
        }));
    }
    built.into_iter().map(|instance| instance.expect("the build order names every instance")).collect()
}

fn build_profile(plan: &ProfilePlan, instances: &[Instance]) -> Profile {
    let filter = |&at: &usize| instances[at].plugin.filter.clone().expect("checked when composed");
    let scorer = |&(at, weight): &(usize, f64)| WeightedScorer {
        name: instances[at].name.as_str().into(),
        weight,
        scorer: instances[at].plugin.scorer.clone().expect("checked when composed"),
    };
    Profile {
        filters: plan.filters.iter().map(filter).collect(),
        scorers: plan.scorers.iter().map(scorer).collect(),
        picker: instances[plan.picker].plugin.picker.clone().expect("checked when composed"),
    }
}

#[cfg(test)]
mod tests;

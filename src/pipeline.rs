//! A configuration, built: every plugin instance, and the scheduler over them.
//!
//! [`Pipeline::build`] turns a checked [`Composition`] into instances. An instance whose type, name and parameters are
//! the same as in the pipeline before keeps living, so that a reload does not lose what it learned.

use std::sync::Arc;

use epp_framework::endpoint::EndpointId;
use epp_framework::lifecycle::{Hook, Observer, Producer};
use epp_framework::plugin::{BuildContext, Parameters, Plugin};
use epp_framework::request::InferenceRequest;
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
}

impl Pipeline {
    /// Builds the instances of `composition`, taking over those of `before` that did not change.
    pub fn build(composition: &Composition, slots: &SlotNames, before: Option<&Self>) -> Self {
        let kept = before.map_or(&[][..], |pipeline| &pipeline.instances);
        let mut instances = Vec::with_capacity(composition.instances.len());
        for plan in &composition.instances {
            let same = |old: &&Instance| {
                (&old.name, old.type_name, &old.parameters)
                    == (&plan.name, plan.plugin_type.name, &plan.parameters)
            };
            instances.push(kept.iter().find(same).cloned().unwrap_or_else(|| Instance {
                name: plan.name.clone(),
                type_name: plan.plugin_type.name,
                parameters: plan.parameters.clone(),
                plugin: (plan.plugin_type.build)(&plan.parameters, &BuildContext::new(&plan.name, slots)),
            }));
        }
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
        Self { instances, scheduler, producers, observers }
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

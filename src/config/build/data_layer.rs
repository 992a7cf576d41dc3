//! Which sources are polled for data on endpoints, and what is taken out: what `dataLayer` lists, and the default source.
//!
//! The default one reads the load of model servers. It is there unless the file says otherwise: by `injectDefaults`, by a
//! source of that type in the list, or, in files for v1.5, by a `dataLayer` with nothing but a list.

use std::time::Duration;

use epp_framework::data::Payload;
use epp_framework::plugin::Kind;

use super::Composer;
use crate::config::problem::{Position, shown};
use crate::config::{ApiVersion, DataLayerSpec, Located, SourceSpec};

const DEFAULT_SOURCE: &str = "metrics-data-source";

/// The one type that reads the load of endpoints.
const LOAD_EXTRACTOR: &str = "core-metrics-extractor";

/// A source of data; numbers are positions in the composition's `instances`.
#[derive(Clone, Debug, PartialEq)]
pub struct SourcePlan {
    /// The source.
    pub source: usize,
    /// From one poll to the next, where the list says so.
    pub interval: Option<Duration>,
    /// What is taken out, in file order.
    pub extractors: Vec<usize>,
}

impl Composer<'_> {
    /// The sources that are listed, then the default one.
    pub(super) fn sources(&mut self) -> Vec<SourcePlan> {
        let config = self.config;
        let layer = config.data_layer.as_ref();
        let mut plans: Vec<SourcePlan> = Vec::new();
        for spec in layer.map_or(&[][..], |layer| &layer.sources) {
            let Some((source, payload)) = self.source(&spec.name) else { continue };
            let type_name = self.instances[source].plugin_type.name;
            if plans.iter().any(|plan| self.instances[plan.source].plugin_type.name == type_name) {
                let message = format!("`dataLayer.sources` has two sources of type {}", shown(type_name));
                self.problems.error(spec.name.at, message);
                continue;
            }
            let extractors = self.extractors(spec, payload, &plans);
            if spec.extractors.is_empty() && payload != Payload::Events {
                let message =
                    format!("source {} has no extractor, its page is not read", shown(&spec.name.value));
                self.problems.warning(spec.name.at, message);
            }
            plans.push(SourcePlan { source, interval: spec.interval, extractors });
        }
        self.default_source(layer, &mut plans);
        plans
    }

    fn source(&mut self, name: &Located<String>) -> Option<(usize, Payload)> {
        let instance = self.listed(name, "`dataLayer.sources`: ")?;
        let payload = self.instances[instance].plugin_type.kinds.iter().find_map(|kind| match kind {
            Kind::DataSource(payload) => Some(*payload),
            _ => None,
        });
        if payload.is_none() {
            let message = format!("`dataLayer.sources`: {} is not a source of data", shown(&name.value));
            self.problems.error(name.at, message);
        }
        Some((instance, payload?))
    }

    fn extractors(&mut self, spec: &SourceSpec, payload: Payload, others: &[SourcePlan]) -> Vec<usize> {
        let mut extractors = Vec::new();
        for name in &spec.extractors {
            let Some(instance) = self.listed(name, "`extractors`: ") else { continue };
            let plugin_type = self.instances[instance].plugin_type;
            let mut taken = plugin_type.kinds.iter().filter(|kind| matches!(kind, Kind::Extractor(_)));
            let reads_load = |at: &usize| self.instances[*at].plugin_type.name == LOAD_EXTRACTOR;
            let told = if extractors.contains(&instance) {
                Err(format!("{} is listed twice", shown(&name.value)))
            } else if taken.clone().next().is_none() {
                Err(format!("{} is not an extractor", shown(&name.value)))
            } else if !taken.any(|kind| *kind == Kind::Extractor(payload)) {
                let noun = Kind::DataSource(payload).noun();
                Err(format!(
                    "{} cannot read {}, which is a {noun}",
                    shown(&name.value),
                    shown(&spec.name.value)
                ))
            } else if plugin_type.name == LOAD_EXTRACTOR
                && others.iter().flat_map(|other| &other.extractors).chain(&extractors).any(reads_load)
            {
                Err(format!("{} is a second one of type `{LOAD_EXTRACTOR}`", shown(&name.value)))
            } else {
                Ok(())
            };
            match told {
                Ok(()) => extractors.push(instance),
                Err(told) => self.problems.error(name.at, format!("`extractors`: {told}")),
            }
        }
        extractors
    }

    /// The plugin that a list names, or a problem.
    fn listed(&mut self, name: &Located<String>, whose: &str) -> Option<usize> {
        let Some(declared) = self.names.get_mut(&name.value) else {
            self.tell_unknown_name(whose, &name.value, name.at);
            return None;
        };
        declared.referenced = true;
        declared.instance
    }

    fn default_source(&mut self, layer: Option<&DataLayerSpec>, plans: &mut Vec<SourcePlan>) {
        let of_type = |this: &Self, name: &str| {
            (0..this.instances.len()).find(|&at| this.instances[at].plugin_type.name == name)
        };
        let is_listed =
            plans.iter().any(|plan| self.instances[plan.source].plugin_type.name == DEFAULT_SOURCE);
        let is_built_in = [DEFAULT_SOURCE, LOAD_EXTRACTOR].iter().all(|name| self.find_type(name).is_some());
        if self.has_default(layer) && !is_listed && !self.read_load(plans) && is_built_in {
            let mut default = |name| of_type(self, name).or_else(|| self.inject(name, Position::START));
            let (source, extractor) = (default(DEFAULT_SOURCE), default(LOAD_EXTRACTOR));
            let (Some(source), Some(extractor)) = (source, extractor) else { return };
            plans.push(SourcePlan { source, interval: None, extractors: vec![extractor] });
        }
        if let Some(layer) = layer
            && !self.read_load(plans)
            && self.is_whole(layer, plans)
        {
            let message = format!(
                "the load of endpoints is not read: `dataLayer` lists no source with an extractor of type \
                 `{LOAD_EXTRACTOR}`, and has no `injectDefaults: true`"
            );
            self.problems.warning(layer.at, message);
        }
    }

    /// Whether all that is listed could be read and found; if not, that was told.
    fn is_whole(&self, layer: &DataLayerSpec, plans: &[SourcePlan]) -> bool {
        let n_extractors = |plan: &SourcePlan| plan.extractors.len();
        let n_listed = |spec: &SourceSpec| spec.extractors.len();
        !self.config.unread.references
            && layer.sources.len() == plans.len()
            && layer.sources.iter().map(n_listed).sum::<usize>()
                == plans.iter().map(n_extractors).sum::<usize>()
    }

    fn read_load(&self, plans: &[SourcePlan]) -> bool {
        let mut extractors = plans.iter().flat_map(|plan| &plan.extractors);
        extractors.any(|&at| self.instances[at].plugin_type.name == LOAD_EXTRACTOR)
    }

    /// Whether the default source is there, unless it is listed. In v1.5 any `dataLayer` replaces it; in llm-d, which
    /// also takes files of the older group, it stays. What only llm-d has shows whom such a file was written for.
    fn has_default(&self, layer: Option<&DataLayerSpec>) -> bool {
        let Some(layer) = layer else { return true };
        let is_llm_d = self.config.api_version == ApiVersion::LlmD || layer.is_llm_d;
        layer.inject_defaults.unwrap_or(is_llm_d)
    }

    /// Tells of sources and extractors that nobody lists.
    pub(super) fn review_sources(&mut self, plans: &[SourcePlan]) {
        for instance in 0..self.instances.len() {
            let is_polled = |kind: &Kind| matches!(kind, Kind::DataSource(payload) | Kind::Extractor(payload) if *payload != Payload::Events);
            let listed =
                plans.iter().any(|plan| plan.source == instance || plan.extractors.contains(&instance));
            let is_polled = self.instances[instance].plugin_type.kinds.iter().any(is_polled);
            if is_polled && !listed && self.is_left_over(instance) {
                let name = shown(&self.instances[instance].name);
                let at: Position = self.position_of(instance);
                let message = format!("plugin {name} does nothing, `dataLayer.sources` does not list it");
                self.problems.warning(at, message);
            }
        }
    }
}

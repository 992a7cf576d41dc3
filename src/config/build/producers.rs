//! Who leaves the values that plugins read from requests: named, declared, or injected.

use epp_framework::parameters::{ParameterKind, ParameterValue};
use epp_framework::plugin::{Data, Kind};

use super::Composer;
use crate::config::problem::shown;

/// A plugin that reads values.
struct Reader {
    instance: usize,
    parameter: &'static str,
    of: Data,
    own: bool,
}

impl Composer<'_> {
    /// Gives every plugin that reads values, and names no producer, the default one; declares that where it is missing.
    ///
    /// The default is the plugin that is named like the default type; else the first that produces the values for
    /// itself; else one of the default type. Injected producers may read values themselves, hence the loop.
    pub(super) fn resolve_producers(&mut self) {
        let mut seen = 0;
        while seen < self.instances.len() {
            let from = std::mem::replace(&mut seen, self.instances.len());
            let readers: Vec<_> = (from..seen).flat_map(|instance| self.readers(instance)).collect();
            for Reader { instance, parameter, of, own } in readers {
                let found = match self.default_producer(of, own) {
                    Some(found) => Some(found),
                    None if own => None,
                    None => self.inject(of.default_producer(), self.position_of(instance)),
                };
                if let Some(found) = found {
                    let name = self.instances[found].name.clone();
                    self.mark_referenced(found);
                    self.instances[instance].parameters.set(parameter, ParameterValue::Reference(name));
                }
            }
        }
    }

    /// Tells of producers that are named and turned out to be readers: a plugin that produces for itself does so only
    /// where nobody else is declared to.
    pub(super) fn judge_producers(&mut self) {
        for (from, reference) in std::mem::take(&mut self.references) {
            let Kind::Produces(of) = reference.to else { continue };
            let Some(found) = self.names.get(&reference.name).and_then(|declared| declared.instance) else {
                continue;
            };
            if self.produces(found, of) {
                continue;
            }
            let whose = self.whose(from, &reference);
            let reads =
                self.reads_from(found, of).map(|name| format!("; it reads them from {name}, name that"));
            let (name, noun) = (shown(&reference.name), reference.to.noun());
            let message = format!("{whose}{name} is not a {noun}{}", reads.unwrap_or_default());
            self.problems.error(reference.at, message);
        }
    }

    /// The producer that an instance reads from instead of producing for itself, as messages show it.
    fn reads_from(&self, instance: usize, of: Data) -> Option<String> {
        let plan = &self.instances[instance];
        let own = |kind| matches!(kind, ParameterKind::Producer { of: read, own: true } if read == of);
        let parameter = plan.plugin_type.parameters.iter().find(|parameter| own(parameter.kind))?;
        plan.parameters.reference(parameter.name).map(shown)
    }

    /// What an instance reads without saying from whom.
    fn readers(&self, instance: usize) -> Vec<Reader> {
        let plan = &self.instances[instance];
        let declared = plan.plugin_type.parameters.iter();
        declared
            .filter_map(|parameter| match parameter.kind {
                ParameterKind::Producer { of, own } if !plan.parameters.has(parameter.name) => {
                    Some(Reader { instance, parameter: parameter.name, of, own })
                }
                _ => None,
            })
            .collect()
    }

    fn default_producer(&self, of: Data, own: bool) -> Option<usize> {
        let producers = || (0..self.instances.len()).filter(|&at| self.produces(at, of));
        let by_name = producers().find(|&at| self.instances[at].name == of.default_producer());
        let by_type = || producers().find(|&at| self.instances[at].plugin_type.name == of.default_producer());
        let by_itself = || if own { None } else { producers().find(|&at| self.produces_for_itself(at, of)) };
        by_name.or_else(by_type).or_else(by_itself)
    }

    /// Whether an instance leaves values on requests: as all of its type do, or because it was given no producer.
    pub(super) fn produces(&self, instance: usize, of: Data) -> bool {
        self.has(instance, Kind::Produces(of)) || self.produces_for_itself(instance, of)
    }

    fn produces_for_itself(&self, instance: usize, of: Data) -> bool {
        let plan = &self.instances[instance];
        plan.plugin_type.parameters.iter().any(|parameter| {
            matches!(parameter.kind, ParameterKind::Producer { of: own, own: true } if own == of)
                && !plan.parameters.has(parameter.name)
        })
    }
}

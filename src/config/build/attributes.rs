//! Attributes of endpoints that plugins read and that nobody leaves: a plugin does nothing then, and says nothing.

use epp_framework::data::Payload;
use epp_framework::plugin::Kind;

use super::Composer;
use crate::config::problem::shown;

/// The parameter by which an extractor is told of further attributes.
const CUSTOM: &str = "customMetrics";

impl Composer<'_> {
    /// Warns of each attribute that is read and not left, unless something is wrong, which comes first.
    pub(super) fn review_attributes(&mut self) {
        if self.problems.has_errors() {
            return;
        }
        for reader in 0..self.instances.len() {
            let plan = &self.instances[reader];
            let missing =
                (plan.plugin_type.reads)(&plan.parameters).into_iter().filter_map(|(producer, name)| {
                    let advice = self.lacks(producer, name)?;
                    let (whose, name) = (shown(&plan.name), shown(name));
                    Some(format!(
                        "plugin {whose} reads the attribute {name}, which no data source provides: {advice}"
                    ))
                });
            let missing: Vec<_> = missing.collect();
            let at = self.position_of(reader);
            for message in missing {
                self.problems.warning(at, message);
            }
        }
    }

    /// Why `producer`, which is a name or a type, does not leave the attribute, and what to do; `None` if it does.
    fn lacks(&self, producer: &str, attribute: &str) -> Option<String> {
        let meant = |name: &str, type_name: &str| name == producer || type_name == producer;
        let plans = self.instances.iter().filter(|plan| meant(&plan.name, plan.plugin_type.name));
        let plans: Vec<_> = plans.collect();
        let left: Vec<_> =
            plans.iter().flat_map(|plan| (plan.plugin_type.leaves)(&plan.parameters)).collect();
        if left.contains(&attribute) {
            return None;
        }
        let known = self.find_type(producer);
        let producer = shown(producer);
        if let Some(plan) = plans.first() {
            let is_open = plan.plugin_type.parameters.iter().any(|parameter| parameter.name == CUSTOM);
            let names: Vec<_> = left.into_iter().map(shown).collect();
            return Some(match names.join(", ") {
                _ if is_open => format!("add it to `{CUSTOM}` of {producer}"),
                names if names.is_empty() => format!("{producer} leaves no attributes"),
                names => format!("{producer} leaves {names}"),
            });
        }
        let payload = known.and_then(|known| {
            known.kinds.iter().find_map(|kind| match kind {
                Kind::Extractor(payload) => Some(*payload),
                _ => None,
            })
        });
        Some(match payload {
            Some(Payload::Events) => format!("declare a plugin of type {producer}"),
            Some(payload) => {
                let source = Kind::DataSource(payload).noun();
                format!(
                    "declare a plugin of type {producer}, and list it in `dataLayer.sources` with a {source}"
                )
            }
            None => format!("no extractor is named {producer}, or of that type"),
        })
    }
}

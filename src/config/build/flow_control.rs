//! What `flowControl` and `saturationDetector` refer to.

use epp_framework::plugin::Kind;

use super::Composer;
use crate::config::Located;
use crate::config::problem::{Severity, shown};

impl Composer<'_> {
    /// The saturation detector, if the file names one. Policies are judged: strictly if the feature gate is on, else by
    /// warnings, as upstream does.
    pub(super) fn flow_control(&mut self) -> Option<usize> {
        let config = self.config;
        let flow = &config.flow_control;
        let severity = if config.gates.flow_control { Severity::Error } else { Severity::Warning };
        let bands = flow.bands.iter().chain(&flow.default_band).chain(&flow.default_negative_band);
        let policies = bands.flat_map(|band| {
            let fairness = band.fairness_policy.iter().map(|name| (name, Kind::FairnessPolicy));
            fairness.chain(band.ordering_policy.iter().map(|name| (name, Kind::OrderingPolicy)))
        });
        let usage = flow.usage_limit_policy.iter().map(|name| (name, Kind::UsageLimitPolicy));
        for (name, kind) in policies.chain(usage) {
            self.policy(name, kind, severity);
        }
        if let Some(at) = flow.at.filter(|_| flow.queues() && !config.gates.flow_control) {
            let message = "`flowControl` does nothing while its feature gate is off";
            self.problems.warning(at, message);
        }
        let detector = flow.saturation_detector.as_ref()?;
        self.policy(detector, Kind::SaturationDetector, Severity::Error)
    }

    /// The plugin of this kind that `name` means; a type that needs no declaration is injected.
    fn policy(&mut self, name: &Located<String>, kind: Kind, severity: Severity) -> Option<usize> {
        let known = self.names.get_mut(&name.value).map(|declared| {
            declared.referenced = true;
            declared.instance
        });
        let found = match known {
            // One that is broken was told.
            Some(declared) => declared?,
            None if self.find_type(&name.value).is_some_and(|found| found.kinds.contains(&kind)) => {
                self.inject(&name.value, name.at)?
            }
            None if severity == Severity::Error => {
                self.tell_unknown_name("", &name.value, name.at);
                return None;
            }
            None if self.is_unread(&name.value) => return None,
            None => {
                let message = format!("no plugin is named {}", shown(&name.value));
                self.problems.warning(name.at, message);
                return None;
            }
        };
        if !self.has(found, kind) {
            let message = format!("{} is not a {}", shown(&name.value), kind.noun());
            self.problems.push_with(severity, name.at, || message);
            return None;
        }
        Some(found)
    }
}

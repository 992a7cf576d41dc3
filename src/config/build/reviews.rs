//! What is valid in a configuration, but may surprise: warnings, told once the rest is known.

use epp_framework::plugin::{Kind, Review, Stability};

use super::{Composer, ProfilePlan};
use crate::config::problem::{Position, shown};

impl Composer<'_> {
    /// Reviews every instance and every profile. Says nothing that follows from what is wrong, and was told.
    pub(super) fn review<'p>(
        &mut self,
        profiles: impl Iterator<Item = &'p ProfilePlan>,
        discovery: Option<usize>,
        parsers: &[usize],
    ) {
        if self.config.profiles.is_empty() && self.every_entry_is_read && !self.config.unread.references {
            self.review_lack();
        }
        for profile in profiles {
            self.review_filters(profile);
            self.review_scorers(profile);
        }
        let named = self.profile_names();
        for instance in 0..self.instances.len() {
            let (plan, at) = (&self.instances[instance], self.position_of(instance));
            let find = |name: &str| {
                let found = self.names.get(name)?.instance?;
                Some((self.instances[found].plugin_type, &self.instances[found].parameters))
            };
            let review = Review { parameters: &plan.parameters, profiles: &named, find: &find };
            let is_judged = self.sound[instance]
                && (named.len() >= self.config.profiles.len() || !self.has(instance, Kind::ProfileHandler));
            let told = if is_judged { (plan.plugin_type.review)(&review) } else { Vec::new() };
            for told in told {
                self.problems.warning(at, format!("plugin {}: {told}", shown(&plan.name)));
            }
            if let Stability::Deprecated { instead } = plan.plugin_type.stability {
                let name = shown(plan.plugin_type.name);
                self.problems.warning(at, format!("plugin type {name} is deprecated: {instead}"));
            }
            if !self.is_left_over(instance) {
                continue;
            }
            if self.has(instance, Kind::Discovery) && discovery != Some(instance) {
                let name = shown(&self.instances[instance].name);
                let message = format!("plugin {name} does nothing, `dataLayer.discovery` does not name it");
                self.problems.warning(at, message);
            }
            if self.has(instance, Kind::Decider) && !self.is_referenced(instance) {
                let name = shown(&self.instances[instance].name);
                let message = format!("plugin {name} does nothing, no profile handler refers to it");
                self.problems.warning(at, message);
            }
            if self.has(instance, Kind::Parser) && !parsers.contains(&instance) {
                let name = shown(&self.instances[instance].name);
                let message =
                    format!("plugin {name} does nothing, `requestHandler.parsers` does not list it");
                self.problems.warning(at, message);
            }
        }
    }

    /// Tells of a file that declares nothing to pick endpoints by.
    fn review_lack(&mut self) {
        let schedules = (0..self.config.plugins.len()).any(|declared| self.is_scheduling(declared));
        let message = match self.config.plugins.is_empty() {
            true => "no plugins are declared, endpoints are picked at random",
            false if !schedules => {
                "no scorer is declared, endpoints are picked at random; the default ones apply only without a \
                 configuration"
            }
            false => return,
        };
        self.problems.warning(Position::START, message);
    }

    /// Whether nothing that could not be read or found may have meant an instance.
    pub(super) fn is_left_over(&self, instance: usize) -> bool {
        let by_parameters = [Kind::Filter, Kind::Decider].into_iter().any(|kind| self.has(instance, kind));
        let all_read = || self.every_entry_is_read && self.sound.iter().all(|sound| *sound);
        !self.config.unread.references && !self.has_unknown_names && (all_read() || !by_parameters)
    }

    /// Tells of plugins for profiles that are in none.
    pub(super) fn warn_of_unreferenced(&mut self) {
        for instance in 0..self.instances.len() {
            let is_in_one = !self.is_scheduling(instance) || self.is_referenced(instance);
            if is_in_one || !self.is_left_over(instance) {
                continue;
            }
            let name = &self.instances[instance].name;
            let message = format!("plugin {} is in no scheduling profile", shown(name));
            self.problems.warning(self.position_of(instance), message);
        }
    }

    fn review_filters(&mut self, profile: &ProfilePlan) {
        for &filter in &profile.filters {
            let plan = &self.instances[filter];
            if !plan.plugin_type.drains.is_empty() {
                let message = format!(
                    "filter {} in profile {} may leave nobody, and requests are then refused: it does so {}",
                    shown(&plan.name),
                    shown(&profile.name),
                    plan.plugin_type.drains
                );
                self.problems.warning(self.position_of(filter), message);
            }
        }
    }

    /// A scorer under its old and its new name counts twice.
    fn review_scorers(&mut self, profile: &ProfilePlan) {
        for (n, &(second, _)) in profile.scorers.iter().enumerate() {
            let plugin_type = self.instances[second].plugin_type;
            let other_spelling = |first: usize| {
                plugin_type.name == self.instances[first].plugin_type.name
                    && self.spellings[first] != self.spellings[second]
            };
            if let Some(&(first, _)) = profile.scorers[..n].iter().find(|(first, _)| other_spelling(*first)) {
                let message = format!(
                    "{} and {} are two names of one type; in profile {} it counts twice",
                    shown(self.spellings[first]),
                    shown(self.spellings[second]),
                    shown(&profile.name)
                );
                self.problems.warning(self.position_of(second), message);
            }
        }
    }
}

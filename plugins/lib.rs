//! The built-in plugins, and the one table that lists them.
//!
//! One file per plugin type, in a folder per family. Pure: no clock, no randomness but the cycle's, no I/O. Public are
//! the table and those parts that benches and the server's edges drive.

mod discovery;
mod filter;
pub mod parser;
mod picker;
pub mod prefix;
mod profile;
mod scorer;

#[cfg(test)]
mod testing;

use epp_framework::plugin::PluginType;

/// Every type of plugin that a configuration may name.
pub const BUILT_IN: &[PluginType] = &[
    scorer::queue::TYPE,
    scorer::kv_cache_utilization::TYPE,
    scorer::prefix_cache::TYPE,
    scorer::lora_affinity::TYPE,
    picker::max_score::TYPE,
    picker::random::TYPE,
    picker::weighted_random::TYPE,
    profile::single::TYPE,
    filter::decision_tree::TYPE,
    filter::low_queue::TYPE,
    filter::least_queue::TYPE,
    filter::least_kv_cache::TYPE,
    filter::lora_affinity::TYPE,
    filter::header_based_testing::TYPE,
    discovery::file::TYPE,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use epp_framework::parameters::Parameters;
    use epp_framework::plugin::{BuildContext, Kind};
    use epp_framework::slot::SlotNames;

    use super::*;

    #[test]
    fn every_type_builds_from_its_defaults_into_the_kinds_it_declares() {
        // A type that needs parameters is built in its own tests.
        let complete = |built_in: &&PluginType| !built_in.parameters.iter().any(|p| p.kind.is_required());
        assert!(BUILT_IN.iter().filter(complete).count() + 2 >= BUILT_IN.len());
        for built_in in BUILT_IN.iter().filter(complete) {
            let slots = SlotNames::default();
            let parameters = Parameters::defaults(built_in.parameters);
            let plugin = (built_in.build)(&parameters, &BuildContext::new(built_in.name, &slots));
            for (kind, has) in [
                (Kind::Filter, plugin.filter.is_some()),
                (Kind::Scorer, plugin.scorer.is_some()),
                (Kind::Picker, plugin.picker.is_some()),
                (Kind::ProfileHandler, plugin.profile_handler.is_some()),
                (Kind::Discovery, plugin.discovery.is_some()),
            ] {
                assert_eq!(has, built_in.kinds.contains(&kind), "{} {kind:?}", built_in.name);
            }
        }
        let names = || BUILT_IN.iter().flat_map(|built_in| built_in.aliases.iter().chain([&built_in.name]));
        assert_eq!(names().collect::<BTreeSet<_>>().len(), names().count(), "no name is taken twice");
    }
}

//! The built-in plugins, and the one table that lists them.
//!
//! One file per plugin type, in a folder per family. Pure: no clock, no randomness but the cycle's, no I/O. Public are
//! the table and those parts that benches and the server's edges drive.

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
    picker::max_score::TYPE,
    profile::single::TYPE,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use epp_framework::plugin::{BuildContext, Kind, Parameters};
    use epp_framework::slot::SlotNames;

    use super::*;

    #[test]
    fn every_type_builds_from_its_defaults_into_the_kinds_it_declares() {
        for built_in in BUILT_IN {
            let slots = SlotNames::default();
            let parameters = Parameters::defaults(built_in.parameters);
            let plugin = (built_in.build)(&parameters, &BuildContext::new(built_in.name, &slots));
            for (kind, has) in [
                (Kind::Filter, plugin.filter.is_some()),
                (Kind::Scorer, plugin.scorer.is_some()),
                (Kind::Picker, plugin.picker.is_some()),
                (Kind::ProfileHandler, plugin.profile_handler.is_some()),
            ] {
                assert_eq!(has, built_in.kinds.contains(&kind), "{} {kind:?}", built_in.name);
            }
        }
        let names: BTreeSet<_> = BUILT_IN.iter().map(|built_in| built_in.name).collect();
        assert_eq!(names.len(), BUILT_IN.len());
    }
}

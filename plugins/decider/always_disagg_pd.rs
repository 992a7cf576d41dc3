//! `always-disagg-pd-decider`: every prompt is computed elsewhere.

use std::sync::Arc;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Decider};

/// `always-disagg-pd-decider`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "always-disagg-pd-decider",
    summary: "Has every prompt computed by a prefill worker.",
    about: "For `deciders.prefill` of `disagg-profile-handler`.",
    kinds: &[Kind::Decider],
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn build(_parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    Plugin { decider: Some(Arc::new(Always)), ..Plugin::default() }
}

struct Always;

impl Decider for Always {
    fn decide(&self, _cycle: &Cycle<'_>, _endpoint: Option<u32>) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;

    use super::*;
    use crate::testing::Pool;

    #[test]
    fn every_request_is_split() {
        let pool = Pool::new([Load::default()]);
        for endpoint in [None, Some(0)] {
            assert!(Always.decide(&pool.cycle(), endpoint));
        }
    }
}

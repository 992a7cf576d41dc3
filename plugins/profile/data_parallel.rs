//! `data-parallel-profile-handler`: the picked endpoint is a rank of a server, and all ranks answer at one port.
//!
//! What listens at that port passes the request on to the rank that a header names.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Stability, releases};
use epp_framework::scheduling::{Cycle, Decision, ProfileHandler, Unschedulable};
use smallvec::SmallVec;

use super::single::{SingleProfileHandler, exactly_one};

/// Header that names the rank, `ip:port`.
const RANK: &str = "x-data-parallel-host-port";

/// `data-parallel-profile-handler`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "data-parallel-profile-handler",
    summary: "Runs the one profile there is; sends the request to one port of the picked server, and names the rank in \
              the header `x-data-parallel-host-port`.",
    about: "For servers whose ranks are endpoints of their own, behind something that listens at `primaryPort` and \
            passes requests on to the rank.",
    needs: &["a data-parallel sidecar, or the like, beside each model server"],
    stability: Stability::Deprecated {
        instead: "list each rank's port as a target port of the pool, and use `single-profile-handler`",
    },
    parameters: &[Parameter {
        name: "primaryPort",
        kind: ParameterKind::Integer { default: 8000, min: 1, max: 65_535 },
        unit: "port",
        summary: "Where every request for the server goes.",
    }],
    kinds: &[Kind::ProfileHandler],
    judge_profiles: exactly_one,
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let port = u16::try_from(parameters.integer("primaryPort")).expect("its range is that of ports");
    Plugin { profile_handler: Some(Arc::new(DataParallel { port })), ..Plugin::default() }
}

struct DataParallel {
    port: u16,
}

impl ProfileHandler for DataParallel {
    fn next(&self, cycle: &Cycle<'_>) -> SmallVec<[usize; 2]> {
        SingleProfileHandler.next(cycle)
    }

    fn decide(&self, cycle: &Cycle<'_>) -> Result<Decision, Unschedulable> {
        let mut decision = SingleProfileHandler.decide(cycle)?;
        answer_at(self.port, cycle, &mut decision);
        Ok(decision)
    }
}

/// Has the targets be told with this port, and names the first as it is in a header.
pub(super) fn answer_at(port: u16, cycle: &Cycle<'_>, decision: &mut Decision) {
    let rank = &cycle.pool[decision.targets[0] as usize].endpoint;
    decision.headers.push((RANK, rank.destination.clone()));
    decision.port = Some(port);
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;
    use epp_framework::scheduling::ProfileRun;
    use smallvec::smallvec;

    use super::*;
    use crate::testing::{Pool, built};

    /// Row D22 of the plugin specification.
    #[test]
    fn d22_the_rank_is_named_and_the_port_replaced() {
        for (parameters, port) in [("{}", 8000), (r#"{"primaryPort": 9000}"#, 9000)] {
            let handler = built(&TYPE, parameters).profile_handler.unwrap();
            let mut pool = Pool::new([Load::default(); 3]);
            pool.profiles = vec!["only".to_owned()];
            assert_eq!(handler.next(&pool.cycle()).as_slice(), [0], "D22");
            pool.runs = smallvec![ProfileRun { profile: 0, picks: Some(smallvec![1, 2]) }];
            let decision = handler.decide(&pool.cycle()).unwrap();
            assert_eq!((decision.targets.as_slice(), decision.port), (&[1, 2][..], Some(port)), "D22");
            assert_eq!(decision.headers.as_slice(), [(RANK, "10.0.0.2:8000".to_owned())], "D22");
            pool.runs = smallvec![ProfileRun { profile: 0, picks: None }];
            let drained = Err(Unschedulable::Drained { profile: "only".into() });
            assert_eq!(handler.decide(&pool.cycle()), drained);
        }
    }
}

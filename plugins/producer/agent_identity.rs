//! `agent-identity`: who asks, from the headers by which agents tell their sessions.

use std::sync::Arc;

use epp_framework::lifecycle::{Hook, Producer};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Data, Kind, Plugin, PluginType, Stability, releases};
use epp_framework::request::InferenceRequest;
use epp_framework::slot::RequestSlot;

use crate::identity::AgentId;

const ADDITIONAL: &str = "additionalSessionHeaders";

/// Headers of known agents and their libraries, in the order in which they are asked.
const KNOWN: [&str; 4] = ["x-claude-code-session-id", "x-session-affinity", "session-id", "session_id"];

/// `agent-identity`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "agent-identity",
    summary: "Tells whose request it is by the headers of agents, for fairness among them.",
    about: "The first header that is there counts: those of `additionalSessionHeaders` in their order, then \
            `x-claude-code-session-id`, `x-session-affinity`, `session-id` and `session_id`. Where a request says no \
            fairness id by itself, this is it, so that agents that send much wait for their own requests and not for \
            one another's. An empty value, or one of more than 256 bytes, is none.",
    stability: Stability::Alpha,
    parameters: &[Parameter {
        name: ADDITIONAL,
        kind: ParameterKind::Texts { required: false },
        unit: "",
        summary: "Headers that are asked before the known ones.",
    }],
    kinds: &[Kind::Produces(Data::AgentId)],
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let additional = parameters.texts(ADDITIONAL).iter().map(|name| name.to_ascii_lowercase());
    let headers: Vec<_> = additional.chain(KNOWN.map(str::to_owned)).collect();
    let request_headers = headers.clone();
    let producer = AgentIdentity { headers, slot: cx.own_slot() };
    Plugin { producer: Some(Arc::new(producer)), request_headers, ..Plugin::default() }
}

struct AgentIdentity {
    headers: Vec<String>,
    slot: RequestSlot<AgentId>,
}

impl Producer for AgentIdentity {
    fn produce(&self, _cx: &Hook<'_>, request: &mut InferenceRequest) {
        let id = |name: &String| request.headers.get(name).and_then(AgentId::of);
        if let Some(agent) = self.headers.iter().find_map(id) {
            if request.fairness_id.is_empty() {
                agent.as_str().clone_into(&mut request.fairness_id);
            }
            self.slot.put(request, agent);
        }
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::slot::SlotNames;

    use super::*;
    use crate::testing::{Pool, built_in};

    #[test]
    fn the_first_header_that_is_there_counts() {
        let own = r#"{"additionalSessionHeaders": ["X-Team", "x-agent"]}"#;
        for (name, parameters, headers, want) in [
            ("a known one", "{}", &[("session_id", "d")][..], Some("d")),
            ("the first known one", "{}", &[("session_id", "d"), ("x-session-affinity", "b")], Some("b")),
            ("own ones first", own, &[("x-claude-code-session-id", "a"), ("x-agent", "o")], Some("o")),
            ("in any case", own, &[("x-agent", "o"), ("x-team", "t")], Some("t")),
            ("an empty one is none", own, &[("x-agent", ""), ("session-id", "c")], Some("c")),
            ("none", "{}", &[("x-agent", "o")], None),
        ] {
            let slots = SlotNames::default();
            let plugin = built_in(&slots, &TYPE, parameters);
            let mut pool = Pool::new([]);
            pool.request.headers = headers.iter().map(|&(name, value)| (name, value.to_owned())).collect();
            let producer = plugin.producer.unwrap();
            pool.produce(&*producer);
            let found = slots.request_slot::<AgentId>(TYPE.name).get(&pool.request).map(AgentId::as_str);
            assert_eq!(found, want, "{name}");
            assert_eq!(pool.request.fairness_id, want.unwrap_or_default(), "{name}");
            pool.request.fairness_id = "own".to_owned();
            pool.produce(&*producer);
            assert_eq!(pool.request.fairness_id, "own", "{name}: the request's own counts");
            assert!(plugin.request_headers.iter().any(|read| read == "session-id"), "{name}");
        }
    }
}

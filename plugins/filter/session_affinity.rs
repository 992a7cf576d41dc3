//! `session-affinity-filter`: keeps the endpoint that served the request's session before, if it is a candidate.

use epp_framework::plugin::{Kind, Plugin, PluginType, Stability, releases};
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::Candidates;
use rand::rngs::SmallRng;

use crate::session::{PARAMETERS, SessionAffinity, review};

/// `session-affinity-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "session-affinity-filter",
    summary: "Keeps the endpoint that served the session before, if it is among the candidates.",
    about: "If the endpoint that the session belongs to is a candidate, only it is kept, otherwise all are. With \
            `encoded_endpoint_header` each answer carries a header that names the endpoint, `namespace/name` in \
            base64, and clients send it back: nothing is remembered here, all replicas understand it, and clients must \
            cooperate. With `session_id` clients name their session, and its endpoint is remembered until no request \
            came for `evictionTtlSeconds`; a session moves only when its endpoint is no candidate. Replicas do not \
            share that.",
    stability: Stability::Alpha,
    parameters: PARAMETERS,
    kinds: &[Kind::Filter],
    build: |parameters, cx| {
        let affinity = SessionAffinity::new(parameters, cx);
        Plugin { filter: Some(affinity.clone()), ..affinity.plugin() }
    },
    review,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

impl Filter for SessionAffinity {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        if let Some(bound) = self.bound(cycle, candidates) {
            candidates.retain(|candidate| candidate.id == bound);
        }
    }
}

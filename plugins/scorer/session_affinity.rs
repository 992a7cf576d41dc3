//! `session-affinity-scorer`: prefers the endpoint that served the request's session before.

use epp_framework::plugin::{Kind, Plugin, PluginType, Stability, releases};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::snapshot::Candidates;

use crate::session::{PARAMETERS, SessionAffinity, review};

/// `session-affinity-scorer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "session-affinity-scorer",
    summary: "Prefers the endpoint that served the session before.",
    about: "The score is 1 for the endpoint that the session belongs to, and 0 for others; a request without a session \
            scores 0 everywhere. With \
            `encoded_endpoint_header` each answer carries a header that names the endpoint, `namespace/name` in \
            base64, and clients send it back: nothing is remembered here, all replicas understand it, and clients must \
            cooperate. With `session_id` clients name their session, and its endpoint is remembered until no request \
            came for `evictionTtlSeconds`; a session moves only when its endpoint is no candidate. Replicas do not \
            share that.",
    stability: Stability::Alpha,
    parameters: PARAMETERS,
    kinds: &[Kind::Scorer],
    build: |parameters, cx| {
        let affinity = SessionAffinity::new(parameters, cx);
        Plugin { scorer: Some(affinity.clone()), ..affinity.plugin() }
    },
    review,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

impl Scorer for SessionAffinity {
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        scores.fill(0.0);
        let Some(bound) = self.bound(cycle, candidates) else { return };
        if let Some(position) = candidates.iter().position(|candidate| candidate.id == bound) {
            scores[position] = 1.0;
        }
    }
}

//! `disagg-headers-handler` and `prefill-header-handler`: nothing. They once set the headers that the profile handlers
//! now set themselves, and stand in older configurations.

use epp_framework::parameters::{Parameter, ParameterKind};
use epp_framework::plugin::{PluginType, Stability, releases};

const DEPRECATED: Stability =
    Stability::Deprecated { instead: "it does nothing, since profile handlers set the headers themselves" };

const PREFILL: Parameter = profile("prefillProfile", "prefill");

/// `disagg-headers-handler`.
pub(crate) const DISAGG: PluginType = PluginType {
    name: "disagg-headers-handler",
    summary: "Does nothing: profile handlers set the headers `x-prefiller-host-port` and `x-encoder-hosts-ports`.",
    stability: DEPRECATED,
    parameters: &[PREFILL, profile("encodeProfile", "encode")],
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

/// `prefill-header-handler`.
pub(crate) const PREFILL_ONLY: PluginType = PluginType {
    name: "prefill-header-handler",
    summary: "Does nothing: profile handlers set the header `x-prefiller-host-port`.",
    parameters: &[PREFILL],
    ..DISAGG
};

const fn profile(name: &'static str, default: &'static str) -> Parameter {
    Parameter {
        name,
        kind: ParameterKind::Text { default: Some(default), check: |_| None },
        unit: "",
        summary: "Does nothing: the profile handler knows its profiles.",
    }
}

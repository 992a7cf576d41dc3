//! `models-data-extractor`: the names of the models that an endpoint serves, as its attribute `/v1/models`.

use epp_framework::data::{Extractor, Payload};
use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};

use super::of;

const NAME: &str = "models-data-extractor";
const ATTRIBUTE: &str = "/v1/models";

/// `models-data-extractor`.
pub(crate) const TYPE: PluginType = PluginType {
    name: NAME,
    summary: "Leaves the names of the models that an endpoint serves as its attribute `/v1/models`.",
    kinds: &[Kind::Extractor(Payload::Models)],
    leaves: |_| vec![ATTRIBUTE],
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn build(_parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    of(Extractor::Models(cx.own_attribute(NAME, ATTRIBUTE)))
}

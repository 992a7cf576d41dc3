//! `topology-extractor`: where an endpoint is, from its labels, as its attribute `Topology`. It needs no source.

use epp_framework::attribute::AttributeKey;
use epp_framework::data::{Extractor, Payload, PlaceExtractor};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Stability, releases};

use super::of;

const NAME: &str = "topology-extractor";

/// The attribute that says where an endpoint is.
const ATTRIBUTE: &str = "Topology";

/// For plugins that read the attribute: who leaves it.
pub(crate) const PRODUCER: Parameter = Parameter {
    name: "topologyProducerName",
    kind: ParameterKind::Text { default: Some(NAME), check: |_| None },
    unit: "",
    summary: "Name, or type, of the plugin that says where endpoints are.",
};

/// Producer and name of the attribute that those parameters name.
pub(crate) fn read(parameters: &Parameters) -> Vec<(&str, &str)> {
    vec![(parameters.text("topologyProducerName"), ATTRIBUTE)]
}

/// The attribute that those parameters name.
pub(crate) fn key(parameters: &Parameters, cx: &BuildContext<'_>) -> AttributeKey {
    cx.attribute(parameters.text("topologyProducerName"), ATTRIBUTE)
}

/// `topology-extractor`.
pub(crate) const TYPE: PluginType = PluginType {
    name: NAME,
    summary: "Leaves the attribute `Topology`: host, rack, zone and region of an endpoint, by its labels.",
    parameters: PARAMETERS,
    kinds: &[Kind::Extractor(Payload::Events)],
    leaves: |_| vec![ATTRIBUTE],
    build,
    stability: Stability::Alpha,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[
    label("hostname", "kubernetes.io/hostname", "Label of the host; a pod without it is where its node is."),
    label("rack", "topology.kubernetes.io/rack", "Label of the rack."),
    label("zone", "topology.kubernetes.io/zone", "Label of the zone."),
    label("region", "topology.kubernetes.io/region", "Label of the region."),
];

const fn label(name: &'static str, default: &'static str, summary: &'static str) -> Parameter {
    let kind = ParameterKind::Text { default: Some(default), check: |_| None };
    Parameter { name, kind, unit: "", summary }
}

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let labels = ["hostname", "rack", "zone", "region"].map(|name| parameters.text(name).to_owned());
    of(Extractor::Place(PlaceExtractor { labels, keys: cx.own_attribute(NAME, ATTRIBUTE) }))
}

//! `k8s-notification-source` and `endpoint-notification-source`: what happens to pods and endpoints. Discovery follows
//! that whether it is declared or not, so these do nothing by themselves.

use epp_framework::data::{DataSource, Payload};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};

/// `k8s-notification-source`.
pub(crate) const OBJECTS: PluginType = PluginType {
    name: "k8s-notification-source",
    summary: "Taken so that configurations load: what discovery follows reaches plugins without it.",
    parameters: PARAMETERS,
    kinds: &[Kind::DataSource(Payload::Events)],
    build,
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

/// `endpoint-notification-source`.
pub(crate) const ENDPOINTS: PluginType = PluginType {
    name: "endpoint-notification-source",
    summary: "Taken so that configurations load: plugins are told of endpoints without it.",
    kinds: &[Kind::DataSource(Payload::Events)],
    build,
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] =
    &[text("group", "API group of the objects."), text("version", "API version."), text("kind", "Kind.")];

const fn text(name: &'static str, summary: &'static str) -> Parameter {
    Parameter { name, kind: ParameterKind::Text { default: Some(""), check: |_| None }, unit: "", summary }
}

fn build(_parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    Plugin { data_source: Some(DataSource::Events), ..Plugin::default() }
}

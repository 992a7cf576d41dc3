//! `models-data-source`: the list of models of each model server.

use std::time::Duration;

use epp_framework::data::Payload;
use epp_framework::parameters::{Parameter, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};

use super::{
    CA_CERT_PATH, CLIENT_CERT_PATH, CLIENT_KEY_PATH, INSECURE_SKIP_VERIFY, interval, of_page, own_page, path,
    port, scheme,
};

/// `models-data-source`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "models-data-source",
    summary: "Asks each model server which models it serves.",
    parameters: PARAMETERS,
    kinds: &[Kind::DataSource(Payload::Models)],
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[
    scheme("http", "Protocol of the list."),
    path("/v1/models", "Path of the list."),
    port(0, "Port of the list; 0 is the port that requests go to."),
    INSECURE_SKIP_VERIFY,
    // Models come and go by the minute.
    interval(Duration::from_secs(5), "From one poll to the next."),
    CA_CERT_PATH,
    CLIENT_CERT_PATH,
    CLIENT_KEY_PATH,
];

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    of_page(own_page(parameters))
}

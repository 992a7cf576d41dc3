//! `dcgm-data-source`: the page of NVIDIA's DCGM exporter, which tells of GPUs, beside each model server.

use std::time::Duration;

use epp_framework::data::{PageSource, Payload};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Stability, releases};

use super::{INSECURE_SKIP_VERIFY, interval, of_page, own_page, path, port, scheme};

/// `dcgm-data-source`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "dcgm-data-source",
    summary: "Polls NVIDIA's DCGM exporter beside each endpoint, or on its node.",
    parameters: PARAMETERS,
    kinds: &[Kind::DataSource(Payload::Metrics)],
    build,
    stability: Stability::Alpha,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[
    scheme("http", "Protocol of the page."),
    path("/metrics", "Path of the page."),
    port(9400, "Port of the exporter; 0 is the port that requests go to."),
    INSECURE_SKIP_VERIFY,
    Parameter {
        name: "useNodeAddress",
        kind: ParameterKind::Boolean { default: false },
        unit: "",
        summary: "Whether the exporter is at the address of the endpoint's node (a DaemonSet), not at the endpoint's own.",
    },
    // The exporter itself looks at its GPUs no more often.
    interval(Duration::from_secs(1), "From one poll to the next."),
];

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    of_page(PageSource { on_host: parameters.boolean("useNodeAddress"), ..own_page(parameters) })
}

#[cfg(test)]
mod tests {
    use epp_framework::data::DataSource;

    use super::*;
    use crate::testing::built;

    #[test]
    fn the_exporter_is_where_it_usually_is() {
        let usual = PageSource {
            tls: Some(false),
            skip_verify: Some(true),
            path: Some("/metrics".to_owned()),
            on_host: false,
            port: Some(9400),
            interval: Some(Duration::from_secs(1)),
        };
        assert_eq!(built(&TYPE, "{}").data_source, Some(DataSource::Page(usual.clone())));
        let on_node = PageSource { on_host: true, ..usual };
        let plugin = built(&TYPE, r#"{"useNodeAddress": true}"#);
        assert_eq!(plugin.data_source, Some(DataSource::Page(on_node)));
    }
}

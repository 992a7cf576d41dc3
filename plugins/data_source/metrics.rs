//! `metrics-data-source`: the metrics page of each model server.

use std::time::Duration;

use epp_framework::data::{PageSource, Payload};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};

use super::{
    CA_CERT_PATH, CLIENT_CERT_PATH, CLIENT_KEY_PATH, INSECURE_SKIP_VERIFY, interval, of_page, page, path,
    port,
};

/// `metrics-data-source`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "metrics-data-source",
    summary: "Polls the metrics page of each model server. What is not said here is as the flags say.",
    parameters: PARAMETERS,
    kinds: &[Kind::DataSource(Payload::Metrics)],
    build,
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "scheme",
        kind: ParameterKind::Text { default: Some(""), check: check_scheme },
        unit: "",
        summary: "Protocol of the page, `http` or `https`; unless it is said, as the flags say, else `http`.",
    },
    path("", "Path of the page; unless it is said, as the flags say, else `/metrics`."),
    port(0, "Port of the page; 0 is as the flags say, else the port that requests go to."),
    INSECURE_SKIP_VERIFY,
    interval(Duration::ZERO, "From one poll to the next; unless it is said, as the flags say, else 50ms."),
    CA_CERT_PATH,
    CLIENT_CERT_PATH,
    CLIENT_KEY_PATH,
    Parameter {
        name: "families",
        kind: ParameterKind::Ignored { because: "only what is wanted is asked for and read, in any case" },
        unit: "",
        summary: "Families of metrics to keep.",
    },
];

fn check_scheme(text: &str) -> Option<String> {
    let known = matches!(text, "http" | "https");
    (!known).then(|| "expected `http` or `https`".to_owned())
}

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let page = page(parameters);
    of_page(PageSource { port: page.port.filter(|&port| port != 0), ..page })
}

#[cfg(test)]
mod tests {
    use epp_framework::data::DataSource;

    use super::*;
    use crate::testing::built;

    #[test]
    fn what_is_not_said_is_left_to_the_flags() {
        for (parameters, want) in [
            ("{}", PageSource::default()),
            (r#"{"scheme": "", "path": "", "port": 0, "insecureSkipVerify": true}"#, PageSource::default()),
            (
                r#"{"scheme": "https", "path": "/m", "port": 9, "insecureSkipVerify": false, "interval": 200}"#,
                PageSource {
                    tls: Some(true),
                    skip_verify: Some(false),
                    path: Some("/m".to_owned()),
                    on_host: false,
                    port: Some(9),
                    interval: Some(Duration::from_millis(200)),
                },
            ),
            (r#"{"scheme": "http"}"#, PageSource { tls: Some(false), ..PageSource::default() }),
        ] {
            assert_eq!(built(&TYPE, parameters).data_source, Some(DataSource::Page(want)), "{parameters}");
        }
    }
}

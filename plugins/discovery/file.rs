//! `file-discovery`: the pool's endpoints stand in a file.
//!
//! A declaration: `dataLayer.discovery` refers to it, and the server reads the file.

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Discovery, Kind, Plugin, PluginType, releases};

/// `file-discovery`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "file-discovery",
    summary: "Lists the pool's endpoints in a file, if `dataLayer.discovery` refers to it.",
    parameters: &[
        Parameter {
            name: "path",
            kind: ParameterKind::Text { default: None, check: |_| None },
            unit: "",
            summary: "The endpoints file, as for `--endpoints-file`.",
        },
        Parameter {
            name: "watchFile",
            kind: ParameterKind::Boolean { default: false },
            unit: "",
            summary: "Read the file again when it changes.",
        },
    ],
    kinds: &[Kind::Discovery],
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let (path, follow) = (parameters.text("path").into(), parameters.boolean("watchFile"));
    Plugin { discovery: Some(Discovery { path, follow }), ..Plugin::default() }
}

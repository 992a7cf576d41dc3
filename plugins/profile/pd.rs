//! `pd-profile-handler`: the older `disagg-profile-handler`, without encode workers and with a port for all ranks.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Review, Stability, releases};

use super::stages::{self, Names, Order, Stages};

/// `pd-profile-handler`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "pd-profile-handler",
    summary: "Splits requests: one profile picks who answers, another who computes the prompt, if a decider says so.",
    about: "The prefill worker is named in the header `x-prefiller-host-port`, which the sidecar of the decode worker \
            reads.",
    needs: &[
        "model servers with roles, told apart by filters such as `decode-filter`",
        "a routing sidecar, or the like, beside each decode worker",
    ],
    stability: Stability::Deprecated { instead: "use `disagg-profile-handler`" },
    parameters: &[
        profile("decodeProfile", "decode", "Profile that picks who answers."),
        profile("prefillProfile", "prefill", "Profile that picks who computes the prompt."),
        Parameter {
            name: "deciderPluginName",
            kind: ParameterKind::Reference { to: Kind::Decider, default: Some("prefix-based-pd-decider") },
            unit: "",
            summary: "Name of the plugin that says whether the prompt is computed by a prefill worker.",
        },
        Parameter {
            name: "primaryPort",
            kind: ParameterKind::Integer { default: 0, min: 0, max: 65_535 },
            unit: "port",
            summary: "Where every request for a server goes, with the rank in the header \
                      `x-data-parallel-host-port`; 0 means the picked endpoint's own port.",
        },
        ignored(
            "threshold",
            "declare a `prefix-based-pd-decider` with `nonCachedTokens`, which counts tokens; for 0, which splits every \
             request, an `always-disagg-pd-decider`",
        ),
        ignored("hashBlockSize", "the plugin that matches prefixes has it"),
        ignored("prefixPluginType", "the decider reads prefix matches"),
        ignored(
            "prefixPluginName",
            "the decider's `prefixMatchInfoProducerName` says whose prefix matches count",
        ),
        ignored(
            "prefixMatchInfoProducerName",
            "the decider's `prefixMatchInfoProducerName` says whose prefix matches count",
        ),
    ],
    kinds: &[Kind::ProfileHandler],
    judge_profiles: |parameters, profiles| stages::judge(parameters.text("decodeProfile"), profiles),
    build,
    releases: releases::LLM_D,
    review,
    ..PluginType::PLAIN
};

const fn profile(name: &'static str, default: &'static str, summary: &'static str) -> Parameter {
    let kind = ParameterKind::Text { default: Some(default), check: |_| None };
    Parameter { name, kind, unit: "", summary }
}

const fn ignored(name: &'static str, because: &'static str) -> Parameter {
    Parameter {
        name,
        kind: ParameterKind::Ignored { because },
        unit: "",
        summary: "Of older versions; does nothing.",
    }
}

fn review(review: &Review<'_>) -> Vec<String> {
    let prefill = review.parameters.text("prefillProfile");
    let told = || format!("no profile is named `{prefill}`, so there is no prefill stage");
    (!review.profiles.contains(&prefill)).then(told).into_iter().collect()
}

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let port = u16::try_from(parameters.integer("primaryPort")).expect("its range is that of ports");
    let stages = Stages {
        order: Order::DecodeFirst,
        names: Names {
            decode: parameters.text("decodeProfile").to_owned(),
            prefill: parameters.text("prefillProfile").to_owned(),
            encode: String::new(),
        },
        prefill: parameters.reference("deciderPluginName").map(|name| cx.decider(name)),
        encode: None,
        primary_port: (port != 0).then_some(port),
    };
    Plugin { profile_handler: Some(Arc::new(stages)), ..Plugin::default() }
}

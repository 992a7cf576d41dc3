//! `disagg-profile-handler`: prompts, media and answers are computed by different servers.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Review, releases};

use super::stages::{self, Names, Order, Stages};

/// `disagg-profile-handler`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "disagg-profile-handler",
    summary: "Splits requests: one profile picks who answers, others who computes the prompt and who encodes media.",
    about: "Prefill and encode workers are named in the headers `x-prefiller-host-port` and `x-encoder-hosts-ports`, \
            which the sidecar of the decode worker reads. A stage without a decider never runs, and one that finds \
            nobody is left out.",
    needs: &[
        "model servers with roles, told apart by filters such as `decode-filter`",
        "a routing sidecar, or the like, beside each decode worker",
    ],
    parameters: PARAMETERS,
    renamed: &[("deciderPluginName", "prefillDeciderPluginName")],
    kinds: &[Kind::ProfileHandler],
    check,
    judge_profiles: |parameters, profiles| stages::judge(&names(parameters).decode, profiles),
    build,
    releases: releases::LLM_D,
    review,
    ..PluginType::PLAIN
};

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "stageOrder",
        kind: ParameterKind::Text { default: Some("decode-first"), check: check_order },
        unit: "",
        summary: "Who is picked first: `decode-first`, or `prefill-first`, with which there always is a prefill worker \
                  and no decider for it.",
    },
    Parameter {
        name: "profiles",
        kind: ParameterKind::Map { fields: || PROFILES, required: false, one_of: false },
        unit: "",
        summary: "Names of the scheduling profiles.",
    },
    Parameter {
        name: "deciders",
        kind: ParameterKind::Map { fields: || DECIDERS, required: false, one_of: false },
        unit: "",
        summary: "Names of the plugins that say whether a stage runs.",
    },
    older_profile("decodeProfile", "Older form of `profiles.decode`."),
    older_profile("prefillProfile", "Older form of `profiles.prefill`."),
    older_profile("encodeProfile", "Older form of `profiles.encode`."),
    decider(
        "prefillDeciderPluginName",
        "Older form of `deciders.prefill`; `deciderPluginName` is older still.",
    ),
    decider("encodeDeciderPluginName", "Older form of `deciders.encode`."),
];

const PROFILES: &[Parameter] = &[
    profile("decode", "decode", "Picks who answers."),
    profile("prefill", "prefill", "Picks who computes the prompt."),
    profile("encode", "encode", "Picks who encodes media."),
];

const DECIDERS: &[Parameter] = &[
    decider("prefill", "Says whether the prompt is computed by a prefill worker; without one it never is."),
    decider("encode", "Says whether media are encoded by encode workers; without one they never are."),
];

/// The parameters that are names of profiles in the older form.
const OLDER_PROFILES: [&str; 3] = ["decodeProfile", "prefillProfile", "encodeProfile"];

/// The parameters that are names of deciders in the older form.
const OLDER_DECIDERS: [&str; 2] = ["prefillDeciderPluginName", "encodeDeciderPluginName"];

const fn profile(name: &'static str, default: &'static str, summary: &'static str) -> Parameter {
    let kind = ParameterKind::Text { default: Some(default), check: |_| None };
    Parameter { name, kind, unit: "", summary }
}

const fn older_profile(name: &'static str, summary: &'static str) -> Parameter {
    profile(name, "", summary)
}

const fn decider(name: &'static str, summary: &'static str) -> Parameter {
    let kind = ParameterKind::Reference { to: Kind::Decider, default: None };
    Parameter { name, kind, unit: "", summary }
}

/// The order that a word means; case, hyphens and underscores do not matter.
fn order(word: &str) -> Option<Order> {
    let word: String = word.to_ascii_lowercase().chars().filter(|c| !matches!(c, '-' | '_')).collect();
    match word.as_str() {
        "decodefirst" | "decode" => Some(Order::DecodeFirst),
        "prefillfirst" | "prefill" => Some(Order::PrefillFirst),
        _ => None,
    }
}

fn check_order(word: &str) -> Option<String> {
    order(word).is_none().then(|| "expected `decode-first` or `prefill-first`".to_owned())
}

/// The name of the decider of a stage, in either form.
fn decider_of<'a>(parameters: &'a Parameters, nested: &str, older: &str) -> Option<&'a str> {
    let nested = parameters.map("deciders").and_then(|deciders| deciders.reference(nested));
    nested.or_else(|| parameters.reference(older))
}

fn prefill_decider(parameters: &Parameters) -> Option<&str> {
    decider_of(parameters, "prefill", "prefillDeciderPluginName")
}

fn encode_decider(parameters: &Parameters) -> Option<&str> {
    decider_of(parameters, "encode", "encodeDeciderPluginName")
}

fn names(parameters: &Parameters) -> Names {
    let [decode, prefill, encode] = ["decode", "prefill", "encode"];
    let name = |stage: &str, older: &str| {
        let nested = parameters.map("profiles").map(|profiles| profiles.text(stage));
        nested.or(Some(parameters.text(older))).filter(|name| !name.is_empty()).unwrap_or(stage).to_owned()
    };
    Names {
        decode: name(decode, "decodeProfile"),
        prefill: name(prefill, "prefillProfile"),
        encode: name(encode, "encodeProfile"),
    }
}

/// Those parameters of the older form that are given.
fn older(parameters: &Parameters) -> Vec<&'static str> {
    let profiles = OLDER_PROFILES.into_iter().filter(|name| !parameters.text(name).is_empty());
    let deciders = OLDER_DECIDERS.into_iter().filter(|name| parameters.has(name));
    profiles.chain(deciders).collect()
}

fn check(parameters: &Parameters) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(older) = older(parameters).first()
        && (parameters.has("profiles") || parameters.has("deciders"))
    {
        wrong.push(format!(
            "`{older}` is of the older form, which does not mix with `profiles` and `deciders`"
        ));
    }
    if order(parameters.text("stageOrder")) == Some(Order::PrefillFirst)
        && let Some(decider) = prefill_decider(parameters)
    {
        wrong.push(format!(
            "`stageOrder` is `prefill-first`, with which every prompt has a prefill worker, so that the decider \
             `{decider}` has no say"
        ));
    }
    wrong
}

fn review(review: &Review<'_>) -> Vec<String> {
    let Review { parameters, profiles, .. } = *review;
    let mut told = Vec::new();
    if let Some(older) = older(parameters).first() {
        told.push(format!("`{older}` is of the older form, write `profiles` and `deciders`"));
    }
    let names = names(parameters);
    let prefill_first = order(parameters.text("stageOrder")) == Some(Order::PrefillFirst);
    for (stage, name, decider) in [
        ("prefill", &names.prefill, prefill_decider(parameters)),
        ("encode", &names.encode, encode_decider(parameters)),
    ] {
        let runs = decider.is_some() || (stage == "prefill" && prefill_first);
        match profiles.contains(&name.as_str()) {
            true if !runs => told.push(format!("profile `{name}` never runs, `deciders.{stage}` is not set")),
            false if runs => told.push(format!("no profile is named `{name}`, so there is no {stage} stage")),
            _ => {}
        }
    }
    let stages = [&names.decode, &names.prefill, &names.encode];
    let others = profiles.iter().filter(|profile| stages.iter().all(|stage| stage != *profile));
    told.extend(others.map(|profile| format!("profile `{profile}` never runs, it is none of the stages")));
    told
}

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let stages = Stages {
        order: order(parameters.text("stageOrder")).expect("checked when read"),
        names: names(parameters),
        prefill: prefill_decider(parameters).map(|name| cx.decider(name)),
        encode: encode_decider(parameters).map(|name| cx.decider(name)),
        primary_port: None,
    };
    Plugin { profile_handler: Some(Arc::new(stages)), ..Plugin::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_however_they_are_written() {
        for (word, want) in [
            ("decode-first", Some(Order::DecodeFirst)),
            ("Decode_First", Some(Order::DecodeFirst)),
            ("decode", Some(Order::DecodeFirst)),
            ("PREFILL-FIRST", Some(Order::PrefillFirst)),
            ("prefill", Some(Order::PrefillFirst)),
            ("encode-first", None),
            ("first", None),
        ] {
            assert_eq!((order(word), check_order(word).is_none()), (want, want.is_some()), "{word}");
        }
    }
}

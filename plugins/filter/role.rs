//! `decode-filter`, `prefill-filter`, `encode-filter`: the endpoints whose role lets them do a part of the work.
//!
//! The role is the label `llm-d.ai/role`. Who has none decodes, and does nothing else.

use epp_framework::plugin::{Kind, Plugin, PluginType, releases};

use crate::labels::LabelFilter;

const LABEL: &str = "llm-d.ai/role";

/// `decode-filter`.
pub(crate) const DECODE: PluginType = PluginType {
    name: "decode-filter",
    summary: "Keeps the endpoints that may decode, those without a role among them.",
    about: "Kept are endpoints whose label `llm-d.ai/role` is `decode`, `prefill-decode`, `both` or \
            `encode-prefill-decode`, and those without the label.",
    kinds: &[Kind::Filter],
    build: |_, _| plugin(&["decode", "prefill-decode", "both", "encode-prefill-decode"], true),
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

/// `prefill-filter`.
pub(crate) const PREFILL: PluginType = PluginType {
    name: "prefill-filter",
    summary: "Keeps the endpoints that may compute prompts for others.",
    about: "Kept are endpoints whose label `llm-d.ai/role` is `prefill`, `encode-prefill`, `prefill-decode`, `both` or \
            `encode-prefill-decode`.",
    kinds: &[Kind::Filter],
    build: |_, _| {
        plugin(&["prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"], false)
    },
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

/// `encode-filter`.
pub(crate) const ENCODE: PluginType = PluginType {
    name: "encode-filter",
    summary: "Keeps the endpoints that may encode media for others.",
    about: "Kept are endpoints whose label `llm-d.ai/role` is `encode`, `encode-prefill` or `encode-prefill-decode`.",
    kinds: &[Kind::Filter],
    build: |_, _| plugin(&["encode", "encode-prefill", "encode-prefill-decode"], false),
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

/// The filter of these roles; `unlabelled` says whether endpoints without one are kept.
fn plugin(roles: &'static [&'static str], unlabelled: bool) -> Plugin {
    LabelFilter::plugin(move |labels| match labels.get(LABEL) {
        Some(role) => roles.contains(&role.as_str()),
        None => unlabelled,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pool, built};

    #[test]
    fn endpoints_are_kept_by_their_roles() {
        let roles = [
            Some("decode"),
            Some("prefill"),
            Some("both"),
            Some("encode-prefill-decode"),
            None,
            Some("prefill-decode"),
            Some("encode"),
            Some("encode-prefill"),
            Some("Decode"),
            Some(""),
        ];
        let pool = Pool::with_labels(roles.map(|role| role.map(|role| (LABEL, role))));
        for (row, plugin_type, want) in [
            ("B1", &DECODE, &[0, 2, 3, 4, 5][..]),
            ("B2", &PREFILL, &[1, 2, 3, 5, 7]),
            ("B3", &ENCODE, &[3, 6, 7]),
        ] {
            assert_eq!(pool.filter(&*built(plugin_type, "{}").filter.unwrap(), 1), want, "{row}");
        }
    }
}

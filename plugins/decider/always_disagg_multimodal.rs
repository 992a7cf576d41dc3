//! `always-disagg-multimodal-decider`: media are encoded elsewhere.

use std::sync::Arc;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::prompt::MediaKind;
use epp_framework::scheduling::{Cycle, Decider};

/// `always-disagg-multimodal-decider`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "always-disagg-multimodal-decider",
    summary: "Has the media of every request that holds an image, a video or a sound encoded by encode workers.",
    about: "For `deciders.encode` of `disagg-profile-handler`.",
    kinds: &[Kind::Decider],
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn build(_parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    Plugin { decider: Some(Arc::new(Multimodal)), ..Plugin::default() }
}

struct Multimodal;

impl Decider for Multimodal {
    fn decide(&self, cycle: &Cycle<'_>, _endpoint: Option<u32>) -> bool {
        cycle.request.prompt.media().any(|item| item.kind != MediaKind::Other)
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;
    use epp_framework::prompt::{MediaItem, Piece, Prompt};

    use super::*;
    use crate::testing::Pool;

    #[test]
    fn requests_with_media_are_split() {
        for (kind, want) in [
            (None, false),
            (Some(MediaKind::Image), true),
            (Some(MediaKind::Video), true),
            (Some(MediaKind::Audio), true),
            (Some(MediaKind::Other), false),
        ] {
            let mut pool = Pool::new([Load::default()]);
            pool.request.prompt = Prompt::text("What is this?");
            if let Some(kind) = kind {
                pool.request.prompt.push(Piece::Media(MediaItem { kind, digest: 1 }), 8);
            }
            assert_eq!(Multimodal.decide(&pool.cycle(), Some(0)), want, "{kind:?}");
        }
    }
}

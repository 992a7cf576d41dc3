//! `dcgm-extractor`: how busy and how full an endpoint's GPUs are, off a page of NVIDIA's DCGM exporter.

use epp_framework::data::{Extractor, GpuExtractor, Payload};
use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Stability, releases};

use super::of;

const NAME: &str = "dcgm-extractor";
const UTILIZATION: &str = "GPUUtilization";
const MEMORY_USED: &str = "GPUMemoryUsed";

/// `dcgm-extractor`.
pub(crate) const TYPE: PluginType = PluginType {
    name: NAME,
    summary: "Leaves the attributes `GPUUtilization` (of the busiest GPU, 0 to 1) and `GPUMemoryUsed` (fraction of the \
              memory of all, 0 to 1).",
    kinds: &[Kind::Extractor(Payload::Metrics)],
    leaves: |_| vec![UTILIZATION, MEMORY_USED],
    build,
    stability: Stability::Alpha,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn build(_parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    of(Extractor::Gpu(GpuExtractor {
        utilization: cx.own_attribute(NAME, UTILIZATION),
        memory_used: cx.own_attribute(NAME, MEMORY_USED),
    }))
}

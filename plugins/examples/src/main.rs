//! `epp` with one more plugin: `spot-scorer`, which prefers endpoints that are not on spot machines.

use std::process::ExitCode;
use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::snapshot::Candidates;

/// What a configuration may name, and what `epp config` tells of it.
const SPOT_SCORER: PluginType = PluginType {
    name: "spot-scorer",
    summary: "Prefers endpoints that are not on spot machines.",
    parameters: &[Parameter {
        name: "label",
        kind: ParameterKind::Text { default: Some("example.com/spot"), check: |_| None },
        unit: "",
        summary: "Label that says `true` of an endpoint on a spot machine.",
    }],
    kinds: &[Kind::Scorer],
    build,
    ..PluginType::PLAIN
};

/// The parameters are checked, and complete.
fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let scorer = SpotScorer { label: parameters.text("label").to_owned() };
    Plugin { scorer: Some(Arc::new(scorer)), ..Plugin::default() }
}

struct SpotScorer {
    label: String,
}

impl Scorer for SpotScorer {
    fn score(&self, _cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for (score, candidate) in scores.iter_mut().zip(candidates.iter()) {
            let on_spot = candidate.facts.labels.get(&self.label).is_some_and(|value| value == "true");
            *score = if on_spot { 0.0 } else { 1.0 };
        }
    }
}

fn main() -> ExitCode {
    epp::cli::main(&[SPOT_SCORER])
}

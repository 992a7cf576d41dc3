//! `random-picker`: picks any candidates, each with the same chance.

use std::sync::Arc;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Picker, Picks};
use epp_framework::snapshot::Candidates;
use rand::Rng;
use rand::rngs::SmallRng;

use super::top::{MAX_ENDPOINTS, Top, max_endpoints};

/// `random-picker`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "random-picker",
    summary: "Picks any candidates, each with the same chance; scores do not count.",
    parameters: &[MAX_ENDPOINTS],
    kinds: &[Kind::Picker],
    build,
    releases: releases::ALL,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let picker = RandomPicker { max_endpoints: max_endpoints(parameters) };
    Plugin { picker: Some(Arc::new(picker)), ..Plugin::default() }
}

struct RandomPicker {
    max_endpoints: usize,
}

impl Picker for RandomPicker {
    fn pick(
        &self,
        _cycle: &Cycle<'_>,
        candidates: &Candidates<'_>,
        _scores: &[f64],
        rng: &mut SmallRng,
        picks: &mut Picks,
    ) {
        let mut top = Top::new(self.max_endpoints);
        for position in (0..).take(candidates.len()) {
            top.offer(0.0, rng.next_u64(), position);
        }
        top.into_picks(picks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pick;

    #[test]
    fn every_candidate_has_the_same_chance_at_every_place() {
        for (max_endpoints, n_picks) in [(-1, 1), (1, 1), (2, 2), (4, 4), (9, 4)] {
            let parameters = format!(r#"{{"maxNumOfEndpoints": {max_endpoints}}}"#);
            let mut counts = [[0; 4]; 4];
            for seed in 0..4000 {
                let picks = pick(&TYPE, &parameters, &[9.0, 0.0, 1.0, f64::NAN], seed);
                assert_eq!(picks.len(), n_picks, "{max_endpoints}");
                for (place, &position) in picks.iter().enumerate() {
                    counts[place][position as usize] += 1;
                }
                let mut distinct = picks.clone();
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), n_picks, "{max_endpoints}: {picks:?}");
            }
            for counts in &counts[..n_picks] {
                assert!(
                    counts.iter().all(|count| (880..=1120).contains(count)),
                    "{max_endpoints}: {counts:?}"
                );
            }
        }
    }
}

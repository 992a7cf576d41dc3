//! `weighted-random-picker`: picks candidates with chances in proportion to their scores.
//!
//! Weighted sampling without replacement in one pass (A-Res): each candidate draws a key, the highest win. Keys are
//! compared as logarithms, ln(u) / score, since u to the power of 1 / score is 0 for every small score.

use std::sync::Arc;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Picker, Picks};
use epp_framework::snapshot::Candidates;
use rand::Rng;
use rand::rngs::SmallRng;

use super::top::{MAX_ENDPOINTS, Top, max_endpoints};

/// `weighted-random-picker`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "weighted-random-picker",
    summary: "Picks candidates at random, with chances in proportion to their scores.",
    about: "Candidates with a score of 0 come last.",
    parameters: &[MAX_ENDPOINTS],
    kinds: &[Kind::Picker],
    build,
    releases: releases::SINCE_V1_0_1,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let picker = WeightedRandomPicker { max_endpoints: max_endpoints(parameters) };
    Plugin { picker: Some(Arc::new(picker)), ..Plugin::default() }
}

struct WeightedRandomPicker {
    max_endpoints: usize,
}

impl Picker for WeightedRandomPicker {
    fn pick(
        &self,
        _cycle: &Cycle<'_>,
        _candidates: &Candidates<'_>,
        scores: &[f64],
        rng: &mut SmallRng,
        picks: &mut Picks,
    ) {
        let mut top = Top::new(self.max_endpoints);
        for (position, &score) in (0..).zip(scores) {
            let chance = rng.next_u64();
            let key = if score > 0.0 { unit(chance).ln() / score } else { f64::NEG_INFINITY };
            // Equal keys, such as those of all scores of 0, are in the order of `chance`.
            top.offer(key, chance, position);
        }
        top.into_picks(picks);
    }
}

/// A number above 0 and below 1, from 53 of the bits.
fn unit(chance: u64) -> f64 {
    ((chance >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pick;

    /// How often each of the candidates is picked first in 4,000 runs.
    fn firsts<const N: usize>(scores: &[f64; N]) -> [u32; N] {
        let mut counts = [0; N];
        for seed in 0..4000 {
            counts[pick(&TYPE, "{}", scores, seed)[0] as usize] += 1;
        }
        counts
    }

    #[track_caller]
    fn assert_in_proportion<const N: usize>(name: &str, scores: &[f64; N], weights: &[f64; N]) {
        let sum: f64 = weights.iter().sum();
        for (count, weight) in firsts(scores).into_iter().zip(weights) {
            let want = 4000.0 * weight / sum;
            assert!((f64::from(count) - want).abs() <= 0.2 * want, "{name}: {count}, want about {want}");
        }
    }

    #[test]
    fn chances_are_in_proportion_to_scores() {
        assert_in_proportion("W1", &[10.0, 90.0], &[10.0, 90.0]);
        assert_in_proportion("W2", &[100.0; 3], &[1.0; 3]);
        assert_in_proportion("W3", &[30.0, 0.0], &[1.0, 0.0]);
        let w4 = [100.0, 90.0, 50.0, 30.0, 20.0];
        assert_in_proportion("W4", &w4, &w4);
        assert_in_proportion("W5", &[0.0; 3], &[1.0; 3]);
        assert_in_proportion("below 0 is 0", &[-1.0, 0.0, f64::NAN], &[1.0; 3]);
        assert_in_proportion("tiny", &[1e-9, 3e-9], &[1.0, 3.0]);
        assert_in_proportion("the largest", &[f64::INFINITY, 1.0], &[1.0, 0.0]);
    }

    #[test]
    fn w6_scores_of_0_fill_the_places_that_are_left() {
        let mut seconds = [0; 3];
        for seed in 0..2000 {
            let picks = pick(&TYPE, r#"{"maxNumOfEndpoints": 2}"#, &[5.0, 0.0, 0.0], seed);
            assert_eq!((picks.len(), picks[0]), (2, 0), "W6");
            seconds[picks[1] as usize] += 1;
        }
        assert!(seconds[1..].iter().all(|count| (900..=1100).contains(count)), "W6: {seconds:?}");
    }
}

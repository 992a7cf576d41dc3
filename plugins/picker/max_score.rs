//! `max-score-picker`: picks the candidates with the highest scores, ties broken uniformly at random.
//!
//! The usual case, one endpoint, is a single pass that counts ties as it goes. More than one are ordered fallbacks,
//! best first.

use std::cmp::Ordering;
use std::sync::Arc;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Picker, Picks};
use epp_framework::snapshot::Candidates;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt};

use super::top::{MAX_ENDPOINTS, Top, compare, max_endpoints};

/// `max-score-picker`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "max-score-picker",
    summary: "Picks the candidates with the highest scores, ties broken at random.",
    parameters: &[MAX_ENDPOINTS],
    kinds: &[Kind::Picker],
    build,
    releases: releases::ALL,
    ..PluginType::PLAIN
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let picker = MaxScorePicker { max_endpoints: max_endpoints(parameters) };
    Plugin { picker: Some(Arc::new(picker)), ..Plugin::default() }
}

struct MaxScorePicker {
    max_endpoints: usize,
}

impl Picker for MaxScorePicker {
    fn pick(
        &self,
        _cycle: &Cycle<'_>,
        _candidates: &Candidates<'_>,
        scores: &[f64],
        rng: &mut SmallRng,
        picks: &mut Picks,
    ) {
        if self.max_endpoints == 1 {
            picks.extend(best(scores, rng));
            return;
        }
        let mut top = Top::new(self.max_endpoints);
        for (position, &score) in (0..).zip(scores) {
            top.offer(score, rng.next_u64(), position);
        }
        top.into_picks(picks);
    }
}

/// The position of the highest score; each of n equals with probability 1/n.
fn best(scores: &[f64], rng: &mut SmallRng) -> Option<u32> {
    let mut best = None;
    let mut n_equal = 0u32;
    for (position, &score) in (0..).zip(scores) {
        match best.map_or(Ordering::Greater, |(_, best)| compare(score, best)) {
            Ordering::Less => continue,
            Ordering::Equal => n_equal += 1,
            Ordering::Greater => n_equal = 1,
        }
        if n_equal == 1 || rng.random_range(0..n_equal) == 0 {
            best = Some((position, score));
        }
    }
    best.map(|(position, _)| position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(max_endpoints: i64, scores: &[f64], seed: u64) -> Vec<u32> {
        let parameters = format!(r#"{{"maxNumOfEndpoints": {max_endpoints}}}"#);
        crate::testing::pick(&TYPE, &parameters, scores, seed)
    }

    /// Name, `maxNumOfEndpoints`, scores, picks, and how many of the first picks may come in any order.
    type Case<'a> = (&'a str, i64, &'a [f64], &'a [u32], usize);

    #[test]
    fn the_highest_scores_are_picked_in_order() {
        let cases: &[Case<'_>] = &[
            ("M1, row 44", 1, &[10.0, 25.0, 15.0], &[1], 0),
            ("M2", 2, &[50.0, 50.0, 30.0], &[0, 1], 2),
            ("M3", 2, &[20.0, 25.0, 30.0], &[2, 1], 0),
            ("M4", 4, &[20.0, 25.0, 30.0], &[2, 1, 0], 0),
            ("M5", 3, &[30.0, 25.0, 30.0], &[0, 2, 1], 2),
            ("M6: 0", 0, &[10.0, 25.0, 15.0], &[1], 0),
            ("M6: -5", -5, &[10.0, 25.0, 15.0], &[1], 0),
            ("negative scores", 2, &[-1.0, -3.0, -2.0], &[0, 2], 0),
            ("nan is lowest", 3, &[f64::NAN, -3.0, f64::INFINITY], &[2, 1, 0], 0),
            ("nan is lowest, one", 1, &[f64::NAN, -3.0], &[1], 0),
        ];
        for (name, max_endpoints, scores, want, n_any_order) in cases {
            for seed in 0..20 {
                let mut picks = pick(*max_endpoints, scores, seed);
                picks[..*n_any_order].sort_unstable();
                assert_eq!(picks, *want, "{name}");
            }
        }
    }

    #[test]
    fn m7_ties_are_broken_uniformly() {
        for max_endpoints in [1, 2] {
            let mut counts = [0; 3];
            for seed in 0..1000 {
                counts[pick(max_endpoints, &[0.5; 3], seed)[0] as usize] += 1;
            }
            assert!(counts.iter().all(|count| (280..=380).contains(count)), "M7: {counts:?}");
        }
    }
}

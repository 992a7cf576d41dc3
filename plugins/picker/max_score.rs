//! `max-score-picker`: picks the candidates with the highest scores, ties broken uniformly at random.
//!
//! The usual case, one endpoint, is a single pass that counts ties as it goes. More than one are ordered fallbacks,
//! best first. Allocates nothing for up to 128 candidates.

use std::cmp::Ordering;
use std::sync::Arc;

use epp_framework::plugin::{BuildContext, Kind, Parameter, ParameterKind, Parameters, Plugin, PluginType};
use epp_framework::scheduling::{Cycle, Picker, Picks};
use epp_framework::snapshot::Candidates;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt};
use smallvec::SmallVec;

/// `max-score-picker`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "max-score-picker",
    summary: "Picks the candidates with the highest scores, ties broken at random.",
    parameters: &[Parameter {
        name: "maxNumOfEndpoints",
        kind: ParameterKind::Integer { default: 1, min: i64::MIN, max: i64::MAX },
        unit: "endpoints",
        summary: "How many endpoints to pick, best first; 0 or less means 1.",
    }],
    kinds: &[Kind::Picker],
    build,
};

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let max_endpoints = usize::try_from(parameters.integer("maxNumOfEndpoints")).unwrap_or(1).max(1);
    Plugin { picker: Some(Arc::new(MaxScorePicker { max_endpoints })), ..Plugin::default() }
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
        // A random key per candidate orders ties as a shuffle would.
        let keyed = (0..).zip(scores).map(|(position, &score)| (score, rng.next_u64(), position));
        let mut keyed: SmallVec<[(f64, u64, u32); 128]> = keyed.collect();
        keyed.sort_unstable_by(|a, b| compare(b.0, a.0).then(b.1.cmp(&a.1)));
        picks.extend(keyed.iter().take(self.max_endpoints).map(|&(_, _, position)| position));
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

/// Orders scores; NaN counts as the lowest, so that no input breaks the order.
fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;
    use epp_framework::plugin::ParameterValue;
    use epp_framework::slot::SlotNames;
    use rand::SeedableRng;

    use super::*;
    use crate::testing::Pool;

    fn pick(max_endpoints: i64, scores: &[f64], seed: u64) -> Vec<u32> {
        let mut parameters = Parameters::defaults(TYPE.parameters);
        parameters.set("maxNumOfEndpoints", ParameterValue::Integer(max_endpoints));
        let plugin = build(&parameters, &BuildContext::new("picker", &SlotNames::default()));
        let pool = Pool::new(scores.iter().map(|_| Load::default()));
        pool.pick(&*plugin.picker.unwrap(), scores, &mut SmallRng::seed_from_u64(seed))
    }

    /// Name, `maxNumOfEndpoints`, scores, picks, and how many of the first picks may come in any order.
    type Case<'a> = (&'a str, i64, &'a [f64], &'a [u32], usize);

    #[test]
    fn the_highest_scores_are_picked_in_order() {
        let cases: &[Case<'_>] = &[
            ("M1", 1, &[10.0, 25.0, 15.0], &[1], 0),
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

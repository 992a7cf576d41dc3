//! Weighted sums of scores, and the best of them: plain loops over numbers that the compiler does for two at once.

use std::sync::Arc;

use crate::recorder::{MAX_CANDIDATES, clamped};

/// Candidates whose sums are made together.
const BLOCK: usize = 8;

/// Fills `totals` with the weighted sum of what each candidate's scores count as. `scores` holds one run of as many as
/// there are candidates for each scorer; `by` has the names and weights of those.
pub(super) fn add_up(scores: &[f64], by: &[(Arc<str>, f64)], totals: &mut [f64]) {
    let n = totals.len();
    if n == 0 {
        return;
    }
    let weights = by.iter().map(|(_, weight)| *weight);
    let (blocks, rest) = totals.as_chunks_mut::<BLOCK>();
    let n_blocks = blocks.len();
    for (block, totals) in blocks.iter_mut().enumerate() {
        *totals = [0.0; BLOCK];
        for (start, weight) in (block * BLOCK..).step_by(n).zip(weights.clone()) {
            let scores = scores[start..].first_chunk::<BLOCK>().expect("a block lies within its run");
            add(scores, weight, totals);
        }
    }
    rest.fill(0.0);
    for (start, weight) in (n_blocks * BLOCK..).step_by(n).zip(weights) {
        add(&scores[start..][..rest.len()], weight, rest);
    }
}

#[inline]
fn add(scores: &[f64], weight: f64, sums: &mut [f64]) {
    for (score, sum) in scores.iter().zip(sums) {
        *sum += clamped(*score) * weight;
    }
}

/// Leaves the positions of the best candidates, and of those picked, in `best`; the two lists are scratch space.
pub(super) fn find_best(
    totals: &[f64],
    picks: &[u32],
    (found, keys): (&mut Vec<u32>, &mut Vec<u64>),
    best: &mut Vec<u32>,
) {
    best.clear();
    if totals.len() <= MAX_CANDIDATES {
        best.extend((0..).take(totals.len()));
        return;
    }
    let found = above(floor(totals), totals, found);
    keys.clear();
    // How many reach the floor must not decide over the memory.
    keys.reserve(totals.len());
    keys.extend(found.iter().map(|&position| key(totals[position as usize], position)));
    if keys.len() > MAX_CANDIDATES {
        keys.select_nth_unstable(MAX_CANDIDATES);
    }
    let position = |key: u64| u32::try_from(key & u64::from(u32::MAX)).expect("half of it");
    best.extend(keys.iter().take(MAX_CANDIDATES).map(|&key| position(key)));
    for &pick in picks {
        if !best.contains(&pick) {
            best.push(pick);
        }
    }
}

/// A total that at least as many candidates reach as are to be found: the least of the greatest of so many groups.
fn floor(totals: &[f64]) -> f64 {
    let mut greatest = [f64::NEG_INFINITY; MAX_CANDIDATES];
    for totals in totals.chunks(MAX_CANDIDATES) {
        for (greatest, total) in greatest.iter_mut().zip(totals) {
            *greatest = if total > greatest { *total } else { *greatest };
        }
    }
    greatest.into_iter().fold(f64::INFINITY, f64::min)
}

/// The positions of all that reach the floor.
fn above<'a>(floor: f64, totals: &[f64], found: &'a mut Vec<u32>) -> &'a [u32] {
    if found.len() < totals.len() {
        found.resize(totals.len(), 0);
    }
    let mut n = 0;
    for (position, &total) in (0..).zip(totals) {
        // Written in any case, and written over by the next if it does not count: no branch that is hard to foresee.
        found[n] = position;
        n += usize::from(total >= floor);
    }
    &found[..n]
}

/// The least for the greatest `total`; its lower half is the position.
fn key(total: f64, position: u32) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "totals that are this near are equal")]
    let bits = (total as f32).to_bits();
    // The bits of a positive number are in its order, those of a negative one in the reverse.
    let descending = if bits >> 31 == 0 { !(bits | 1 << 31) } else { bits };
    u64::from(descending) << 32 | u64::from(position)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn sums_are_of_clamped_scores() {
        let given = [0.5, -1.0, 2.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 1.0];
        let counted = [0.5, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0];
        assert_eq!(given.map(|score| clamped(score).to_bits()), counted.map(f64::to_bits));
        let by = [("a".into(), 2.0), ("b".into(), -0.5), ("c".into(), 0.0)];
        for n in 0..20 {
            let at = |scorer: usize, position: usize| (scorer * 3 + position) % given.len();
            let all = (0..3).flat_map(|scorer| (0..n).map(move |position| at(scorer, position)));
            let scores: Vec<_> = all.map(|at| given[at]).collect();
            let mut totals = vec![f64::NAN; n];
            add_up(&scores, &by, &mut totals);
            let sum = |position| 2.0 * counted[at(0, position)] - 0.5 * counted[at(1, position)];
            assert_eq!(totals, (0..n).map(sum).collect::<Vec<f64>>(), "{n} candidates");
        }
    }

    #[test]
    fn the_best_are_found_and_those_picked() {
        let mut rng = SmallRng::seed_from_u64(7);
        let (mut found, mut keys, mut best) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..400 {
            let n = rng.random_range(1..120);
            let n_values = [0, 1, 10, 1000][round % 4];
            let total = |rng: &mut SmallRng| f64::from(rng.random_range(-n_values..=n_values)) / 8.0;
            let totals: Vec<_> = (0..n).map(|_| total(&mut rng)).collect();
            let pick = rng.random_range(0..n);
            find_best(&totals, &[pick], (&mut found, &mut keys), &mut best);
            let n_best = MAX_CANDIDATES.min(totals.len());
            let of = |positions: &[u32]| {
                let mut found: Vec<_> = positions.iter().map(|&at| totals[at as usize]).collect();
                found.sort_by(|a, b| b.total_cmp(a));
                found
            };
            let want = of(&(0..n).collect::<Vec<_>>());
            assert_eq!(of(&best[..n_best]), want[..n_best], "round {round}, of {n}");
            assert!(best.contains(&pick) && best.len() <= n_best + 1, "round {round}");
            let mut distinct = best.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), best.len(), "round {round}: each once");
        }
    }
}

//! Weighted sums of scores, and the best of them: plain loops over numbers that the compiler does for two at once.

use std::sync::Arc;

use crate::recorder::MAX_CANDIDATES;

/// Candidates whose sums are made together.
const BLOCK: usize = 8;

/// Clamps the scores, NaN to 0, and fills `totals` with the weighted sum of each candidate. `scores` holds one run of as
/// many as there are candidates per scorer.
pub(super) fn add_up(scores: &mut [f64], scorers: &[(Arc<str>, f64)], totals: &mut [f64]) {
    let n = totals.len();
    for (block, totals) in totals.chunks_mut(BLOCK).enumerate() {
        let start = block * BLOCK;
        let mut sums = [0.0; BLOCK];
        for (at, (_, weight)) in scorers.iter().enumerate() {
            let scores = &mut scores[at * n + start..][..totals.len()];
            match <&mut [f64; BLOCK]>::try_from(&mut *scores) {
                Ok(whole) => add(whole, *weight, &mut sums),
                Err(_) => add(scores, *weight, &mut sums),
            }
        }
        totals.copy_from_slice(&sums[..totals.len()]);
    }
}

#[inline]
fn add<'a>(scores: impl IntoIterator<Item = &'a mut f64>, weight: f64, sums: &mut [f64; BLOCK]) {
    for (score, sum) in scores.into_iter().zip(sums) {
        // NaN is not greater than 0.
        *score = if *score > 0.0 { *score } else { 0.0 };
        *score = if *score < 1.0 { *score } else { 1.0 };
        *sum += *score * weight;
    }
}

/// Leaves the positions of the best candidates, and of those picked, in `best`.
pub(super) fn find_best(totals: &[f64], picks: &[u32], keys: &mut Vec<u64>, best: &mut Vec<u32>) {
    best.clear();
    if totals.len() <= MAX_CANDIDATES {
        best.extend((0..).take(totals.len()));
        return;
    }
    keys.clear();
    keys.extend((0..).zip(totals).map(|(position, &total)| key(total, position)));
    keys.select_nth_unstable(MAX_CANDIDATES);
    let position = |key: u64| u32::try_from(key & u64::from(u32::MAX)).expect("half of it");
    best.extend(keys[..MAX_CANDIDATES].iter().map(|&key| position(key)));
    for &pick in picks {
        if !best.contains(&pick) {
            best.push(pick);
        }
    }
}

/// The least for the greatest `total`; its lower half is the position.
fn key(total: f64, position: u32) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "totals that are this near are equal")]
    let bits = (total as f32).to_bits();
    // The bits of a positive number are in its order, those of a negative one in the reverse.
    let descending = if bits >> 31 == 0 { !(bits | 1 << 31) } else { bits };
    u64::from(descending) << 32 | u64::from(position)
}

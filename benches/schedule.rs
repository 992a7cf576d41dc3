//! What one decision costs: eligibility, filters or the seeds' three scorers, the picker, reservation, commit, record.
//!
//! The prompt is short and known, as in the middle of a conversation; parsing and hashing it happens before the
//! decision and is not in here. As in a pool, the plugins of one decision in 16 are timed. Before it measures, each bench
//! decides until all memory is warm, and panics if a decision then still allocates.

#[path = "../tests/allocations/decisions.rs"]
mod decisions;

use divan::Bencher;

use decisions::Decisions;

/// More than the recorder keeps, so that each record's memory has been used.
const N_WARM_UP: usize = 600;

fn main() {
    divan::main();
}

fn bench(bencher: Bencher<'_, '_>, mut decisions: Decisions) {
    decisions.decide_often(N_WARM_UP);
    let allocations = allocation_counter::measure(|| decisions.decide_often(N_WARM_UP)).count_total;
    assert_eq!(allocations, 0, "allocations of {N_WARM_UP} decisions");
    bencher.bench_local(move || decisions.decide());
}

/// Every endpoint is equal but for the prompt's beginning, which one of them holds.
#[divan::bench(args = [10, 100, 1000])]
fn known_prompt(bencher: Bencher<'_, '_>, n_endpoints: u32) {
    bench(bencher, Decisions::of_a_known_prompt(n_endpoints));
}

/// The decision tree of v0.5.1 with its four filters, and a random pick.
#[divan::bench(args = [10, 100, 1000])]
fn decision_tree(bencher: Bencher<'_, '_>, n_endpoints: u32) {
    bench(bencher, Decisions::by_a_tree(n_endpoints));
}

/// Twelve plugins: handler, two filters, eight scorers and the picker; no endpoint is as busy as its neighbours.
#[divan::bench(args = [10, 100, 1000])]
fn twelve_plugins(bencher: Bencher<'_, '_>, n_endpoints: u32) {
    bench(bencher, Decisions::by_twelve(n_endpoints));
}

/// No prompt: all endpoints are equal, and each decision picks another one.
#[divan::bench(args = [10, 100, 1000])]
fn no_prompt(bencher: Bencher<'_, '_>, n_endpoints: u32) {
    bench(bencher, Decisions::without_a_prompt(n_endpoints));
}

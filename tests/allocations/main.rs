//! Decisions allocate nothing once their memory is warm. A binary of its own, since its allocator counts.

mod decisions;

use decisions::Decisions;

/// The recorder's ring, twice over.
const N_WARM_UP: usize = 600;

#[test]
fn a_warm_decision_allocates_nothing() {
    for n_endpoints in [1, 10, 16, 17, 100, 1000] {
        for (name, mut decisions) in [
            ("known prompt", Decisions::of_a_known_prompt(n_endpoints)),
            ("no prompt", Decisions::without_a_prompt(n_endpoints)),
        ] {
            let cold = allocation_counter::measure(|| decisions.decide_often(N_WARM_UP));
            assert!(cold.count_total > 0, "the counter counts");
            decisions.request.request_id = "chosen by a client ".repeat(20);
            let warm = allocation_counter::measure(|| decisions.decide_often(5 * N_WARM_UP));
            assert_eq!(warm.count_total, 0, "{name}, {n_endpoints} endpoints: {warm:?}");
        }
    }
}

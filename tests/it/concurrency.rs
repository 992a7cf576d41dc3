//! Decisions of many threads at once, on one pool, without a server around it.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};
use std::thread;

use epp::pool::{Placed, PoolState};
use epp::raw_request::Subset;
use epp_framework::endpoint::Cost;
use epp_framework::lifecycle::Hook;
use epp_framework::prompt::Prompt;
use epp_framework::request::InferenceRequest;

use crate::support::hermetic::{SEED_CONFIG, pool};

const N_DECISIONS: usize = 10_000;
const N_THREADS: usize = 8;
const N_ROUNDS: usize = 5_000;

/// The prompt of the nth request.
type PromptOf = fn(usize) -> String;

/// An idle pool under the seeds' configuration.
fn idle(n_endpoints: usize) -> Arc<PoolState> {
    pool(&vec![(0, 0.0, ""); n_endpoints], SEED_CONFIG, epp_plugins::BUILT_IN)
}

/// Places a request as the director does: producers, then the decision.
fn place(pool: &PoolState, prompt: String) -> Placed {
    let pipeline = pool.pipeline();
    let cost = Cost { requests: 1, prompt_tokens: prompt.len() as u64 / 4, output_tokens: 16 };
    let mut request = InferenceRequest { prompt: Prompt::text(prompt), ..InferenceRequest::default() };
    pipeline.produce(&Hook { now: pool.clock.now(), pool: &pool.store.snapshot() }, &mut request, None);
    pool.decide(&pipeline, &request, &Subset::Any, cost, None).expect("the pool has endpoints")
}

/// Requests in flight by endpoint.
fn in_flight(pool: &PoolState) -> Vec<u32> {
    let now = pool.clock.now();
    let endpoints = &pool.store.snapshot().endpoints;
    endpoints.iter().map(|endpoint| endpoint.sample(now, pool.staleness).in_flight.requests).collect()
}

#[test]
fn a_crowd_spreads_evenly_over_equal_endpoints() {
    let prompts: [(&str, PromptOf); 3] = [
        ("without a full block", |n| format!("{n}")),
        ("all different", |n| format!("{n:x<640}")),
        ("all alike", |_| "the same beginning ".repeat(40)),
    ];
    for (name, prompt) in prompts {
        let pool = idle(10);
        let start = Barrier::new(N_THREADS);
        let one_thread = |thread: usize| {
            start.wait();
            let mine = (0..N_DECISIONS).filter(|n| n % N_THREADS == thread);
            mine.map(|n| place(&pool, prompt(n))).collect::<Vec<_>>()
        };
        let held: Vec<Placed> = thread::scope(|scope| {
            let one_thread = &one_thread;
            let threads: Vec<_> = (0..N_THREADS).map(|n| scope.spawn(move || one_thread(n))).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("it does not panic")).collect()
        });
        let mut answered = BTreeMap::<&str, u32>::new();
        for placed in &held {
            *answered.entry(&placed.destination).or_default() += 1;
        }
        // Even is 1,000 each; 2 % of that are 20.
        assert_eq!(answered.len(), 10, "{name}");
        assert!(answered.values().all(|n| (980..=1020).contains(n)), "{name}: {answered:?}");
        assert_eq!(in_flight(&pool).iter().sum::<u32>() as usize, N_DECISIONS, "{name}");
        drop(held);
        assert_eq!(in_flight(&pool), [0; 10], "{name}");
    }
}

#[test]
fn two_at_once_never_see_the_same_empty_endpoint() {
    let prompts: [(&str, PromptOf); 2] =
        [("without a full block", |n| format!("{n}")), ("all different", |n| format!("{n:x<640}"))];
    for (name, prompt) in prompts {
        let pool = idle(2);
        let (start, placed) = (Barrier::new(2), Barrier::new(2));
        let one_thread = |thread: usize| {
            let round = |n: usize| {
                start.wait();
                let mine = place(&pool, prompt(2 * n + thread));
                // Held until both are placed; both give it back before the next round begins.
                placed.wait();
                mine.destination
            };
            (0..N_ROUNDS).map(round).collect::<Vec<_>>()
        };
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(|| one_thread(1));
            (one_thread(0), other.join().expect("it does not panic"))
        });
        let shared = one.iter().zip(&other).filter(|(one, other)| one == other).count();
        assert_eq!(shared, 0, "{name}: rounds of {N_ROUNDS} in which both went to one endpoint");
        assert_eq!(in_flight(&pool), [0, 0], "{name}");
    }
}

//! What the next step holds, how long it takes, and how many steps after it are the same. The rules are those of
//! vLLM V1: running requests first, in order, then the queue, first come first served, under one token budget.

use epp_framework::time::Timestamp;

use super::flight::Work;
use super::{Engine, EngineEvent};

/// Why no further waiting request was admitted to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// None is waiting.
    NoneWaiting,
    /// Seats or token budget are used up: lasts as long as the batch.
    Full,
    /// The first in the queue lacks blocks: may change whenever blocks do.
    Blocks,
    /// A request was preempted in this step: changes with the next.
    Preempted,
}

impl Engine {
    /// Fills one step and gives its works their blocks.
    pub(super) fn schedule(&mut self, at_ns: u64) -> (Vec<Work>, Stop) {
        let mut works = Vec::with_capacity(self.running.len() + 1);
        let mut budget = self.config.max_num_batched_tokens;
        let mut has_preempted = false;
        let mut seat = 0;
        while seat < self.running.len() && budget > 0 {
            let request = &mut self.running[seat];
            let n_tokens = (request.n_known() - request.n_computed).min(budget);
            if !request.reserve(request.n_computed + n_tokens, &mut self.pool) {
                has_preempted = true;
                self.preempt_last();
                // Again, unless it was the last itself: then the loop ends.
                continue;
            }
            works.push(self.work(seat, n_tokens));
            budget -= n_tokens;
            seat += 1;
        }
        let stop = if has_preempted { Stop::Preempted } else { self.admit(at_ns, budget, &mut works) };
        (works, stop)
    }

    fn admit(&mut self, at_ns: u64, mut budget: u32, works: &mut Vec<Work>) -> Stop {
        loop {
            if self.waiting.is_empty() {
                return Stop::NoneWaiting;
            }
            if budget == 0 || self.running.len() >= self.config.max_num_seqs as usize {
                return Stop::Full;
            }
            let Some(n_tokens) = self.admit_head(at_ns, budget) else { return Stop::Blocks };
            works.push(self.work(self.running.len() - 1, n_tokens));
            budget -= n_tokens;
        }
    }

    /// Moves the head of the queue to the batch and gives its number of tokens in this step; `None` if it lacks blocks.
    fn admit_head(&mut self, at_ns: u64, budget: u32) -> Option<u32> {
        let head = self.waiting.front_mut()?;
        let cached = head.find_cached(&self.pool);
        let n_hits = u32::try_from(cached.len()).expect("bounded by the context limit");
        let n_cached = n_hits * self.config.block_size;
        let n_tokens = (head.n_known() - n_cached).min(budget);
        let n_missing = (n_cached + n_tokens).div_ceil(self.config.block_size) - n_hits;
        let n_idle = cached.iter().filter(|id| self.pool.is_idle(**id)).count();
        if n_missing as usize + n_idle > self.pool.n_free() as usize {
            return None;
        }
        head.start_from(cached, &mut self.pool);
        let has_blocks = head.reserve(n_cached + n_tokens, &mut self.pool);
        debug_assert!(has_blocks, "the blocks were counted before");
        let mut request = self.waiting.pop_front()?;
        if !request.was_admitted {
            request.was_admitted = true;
            self.counts.prefix_cache_queries += u64::from(request.n_prompt);
            self.counts.prefix_cache_hits += u64::from(n_cached);
            self.events.push(EngineEvent::Admitted { id: request.id, at: Timestamp(at_ns), n_cached });
        }
        self.running.push(request);
        Some(n_tokens)
    }

    fn work(&self, seat: usize, n_tokens: u32) -> Work {
        let request = &self.running[seat];
        let samples = request.n_computed + n_tokens == request.n_known();
        Work { seat, n_tokens, samples, is_decode: request.is_decoding() }
    }

    /// Throws the youngest running request out, to the front of the queue. It starts over when it comes back.
    fn preempt_last(&mut self) {
        if let Some(mut victim) = self.running.pop() {
            victim.release(&mut self.pool);
            self.counts.preemptions += 1;
            self.waiting.push_front(victim);
        }
    }

    /// Duration of the step that was just scheduled, and by how much each of its repetitions is longer.
    pub(super) fn step_ns(&self, works: &[Work]) -> (u64, u64) {
        let cost = &self.config.cost;
        let n_works = works.len() as u64;
        let mut total = u128::from(cost.base_ns.max(1000));
        total += u128::from(cost.decode_ns_per_seq) * u128::from(n_works);
        for work in works {
            let context = u128::from(self.running[work.seat].n_computed);
            if work.is_decode {
                total += u128::from(cost.kv_ns_per_token) * context;
                continue;
            }
            let linear = u128::from(cost.prefill_ns_per_token) * u128::from(work.n_tokens);
            total += linear;
            if cost.attention_doubles_at > 0 {
                total += linear * context / u128::from(cost.attention_doubles_at);
            }
        }
        (u64::try_from(total).unwrap_or(u64::MAX), cost.kv_ns_per_token.saturating_mul(n_works))
    }

    /// How many steps, the one just scheduled included, hold the same works. Its blocks are taken, those of the others not.
    pub(super) fn n_equal_steps(&self, works: &[Work], stop: Stop) -> u64 {
        if stop == Stop::Preempted || works.iter().any(|work| !work.is_decode) {
            return 1;
        }
        let requests = || works.iter().map(|work| &self.running[work.seat]);
        let mut n_most = requests().map(|request| u64::from(request.n_remaining())).min().unwrap_or(1);
        if stop == Stop::Blocks {
            n_most = n_most.min(
                requests().map(|request| self.n_steps_without_blocks(request.n_computed)).min().unwrap_or(1),
            );
        }
        // The most steps for which free blocks last: needs only grow, so halving finds it.
        let (mut fits, mut fails) = (1, n_most + 1);
        while fits + 1 < fails {
            let middle = fits + (fails - fits) / 2;
            let n_more = u32::try_from(middle).unwrap_or(u32::MAX);
            let n_missing: u64 = requests()
                .map(|request| u64::from(request.n_missing_blocks(request.n_computed + n_more)))
                .sum();
            if n_missing <= u64::from(self.pool.n_free()) {
                fits = middle;
            } else {
                fails = middle;
            }
        }
        fits
    }

    /// Steps of a decode that has computed `n_computed` tokens before one takes or publishes a block, the first one (which
    /// is already paid) not counted as a change.
    fn n_steps_without_blocks(&self, n_computed: u32) -> u64 {
        let block_size = self.config.block_size;
        if block_size == 1 {
            return 1;
        }
        // Step s leaves n_computed + s tokens; it changes blocks when that is 0 or 1 over a multiple of the block size.
        let over = (n_computed + 1) % block_size;
        u64::from(match over {
            0 => 1,
            over => block_size - over,
        })
    }
}

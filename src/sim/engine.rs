//! One vLLM-like engine as a discrete-event machine. Entry point: [`Engine`]: submit requests, advance to a time, read
//! what happened. Pure: time, seed and requests are arguments, and the same arguments give the same events.
//!
//! Work is done per change of the batch, not per step: while nothing but decoding happens, many equal steps are one
//! flight, whose end is computed. The result is exactly that of single steps (a property test compares the two).
//! `engine/schedule.rs` decides what a step holds and how many are alike; this file moves time.

mod blocks;
mod config;
mod flight;
pub mod hash;
mod request;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use epp_framework::time::Timestamp;
use thiserror::Error;

use blocks::BlockPool;
pub use config::{ConfigError, EngineConfig, MAX_BLOCKS, PRESETS, Preset, StepCost};
use flight::Flight;
pub use request::Output;
use request::Request;

/// Names a request within one engine; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a request asks of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineRequest {
    /// The prompt; at least one token.
    pub prompt_tokens: Vec<u32>,
    /// Tokens to generate; exactly so many are. With 0 the request ends with its prompt, as those for embeddings do.
    pub max_tokens: u32,
    /// Separates caches: blocks are shared only between requests of equal salt.
    pub salt: u64,
}

/// A request that an engine took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its name in events.
    pub id: RequestId,
    /// What it will answer.
    pub output: Output,
}

/// Why an engine refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// A prompt of no tokens.
    #[error("the prompt is empty, expected at least one token")]
    EmptyPrompt,
    /// Prompt and output together exceed the context or all of the KV cache.
    #[error(
        "the request has {n_prompt} prompt and {max_tokens} output tokens, expected at most {limit} together"
    )]
    TooLong {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Output tokens asked for.
        max_tokens: u32,
        /// Most tokens that fit.
        limit: u32,
    },
    /// As many requests wait as may.
    #[error("{0} requests are waiting, as many as may")]
    QueueFull(usize),
}

/// Something that happened in an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// The request left the queue for the first time.
    Admitted {
        /// The request.
        id: RequestId,
        /// The start of its first step.
        at: Timestamp,
        /// Prompt tokens found in the prefix cache: whole blocks.
        n_cached: u32,
    },
    /// Output tokens came.
    Tokens {
        /// The request.
        id: RequestId,
        /// When the last of them came.
        at: Timestamp,
        /// How many; more than one when the engine was advanced over several steps. The first token comes alone. 0 tells
        /// that the prompt of a request without output is done.
        n_tokens: u32,
        /// Whether the prompt was done with it.
        is_first: bool,
    },
    /// The last token came; blocks and seat are free again.
    Finished {
        /// The request.
        id: RequestId,
        /// When.
        at: Timestamp,
        /// Tokens of the whole answer.
        n_output: u32,
    },
}

/// What an engine's metrics page shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Requests in the batch, in prefill or decode.
    pub running: usize,
    /// Requests in the queue, preempted ones included.
    pub waiting: usize,
    /// Fraction of usable KV blocks that have a live user, 0 to 1. Cached but idle blocks count as free.
    pub kv_used: f64,
    /// Blocks with a live user.
    pub blocks_used: u32,
    /// Counters since the start.
    pub counts: Counts,
}

/// Counters of an engine, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Prompt tokens of admitted requests, looked up in the prefix cache.
    pub prefix_cache_queries: u64,
    /// Those of them that were found.
    pub prefix_cache_hits: u64,
    /// Prompt tokens whose prefill is done, cached ones included.
    pub prompt_tokens: u64,
    /// Output tokens.
    pub generation_tokens: u64,
    /// Requests thrown out of the batch for want of blocks.
    pub preemptions: u64,
    /// Requests that got their whole answer.
    pub finished: u64,
    /// Requests ended by [`Engine::abort`].
    pub aborted: u64,
    /// Requests refused because the queue was full.
    pub rejected: u64,
}

/// One simulated engine.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    seed: u64,
    next_id: u64,
    now_ns: u64,
    pool: BlockPool,
    /// In order of admission.
    running: Vec<Request>,
    /// In order of arrival, preempted ones in front.
    waiting: VecDeque<Request>,
    flight: Option<Flight>,
    /// When the next flight leaves, if none is under way and there is work.
    departs_ns: Option<u64>,
    /// Most steps that one flight may take.
    longest_flight: u64,
    counts: Counts,
    /// Not yet handed out; emptied by [`Self::advance`].
    events: Vec<EngineEvent>,
}

impl Engine {
    /// Makes an idle engine at time zero. Engines of equal seed answer alike.
    pub fn new(config: EngineConfig, seed: u64) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            pool: BlockPool::new(config.num_gpu_blocks),
            config,
            seed,
            next_id: 0,
            now_ns: 0,
            running: Vec::new(),
            waiting: VecDeque::new(),
            flight: None,
            departs_ns: None,
            longest_flight: u64::MAX,
            counts: Counts::default(),
            events: Vec::new(),
        })
    }

    /// The sizes and speeds of this engine.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Puts a request at the end of the queue. Requests of the same instant can share their first step.
    pub fn submit(&mut self, now: Timestamp, asked: &EngineRequest) -> Result<Accepted, SubmitError> {
        self.run(now, Reach::Before);
        self.check(asked)?;
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let request = Request::new(id, asked, self.config.block_size, self.seed);
        let output = request.output;
        self.waiting.push_back(request);
        // Behind others, or without a seat, a newcomer changes nothing before the flight lands by itself.
        let may_enter = self.waiting.len() == 1 && self.running.len() < self.config.max_num_seqs as usize;
        self.replan(may_enter);
        Ok(Accepted { id, output })
    }

    /// Ends a request: at once if it waits, with the step under way if it runs. False when it is not known (any more).
    pub fn abort(&mut self, now: Timestamp, id: RequestId) -> bool {
        self.run(now, Reach::Before);
        if let Some(place) = self.waiting.iter().position(|request| request.id == id) {
            self.waiting.remove(place);
            self.counts.aborted += 1;
            self.replan(true);
            return true;
        }
        match self.running.iter_mut().find(|request| request.id == id && !request.is_aborted) {
            Some(request) => {
                request.is_aborted = true;
                self.replan(true);
                true
            }
            None => false,
        }
    }

    /// Lives on until `now`, that instant included, and appends what happened to `events`, in order of time.
    pub fn advance(&mut self, now: Timestamp, events: &mut Vec<EngineEvent>) {
        self.run(now, Reach::Through);
        events.append(&mut self.events);
    }

    /// When the batch changes next (now, if events wait to be read); `None` while idle. Advancing over less is allowed and
    /// only cuts events finer.
    pub fn next_event(&self) -> Option<Timestamp> {
        if !self.events.is_empty() {
            return Some(Timestamp(self.now_ns));
        }
        self.flight.as_ref().map(Flight::lands_ns).or(self.departs_ns).map(Timestamp)
    }

    /// When the step under way ends, which may bring tokens (now, if events wait to be read); `None` while idle.
    pub fn next_step(&self) -> Option<Timestamp> {
        if !self.events.is_empty() {
            return Some(Timestamp(self.now_ns));
        }
        self.flight.as_ref().map(Flight::step_ends_ns).or(self.departs_ns).map(Timestamp)
    }

    /// The state as of the last call.
    pub fn gauges(&self) -> Gauges {
        let blocks_used = self.pool.n_used();
        Gauges {
            running: self.running.len(),
            waiting: self.waiting.len(),
            kv_used: f64::from(blocks_used) / f64::from(self.config.usable_blocks()),
            blocks_used,
            counts: self.counts,
        }
    }

    fn check(&mut self, asked: &EngineRequest) -> Result<(), SubmitError> {
        let (n_prompt, max_tokens) = (asked.prompt_tokens.len(), asked.max_tokens);
        if n_prompt == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        let limit = self.config.longest_request();
        if n_prompt as u64 + u64::from(max_tokens) > u64::from(limit) {
            return Err(SubmitError::TooLong { n_prompt, max_tokens, limit });
        }
        if self.waiting.len() >= self.config.max_waiting as usize {
            self.counts.rejected += 1;
            return Err(SubmitError::QueueFull(self.waiting.len()));
        }
        Ok(())
    }

    /// Lets the next departure come after the step under way, or now if there is none.
    fn replan(&mut self, cut: bool) {
        match &mut self.flight {
            Some(flight) if cut => flight.cut(),
            Some(_) => {}
            None => {
                let has_work = !self.waiting.is_empty() || !self.running.is_empty();
                self.departs_ns = has_work.then(|| self.departs_ns.unwrap_or(self.now_ns));
            }
        }
    }

    fn run(&mut self, now: Timestamp, reach: Reach) {
        let now_ns = now.0.max(self.now_ns);
        self.now_ns = now_ns;
        loop {
            if let Some(flight) = self.flight.take() {
                self.fly(flight, now_ns, reach);
                if self.flight.is_some() {
                    return;
                }
            }
            match self.departs_ns {
                Some(departs_ns) if reach.includes(departs_ns, now_ns) => self.depart(departs_ns),
                _ => return,
            }
        }
    }

    /// Ends the steps whose time has come. Puts the flight back unless it landed.
    fn fly(&mut self, mut flight: Flight, now_ns: u64, reach: Reach) {
        let ended = flight.steps_ended_by(now_ns);
        // At its very start a step can still be given up for a newcomer.
        if ended >= flight.n_started && flight.end_ns(ended) == now_ns && reach == Reach::Before {
            flight.n_steps = ended;
        }
        self.start_steps(&mut flight, ended.saturating_add(1));
        self.end_steps(&mut flight, ended);
        if ended < flight.n_steps {
            self.flight = Some(flight);
        } else {
            self.land(flight.lands_ns());
        }
    }

    /// Gives the steps up to `last` their blocks, in the order in which single steps would.
    fn start_steps(&mut self, flight: &mut Flight, last: u64) {
        let last = last.min(flight.n_steps);
        if last <= flight.n_started {
            return;
        }
        let block_size = u64::from(self.config.block_size);
        let mut changes = Vec::new();
        for work in &flight.works {
            let at_departure = u64::from(self.running[work.seat].n_computed) - flight.n_ended;
            let (first, end) = (at_departure + flight.n_started + 1, at_departure + last);
            // Only steps that leave a block full (and publish it) or begin one change anything.
            for n_blocks in first / block_size..=end / block_size {
                for n_after in [n_blocks * block_size, n_blocks * block_size + 1] {
                    if (first..=end).contains(&n_after) {
                        changes.push((n_after - at_departure, work.seat, n_after));
                    }
                }
            }
        }
        changes.sort_unstable();
        for (_, seat, n_tokens) in changes {
            let n_tokens = u32::try_from(n_tokens).expect("bounded by the context limit");
            let has_blocks = self.running[seat].reserve(n_tokens, &mut self.pool);
            debug_assert!(has_blocks, "a flight was planned longer than its blocks last");
        }
        flight.n_started = last;
    }

    fn end_steps(&mut self, flight: &mut Flight, ended: u64) {
        let n_new = u32::try_from(ended - flight.n_ended).expect("bounded by the context limit");
        if n_new == 0 {
            return;
        }
        let at = Timestamp(flight.end_ns(ended));
        for work in &flight.works {
            let request = &mut self.running[work.seat];
            request.n_computed += work.n_tokens * n_new;
            if !work.samples || request.is_aborted {
                continue;
            }
            let is_first = request.n_output == 0;
            // None at the end of a prompt without output.
            let n_tokens = n_new.min(request.max_tokens);
            request.n_output += n_tokens;
            self.counts.generation_tokens += u64::from(n_tokens);
            if is_first {
                self.counts.prompt_tokens += u64::from(request.n_prompt);
            }
            self.events.push(EngineEvent::Tokens { id: request.id, at, n_tokens, is_first });
        }
        flight.n_ended = ended;
    }

    /// Lets finished and aborted requests go, and sets the next departure.
    fn land(&mut self, at_ns: u64) {
        let leaving = self.running.extract_if(.., |request| request.is_aborted || request.is_complete());
        for mut request in leaving {
            request.release(&mut self.pool);
            if request.is_aborted {
                self.counts.aborted += 1;
                continue;
            }
            self.counts.finished += 1;
            let (id, n_output) = (request.id, request.n_output);
            self.events.push(EngineEvent::Finished { id, at: Timestamp(at_ns), n_output });
        }
        let has_work = !self.running.is_empty() || !self.waiting.is_empty();
        self.departs_ns = has_work.then_some(at_ns);
    }

    fn depart(&mut self, at_ns: u64) {
        self.departs_ns = None;
        self.drop_aborted();
        let (works, stop) = self.schedule(at_ns);
        if works.is_empty() {
            return;
        }
        let n_steps = self.n_equal_steps(&works, stop).min(self.longest_flight);
        let (first_ns, growth_ns) = self.step_ns(&works);
        self.flight = Some(Flight {
            departed_ns: at_ns,
            first_ns,
            growth_ns,
            n_steps,
            n_started: 1,
            n_ended: 0,
            works,
        });
    }

    /// Removes requests aborted at the very instant between two flights.
    fn drop_aborted(&mut self) {
        for mut request in self.running.extract_if(.., |request| request.is_aborted) {
            request.release(&mut self.pool);
            self.counts.aborted += 1;
        }
    }
}

/// Whether what is due at the very instant happens too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Before,
    Through,
}

impl Reach {
    fn includes(self, due_ns: u64, now_ns: u64) -> bool {
        match self {
            Self::Before => due_ns < now_ns,
            Self::Through => due_ns <= now_ns,
        }
    }
}

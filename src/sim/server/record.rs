//! Statistics of a server's requests, fed by the engine's events: the histograms and counters of the metrics page.
//! Entry points: [`Record::on_submit`] and [`Record::on_event`]. It renders nothing.

use std::collections::HashMap;
use std::time::Duration;

use epp_framework::time::Timestamp;

use crate::sim::engine::{EngineEvent, EngineRequest, RequestId};

const TTFT_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
const ITL_SECONDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
const LATENCY_SECONDS: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];
const TOKENS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];
const CHOICES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0];

/// Why an answer ends when nobody aborts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// The model had said all.
    Stop,
    /// The token limit was reached.
    Length,
}

impl Finish {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// A histogram with fixed upper edges.
#[derive(Debug)]
pub(super) struct Histogram {
    pub(super) edges: &'static [f64],
    /// One more than there are edges: the last is for values above all.
    pub(super) n_within: Vec<u64>,
    pub(super) sum: f64,
}

impl Histogram {
    fn new(edges: &'static [f64]) -> Self {
        Self { edges, n_within: vec![0; edges.len() + 1], sum: 0.0 }
    }

    fn observe(&mut self, value: f64) {
        self.observe_many(value, 1);
    }

    fn observe_many(&mut self, value: f64, n_times: u32) {
        self.n_within[self.edges.partition_point(|edge| *edge < value)] += u64::from(n_times);
        self.sum += value * f64::from(n_times);
    }
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Open {
    submitted: Timestamp,
    admitted: Timestamp,
    first_token: Timestamp,
    last_token: Timestamp,
    n_prompt: u32,
    n_cached: u32,
    max_tokens: u32,
    finish: Finish,
}

/// What one server has counted since its start.
#[derive(Debug)]
pub(super) struct Record {
    open: HashMap<RequestId, Open>,
    pub(super) n_stopped: u64,
    pub(super) n_cut_by_length: u64,
    pub(super) prompt_tokens_cached: u64,
    pub(super) prompt_tokens: Histogram,
    pub(super) generation_tokens: Histogram,
    pub(super) max_tokens: Histogram,
    pub(super) choices: Histogram,
    pub(super) computed_tokens: Histogram,
    pub(super) time_to_first_token: Histogram,
    pub(super) inter_token_latency: Histogram,
    pub(super) time_per_output_token: Histogram,
    pub(super) e2e_latency: Histogram,
    pub(super) queue_time: Histogram,
    pub(super) inference_time: Histogram,
    pub(super) prefill_time: Histogram,
    pub(super) decode_time: Histogram,
}

impl Record {
    /// Starts at zero. Token edges go up to `max_model_len`.
    pub(super) fn new(max_model_len: u32) -> Self {
        let n_edges = TOKENS.partition_point(|edge| *edge <= f64::from(max_model_len));
        let tokens = || Histogram::new(&TOKENS[..n_edges]);
        let latency = || Histogram::new(LATENCY_SECONDS);
        Self {
            open: HashMap::new(),
            n_stopped: 0,
            n_cut_by_length: 0,
            prompt_tokens_cached: 0,
            prompt_tokens: tokens(),
            generation_tokens: tokens(),
            max_tokens: tokens(),
            choices: Histogram::new(CHOICES),
            computed_tokens: tokens(),
            time_to_first_token: Histogram::new(TTFT_SECONDS),
            inter_token_latency: Histogram::new(ITL_SECONDS),
            time_per_output_token: Histogram::new(ITL_SECONDS),
            e2e_latency: latency(),
            queue_time: latency(),
            inference_time: latency(),
            prefill_time: latency(),
            decode_time: latency(),
        }
    }

    pub(super) fn on_submit(&mut self, id: RequestId, now: Timestamp, asked: &EngineRequest, finish: Finish) {
        let n_prompt = u32::try_from(asked.prompt_tokens.len()).unwrap_or(u32::MAX);
        let open = Open {
            submitted: now,
            admitted: now,
            first_token: now,
            last_token: now,
            n_prompt,
            n_cached: 0,
            max_tokens: asked.max_tokens,
            finish,
        };
        self.open.insert(id, open);
    }

    pub(super) fn on_abort(&mut self, id: RequestId) {
        self.open.remove(&id);
    }

    pub(super) fn on_event(&mut self, event: &EngineEvent) {
        match *event {
            EngineEvent::Admitted { id, at, n_cached } => {
                if let Some(open) = self.open.get_mut(&id) {
                    (open.admitted, open.n_cached) = (at, n_cached);
                }
            }
            EngineEvent::Tokens { id, at, n_tokens, is_first } => self.on_tokens(id, at, n_tokens, is_first),
            EngineEvent::Finished { id, at, n_output } => {
                if let Some(open) = self.open.remove(&id) {
                    self.on_finished(&open, at, n_output);
                }
            }
        }
    }

    fn on_tokens(&mut self, id: RequestId, at: Timestamp, n_tokens: u32, is_first: bool) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if is_first {
            open.first_token = at;
            self.prompt_tokens_cached += u64::from(open.n_cached);
            self.time_to_first_token.observe(seconds(at.since(open.submitted)));
        } else {
            let each = seconds(at.since(open.last_token)) / f64::from(n_tokens.max(1));
            self.inter_token_latency.observe_many(each, n_tokens);
        }
        open.last_token = at;
    }

    fn on_finished(&mut self, open: &Open, at: Timestamp, n_output: u32) {
        match open.finish {
            Finish::Stop => self.n_stopped += 1,
            Finish::Length => self.n_cut_by_length += 1,
        }
        let decode = seconds(at.since(open.first_token));
        self.prompt_tokens.observe(f64::from(open.n_prompt));
        self.generation_tokens.observe(f64::from(n_output));
        // None is asked for with embeddings.
        if open.max_tokens > 0 {
            self.max_tokens.observe(f64::from(open.max_tokens));
        }
        self.choices.observe(1.0);
        self.computed_tokens.observe(f64::from(open.n_prompt.saturating_sub(open.n_cached)));
        self.time_per_output_token.observe(decode / f64::from(n_output.saturating_sub(1).max(1)));
        self.e2e_latency.observe(seconds(at.since(open.submitted)));
        self.queue_time.observe(seconds(open.admitted.since(open.submitted)));
        self.inference_time.observe(seconds(at.since(open.admitted)));
        self.prefill_time.observe(seconds(open.first_token.since(open.admitted)));
        self.decode_time.observe(decode);
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

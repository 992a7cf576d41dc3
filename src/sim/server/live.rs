//! An engine at real time. Entry point: [`Live`]: take tickets for requests, and let one task run [`Live::drive`].
//!
//! The engine stands behind a mutex that is held for computation only, so that a dropped ticket can abort its request
//! on the spot. A ticket learns of its tokens through a watch channel, which holds one value however slow its reader
//! is: several tokens simply arrive as one larger step.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::record::{Finish, Record};
use crate::clock::Clock;
use crate::sim::engine::{
    ConfigError, Engine, EngineConfig, EngineEvent, EngineRequest, Gauges, Output, RequestId, SubmitError,
};
use epp_framework::time::Timestamp;

/// How far an answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Prompt tokens found in the prefix cache.
    pub(super) n_cached: u32,
    /// Output tokens so far.
    pub(super) n_output: u32,
    pub(super) is_finished: bool,
}

/// How a caller will read an answer, and why it will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// Whether each step should be told, not only the end.
    pub(super) is_stream: bool,
    pub(super) finish: Finish,
}

/// One request in a live engine. Dropping it before its end aborts the request.
#[derive(Debug)]
pub(super) struct Ticket {
    live: Arc<Live>,
    id: RequestId,
    output: Output,
    progress: watch::Receiver<Progress>,
}

/// The engine died before the answer was whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EngineGone;

impl Ticket {
    pub(super) fn id(&self) -> RequestId {
        self.id
    }

    pub(super) fn output(&self) -> Output {
        self.output
    }

    /// Waits until there are more than `n_seen` tokens, or the end.
    pub(super) async fn more_than(&mut self, n_seen: u32) -> Result<Progress, EngineGone> {
        let news =
            self.progress.wait_for(|progress| progress.n_output > n_seen || progress.is_finished).await;
        news.map(|progress| *progress).map_err(|_closed| EngineGone)
    }

    /// Waits until the answer is whole.
    pub(super) async fn finished(&mut self) -> Result<Progress, EngineGone> {
        let news = self.progress.wait_for(|progress| progress.is_finished).await;
        news.map(|progress| *progress).map_err(|_closed| EngineGone)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.live.hang_up(self.id);
    }
}

#[derive(Debug)]
struct Call {
    progress: watch::Sender<Progress>,
    is_stream: bool,
}

#[derive(Debug)]
struct State {
    engine: Engine,
    calls: HashMap<RequestId, Call>,
    record: Record,
    events: Vec<EngineEvent>,
}

/// An engine, its callers, and the statistics of its requests.
#[derive(Debug)]
pub(super) struct Live {
    /// Everything in one lock: an event concerns the engine, a caller and the statistics at once.
    state: Mutex<State>,
    /// Told when the driver may have slept too long already.
    changed: Notify,
    clock: Clock,
}

impl Live {
    pub(super) fn new(config: EngineConfig, seed: u64) -> Result<Self, ConfigError> {
        let record = Record::new(config.max_model_len);
        let engine = Engine::new(config, seed)?;
        let state = State { engine, calls: HashMap::new(), record, events: Vec::new() };
        Ok(Self { state: Mutex::new(state), changed: Notify::new(), clock: Clock::start() })
    }

    /// Puts a request into the queue.
    pub(super) fn submit(
        self: &Arc<Self>,
        asked: &EngineRequest,
        manner: Manner,
    ) -> Result<Ticket, SubmitError> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let accepted = state.engine.submit(now, asked)?;
        let (sender, progress) = watch::channel(Progress::default());
        state.calls.insert(accepted.id, Call { progress: sender, is_stream: manner.is_stream });
        state.record.on_submit(accepted.id, now, asked, manner.finish);
        drop(state);
        self.changed.notify_one();
        Ok(Ticket { live: Arc::clone(self), id: accepted.id, output: accepted.output, progress })
    }

    /// Moves the engine along the clock for as long as it is polled.
    pub(super) async fn drive(&self) {
        loop {
            match self.catch_up() {
                Some(wake) => {
                    let pause = wake.since(self.clock.now());
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.changed.notified() => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// The engine's state now.
    pub(super) fn gauges(&self) -> Gauges {
        self.read(|gauges, _, _| gauges)
    }

    /// Shows the engine's state and the statistics of its requests, as of now. `look` holds up the engine: it must not wait.
    pub(super) fn read<T>(&self, look: impl FnOnce(Gauges, &EngineConfig, &Record) -> T) -> T {
        self.catch_up();
        let state = self.state.lock();
        look(state.engine.gauges(), state.engine.config(), &state.record)
    }

    /// The longest request, in tokens, that the engine takes.
    pub(super) fn longest_request(&self) -> u32 {
        self.state.lock().engine.config().longest_request()
    }

    fn hang_up(&self, id: RequestId) {
        let mut state = self.state.lock();
        if state.calls.remove(&id).is_some() {
            state.engine.abort(self.clock.now(), id);
            state.record.on_abort(id);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Brings the engine to the present, tells its callers, and says when to come again.
    fn catch_up(&self) -> Option<Timestamp> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.engine.advance(self.clock.now(), &mut state.events);
        for event in state.events.drain(..) {
            state.record.on_event(&event);
            tell(&mut state.calls, &event);
        }
        let is_watched = state.calls.values().any(|call| call.is_stream);
        if is_watched { state.engine.next_step() } else { state.engine.next_event() }
    }
}

fn tell(calls: &mut HashMap<RequestId, Call>, event: &EngineEvent) {
    match *event {
        EngineEvent::Admitted { id, n_cached, .. } => {
            if let Some(call) = calls.get(&id) {
                call.progress.send_modify(|progress| progress.n_cached = n_cached);
            }
        }
        EngineEvent::Tokens { id, n_tokens, .. } => {
            if let Some(call) = calls.get(&id) {
                call.progress.send_modify(|progress| progress.n_output += n_tokens);
            }
        }
        EngineEvent::Finished { id, .. } => {
            if let Some(call) = calls.remove(&id) {
                call.progress.send_modify(|progress| progress.is_finished = true);
            }
        }
    }
}

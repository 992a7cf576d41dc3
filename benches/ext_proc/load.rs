//! The load client: users that send requests, each with one stream at a time, and check every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::args::{Plan, Shape};
use crate::check::{self, Destinations, Echo};
use crate::exchange::{self, Stream};
use crate::{messages, process};

/// What a load client did.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Beats: requests, or chunks of streamed answers.
    pub(crate) beats: u64,
    /// From a request's first byte to its pick, in microseconds.
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// From the first request to the end of the last.
    pub(crate) wall_seconds: f64,
}

/// Frames that are the same in every request, and what may come back.
pub(crate) struct Script {
    request_headers: Bytes,
    response_headers: [Bytes; 2],
    answer: Vec<u8>,
    destinations: Destinations,
    next_number: AtomicU64,
}

impl Script {
    pub(crate) fn new(destinations: &[String]) -> Self {
        Self {
            request_headers: messages::request_headers(),
            response_headers: [false, true].map(messages::response_headers),
            answer: messages::answer(),
            destinations: Destinations::new(destinations),
            next_number: AtomicU64::new(0),
        }
    }

    /// Opens a stream and sends a whole request.
    pub(crate) async fn open(&self, connection: &SendRequest<Bytes>, body: &[u8]) -> anyhow::Result<Stream> {
        let headers = std::iter::once(self.request_headers.clone());
        Stream::open(connection, headers.chain(messages::request_body(body))).await
    }

    /// The next request's body; each is new in its second half.
    pub(crate) fn chat(&self, shape: Shape) -> Vec<u8> {
        let number = self.next_number.fetch_add(1, Relaxed);
        messages::chat(shape.body_bytes(), number, shape == Shape::Streamed)
    }

    /// Reads the pick and the body back.
    pub(crate) async fn pick(&self, stream: &mut Stream, body: &[u8]) -> anyhow::Result<()> {
        self.destinations.check(stream.answer().await?)?;
        let mut echo = Echo::of(body);
        while !echo.check(stream.answer().await?)? {}
        Ok(())
    }

    /// Sends the response's headers and reads their answer.
    pub(crate) async fn response_headers(&self, stream: &mut Stream, shape: Shape) -> anyhow::Result<()> {
        stream.send(self.response_headers[usize::from(shape == Shape::Streamed)].clone())?;
        check::response_headers(&stream.answer().await?)
    }

    /// Sends a chunk of the response and reads it back.
    pub(crate) async fn chunk(&self, stream: &mut Stream, chunk: &[u8], end: bool) -> anyhow::Result<()> {
        stream.send(messages::response_chunk(chunk, end))?;
        let mut echo = Echo::of(chunk);
        let ended = echo.check(stream.answer().await?)?;
        anyhow::ensure!(ended == end && echo.is_whole(), "a chunk came back in another form");
        Ok(())
    }

    /// Sends a short answer and its end.
    pub(crate) async fn answer(&self, stream: &mut Stream) -> anyhow::Result<()> {
        self.chunk(stream, &self.answer, false).await?;
        self.chunk(stream, b"", true).await
    }
}

/// When a user's beats are due; late ones are made up for.
struct Beats {
    due: Instant,
    every: Duration,
}

impl Beats {
    async fn next(&mut self) {
        if !self.every.is_zero() {
            sleep_until(self.due).await;
            self.due += self.every;
        }
    }
}

/// One user's share of the outcome.
#[derive(Default)]
struct Tally {
    beats: u64,
    pick_us: Vec<u64>,
}

struct User {
    script: Arc<Script>,
    connection: SendRequest<Bytes>,
    shape: Shape,
    beats: Beats,
    end: Instant,
    tally: Tally,
}

impl User {
    async fn run(mut self) -> anyhow::Result<Tally> {
        while Instant::now() < self.end {
            self.request().await?;
        }
        Ok(self.tally)
    }

    async fn request(&mut self) -> anyhow::Result<()> {
        let script = &self.script;
        let streamed = self.shape == Shape::Streamed;
        if !streamed {
            self.beats.next().await;
            self.tally.beats += 1;
        }
        let body = script.chat(self.shape);
        let began = Instant::now();
        let mut stream = script.open(&self.connection, &body).await?;
        script.pick(&mut stream, &body).await?;
        self.tally.pick_us.push(u64::try_from(began.elapsed().as_micros())?);
        script.response_headers(&mut stream, self.shape).await?;
        if streamed {
            let n = self.shape.beats();
            for at in 0..n {
                self.beats.next().await;
                self.tally.beats += 1;
                script.chunk(&mut stream, &messages::event(at, n), false).await?;
            }
            script.chunk(&mut stream, b"", true).await?;
        } else {
            script.answer(&mut stream).await?;
        }
        stream.close().await
    }
}

/// Runs a plan and prints its [`Outcome`].
pub(crate) fn run(plan: Plan) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(apply(plan))?;
    process::say(&serde_json::to_string(&outcome)?);
    Ok(())
}

async fn apply(plan: Plan) -> anyhow::Result<Outcome> {
    let script = Arc::new(Script::new(&plan.destinations));
    let (mut drivers, mut connections) = (JoinSet::new(), Vec::new());
    for _ in 0..plan.connections {
        connections.push(exchange::connect(plan.address, &mut drivers).await?);
    }
    let every = match plan.rate {
        0 => Duration::ZERO,
        rate => Duration::from_secs(1) * plan.users / rate,
    };
    let begin = Instant::now();
    let mut users = JoinSet::new();
    for (n, connection) in (0..plan.users).zip(connections.iter().cycle()) {
        let user = User {
            script: script.clone(),
            connection: connection.clone(),
            shape: plan.shape,
            beats: Beats { due: begin + every * n / plan.users, every },
            end: begin + Duration::from_secs(plan.seconds.into()),
            tally: Tally::default(),
        };
        users.spawn(user.run());
    }
    let (mut outcome, mut pick_us) = (Outcome::default(), Vec::new());
    while let Some(tally) = users.join_next().await {
        let tally = tally??;
        outcome.beats += tally.beats;
        pick_us.extend(tally.pick_us);
    }
    outcome.wall_seconds = begin.elapsed().as_secs_f64();
    pick_us.sort_unstable();
    let quantile = |percent: usize| pick_us.get(pick_us.len() * percent / 100).copied().unwrap_or_default();
    (outcome.p50_us, outcome.p99_us) = (quantile(50), quantile(99));
    Ok(outcome)
}

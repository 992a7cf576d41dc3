//! A load client in turmoil: at full load, with disconnects, resets, refusals and clients that stop half way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use h2::client::SendRequest;
use parking_lot::Mutex;
use rand::RngExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::args::{Shape, TurmoilPlan};
use crate::check;
use crate::exchange::{self, Stream};
use crate::load::Script;
use crate::{messages, process};

/// Users on one connection.
const GROUP: u32 = 16;

/// Chunks of a streamed answer here.
const CHUNKS: usize = 20;

/// What a user may do, and in how many of a hundred cases.
const DEEDS: &[(Deed, u32)] = &[
    (Deed::Request(Shape::Small), 50),
    (Deed::Request(Shape::Medium), 12),
    (Deed::Request(Shape::Long), 3),
    (Deed::Request(Shape::Streamed), 10),
    (Deed::Refused, 7),
    (Deed::ResetBeforePick, 6),
    (Deed::ResetWithinAnswer, 6),
    (Deed::CloseWithinBody, 6),
];

#[derive(Clone, Copy, Debug)]
enum Deed {
    /// A request to its end.
    Request(Shape),
    /// A body that is no request.
    Refused,
    /// The client goes away once it has sent its request.
    ResetBeforePick,
    /// The client goes away within the streamed answer.
    ResetWithinAnswer,
    /// The stream is closed before the body is whole.
    CloseWithinBody,
}

type Counts = Mutex<BTreeMap<String, u64>>;

/// Runs a plan and prints what was done how often, as JSON.
pub(crate) fn run(plan: &TurmoilPlan) -> anyhow::Result<()> {
    let counts = Arc::new(Counts::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let script = Arc::new(Script::new(&plan.destinations));
        let end = Instant::now() + Duration::from_secs(plan.seconds.into());
        let mut groups = JoinSet::new();
        for _ in 0..plan.users.div_ceil(GROUP) {
            groups.spawn(group(plan.address, script.clone(), counts.clone(), end));
        }
        while let Some(ended) = groups.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    })?;
    process::say(&serde_json::to_string(&*counts.lock())?);
    Ok(())
}

/// One connection after the other; each is cut after some seconds with all that is open on it.
async fn group(
    address: std::net::SocketAddr,
    script: Arc<Script>,
    counts: Arc<Counts>,
    end: Instant,
) -> anyhow::Result<()> {
    while Instant::now() < end {
        let mut drivers = JoinSet::new();
        let connection = exchange::connect(address, &mut drivers).await?;
        let mut users = JoinSet::new();
        for _ in 0..GROUP {
            users.spawn(user(connection.clone(), script.clone(), counts.clone()));
        }
        let cut = Instant::now() + Duration::from_millis(rand::rng().random_range(1000..8000));
        if let Ok(Some(ended)) = timeout_at(cut.min(end), users.join_next()).await {
            // A user ends only by an error.
            ended??;
        }
        *counts.lock().entry("connections cut".to_owned()).or_default() += 1;
    }
    Ok(())
}

async fn user(
    connection: SendRequest<Bytes>,
    script: Arc<Script>,
    counts: Arc<Counts>,
) -> anyhow::Result<()> {
    loop {
        let mut at = rand::rng().random_range(0..100);
        let chosen = DEEDS.iter().find(|(_, share)| {
            let here = at < *share;
            at = at.saturating_sub(*share);
            here
        });
        let (deed, _) = chosen.expect("the shares add up to 100");
        act(*deed, &connection, &script).await?;
        *counts.lock().entry(format!("{deed:?}")).or_default() += 1;
    }
}

async fn act(deed: Deed, connection: &SendRequest<Bytes>, script: &Script) -> anyhow::Result<()> {
    match deed {
        Deed::Request(shape) => request(connection, script, shape).await,
        Deed::Refused => {
            let mut stream = script.open(connection, br#"{"model":"sim-model","messages":{}}"#).await?;
            check::refusal(&stream.answer().await?)?;
            ensure!(stream.next().await?.is_none(), "an answer after a refusal");
            Ok(())
        }
        Deed::ResetBeforePick => {
            let stream = script.open(connection, &script.chat(Shape::Medium)).await?;
            stream.reset();
            Ok(())
        }
        Deed::ResetWithinAnswer => {
            let stream = begun(connection, script, Shape::Streamed, CHUNKS / 2).await?;
            stream.reset();
            Ok(())
        }
        Deed::CloseWithinBody => {
            let body = script.chat(Shape::Long);
            let frames = [messages::request_headers()].into_iter();
            let frames = frames.chain(messages::request_body(&body).take(2));
            Stream::open(connection, frames).await?.close().await
        }
    }
}

async fn request(connection: &SendRequest<Bytes>, script: &Script, shape: Shape) -> anyhow::Result<()> {
    let chunks = if shape == Shape::Streamed { CHUNKS } else { 0 };
    let mut stream = begun(connection, script, shape, chunks).await?;
    script.answer(&mut stream).await?;
    stream.close().await
}

/// A request with the beginning of its answer.
async fn begun(
    connection: &SendRequest<Bytes>,
    script: &Script,
    shape: Shape,
    chunks: usize,
) -> anyhow::Result<Stream> {
    let body = script.chat(shape);
    let mut stream = script.open(connection, &body).await?;
    script.pick(&mut stream, &body).await?;
    script.response_headers(&mut stream, shape).await?;
    for n in 0..chunks {
        script.chunk(&mut stream, &messages::event(n, CHUNKS), false).await?;
    }
    Ok(stream)
}

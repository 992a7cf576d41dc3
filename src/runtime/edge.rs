//! Serves connections on threads of their own, one per core, each with a runtime of its own: [`serve`].
//!
//! A connection is dealt to the thread that has the least to do; it and its streams never leave that thread. When
//! threads steal work from each other, a request costs 1.2 times the CPU and a chunk 1.9 times
//! (`docs/performance.md`). What is served is the caller's business.

use std::future::Future;

use anyhow::{Context, bail};
use futures_util::{StreamExt, stream};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, RuntimeMetrics};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::sockets::{Sockets, without_errors};

/// Connections that may wait for their thread to take them.
const BACKLOG: usize = 64;

/// One thread, as the dealer sees it.
struct Shard {
    door: mpsc::Sender<std::net::TcpStream>,
    runtime: RuntimeMetrics,
}

/// Deals `sockets` to one thread per core, on each of which `serve` serves what it is dealt, until `stop`; then waits
/// until every `serve` has ended. Dropping the future drops every connection.
pub async fn serve<F>(
    sockets: Sockets,
    stop: impl Future<Output = ()>,
    serve: impl Fn(Sockets) -> F + Clone + Send + 'static,
) -> anyhow::Result<()>
where
    F: Future<Output = Result<(), tonic::transport::Error>>,
{
    let n_threads = std::thread::available_parallelism().context("the number of cores")?.get();
    // A thread cannot be aborted. It ends when this is dropped, which it is with the future.
    let open = watch::Sender::new(());
    let (mut threads, mut shards) = (JoinSet::new(), Vec::new());
    for _ in 0..n_threads {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (door, dealt) = mpsc::channel(BACKLOG);
        shards.push(Shard { door, runtime: runtime.metrics() });
        let (serve, mut open) = (serve.clone(), open.subscribe());
        threads.spawn_blocking(move || {
            runtime.block_on(async {
                tokio::select! {
                    served = serve(taken(dealt)) => served,
                    _ = open.changed() => Ok(()),
                }
            })
        });
    }
    tokio::select! {
        // First, because it ends the threads as well.
        biased;
        () = stop => {}
        () = deal(sockets, &shards) => {}
        Some(ended) = threads.join_next() => {
            ended??;
            bail!("a serving thread ended");
        }
    }
    while let Some(ended) = threads.join_next().await {
        ended??;
    }
    Ok(())
}

async fn deal(mut sockets: Sockets, shards: &[Shard]) {
    let mut next = 0;
    while let Some(socket) = sockets.next().await {
        let socket = match socket.into_std() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::debug!(%error, "a connection cannot be dealt");
                continue;
            }
        };
        // Tasks of a thread are its connections and its open streams.
        let loads = shards.iter().map(|shard| shard.runtime.num_alive_tasks());
        let chosen = least_loaded(loads, next);
        next = (chosen + 1) % shards.len();
        // An error means that the thread has ended, which ends the process.
        let _ = shards[chosen].door.send(socket).await;
    }
}

/// What was dealt to the thread that polls this; its runtime may refuse a socket for want of memory.
fn taken(mut dealt: mpsc::Receiver<std::net::TcpStream>) -> Sockets {
    without_errors(stream::poll_fn(move |cx| {
        dealt.poll_recv(cx).map(|socket| socket.map(TcpStream::from_std))
    }))
}

/// The least of `loads`; of equals the first from `start` on, going round: what was just dealt does not show yet.
fn least_loaded(loads: impl ExactSizeIterator<Item = usize>, start: usize) -> usize {
    let n = loads.len();
    let least = loads.enumerate().min_by_key(|&(at, load)| (load, (at + n - start) % n));
    least.map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_to_the_thread_with_the_least_to_do_and_round_among_equals() {
        for (loads, start, want) in [
            (vec![0, 0, 0], 0, 0),
            (vec![0, 0, 0], 2, 2),
            (vec![3, 1, 2], 0, 1),
            (vec![1, 3, 1], 1, 2),
            (vec![1, 3, 3], 1, 0),
            (vec![5], 0, 0),
        ] {
            assert_eq!(least_loaded(loads.iter().copied(), start), want, "{loads:?} from {start}");
        }
    }
}

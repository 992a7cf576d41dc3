//! Sockets → connections, with or without TLS: [`Acceptor::connections`], a stream for a tonic server.
//!
//! Accepting never waits for a handshake. Handshakes are tasks, with a deadline and a bound on their number; when the
//! bound is reached and none of them ends, the oldest makes room, so that silent clients lock nobody out. Each serving
//! thread has an acceptor of its own, so the bound is one of a thread.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::sockets::Sockets;
use crate::tls::Tls;
use crate::tls::connection::{Connection, PATIENCE};

/// How long the handshakes of an acceptor may take, and how many there may be at once.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Handshakes at once.
    handshakes: usize,
    /// The longest that a handshake may take.
    deadline: Duration,
    /// The age from which the oldest handshake has to make room when there are too many.
    patience: Duration,
}

const LIMITS: Limits = Limits { handshakes: 512, deadline: PATIENCE, patience: Duration::from_secs(1) };

/// Accepts the connections of one listener, or those that a serving thread is dealt.
pub struct Acceptor {
    sockets: Sockets,
    tls: Option<Tls>,
    limits: Limits,
    handshakes: JoinSet<Result<Connection, Failure>>,
    /// When the handshakes began, oldest first; those that have ended may still be among them.
    begun: VecDeque<(Instant, AbortHandle)>,
    /// The one that had to make room last.
    cut: Option<AbortHandle>,
}

enum Failure {
    Timeout,
    Failed(io::Error),
}

impl Acceptor {
    /// Turns `sockets` into connections, in clear text unless there is a `tls`.
    pub fn new(sockets: Sockets, tls: Option<Tls>) -> Self {
        Self::with(sockets, tls, LIMITS)
    }

    fn with(sockets: Sockets, tls: Option<Tls>, limits: Limits) -> Self {
        let (handshakes, begun) = (JoinSet::new(), VecDeque::new());
        Self { sockets, tls, limits, handshakes, begun, cut: None }
    }

    /// The connections, as they become ready. Dropping the stream drops the sockets and ends all handshakes.
    pub fn connections(self) -> impl Stream<Item = Result<Connection, Infallible>> {
        stream::unfold(self, async |mut acceptor| Some((Ok(acceptor.next().await?), acceptor)))
    }

    /// The next connection that is ready; none when there are no more sockets.
    async fn next(&mut self) -> Option<Connection> {
        loop {
            let full = self.handshakes.len() >= self.limits.handshakes;
            let out_of_patience = self.oldest() + self.limits.patience;
            // One at a time.
            let may_cut = full && self.cut.as_ref().is_none_or(AbortHandle::is_finished);
            tokio::select! {
                biased;
                Some(ended) = self.handshakes.join_next() => {
                    if let Some(connection) = self.ended(ended) {
                        return Some(connection);
                    }
                }
                socket = self.sockets.next(), if !full => {
                    if let Some(connection) = self.begin(socket?) {
                        return Some(connection);
                    }
                }
                () = sleep_until(out_of_patience), if may_cut => self.make_room(),
            }
        }
    }

    /// Begins the handshake; without TLS, the connection is ready at once.
    fn begin(&mut self, socket: TcpStream) -> Option<Connection> {
        let Some(tls) = &self.tls else { return Some(Connection::plain(socket)) };
        let handshake = TlsAcceptor::from(tls.current.load_full()).accept(socket);
        let deadline = self.limits.deadline;
        let task = self.handshakes.spawn(async move {
            match timeout(deadline, handshake).await {
                Ok(Ok(stream)) => Ok(Connection::tls(stream)),
                Ok(Err(error)) => Err(Failure::Failed(error)),
                Err(_) => Err(Failure::Timeout),
            }
        });
        if self.begun.len() >= 2 * self.limits.handshakes {
            self.begun.retain(|(_, task)| !task.is_finished());
        }
        self.begun.push_back((Instant::now(), task));
        None
    }

    fn ended(&self, ended: Result<Result<Connection, Failure>, JoinError>) -> Option<Connection> {
        let metrics = &self.tls.as_ref()?.metrics;
        match ended {
            Ok(Ok(connection)) => {
                metrics.ok.inc();
                return Some(connection);
            }
            Ok(Err(Failure::Failed(error))) => {
                metrics.failed.inc();
                tracing::debug!(%error, "a TLS handshake failed");
            }
            Ok(Err(Failure::Timeout)) => metrics.timeout.inc(),
            Err(error) if error.is_cancelled() => metrics.displaced.inc(),
            Err(error) => {
                metrics.failed.inc();
                tracing::error!(%error, "a TLS handshake panicked");
            }
        }
        None
    }

    /// When the oldest handshake began that may still go on.
    fn oldest(&mut self) -> Instant {
        while self.begun.front().is_some_and(|(_, task)| task.is_finished()) {
            self.begun.pop_front();
        }
        self.begun.front().map_or_else(Instant::now, |(begun, _)| *begun)
    }

    fn make_room(&mut self) {
        self.cut = self.begun.pop_front().map(|(_, task)| task);
        if let Some(task) = &self.cut {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;

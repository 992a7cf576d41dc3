//! A listener → the sockets of its clients, without errors: [`sockets`], which every port of ours accepts with.
//!
//! Errors of a listener, such as too many open files, say nothing about the next socket: they are waited out here, and
//! what is behind needs no idea of them.

use std::io;
use std::time::Duration;

use futures_util::stream::{BoxStream, Stream, StreamExt, unfold};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tonic::transport::server::TcpIncoming;

/// First and longest pause after an error.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Least time between two log lines about errors.
const BETWEEN_COMPLAINTS: Duration = Duration::from_secs(10);

/// Sockets that were accepted.
pub type Sockets = BoxStream<'static, TcpStream>;

/// The sockets of `listener`, set for small messages and for clients that vanish. Never ends; dropping it closes the
/// port.
pub fn sockets(listener: TcpListener) -> Sockets {
    let accepted = TcpIncoming::from(listener).with_nodelay(Some(true));
    without_errors(accepted.with_keepalive(Some(Duration::from_secs(60))))
}

/// What comes of `accepted` in spite of errors. Each error costs a pause; while there is nothing else, ever longer ones.
pub fn without_errors<T: Send + 'static>(
    accepted: impl Stream<Item = io::Result<T>> + Unpin + Send + 'static,
) -> BoxStream<'static, T> {
    // The pause is part of the stream: it goes on if whoever waits for the next socket turns to something else.
    let socket = async |(mut accepted, mut complained)| {
        let mut pause = PAUSES.0;
        loop {
            match StreamExt::next(&mut accepted).await? {
                Ok(socket) => return Some((socket, (accepted, complained))),
                Err(error) => {
                    complain(&error, &mut complained);
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    };
    unfold((accepted, None::<Instant>), socket).boxed()
}

fn complain(error: &io::Error, complained: &mut Option<Instant>) {
    if complained.is_none_or(|at| at.elapsed() >= BETWEEN_COMPLAINTS) {
        *complained = Some(Instant::now());
        tracing::warn!(%error, "cannot accept connections; going on to try");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::time::timeout;

    use super::*;

    /// As many failures of an `accept`.
    fn failures<T>(n: usize) -> impl Iterator<Item = io::Result<T>> {
        const EMFILE: i32 = 24;
        (0..n).map(|_| Err(io::Error::from_raw_os_error(EMFILE)))
    }

    #[tokio::test(start_paused = true)]
    async fn errors_of_the_listener_are_waited_out() {
        let (began, elapsed) = (Instant::now(), |began: Instant| began.elapsed().as_millis());
        let accepted =
            failures(20).chain([Ok("first"), Ok("second")]).chain(failures(2)).chain([Ok("third")]);
        let mut sockets = without_errors(stream::iter(accepted));
        assert_eq!(sockets.next().await, Some("first"));
        // 5, 10, 20 … 640 ms are eight pauses, then twelve of a second.
        assert_eq!(elapsed(began), 1275 + 12_000);
        assert_eq!(sockets.next().await, Some("second"));
        assert_eq!(elapsed(began), 13_275);
        assert_eq!(sockets.next().await, Some("third"), "pauses begin anew");
        assert_eq!(elapsed(began), 13_275 + 5 + 10);
        assert_eq!(sockets.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_goes_on_while_nobody_waits() {
        let began = Instant::now();
        let mut sockets = without_errors(stream::iter(failures(3).chain([Ok("socket")])));
        let socket = async {
            loop {
                if let Ok(socket) = timeout(Duration::from_millis(1), sockets.next()).await {
                    return socket;
                }
            }
        };
        let socket = timeout(Duration::from_secs(60), socket).await.expect("pauses end");
        assert_eq!((socket, began.elapsed().as_millis()), (Some("socket"), 5 + 10 + 20));
    }
}

//! One accepted connection, in clear text or over TLS: [`Connection`], for HTTP/2 unless said.
//!
//! HTTP/2 begins with 24 bytes of the client; before them the server knows nothing to ask it, so a client that owes them
//! has a deadline here. After them the server's pings find out who is silent for too long.

use std::future::Future;
use std::io::{ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// The longest that a client may take for its handshake, and then for the preface.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Length of HTTP/2's preface.
const PREFACE: usize = 24;

/// A connection that is ready for HTTP/2. Reading fails once the preface is overdue.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// What is missing of the preface, and until when; none once it is complete.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// A connection in clear text.
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self::new(Stream::Plain(socket))
    }

    /// A connection over TLS, after the handshake.
    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::new(Stream::Tls(Box::new(stream)))
    }

    /// The same connection for HTTP/1.1, whose server has a deadline for heads of its own.
    #[must_use]
    pub fn without_preface(mut self) -> Self {
        self.preface = None;
        self
    }

    fn new(stream: Stream) -> Self {
        Self { stream, preface: Some((PREFACE, Box::pin(sleep(PATIENCE)))) }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match &self.stream {
            Stream::Plain(socket) => socket.connect_info(),
            Stream::Tls(stream) => stream.get_ref().0.connect_info(),
        }
    }
}

/// Calls the method of whichever stream is inside.
macro_rules! inner {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match &mut $self.stream {
            Stream::Plain(socket) => Pin::new(socket).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let n_before = buf.filled().len();
        let read = inner!(self.poll_read(cx, buf));
        let Some((missing, deadline)) = &mut self.preface else { return read };
        *missing = missing.saturating_sub(buf.filled().len() - n_before);
        if *missing == 0 {
            self.preface = None;
        } else if read.is_pending() && deadline.as_mut().poll(cx).is_ready() {
            tracing::debug!("a connection is closed: its client did not begin HTTP/2 in time");
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        inner!(self.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        inner!(self.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(socket) => socket.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        inner!(self.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        inner!(self.poll_shutdown(cx))
    }
}

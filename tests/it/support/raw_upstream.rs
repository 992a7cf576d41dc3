//! A model server that says exact bytes: entry point [`RawUpstream::start`].
//!
//! It speaks HTTP/1.1 as far as its script does: one answer per connection, sent as it is, which then closes. Scrapes are
//! answered as a server without metrics does.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::support::server_runtime;

/// What a [`RawUpstream`] says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// As soon as the request's headers are there.
    pub(crate) at_once: Vec<u8>,
    /// Behind the request's body, those that were released.
    pub(crate) pieces: Vec<Vec<u8>>,
}

impl Script {
    /// One answer behind the request's body.
    pub(crate) fn answer(answer: impl Into<Vec<u8>>) -> Self {
        Self { at_once: Vec::new(), pieces: vec![answer.into()] }
    }
}

/// A running server on a loopback port.
pub(crate) struct RawUpstream {
    at: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    script: Mutex<Script>,
    released: watch::Sender<usize>,
    received: Mutex<Vec<(String, Vec<u8>)>>,
}

impl RawUpstream {
    /// Starts a server that says this.
    pub(crate) fn start(script: Script) -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            released: watch::Sender::new(usize::MAX),
            received: Mutex::default(),
        });
        let runtime = server_runtime("raw-upstream");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.set_nonblocking(true).expect("the socket is ours");
        let at = listener.local_addr().expect("the socket is bound");
        let serving = shared.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("the socket is non-blocking");
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, serving.clone()));
            }
        });
        Self { at, shared, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.at
    }

    /// Changes what it says from now on.
    pub(crate) fn says(&self, script: Script) {
        *self.shared.script.lock() = script;
    }

    /// Lets it say so many pieces, and no more.
    pub(crate) fn release(&self, n_pieces: usize) {
        self.shared.released.send_replace(n_pieces);
    }

    /// Head and body, as they came, of all requests whose body was whole.
    pub(crate) fn received(&self) -> Vec<(String, Vec<u8>)> {
        self.shared.received.lock().clone()
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(mut socket: TcpStream, shared: Arc<Shared>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let head_ends = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let body = bytes.split_off(head_ends);
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    if head.starts_with("get /metrics") {
        return socket
            .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await;
    }
    let script = shared.script.lock().clone();
    socket.write_all(&script.at_once).await?;
    let body = read_body(&mut socket, &head, body).await?;
    shared.received.lock().push((head, body));
    let mut released = shared.released.subscribe();
    for (n, piece) in script.pieces.iter().enumerate() {
        if released.wait_for(|released| *released > n).await.is_err() {
            return Ok(());
        }
        socket.write_all(piece).await?;
    }
    socket.shutdown().await
}

/// The body as it came: chunked ones with their framing.
async fn read_body(socket: &mut TcpStream, head: &str, mut body: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let is_chunked = head.contains("transfer-encoding: chunked");
    let is_whole = |body: &[u8]| match length {
        Some(length) => body.len() >= length,
        None => !is_chunked || body.ends_with(b"0\r\n\r\n"),
    };
    while !is_whole(&body) && socket.read_buf(&mut body).await? > 0 {}
    Ok(body)
}

//! A model server for tests: raw TCP, so that it can break every rule of HTTP, and it remembers what it was asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What to do with a request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Answers with this status line's rest, more header lines, and body.
    Answer(&'static str, &'static str, String),
    /// Sends these bytes, then closes.
    Raw(&'static str),
    /// Sends a head, then body without end.
    Endless,
    /// Never answers.
    Hang,
    /// Answers after a while.
    Slowly(Duration, String),
}

impl Reply {
    pub(super) fn page(body: &str) -> Self {
        Self::Answer("200 OK", "", body.to_owned())
    }

    pub(super) fn status(line: &'static str) -> Self {
        Self::Answer(line, "", "{}".to_owned())
    }
}

/// What the server saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Request heads, in order.
    pub(super) heads: Vec<String>,
    pub(super) connections: usize,
    under_way: usize,
    pub(super) most_under_way: usize,
}

type Script = dyn Fn(&str) -> Reply + Send + Sync;

/// Serves until dropped.
pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Mutex<Seen>>,
    _accepting: JoinSet<()>,
}

impl TestServer {
    /// Serves on a free port of the loopback; `script` is given the target of each request.
    pub(super) async fn start(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener, script)
    }

    pub(super) fn serve(
        listener: TcpListener,
        script: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::new(script), seen.clone()));
        Self { address, seen, _accepting: accepting }
    }

    /// How many requests had a target that `wanted` holds for.
    pub(super) fn asked(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.seen.lock().heads.iter().filter(|head| wanted(target(head))).count()
    }
}

async fn accept(listener: TcpListener, script: Arc<Script>, seen: Arc<Mutex<Seen>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.lock().connections += 1;
        let (script, seen) = (script.clone(), seen.clone());
        connections.spawn(async move { serve(&stream, &*script, &seen).await });
    }
}

async fn serve(stream: &TcpStream, script: &Script, seen: &Mutex<Seen>) -> Option<()> {
    loop {
        let head = read_head(stream).await?;
        let reply = script(target(&head));
        {
            let mut seen = seen.lock();
            seen.heads.push(head);
            seen.under_way += 1;
            seen.most_under_way = seen.most_under_way.max(seen.under_way);
        }
        let body = match reply {
            Reply::Answer(status, headers, body) => {
                // Counted before the client can know of the answer's end.
                seen.lock().under_way -= 1;
                let length = body.len();
                write(
                    stream,
                    &format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"),
                )
                .await?;
                continue;
            }
            Reply::Slowly(wait, body) => {
                sleep(wait).await;
                body
            }
            Reply::Raw(bytes) => {
                seen.lock().under_way -= 1;
                write(stream, bytes).await?;
                return None;
            }
            Reply::Endless => {
                seen.lock().under_way -= 1;
                write(stream, "HTTP/1.1 200 OK\r\n\r\n").await?;
                loop {
                    write(stream, "vllm:num_requests_waiting 9\n").await?;
                }
            }
            Reply::Hang => std::future::pending().await,
        };
        seen.lock().under_way -= 1;
        write(stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await?;
    }
}

async fn read_head(stream: &TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        stream.readable().await.ok()?;
        let mut byte = [0];
        match stream.try_read(&mut byte) {
            Ok(0) => return None,
            Ok(_) => head.push(byte[0]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
    String::from_utf8(head).ok()
}

async fn write(stream: &TcpStream, text: &str) -> Option<()> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        stream.writable().await.ok()?;
        match stream.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
    Some(())
}

fn target(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or("")
}

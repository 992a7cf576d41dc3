//! Servers that say which one they are and what they got, and a client that sends paths as they are written. Entry
//! points: [`Backends::start`], [`ask`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Servers by their names.
pub(super) struct Backends {
    pub(super) at: BTreeMap<String, SocketAddr>,
    _tasks: JoinSet<()>,
}

struct Server {
    name: String,
    /// How many requests of a case came.
    seen: Mutex<BTreeMap<String, u32>>,
}

impl Backends {
    /// Starts one for each name.
    pub(super) async fn start(names: impl IntoIterator<Item = String>) -> Self {
        let (mut at, mut tasks) = (BTreeMap::new(), JoinSet::new());
        for name in names {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            at.insert(name.clone(), listener.local_addr().unwrap());
            let server = Arc::new(Server { name, seen: Mutex::default() });
            let router = Router::new().fallback(serve).with_state(server);
            tasks.spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
        }
        Self { at, _tasks: tasks }
    }
}

/// Says its name in `x-backend`, and in the body what it got: path, host and headers, a line each. `x-fails: N` has the
/// first N requests of an `x-case` fail, `x-hangs` all.
async fn serve(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let body: Bytes = axum::body::to_bytes(axum::body::Body::new(body), usize::MAX).await.unwrap_or_default();
    if header("x-hangs").is_some() {
        std::future::pending::<()>().await;
    }
    if let Some(fails) = header("x-fails") {
        let mut seen = server.seen.lock();
        let n = seen.entry(header("x-case").unwrap_or_default()).or_default();
        *n += 1;
        if *n <= fails.parse().unwrap() {
            return http::StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    }
    let mut text = format!("path={}\n", head.uri);
    for name in head.headers.keys() {
        let values: Vec<_> = head.headers.get_all(name).iter().map(|it| it.to_str().unwrap()).collect();
        writeln!(text, "{name}={}", values.join(",")).unwrap();
    }
    text += &String::from_utf8_lossy(&body);
    ([("x-backend", server.name.as_str()), ("server", "a-backend")], text).into_response()
}

/// An answer.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: u16,
    /// Its headers and body, as they came.
    pub(super) text: String,
}

impl Told {
    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next()?;
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Which server answered, or the status.
    pub(super) fn by(&self) -> String {
        self.header("x-backend").map_or_else(|| self.status.to_string(), str::to_owned)
    }

    /// Whether there is such a line in the body.
    pub(super) fn has_line(&self, line: &str) -> bool {
        self.text.lines().any(|known| known == line)
    }
}

/// Sends what `request` says: `METHOD PATH NAME:VALUE … | BODY`; the method may be left out, and so may the body.
pub(super) async fn ask(at: SocketAddr, host: &str, request: &str) -> Told {
    let (head, body) = request.split_once(" | ").unwrap_or((request, ""));
    let mut words = head.split(' ').peekable();
    let is_method = |word: &&str| word.bytes().all(|c| c.is_ascii_uppercase());
    let method = words.next_if(is_method).unwrap_or("GET");
    let path = words.next().unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for word in words {
        let (name, value) = word.split_once(':').unwrap();
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    if !body.is_empty() || method == "POST" {
        write!(text, "content-type: application/json\r\ncontent-length: {}\r\n", body.len()).unwrap();
    }
    text += "\r\n";
    text += body;
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Envoy waits for the client to close.
    while !is_whole(&answer) && stream.read_buf(&mut answer).await.unwrap_or_default() > 0 {}
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Told { status, text }
}

/// Whether nothing more comes of an answer.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    match length {
        Some(length) => body.len() >= length,
        None if head.contains("transfer-encoding: chunked") => body.ends_with("0\r\n\r\n"),
        None => false,
    }
}

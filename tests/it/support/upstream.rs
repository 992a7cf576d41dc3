//! The model server of a test: entry point [`Upstream::start`].
//!
//! Answers every path as it was told, and keeps what it received, so that a test can compare headers and bodies byte
//! for byte. Lives in a runtime of its own: [`Upstream::kill`] breaks all its connections as the death of a pod does.
//! Does not behave like an engine (no queue; pages of metrics are those that a test gives it).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_body_util::{BodyExt, Collected, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::{StreamExt, iter, pending};

use crate::support::{eventually, server_runtime};

/// What an [`Upstream`] does with a request, once its body has been read.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// 200 with the request's own content type and body.
    Echo,
    /// This status with a short text, in one piece.
    Status(u16),
    /// 200 and `text/event-stream`: these events, each framed as `data: …`, and then what `then` says.
    Sse { events: Vec<String>, then: AfterEvents },
    /// 200 and `text/event-stream`: the events of this list while it grows; it ends with its sender.
    Follow(watch::Receiver<Vec<String>>),
    /// 200 with the request's own body, and behind it the trailers of a gRPC answer.
    Grpc,
    /// Closes the connection without an answer.
    Close,
    /// Keeps the connection open and never answers.
    Hang,
}

/// How a stream of events goes on after the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AfterEvents {
    /// Ends properly.
    End,
    /// Stays open, silent; [`Upstream::kill`] then breaks it off.
    Hold,
}

/// One request as the upstream received it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// The body; none if it broke off before its end.
    pub(crate) body: Option<Bytes>,
    /// The trailers; empty if there were none.
    pub(crate) trailers: HeaderMap,
}

/// A running model server on a loopback port.
pub(crate) struct Upstream {
    at: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    answer: Mutex<Answer>,
    /// By path, what is answered to GET; such requests are not those of the test.
    pages: Mutex<BTreeMap<String, String>>,
    received: watch::Sender<Vec<Received>>,
}

impl Upstream {
    /// Starts a server that answers in this way.
    pub(crate) fn start(answer: Answer) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"), answer)
    }

    /// Starts servers that answer in this way, on one port of as many addresses: the pods of a pool.
    pub(crate) fn pods(count: u8, answer: &Answer) -> Vec<Self> {
        let listen = || {
            let first = TcpListener::bind((Ipv4Addr::new(127, 7, 0, 1), 0))?;
            let port = first.local_addr()?.port();
            let others = (2..=count).map(|host| TcpListener::bind((Ipv4Addr::new(127, 7, 0, host), port)));
            std::iter::once(Ok(first)).chain(others).collect::<std::io::Result<Vec<_>>>()
        };
        let listeners = (0..100).find_map(|_| listen().ok()).expect("some port is free on all of them");
        listeners.into_iter().map(|listener| Self::on(listener, answer.clone())).collect()
    }

    fn on(listener: TcpListener, answer: Answer) -> Self {
        let (answer, received) = (Mutex::new(answer), watch::Sender::new(Vec::new()));
        let shared = Arc::new(Shared { answer, pages: Mutex::default(), received });
        let runtime = server_runtime("upstream");
        listener.set_nonblocking(true).expect("the socket is ours");
        let at = listener.local_addr().expect("the socket is bound");
        // Without a page, scrapes are answered like a server without metrics does, and are no requests of the test.
        let router = Router::new()
            .route("/metrics", get(page))
            .route("/metrics/", get(page))
            .fallback(serve)
            .with_state(Arc::clone(&shared));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("the socket is non-blocking");
            axum::serve(listener, router).await
        });
        Self { at, shared, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.at
    }

    /// Changes how it answers from now on.
    pub(crate) fn answer(&self, answer: Answer) {
        *self.shared.answer.lock() = answer;
    }

    /// Answers GET of this path so from now on.
    pub(crate) fn page(&self, path: &str, text: &str) {
        self.shared.pages.lock().insert(path.to_owned(), text.to_owned());
    }

    /// All requests so far, in order of arrival.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.borrow().clone()
    }

    /// Waits until `count` requests have arrived, and returns all of them.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        eventually("the upstream got its requests", async || {
            Some(self.received()).filter(|received| received.len() >= count)
        })
        .await
    }

    /// Dies: the port closes, and every connection breaks.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A port that refuses connections for as long as this value lives: bound, hence nobody else's, and not listening.
pub(crate) struct RefusingPort(TcpSocket);

impl RefusingPort {
    /// Reserves a port on loopback.
    pub(crate) fn reserve() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("loopback has a free port");
        Self(socket)
    }

    /// Where nobody listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("the socket is bound")
    }
}

async fn page(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let page = shared.pages.lock().get(uri.path().trim_end_matches('/')).cloned();
    let status = if page.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    (status, page.unwrap_or_default()).into_response()
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if request.method() == Method::GET && shared.pages.lock().contains_key(request.uri().path()) {
        return page(State(shared), request.uri().clone()).await;
    }
    let (head, body) = request.into_parts();
    let whole = body.collect().await.ok();
    let trailers = whole.as_ref().and_then(|whole| whole.trailers().cloned()).unwrap_or_default();
    let body = whole.map(Collected::to_bytes);
    let content_type = head.headers.get(header::CONTENT_TYPE).cloned();
    let path = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let received =
        Received { method: head.method, path, headers: head.headers, body: body.clone(), trailers };
    shared.received.send_modify(|all| all.push(received));

    let answer = shared.answer.lock().clone();
    match answer {
        Answer::Echo => {
            let mut response = Response::new(Body::from(body.unwrap_or_default()));
            response.headers_mut().extend(content_type.map(|value| (header::CONTENT_TYPE, value)));
            response
        }
        Answer::Grpc => {
            let trailers = HeaderMap::from_iter(
                [("grpc-status", "0"), ("grpc-message", "fine")]
                    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))),
            );
            let frames = [Frame::data(body.unwrap_or_default()), Frame::trailers(trailers)];
            Response::builder()
                .header(header::CONTENT_TYPE, "application/grpc")
                // HTTP/1.1 sends those trailers that were announced.
                .header(header::TRAILER, "grpc-status, grpc-message")
                .body(Body::new(StreamBody::new(iter(frames.map(Ok::<_, Infallible>)))))
                .expect("the headers are valid")
        }
        Answer::Status(status) => {
            Response::builder().status(status).body(Body::from("as told\n")).expect("the status is valid")
        }
        Answer::Sse { events, then } => Response::builder()
            .header(header::CONTENT_TYPE, "text/event-stream")
            .body(event_stream(events, then))
            .expect("the header is valid"),
        Answer::Follow(events) => Response::builder()
            .header(header::CONTENT_TYPE, "text/event-stream")
            .body(followed(events))
            .expect("the header is valid"),
        // Unwinds the connection's task without a message; its socket closes.
        Answer::Close => std::panic::resume_unwind(Box::new("told to close")),
        Answer::Hang => std::future::pending().await,
    }
}

fn event_stream(events: Vec<String>, then: AfterEvents) -> Body {
    let events = iter(events).map(|event| Ok::<_, Infallible>(format!("data: {event}\n\n")));
    match then {
        AfterEvents::End => Body::from_stream(events),
        AfterEvents::Hold => Body::from_stream(events.chain(pending())),
    }
}

fn followed(events: watch::Receiver<Vec<String>>) -> Body {
    let new = futures_util::stream::unfold((events, 0), async |(mut events, n_sent)| {
        let there = events.wait_for(|events| events.len() > n_sent).await.ok()?;
        let frame = format!("data: {}\n\n", there[n_sent]);
        drop(there);
        Some((Ok::<_, Infallible>(frame), (events, n_sent + 1)))
    });
    Body::from_stream(new)
}

//! One HTTP/1.1 connection to a server of metrics pages, in clear text or over TLS.
//!
//! Entry points: [`PageConnection::open`] and [`PageConnection::send`]. There is no task behind it: whoever waits for
//! an answer moves the connection along, so a scrape wakes one task, and an idle connection costs nothing. It notices
//! that the server has closed it when it is next used.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// What moves bytes; gone once the connection has ended.
type Driver = Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>;

/// A connection, between two requests or within one.
pub(super) struct PageConnection {
    requests: SendRequest<Empty<Bytes>>,
    driver: Driver,
    /// When it was opened or last asked for a page.
    pub(super) used: Instant,
}

impl fmt::Debug for PageConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageConnection").field("used", &self.used).finish_non_exhaustive()
    }
}

impl PageConnection {
    /// Connects, and shakes hands if there is a `tls`.
    pub(super) async fn open(address: SocketAddr, tls: Option<&TlsConnector>) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        match tls {
            None => Self::over(socket).await,
            Some(tls) => Self::over(tls.connect(address.ip().into(), socket).await?).await,
        }
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Result<Self> {
        let (requests, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Self { requests, driver: Some(Box::pin(connection)), used: Instant::now() })
    }

    /// Sends a request; returns with the head of the answer.
    pub(super) async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.used = Instant::now();
        let Self { requests, driver, .. } = self;
        let answered = async {
            requests.ready().await?;
            requests.send_request(request).await
        };
        drive(driver, answered).await
    }

    /// The next piece of an answer's body; `None` after the last. Trailers are passed over.
    pub(super) async fn chunk(&mut self, body: &mut Incoming) -> Option<hyper::Result<Bytes>> {
        loop {
            match drive(&mut self.driver, body.frame()).await?.map(Frame::into_data) {
                Ok(Ok(chunk)) => return Some(Ok(chunk)),
                Ok(Err(_trailers)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Does the work, which waits for the connection, and moves the connection along meanwhile.
async fn drive<T>(driver: &mut Driver, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // Twice: what the work sends is written at once, and what comes at once is read.
        for _ in 0..2 {
            if let Some(connection) = driver
                && connection.as_mut().poll(cx).is_ready()
            {
                // If it ended in an error, the work tells of it.
                *driver = None;
            }
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    })
    .await
}

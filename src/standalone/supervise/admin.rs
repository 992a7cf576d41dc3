//! Envoy's admin interface: [`Admin`], one short connection for each question.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer that is read.
const MAX_ANSWER: usize = 64 << 20;

/// Where Envoy is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A port, best of loopback: whoever reaches it may stop Envoy.
    Tcp(SocketAddr),
    /// A socket of the file system.
    Unix(PathBuf),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody is there, or the connection broke off.
    #[error("envoy's admin interface at {0} cannot be asked: {1}")]
    Unreachable(AdminAddress, io::Error),
    /// It answered, and not with 200.
    #[error("envoy's admin interface at {0} answered {1}")]
    Refused(AdminAddress, StatusCode),
}

/// Asks Envoy.
#[derive(Clone, Debug)]
pub struct Admin {
    address: AdminAddress,
}

impl Admin {
    /// Asks at this address; connects to nothing yet.
    pub fn new(address: AdminAddress) -> Self {
        Self { address }
    }

    /// Reads a page.
    pub async fn get(&self, path: &str) -> Result<String, AdminError> {
        self.ask(Method::GET, path).await
    }

    /// Has something done.
    pub async fn post(&self, path: &str) -> Result<String, AdminError> {
        self.ask(Method::POST, path).await
    }

    async fn ask(&self, method: Method, path: &str) -> Result<String, AdminError> {
        let asked = async {
            match &self.address {
                AdminAddress::Tcp(address) => ask(TcpStream::connect(address).await?, method, path).await,
                AdminAddress::Unix(socket) => ask(UnixStream::connect(socket).await?, method, path).await,
            }
        };
        let asked = timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let (status, text) = asked.map_err(|error| AdminError::Unreachable(self.address.clone(), error))?;
        if status == StatusCode::OK {
            Ok(text)
        } else {
            Err(AdminError::Refused(self.address.clone(), status))
        }
    }
}

async fn ask<S>(stream: S, method: Method, path: &str) -> io::Result<(StatusCode, String)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut requests, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let answered = async move {
        let request = Request::builder().method(method).uri(path).header(header::HOST, "envoy");
        let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        let answer = requests.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(io::Error::other)?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    match select(Box::pin(answered), connection).await {
        Either::Left((answered, _)) => answered,
        // The connection ends before the last of the answer is read, or in an error that the answer tells of.
        Either::Right((_, answered)) => answered.await,
    }
}

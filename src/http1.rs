//! Serves routes over HTTP/1.1 to clients that may be slow, silent or many: [`serve`].
//!
//! A client has a deadline for each request's head, and so for its silence between two requests.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use futures_util::{Stream, StreamExt};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// What clients are held to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's backlog.
    pub connections: usize,
    /// The longest that a request's head may take, from the answer before or the connection's beginning.
    pub silence: Duration,
}

/// Serves `router`, which may ask for [`ConnectInfo`], until there are no more connections. Dropping the future cuts
/// those that are open. The stream's `next` must be cancel-safe.
pub async fn serve<C>(mut incoming: impl Stream<Item = C> + Unpin, limits: Limits, router: Router)
where
    C: Connected<ConnectInfo = TcpConnectInfo> + AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        // Both arms are cancel-safe.
        tokio::select! {
            Some(_) = connections.join_next() => {}
            connection = incoming.next(), if connections.len() < limits.connections => {
                let Some(connection) = connection else { return };
                // Without an address the client is gone already.
                let Some(peer) = connection.connect_info().remote_addr() else { continue };
                connections.spawn(serve_one(connection, peer, limits.silence, router.clone()));
            }
        }
    }
}

async fn serve_one<C>(connection: C, peer: SocketAddr, silence: Duration, router: Router)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        inner.call(request)
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(silence);
    if let Err(error) = server.serve_connection(TokioIo::new(connection), service).await {
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
mod tests;

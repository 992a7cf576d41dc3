//! A port that can be closed and opened again without losing its number: entry point [`Front`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::Cluster;
use super::faults::Faults;
use super::route;

/// What every connection needs.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) cluster: Arc<Cluster>,
    pub(super) faults: Option<Arc<Faults>>,
    pub(super) tls: TlsAcceptor,
}

/// One port of the server.
pub(super) struct Front {
    pub(super) at: SocketAddr,
    service: Service,
    runtime: Handle,
    /// Bound, but never listening: nobody else gets the port while it is closed.
    _placeholder: TcpSocket,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Front {
    /// Opens a port that the system chose.
    pub(super) fn open(service: Service, runtime: Handle) -> Self {
        let placeholder = bound(([127, 0, 0, 1], 0).into());
        let at = placeholder.local_addr().expect("it is bound");
        let front = Self { at, service, runtime, _placeholder: placeholder, accepting: Mutex::default() };
        front.listen();
        front
    }

    /// Accepts connections again.
    pub(super) fn listen(&self) {
        let mut accepting = self.accepting.lock();
        if accepting.is_none() {
            let _context = self.runtime.enter();
            let listener = bound(self.at).listen(1024).expect("the port is ours");
            *accepting = Some(self.runtime.spawn(accept(listener, self.service.clone())));
        }
    }

    /// Closes the port and all connections; returns when new ones are refused.
    pub(super) async fn close(&self) {
        let accepting = self.accepting.lock().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            accepting.await.ok();
        }
    }
}

fn bound(at: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("there are sockets");
    socket.set_reuseaddr(true).expect("a fresh socket");
    socket.set_reuseport(true).expect("a fresh socket");
    socket.bind(at).expect("a port of ours, or a free one");
    socket
}

async fn accept(listener: TcpListener, service: Service) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, service.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, service: Service) {
    stream.set_nodelay(true).ok();
    // A client that does not trust us hangs up.
    let Ok(stream) = service.tls.accept(stream).await else { return };
    let answer = service_fn(move |request| {
        let (cluster, faults) = (service.cluster.clone(), service.faults.clone());
        async move { Ok::<_, Infallible>(route::answer(cluster, faults, request).await) }
    });
    http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await.ok();
}

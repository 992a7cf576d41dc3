//! The ports: [`bind`], and what the gRPC ones have in common ([`grpc`], [`Edge`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;

use super::{Tasks, edge};
use crate::health::Readiness;
use crate::sockets::sockets;
use crate::tls::Tls;
use crate::tls::acceptor::Acceptor;

/// Listens on this address, or else on every interface, IPv6 and IPv4 where the machine has both.
pub(super) async fn bind(what: &str, address: Option<IpAddr>, port: u16) -> anyhow::Result<TcpListener> {
    if let Some(address) = address {
        let listener = TcpListener::bind((address, port)).await;
        return listener.with_context(|| format!("cannot listen on {address}, port {port} for {what}"));
    }
    let v6 = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await;
    let listener = match v6 {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    };
    listener.with_context(|| format!("cannot listen on port {port} for {what}"))
}

/// A server of gRPC. A client that vanished without a word must not hold its streams and its connection for ever.
pub(super) fn grpc() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
}

/// What the ports that serve streams have in common.
#[derive(Clone)]
pub(super) struct Edge {
    pub(super) tls: Option<Tls>,
    pub(super) health: Option<Readiness>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Edge {
    pub(super) fn serve(self, tasks: &mut Tasks, name: &'static str, listener: TcpListener, service: Routes) {
        let Self { tls, health, stop } = self;
        let server = grpc().initial_stream_window_size(1 << 20).initial_connection_window_size(16 << 20);
        let routes = match health {
            Some(health) => service.add_service(health.into_server()),
            None => service,
        };
        tasks.spawn(async move {
            let stopped = until(stop.clone());
            let serve = move |dealt| {
                let all = server.clone().add_routes(routes.clone());
                let connections = Acceptor::new(dealt, tls.clone()).connections();
                all.serve_with_incoming_shutdown(connections, until(stop.clone()))
            };
            (name, edge::serve(sockets(listener), stopped, serve).await)
        });
    }
}

/// Waits until it is set.
pub(super) async fn until(mut flag: watch::Receiver<bool>) {
    // An error means that the server itself is gone.
    let _ = flag.wait_for(|&set| set).await;
}

//! A rate limit service for one machine, in Envoy's protocol and without a store: [`serve`].
//!
//! What is limited, and what is left of it, is [`limiter`]'s business; here are the port, the clock and the metrics.
//! Budgets live in this process: they begin anew with it, and no two processes share them.

pub mod limiter;
pub mod metrics;
mod service;

use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::{Error, Server};

use self::limiter::{Limit, Limiter};
use self::metrics::RateLimitMetrics;
use self::service::Service;
use crate::sockets::sockets;
use crate::tls::acceptor::Acceptor;

/// Counters that are kept: some 8 MiB of memory.
pub const MAX_COUNTERS: usize = 100_000;

/// Serves the service on `listener` until `stop`, by the limits as they change. What was counted stays where a limit's
/// descriptor and unit stay. `clock` tells the time since 1970, such as [`wall`].
pub async fn serve(
    listener: TcpListener,
    mut limits: watch::Receiver<Arc<[Limit]>>,
    clock: impl Fn() -> Duration + Send + Sync + 'static,
    mut stop: watch::Receiver<bool>,
    metrics: RateLimitMetrics,
) -> Result<(), Error> {
    let limiter = Arc::new(Mutex::new(Limiter::new(MAX_COUNTERS, RandomState::new())));
    let metrics = Arc::new(metrics);
    let follow = |limits: Arc<[Limit]>| {
        metrics.keep_only(&limits);
        limiter.lock().set(limits);
    };
    follow(limits.borrow_and_update().clone());
    let service = Service::new(limiter.clone(), clock, metrics.clone());
    let stopped = async move {
        // An error means that whoever started this is gone.
        let _ = stop.wait_for(|&stop| stop).await;
    };
    let connections = Acceptor::new(sockets(listener), None).connections();
    // A client that vanished without a word must not hold its connection for ever.
    let serving = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(RateLimitServiceServer::new(service))
        .serve_with_incoming_shutdown(connections, stopped);
    tokio::pin!(serving);
    loop {
        tokio::select! {
            end = &mut serving => return end,
            // Without anybody who changes them, they stay as they are.
            Ok(()) = limits.changed() => follow(limits.borrow_and_update().clone()),
        }
    }
}

/// The time since 1970, by this machine's clock.
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;

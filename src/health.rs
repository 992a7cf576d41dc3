//! gRPC health on its own plaintext port: SERVING while the pool is known and the process is not draining.
//!
//! As in v1.0.1 without leader election, every service name gets the same answer (the seeds probe
//! `inference-extension`), and `Watch` is not implemented.

use std::pin::Pin;

use futures_util::Stream;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// The health service: a function of watched values.
#[derive(Clone)]
pub struct Readiness {
    synced: watch::Receiver<bool>,
    draining: watch::Receiver<bool>,
}

impl Readiness {
    /// Makes the service of a pool and a process.
    pub fn new(synced: watch::Receiver<bool>, draining: watch::Receiver<bool>) -> Self {
        Self { synced, draining }
    }

    /// Wraps it for a tonic server.
    pub fn into_server(self) -> HealthServer<Self> {
        HealthServer::new(self)
    }

    fn status(&self) -> ServingStatus {
        if *self.synced.borrow() && !*self.draining.borrow() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }
}

#[tonic::async_trait]
impl Health for Readiness {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: self.status().into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("watch is not implemented: poll Check"))
    }
}

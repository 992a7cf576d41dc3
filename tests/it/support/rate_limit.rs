//! A rate limit service over real gRPC that keeps budgets and every call: entry point [`RateLimit::start`].
//!
//! Each descriptor has a budget of its own, of the same size. A call without hits asks whether any of it is left; one
//! with hits takes them, also beyond the budget. Nothing is ever given back.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{self, Code, DescriptorStatus};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::Duration;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::support::server_runtime;

/// One descriptor of a call: `domain/key=value/…` and its hits.
pub(crate) type Call = (String, Option<u64>);

/// A running rate limit service.
pub(crate) struct RateLimit {
    /// Where it listens.
    pub(crate) at: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    runtime: Option<Runtime>,
}

struct Budgets {
    limit: u32,
    spent: Mutex<HashMap<String, u64>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl RateLimit {
    /// Starts a service whose budgets are this large.
    pub(crate) async fn start(limit: u32) -> Self {
        let runtime = server_runtime("rate-limit");
        let calls = Arc::new(Mutex::new(Vec::new()));
        let budgets = Budgets { limit, spent: Mutex::default(), calls: calls.clone() };
        let listen = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            (listener.local_addr().expect("it is bound"), TcpIncoming::from(listener))
        };
        let (at, incoming) = runtime.spawn(listen).await.expect("binding does not panic");
        let server = tonic::transport::Server::builder().add_service(RateLimitServiceServer::new(budgets));
        drop(runtime.spawn(server.serve_with_incoming(incoming)));
        Self { at, calls, runtime: Some(runtime) }
    }

    /// All calls so far whose descriptor contains `text`, in order.
    pub(crate) fn calls(&self, text: &str) -> Vec<Call> {
        self.calls.lock().iter().filter(|(descriptor, _)| descriptor.contains(text)).cloned().collect()
    }
}

impl Drop for RateLimit {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tonic::async_trait]
impl RateLimitService for Budgets {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let RateLimitRequest { domain, descriptors, .. } = request.into_inner();
        let mut statuses = Vec::new();
        for descriptor in descriptors {
            let entries = descriptor.entries.iter().map(|entry| format!("{}={}", entry.key, entry.value));
            let name = std::iter::once(domain.clone()).chain(entries).collect::<Vec<_>>().join("/");
            let hits = descriptor.hits_addend.map(|hits| hits.value);
            self.calls.lock().push((name.clone(), hits));
            statuses.push(self.charge(name, hits.unwrap_or(1)));
        }
        let over = statuses.iter().any(|status| status.code == i32::from(Code::OverLimit));
        let overall_code = i32::from(if over { Code::OverLimit } else { Code::Ok });
        Ok(Response::new(RateLimitResponse { overall_code, statuses, ..RateLimitResponse::default() }))
    }
}

impl Budgets {
    fn charge(&self, descriptor: String, hits: u64) -> DescriptorStatus {
        let mut spent = self.spent.lock();
        let spent = spent.entry(descriptor).or_default();
        let left = u64::from(self.limit).saturating_sub(*spent);
        *spent += hits;
        let limit = rate_limit_response::RateLimit {
            requests_per_unit: self.limit,
            unit: Unit::Hour.into(),
            ..rate_limit_response::RateLimit::default()
        };
        DescriptorStatus {
            code: i32::from(if left == 0 { Code::OverLimit } else { Code::Ok }),
            current_limit: Some(limit),
            limit_remaining: u32::try_from(left).expect("at most the limit"),
            duration_until_reset: Some(Duration { seconds: 1800, nanos: 0 }),
            quota: None,
        }
    }
}

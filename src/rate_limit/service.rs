//! Envoy's `RateLimitService` over a [`Limiter`].
//!
//! A descriptor without a limit passes. What calls may bring beside descriptors and hits, such as limits of their own,
//! is not looked at.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit,
};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf;
use parking_lot::Mutex;
use tonic::{Request, Response, Status};

use super::limiter::{Hits, Limit, Limiter, Standing, Verdict};
use super::metrics::RateLimitMetrics;
use crate::standalone::topology::RateUnit;

/// The service.
pub(super) struct Service<C> {
    limiter: Arc<Mutex<Limiter>>,
    clock: C,
    metrics: Arc<RateLimitMetrics>,
}

impl<C: Fn() -> Duration> Service<C> {
    /// Makes a service; `clock` tells the time since 1970.
    pub(super) fn new(limiter: Arc<Mutex<Limiter>>, clock: C, metrics: Arc<RateLimitMetrics>) -> Self {
        Self { limiter, clock, metrics }
    }

    /// Judges all descriptors of a call.
    pub(super) fn judge(&self, call: &RateLimitRequest) -> RateLimitResponse {
        let now = (self.clock)();
        let mut limiter = self.limiter.lock();
        let statuses: Vec<_> = call
            .descriptors
            .iter()
            .map(|descriptor| {
                let entries: Vec<_> = descriptor
                    .entries
                    .iter()
                    .map(|entry| (entry.key.as_str(), entry.value.as_str()))
                    .collect();
                let hits = hits(call, descriptor);
                let Some(verdict) = limiter.charge(&call.domain, &entries, hits, now) else {
                    return DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() };
                };
                let limit = &limiter.limits()[verdict.limit];
                self.metrics.count(limit, hits, &verdict);
                status(limit, &verdict)
            })
            .collect();
        self.metrics.counters.set(i64::try_from(limiter.n_counters()).unwrap_or(i64::MAX));
        drop(limiter);
        let is_over = statuses.iter().any(|status| status.code == i32::from(Code::OverLimit));
        let overall_code = if is_over { Code::OverLimit } else { Code::Ok }.into();
        RateLimitResponse { overall_code, statuses, ..RateLimitResponse::default() }
    }
}

#[tonic::async_trait]
impl<C: Fn() -> Duration + Send + Sync + 'static> RateLimitService for Service<C> {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        Ok(Response::new(self.judge(request.get_ref())))
    }
}

/// A descriptor says its own hits, or else the call those of all; where neither does it is 1.
fn hits(call: &RateLimitRequest, descriptor: &RateLimitDescriptor) -> Hits {
    let all = u64::from(call.hits_addend.max(1));
    let hits = descriptor.hits_addend.map_or(all, |hits| hits.value);
    if descriptor.is_negative_hits { Hits::Return(hits) } else { Hits::Take(hits) }
}

fn status(limit: &Limit, verdict: &Verdict) -> DescriptorStatus {
    if limit.is_shadow {
        // Without its numbers: Envoy would tell them to clients.
        return DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() };
    }
    let current = RateLimit {
        requests_per_unit: limit.requests,
        unit: unit(limit.unit).into(),
        // Envoy tells clients a name in `x-ratelimit-limit`.
        name: String::new(),
    };
    let seconds = i64::try_from(verdict.reset.as_secs()).unwrap_or(i64::MAX);
    DescriptorStatus {
        code: if verdict.standing == Standing::Over { Code::OverLimit } else { Code::Ok }.into(),
        current_limit: Some(current),
        limit_remaining: verdict.remaining,
        duration_until_reset: Some(protobuf::Duration { seconds, nanos: 0 }),
        quota: None,
    }
}

fn unit(unit: RateUnit) -> Unit {
    match unit {
        RateUnit::Second => Unit::Second,
        RateUnit::Minute => Unit::Minute,
        RateUnit::Hour => Unit::Hour,
        RateUnit::Day => Unit::Day,
        RateUnit::Week => Unit::Week,
        RateUnit::Month => Unit::Month,
        RateUnit::Year => Unit::Year,
    }
}

#[cfg(test)]
mod tests;

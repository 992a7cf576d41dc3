//! The messages of `grpc.health.v1` that `tonic-health` lacks: those of `List`, which is younger than it.

use std::collections::HashMap;

use tonic_health::pb::HealthCheckResponse;

/// Asks for the status of every service.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HealthListRequest {}

/// The status of every service that has one.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HealthListResponse {
    /// By name of the service.
    #[prost(map = "string, message", tag = "1")]
    pub statuses: HashMap<String, HealthCheckResponse>,
}

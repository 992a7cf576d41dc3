//! The integration tests: one binary, one module per subject, `support` beneath them.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod admission;
mod body_modes;
mod build_commit;
mod byte_identity;
mod command_line;
mod compositions;
mod concurrency;
mod config_commands;
mod config_schema;
mod costs;
mod data_layer;
mod destination;
mod disagg;
mod envoy_harness;
mod gateway;
mod health;
mod hermetic;
mod invariants;
mod kube_api;
mod kube_discovery;
mod kube_leader;
mod kube_pools;
mod lifecycle;
mod manifests;
mod metrics;
mod metrics_port;
mod model_routing;
mod model_servers;
mod older_guide;
mod operations_guide;
mod options;
mod plugin_docs;
mod pools;
mod rate_limit;
mod reload;
mod response_path;
mod scraping;
mod standalone;
mod standalone_envoy;
mod support;
mod tidy;
mod tls;
mod token_limits;
mod validation;

//! `epp`: an Endpoint Picker for the Kubernetes Gateway API Inference Extension.
//!
//! The code map is ARCHITECTURE.md; modules stand here in reading order.

pub mod args;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod compat;
pub mod http1;
pub mod runtime;
pub mod sockets;
pub mod stdout;
pub mod telemetry;
pub mod tls;

// decide
pub mod admission;
pub mod control_headers;
pub mod director;
pub mod model_names;
pub mod pipeline;
pub mod pool;
pub mod pools;
pub mod raw_request;
pub mod recorder;
pub mod rejection;
pub mod scheduling;
pub mod stopwatch;
pub mod ticket;

// speak to Envoy
pub mod ext_proc;

// know the pool
pub mod data_layer;
pub mod datastore;
pub mod discovery;
pub mod scrape;

// configure
pub mod config;
pub mod file_watch;

// stand alone
pub mod rate_limit;
pub mod standalone;

// operate
pub mod admin;
pub mod clock;
pub mod health;
pub mod leader;
pub mod metrics;

// simulate
pub mod sim;

//! `epp`: an Endpoint Picker for the Kubernetes Gateway API Inference Extension.
//!
//! The code map is ARCHITECTURE.md; modules stand here in reading order.

pub mod clock;
pub mod config;
pub mod datastore;
pub mod director;
pub mod discovery;
pub mod ext_proc;
pub mod file_watch;
pub mod metrics;
pub mod pipeline;
pub mod pool;
pub mod raw_request;
pub mod recorder;
pub mod rejection;
pub mod scheduling;
pub mod scrape;
pub mod sim;

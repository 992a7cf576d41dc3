//! `epp`: an Endpoint Picker for the Kubernetes Gateway API Inference Extension.
//!
//! The code map is ARCHITECTURE.md; modules stand here in reading order.

pub mod clock;
pub mod config;
pub mod discovery;
pub mod file_watch;
pub mod scrape;
pub mod sim;

//! Envoy's configuration as types that write themselves.

pub mod rates;

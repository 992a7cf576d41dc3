//! What the fuzz targets do with an input: one function each, which panics where the code under test is wrong.
//!
//! Two callers: the programs of libFuzzer in `fuzz/fuzz_targets`, and the test that runs every seed. Each target holds
//! the code against a slow, simple reference of its own or against rules that hold for every input.

#![expect(clippy::panic, reason = "a finding is a panic")]

pub mod body;
pub mod config;
mod cuts;
pub mod endpoints;
pub mod exchange;
pub mod exposition;
mod json;
pub mod names;
mod parsers;
mod problems;
mod usage;

/// A target: takes any input, and panics at a finding.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its seeds' folder.
pub const TARGETS: &[(&str, Target)] = &[
    ("body", body::run),
    ("config", config::run),
    ("endpoints", endpoints::run),
    ("exchange", exchange::run),
    ("exposition", exposition::run),
    ("names", names::run),
];

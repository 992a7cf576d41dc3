//! The `epp` binary.

fn main() {}

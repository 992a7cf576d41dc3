//! The `epp` binary.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// Measured at 0.79 of glibc's CPU per ext_proc stream.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    epp::cli::main(&[])
}

//! The yardstick: what `epp` costs beside the least that an `ext_proc` server can cost.
//!
//! One binary in several processes, so that the CPU time of each is its own: `epp` itself, a trivial server, stand-ins
//! for model servers, and a load client that speaks as Envoy does. `--help` tells what is measured; `soak` runs `epp`
//! alone and looks at its memory. Nothing here measures latency under a real Envoy.

mod args;
mod check;
mod exchange;
#[path = "../../tests/it/support/leash.rs"]
mod leash;
mod load;
mod measure;
mod messages;
mod pods;
mod process;
mod soak;
mod trivial;
mod turmoil;

use clap::Parser;
use mimalloc::MiMalloc;

use args::{Args, Command};

// The same as `epp`'s.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.command {
        None => measure::run(&args.measure),
        Some(Command::Soak(soak)) => soak::run(&soak),
        Some(Command::Trivial { destination }) => trivial::run(destination),
        Some(Command::Pods { pods, plain }) => pods::run(pods, plain),
        Some(Command::Load(plan)) => load::run(plan),
        Some(Command::Turmoil(plan)) => turmoil::run(&plan),
    }
}

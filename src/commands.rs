//! The subcommands; without one, `epp` is the server, as the manifests expect.

use crate::args::{Args, Command};
use crate::{runtime, sim, telemetry};

/// Does what the command line says, with the built-in plugins.
pub async fn execute(args: Args) -> anyhow::Result<()> {
    telemetry::start(&args.serve.logging);
    for note in &args.serve.notes {
        tracing::warn!(note, "command line");
    }
    match args.command {
        None => runtime::run(args.serve, epp_plugins::BUILT_IN).await,
        Some(Command::Sim(sim)) => sim::args::run(sim).await,
    }
}

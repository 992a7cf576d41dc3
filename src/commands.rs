//! The subcommands; without one, `epp` is the server, as the manifests expect.

pub mod config;
pub mod standalone;

use epp_framework::plugin::PluginType;

use crate::args::ServeArgs;
use crate::commands::standalone::run::RunArgs;
use crate::sim::args::SimArgs;
use crate::{runtime, sim, telemetry};

/// What goes on until it is told to end.
#[derive(Clone, Debug)]
pub enum Work {
    /// The server.
    Serve,
    /// Simulated model servers.
    Sim(Box<SimArgs>),
    /// Gateways, with all that belongs to them.
    Standalone(Box<RunArgs>),
}

/// Does it.
pub async fn execute(serve: ServeArgs, work: Work, types: &'static [PluginType]) -> anyhow::Result<()> {
    let logging = if let Work::Standalone(run) = &work { &run.logging } else { &serve.logging };
    telemetry::start(logging);
    for note in &serve.notes {
        tracing::warn!(note, "command line");
    }
    match work {
        Work::Serve => runtime::run(serve, types).await,
        Work::Sim(sim) => sim::args::run(*sim).await,
        Work::Standalone(run) => Box::pin(standalone::run::serve(*run, serve, types)).await,
    }
}

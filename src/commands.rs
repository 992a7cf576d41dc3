//! The subcommands; without one, `epp` is the server, as the manifests expect.

pub mod config;
pub mod standalone;

use epp_framework::plugin::PluginType;

use crate::args::ServeArgs;
use crate::sim::args::SimArgs;
use crate::{runtime, sim, telemetry};

/// Serves, or simulates servers if that was asked for, until it is told to end.
pub async fn execute(
    serve: ServeArgs,
    sim: Option<SimArgs>,
    types: &'static [PluginType],
) -> anyhow::Result<()> {
    telemetry::start(&serve.logging);
    for note in &serve.notes {
        tracing::warn!(note, "command line");
    }
    match sim {
        None => runtime::run(serve, types).await,
        Some(sim) => sim::args::run(sim).await,
    }
}

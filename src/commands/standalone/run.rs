//! `epp standalone -f FILE`: serves manifests. Entry point: [`serve`].

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use epp_framework::plugin::PluginType;

use super::{SourceArgs, render, sources};
use crate::args::{LoggingArgs, ServeArgs, duration};
use crate::runtime::standalone::{Inputs, Setup, run};
use crate::standalone::input::Source;
use crate::standalone::render::PortMap;
use crate::standalone::topology::Address;

/// Flags of `standalone` without a subcommand.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The manifests.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// Members of pools: the endpoints file, of which the pools' selectors choose; re-read when it changes
    #[arg(long, value_name = "FILE")]
    pub endpoints_file: Option<PathBuf>,
    /// Simulate model servers, as many as the workloads of the manifests have replicas
    #[arg(long)]
    pub simulate: bool,
    /// Where listeners listen
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub address: IpAddr,
    /// Ports of listeners and what they are here, as PORT=PORT or NAMESPACE/GATEWAY:PORT=PORT; below 1024 they are 8000 more unless named
    #[arg(long, value_delimiter = ',', value_name = "PORT=PORT")]
    pub port_map: Vec<String>,
    /// Envoy's binary [default: that on the PATH, or that which `make demo` fetched]
    #[arg(long, value_name = "FILE")]
    pub envoy: Option<PathBuf>,
    /// Threads of Envoy [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub envoy_concurrency: Option<u32>,
    /// A rate limit service in Envoy's protocol [default: a built-in one, for this machine alone]
    #[arg(long, value_name = "HOST:PORT", value_parser = render::address)]
    pub rate_limit_service: Option<Address>,
    /// Port of metrics and debug pages, on loopback; 0 is a free one
    #[arg(long, default_value_t = 9090, value_name = "PORT")]
    pub metrics_port: u16,
    /// Folder for Envoy's files, its admin socket and the status [default: epp-standalone in $`XDG_RUNTIME_DIR`, or in ~/.local/state]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// The file that is told of requests
    #[arg(long, default_value = "/dev/stdout", value_name = "FILE")]
    pub access_log: String,
    /// Let clients name objectives, fairness ids and latency objectives
    #[arg(long)]
    pub trust_client_headers: bool,
    /// Longest body that is held in one piece, in bytes
    #[arg(long, default_value_t = 50 << 20, value_name = "BYTES")]
    pub buffer_limit: u32,
    /// How long requests may go on at the end, and connections of a listener that changed
    #[arg(long, value_parser = duration::parse, default_value = "30s", value_name = "TIME")]
    pub drain_timeout: Duration,
    /// Log lines.
    #[command(flatten)]
    pub logging: LoggingArgs,
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(args: RunArgs, mut serve: ServeArgs, types: &'static [PluginType]) -> anyhow::Result<()> {
    let mut ports = PortMap::default();
    for text in &args.port_map {
        ports.add(text).map_err(|why| anyhow::anyhow!("--port-map: {why}"))?;
    }
    serve.listeners.metrics_port = args.metrics_port;
    // A pipe can be read but once.
    let is_pipe =
        |path: &PathBuf| path == Path::new("-") || (path.exists() && !path.is_file() && !path.is_dir());
    let (given, files) = args.sources.files.into_iter().partition::<Vec<_>, _>(is_pipe);
    let given = sources(&given).map_err(|trouble| anyhow::anyhow!("{}", trouble.join("\n")))?;
    let given = given.into_iter().map(|Source { name, text }| (name, text)).collect();
    let inputs = Inputs {
        given,
        files,
        namespace: args.sources.namespace,
        is_strict: args.sources.strict,
        endpoints: args.endpoints_file,
        read: sources,
    };
    let setup = Setup {
        inputs,
        simulate: args.simulate,
        address: args.address,
        ports,
        envoy: args.envoy,
        concurrency: args.envoy_concurrency,
        drain: args.drain_timeout,
        rate_limit_service: args.rate_limit_service,
        folder: args.run_dir.unwrap_or_else(usual_folder),
        access_log: args.access_log,
        trust_client_headers: args.trust_client_headers,
        buffer_bytes: args.buffer_limit,
        authorities: render::authorities(),
        serve,
    };
    Box::pin(run(setup, types)).await
}

/// The folder unless one is given.
pub(super) fn usual_folder() -> PathBuf {
    let of = |name: &str, below: &str| std::env::var_os(name).map(|folder| Path::new(&folder).join(below));
    let folder =
        of("XDG_RUNTIME_DIR", "epp-standalone").or_else(|| of("HOME", ".local/state/epp-standalone"));
    folder.unwrap_or_else(|| PathBuf::from("epp-standalone"))
}

//! The command line of `sim`. Entry points: [`SimArgs`] to be parsed and [`serve`] to be awaited. It decides where
//! servers listen and what they are like; what they do is in `sim/server.rs`.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use futures_util::future::select_all;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::sim::engine::{EngineConfig, PRESETS, StepCost};
use crate::sim::server::{MetricsFilter, SimConfig, SimServer};

/// Flags of `sim`.
#[derive(Clone, Debug, Args)]
pub struct SimArgs {
    /// What to do
    #[command(subcommand)]
    pub command: SimCommand,
}

/// What `sim` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum SimCommand {
    /// Serve simulated model servers until SIGTERM or SIGINT
    Serve(Box<ServeArgs>),
}

/// Flags of `sim serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Number of servers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub servers: u16,
    /// Address of the first server; port 0 gives each a free port
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// How the addresses of further servers follow from the first
    #[arg(long, value_enum, default_value_t = Spread::Ports)]
    pub spread: Spread,
    /// Name of a single server; several are called by it, a hyphen and a number from 0
    #[arg(long, default_value = "sim")]
    pub name: String,
    /// Model names that every server serves, comma-separated or repeated; metrics carry the first
    #[arg(long, default_value = "sim-model", value_delimiter = ',')]
    pub model: Vec<String>,
    /// What servers are for, as the label llm-d.ai/role in the endpoints file; of several, comma-separated or repeated, each
    /// server has the next one, and they begin anew after the last
    #[arg(long, value_delimiter = ',')]
    pub role: Vec<String>,
    /// Seed of the answers; the same for all servers, so that they answer alike
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Model and GPU whose sizes and speeds the other flags change
    #[arg(long, default_value = "8b-h100", value_parser = preset_names())]
    pub preset: String,
    /// Tokens per KV block
    #[arg(long)]
    pub block_size: Option<u32>,
    /// KV blocks, one of which is never used
    #[arg(long)]
    pub num_gpu_blocks: Option<u32>,
    /// Requests that run at once
    #[arg(long)]
    pub max_num_seqs: Option<u32>,
    /// Tokens that one step computes at most
    #[arg(long)]
    pub max_num_batched_tokens: Option<u32>,
    /// Prompt and output tokens of one request together
    #[arg(long)]
    pub max_model_len: Option<u32>,
    /// Requests that wait at most; more get status 503
    #[arg(long)]
    pub max_waiting: Option<u32>,
    /// Prompt tokens computed per second
    #[arg(long, value_parser = positive)]
    pub prefill_tokens_per_second: Option<f64>,
    /// Milliseconds that every step takes
    #[arg(long, value_parser = milliseconds)]
    pub step_ms: Option<Duration>,
    /// Milliseconds that each sequence adds to a step
    #[arg(long, value_parser = milliseconds)]
    pub decode_ms_per_seq: Option<Duration>,
    /// What ?name[]= on the metrics page does
    #[arg(long, value_enum, default_value_t = MetricsFilter::Honour)]
    pub metrics_filter: MetricsFilter,
    /// Leave the metrics page out: 404
    #[arg(long)]
    pub no_metrics: bool,
    /// Write an endpoints file here once all servers listen
    #[arg(long)]
    pub endpoints_file: Option<PathBuf>,
}

/// How the address of one server follows from that of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Spread {
    /// The next port of the same address.
    Ports,
    /// The next address, on the same port.
    Addresses,
}

impl ServeArgs {
    /// The servers that these flags mean.
    pub fn configs(&self) -> anyhow::Result<Vec<SimConfig>> {
        let engine = self.engine()?;
        let addresses = addresses(self.listen, self.servers, self.spread)?;
        let role = |number: usize| self.role.get(number % self.role.len().max(1)).cloned();
        let config = |(number, listen)| SimConfig {
            role: role(number).filter(|role| !role.is_empty()),
            name: if self.servers == 1 { self.name.clone() } else { format!("{}-{number}", self.name) },
            listen,
            models: self.model.clone(),
            engine: engine.clone(),
            seed: self.seed,
            metrics: (!self.no_metrics).then_some(self.metrics_filter),
        };
        Ok(addresses.into_iter().enumerate().map(config).collect())
    }

    fn engine(&self) -> anyhow::Result<EngineConfig> {
        let preset = PRESETS.iter().find(|preset| preset.name == self.preset).context("unknown preset")?;
        let base = preset.engine();
        let cost = StepCost {
            base_ns: self.step_ms.map_or(base.cost.base_ns, nanoseconds),
            prefill_ns_per_token: self
                .prefill_tokens_per_second
                .map_or(base.cost.prefill_ns_per_token, |rate| {
                    nanoseconds(Duration::from_secs_f64(1.0 / rate))
                }),
            decode_ns_per_seq: self.decode_ms_per_seq.map_or(base.cost.decode_ns_per_seq, nanoseconds),
            ..base.cost
        };
        let engine = EngineConfig {
            block_size: self.block_size.unwrap_or(base.block_size),
            num_gpu_blocks: self.num_gpu_blocks.unwrap_or(base.num_gpu_blocks),
            max_num_seqs: self.max_num_seqs.unwrap_or(base.max_num_seqs),
            max_num_batched_tokens: self.max_num_batched_tokens.unwrap_or(base.max_num_batched_tokens),
            max_model_len: self.max_model_len.unwrap_or(base.max_model_len),
            max_waiting: self.max_waiting.unwrap_or(base.max_waiting),
            cost,
        };
        engine.validate()?;
        Ok(engine)
    }
}

/// Runs what the command line asks for.
pub async fn run(args: SimArgs) -> anyhow::Result<()> {
    match args.command {
        SimCommand::Serve(args) => serve(*args).await,
    }
}

/// Serves until SIGTERM or SIGINT, then stops at once. Fails when an address cannot be had.
pub async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut servers = start(&args).await?;
    let ended = select_all(servers.iter_mut().map(|server| Box::pin(server.ended())));
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        _ = ended => bail!("a simulated server ended by itself"),
    }
    info!("stopping");
    Ok(())
}

/// Starts all servers, then writes the endpoints file if one is wanted.
pub async fn start(args: &ServeArgs) -> anyhow::Result<Vec<SimServer>> {
    let mut servers = Vec::with_capacity(usize::from(args.servers));
    for config in args.configs()? {
        let server = SimServer::start(config).await?;
        info!(name = server.name(), address = %server.addr(), "listening");
        servers.push(server);
    }
    if let Some(path) = &args.endpoints_file {
        write_whole(path, &endpoints_yaml(&servers)?)
            .await
            .with_context(|| format!("cannot write endpoints file `{}`", path.display()))?;
    }
    Ok(servers)
}

fn endpoints_yaml(servers: &[SimServer]) -> anyhow::Result<String> {
    let mut yaml = String::from("endpoints:\n");
    for server in servers {
        // A JSON string is a YAML string, whatever the name holds.
        let name = serde_json::to_string(server.name())?;
        let (ip, port) = (server.addr().ip(), server.addr().port());
        let _ = write!(yaml, "  - name: {name}\n    address: \"{ip}\"\n    port: {port}\n");
        if let Some(role) = server.role() {
            let _ = writeln!(yaml, "    labels: {{llm-d.ai/role: {}}}", serde_json::to_string(role)?);
        }
    }
    Ok(yaml)
}

/// Writes a file so that a reader sees it whole or not at all.
async fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let file_name = path.file_name().context("expected the name of a file")?.to_string_lossy();
    let unfinished = path.with_file_name(format!(".{file_name}.{}", std::process::id()));
    tokio::fs::write(&unfinished, text).await?;
    tokio::fs::rename(&unfinished, path).await?;
    Ok(())
}

fn addresses(first: SocketAddr, n_servers: u16, spread: Spread) -> anyhow::Result<Vec<SocketAddr>> {
    let nth = |n: u16| match spread {
        Spread::Ports if first.port() == 0 => Some(first),
        Spread::Ports => first.port().checked_add(n).map(|port| SocketAddr::new(first.ip(), port)),
        Spread::Addresses => add(first.ip(), n).map(|ip| SocketAddr::new(ip, first.port())),
    };
    let all: Option<Vec<SocketAddr>> = (0..n_servers).map(nth).collect();
    all.with_context(|| format!("{n_servers} servers from {first} on run out of {spread:?}").to_lowercase())
}

fn add(ip: IpAddr, n: u16) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).checked_add(u32::from(n)).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(ip) => u128::from(ip).checked_add(u128::from(n)).map(|bits| IpAddr::V6(bits.into())),
    }
}

fn preset_names() -> clap::builder::PossibleValuesParser {
    PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().into()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_invalid| "expected a number".to_owned())?;
    // At least one token per hour, which also keeps its inverse in range.
    if number.is_finite() && number >= 1.0 / 3600.0 {
        Ok(number)
    } else {
        Err("expected a positive number".to_owned())
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_invalid| "expected a number".to_owned())?;
    match Duration::try_from_secs_f64(number / 1000.0) {
        Ok(time) if time <= Duration::from_secs(3600) => Ok(time),
        _ => Err("expected milliseconds, 0 to an hour".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        sim: SimArgs,
    }

    fn parse(flags: &[&str]) -> Result<ServeArgs, clap::Error> {
        let cli = Cli::try_parse_from(["sim", "serve"].iter().chain(flags))?;
        let SimCommand::Serve(args) = cli.sim.command;
        Ok(*args)
    }

    #[test]
    fn addresses_follow_the_first() {
        for (flags, want) in [
            (vec!["--listen", "127.0.0.1:8000"], Some(vec!["127.0.0.1:8000", "127.0.0.1:8001"])),
            (vec!["--spread", "addresses"], Some(vec!["127.0.0.1:8000", "127.0.0.2:8000"])),
            (vec!["--listen", "[::1]:80", "--spread", "addresses"], Some(vec!["[::1]:80", "[::2]:80"])),
            (vec!["--listen", "127.0.0.1:0"], Some(vec!["127.0.0.1:0", "127.0.0.1:0"])),
            (vec!["--listen", "127.0.0.1:65535"], None),
            (vec!["--listen", "255.255.255.255:1", "--spread", "addresses"], None),
        ] {
            let args = parse(&[&["--servers", "2"], flags.as_slice()].concat()).unwrap();
            let got: Option<Vec<String>> =
                args.configs().ok().map(|all| all.iter().map(|config| config.listen.to_string()).collect());
            assert_eq!(got, want.map(|all| all.iter().map(|&s| s.to_owned()).collect()), "{flags:?}");
        }
    }

    #[test]
    fn flags_change_the_preset() {
        let args = parse(&[
            "--preset=70b-h100-tp4",
            "--block-size=32",
            "--step-ms=2.5",
            "--prefill-tokens-per-second=20000",
            "--decode-ms-per-seq=0.1",
            "--model=a,b",
            "--name=x",
        ])
        .unwrap();
        let config = args.configs().unwrap().remove(0);
        assert_eq!((config.name.as_str(), config.models), ("x", vec!["a".to_owned(), "b".to_owned()]));
        let EngineConfig { block_size, num_gpu_blocks, cost, .. } = config.engine;
        assert_eq!((block_size, num_gpu_blocks), (32, 26_700));
        assert_eq!(
            (cost.base_ns, cost.prefill_ns_per_token, cost.decode_ns_per_seq),
            (2_500_000, 50_000, 100_000)
        );
    }

    #[test]
    fn bad_values_are_refused() {
        for flags in [
            ["--servers", "0"],
            ["--step-ms", "-1"],
            ["--step-ms", "nan"],
            ["--prefill-tokens-per-second", "0"],
            ["--prefill-tokens-per-second", "inf"],
            ["--preset", "900b"],
        ] {
            assert!(parse(&flags).is_err(), "{flags:?}");
        }
        assert!(parse(&["--block-size", "0"]).unwrap().configs().is_err());
    }

    #[tokio::test]
    async fn the_endpoints_file_names_every_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.yaml");
        let path_text = path.to_str().unwrap();
        let flags =
            ["--servers=3", "--listen=127.0.0.1:0", "--role=prefill,decode", "--endpoints-file", path_text];
        let servers = start(&parse(&flags).unwrap()).await.unwrap();
        let yaml: serde_yaml::Value = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for (number, server) in servers.iter().enumerate() {
            let entry = &yaml["endpoints"][number];
            assert_eq!(entry["name"].as_str(), Some(format!("sim-{number}").as_str()));
            assert_eq!(entry["address"].as_str(), Some("127.0.0.1"));
            assert_eq!(entry["port"].as_u64(), Some(u64::from(server.addr().port())));
            let role = ["prefill", "decode", "prefill"][number];
            assert_eq!(entry["labels"]["llm-d.ai/role"].as_str(), Some(role));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing unfinished is left");
    }
}

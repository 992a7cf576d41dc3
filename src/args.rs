//! The command line: everything static. What changes at run time is in files (configuration, endpoints).

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::sim::args::SimArgs;

/// Picks the model server that a request should go to: an Endpoint Picker for Envoy-style gateways.
///
/// Without a subcommand it serves.
#[derive(Debug, Parser)]
#[command(name = "epp", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The server's flags.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What the binary does beside serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Simulated model servers.
    Sim(SimArgs),
}

/// Flags of the server.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Name of the `InferencePool`
    #[arg(long, default_value = "", help_heading = "Pool")]
    pub pool_name: String,
    /// Namespace of the pool
    #[arg(long, env = "NAMESPACE", default_value = "default", help_heading = "Pool")]
    pub pool_namespace: String,
    /// YAML file that lists the pool's endpoints; re-read when it changes
    #[arg(long, value_name = "FILE", help_heading = "Pool")]
    pub endpoints_file: Option<PathBuf>,

    /// `EndpointPickerConfig` file; re-read when it changes
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub config_file: Option<PathBuf>,
    /// `EndpointPickerConfig` as text, instead of a file
    #[arg(long, value_name = "YAML", conflicts_with = "config_file", help_heading = "Configuration")]
    pub config_text: Option<String>,

    /// Port of the ext_proc service
    #[arg(long, default_value_t = 9002, help_heading = "Listeners")]
    pub grpc_port: u16,
    /// Port of the gRPC health service (plaintext)
    #[arg(long, default_value_t = 9003, help_heading = "Listeners")]
    pub grpc_health_port: u16,
    /// Port of the metrics and debug pages
    #[arg(long, default_value_t = 9090, help_heading = "Listeners")]
    pub metrics_port: u16,
    /// Serve ext_proc over TLS
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set, help_heading = "Listeners")]
    pub secure_serving: bool,
    /// Folder with tls.crt and tls.key; without it a self-signed certificate is made at each start
    #[arg(long, value_name = "DIR", help_heading = "Listeners")]
    pub cert_path: Option<PathBuf>,
    /// How long open streams may go on after SIGTERM
    #[arg(long, value_parser = parse_duration, default_value = "120s", help_heading = "Listeners")]
    pub drain_timeout: Duration,

    /// Time between two scrapes of an endpoint
    #[arg(long, value_parser = parse_duration, default_value = "50ms", help_heading = "Scraping")]
    pub refresh_metrics_interval: Duration,
    /// Age from which a scrape counts as stale
    #[arg(long, value_parser = parse_duration, default_value = "2s", help_heading = "Scraping")]
    pub metrics_staleness_threshold: Duration,

    /// Verbosity: 0 errors and warnings, 2 state changes as well, 4 refused requests, 5 everything
    #[arg(long = "v", short = 'v', default_value_t = 2, value_name = "LEVEL", help_heading = "Logging")]
    pub verbosity: u8,
    /// Form of the log lines
    #[arg(long, value_enum, default_value_t = Encoder::Console, help_heading = "Logging")]
    pub zap_encoder: Encoder,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encoder {
    /// One JSON object a line.
    Json,
    /// For people.
    Console,
}

/// Reads a duration in Go's syntax: numbers with units, such as `50ms`, `1m30s` or `1.5h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("expected a duration such as 50ms, 2s or 1m30s, found {text:?}");
    let mut rest = text;
    let mut seconds = 0.0;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(invalid()),
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, want) in [
            ("50ms", Some(50_000)),
            ("2s", Some(2_000_000)),
            ("1m30s", Some(90_000_000)),
            ("1.5h", Some(5_400_000_000)),
            ("100us", Some(100)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1x", None),
            ("1..5s", None),
            ("99999999999999999999h", None),
        ] {
            let micros = parse_duration(text).ok().map(|duration| duration.as_micros());
            assert_eq!(micros, want, "{text:?}");
        }
    }

    #[test]
    fn the_seeds_arguments_are_taken_as_printed() {
        let line = "epp --pool-name mistral --pool-namespace default --v 4 --zap-encoder json --grpc-port 9002 \
                    --grpc-health-port 9003 --config-file /config/default-plugins.yaml";
        let args = Args::try_parse_from(line.split_whitespace()).unwrap().serve;
        assert_eq!(
            (args.pool_name.as_str(), args.verbosity, args.zap_encoder),
            ("mistral", 4, Encoder::Json)
        );
        assert!(args.secure_serving);
        for (flag, want) in [("--secure-serving", true), ("--secure-serving=false", false)] {
            assert_eq!(Args::try_parse_from(["epp", flag]).unwrap().serve.secure_serving, want, "{flag}");
        }
    }
}

//! The command line: everything static. What changes at run time is in files (configuration, endpoints).

pub mod duration;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::compat::Compat;
use crate::scrape::Scheme;
use crate::scrape::mapping::MetricSpecs;
use crate::scrape::spec::SpecFlag;
use crate::sim::args::SimArgs;
use crate::tls::versions::{CipherSuites, MinVersion};

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
    /// Which pool, and whose rules.
    #[command(flatten)]
    pub pool: PoolArgs,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Ports.
    #[command(flatten)]
    pub listeners: ListenerArgs,
    /// The serving certificate.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// How model servers are scraped.
    #[command(flatten)]
    pub scraping: ScrapingArgs,
    /// Log lines.
    #[command(flatten)]
    pub logging: LoggingArgs,
}

/// Which pool, and whose rules.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Pool")]
pub struct PoolArgs {
    /// Name of the `InferencePool`
    #[arg(long, default_value = "")]
    pub pool_name: String,
    /// Namespace of the pool
    #[arg(long, env = "NAMESPACE", default_value = "default")]
    pub pool_namespace: String,
    /// YAML file that lists the pool's endpoints; re-read when it changes
    #[arg(long, value_name = "FILE")]
    pub endpoints_file: Option<PathBuf>,
    /// Whose error texts and reason headers to use where versions differ
    #[arg(long, value_enum, default_value_t = Compat::V1_0_1)]
    pub compat: Compat,
    /// Take objective and model rewrite from request headers, which a client may have set
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub trust_client_headers: bool,
    /// Ignore the gateway's hint which endpoints a request may go to
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub disable_endpoint_subset_filter: bool,
}

/// The configuration.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArgs {
    /// `EndpointPickerConfig` file; re-read when it changes
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// `EndpointPickerConfig` as text, instead of a file
    #[arg(long, value_name = "YAML", conflicts_with = "config_file")]
    pub config_text: Option<String>,
}

/// Ports.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Listeners")]
pub struct ListenerArgs {
    /// Port of the ext_proc service
    #[arg(long, default_value_t = 9002)]
    pub grpc_port: u16,
    /// Port of the gRPC health service (plaintext)
    #[arg(long, default_value_t = 9003)]
    pub grpc_health_port: u16,
    /// Port of the metrics and debug pages
    #[arg(long, default_value_t = 9090)]
    pub metrics_port: u16,
    /// How long open streams may go on after SIGTERM
    #[arg(long, value_parser = duration::parse, default_value = "120s")]
    pub drain_timeout: Duration,
    /// Answer gRPC health checks on the port of the ext_proc service, too
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub health_checking: bool,
    /// Tell the gateway every candidate's score as metadata
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub emit_endpoint_scores: bool,
    /// Expose metrics of the ext_proc streams
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub enable_grpc_stream_metrics: bool,
}

/// The serving certificate.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// Serve ext_proc over TLS
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub secure_serving: bool,
    /// Folder with tls.crt and tls.key; without it a self-signed certificate is made at each start
    #[arg(long, value_name = "DIR")]
    pub cert_path: Option<PathBuf>,
    /// Read these files again when they change; upstream this is off unless asked for
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub enable_cert_reload: bool,
    /// PEM file of authorities: clients must present a certificate that one of them signed; re-read as well
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Least version of TLS; below 1.2 there is none
    #[arg(long, value_enum, default_value_t = MinVersion::Tls12, value_name = "VERSION")]
    pub tls_min_version: MinVersion,
    /// Cipher suites of TLS 1.2 in Go's names, separated by commas; all that we have unless given
    #[arg(long, value_parser = CipherSuites::parse, default_value = "", hide_default_value = true, value_name = "LIST")]
    pub tls_cipher_suites: CipherSuites,
}

/// How model servers are scraped.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Scraping")]
pub struct ScrapingArgs {
    /// Time between two scrapes of an endpoint
    #[arg(long, value_parser = duration::parse, default_value = "50ms")]
    pub refresh_metrics_interval: Duration,
    /// Age from which a scrape counts as stale
    #[arg(long, value_parser = duration::parse, default_value = "2s")]
    pub metrics_staleness_threshold: Duration,
    /// Sample with the number of waiting requests: name or name{label=value,...}; "" for none
    #[arg(long, value_name = "SPEC", default_value = "vllm:num_requests_waiting")]
    pub total_queued_requests_metric: SpecFlag,
    /// Sample with the number of running requests
    #[arg(long, value_name = "SPEC", default_value = "vllm:num_requests_running")]
    pub total_running_requests_metric: SpecFlag,
    /// Sample with the fraction of the KV cache in use, 0 to 1; vLLM's two names stand in for each other
    #[arg(long, value_name = "SPEC", default_value = "vllm:kv_cache_usage_perc")]
    pub kv_cache_usage_percentage_metric: SpecFlag,
    /// Sample whose labels name the LoRA adapters
    #[arg(long, value_name = "SPEC", default_value = "vllm:lora_requests_info")]
    pub lora_info_metric: SpecFlag,
    /// Sample whose labels tell size and number of the KV cache's blocks
    #[arg(long, value_name = "SPEC", default_value = "vllm:cache_config_info")]
    pub cache_info_metric: SpecFlag,
    /// Port of the metrics pages; 0 is the port that requests go to
    #[arg(long, default_value_t = 0)]
    pub model_server_metrics_port: u16,
    /// Path of the metrics pages
    #[arg(long, value_name = "PATH", default_value = "/metrics")]
    pub model_server_metrics_path: String,
    /// Protocol of the metrics pages: http or https
    #[arg(long, value_name = "SCHEME", value_parser = scheme, default_value = "http")]
    pub model_server_metrics_scheme: ServerScheme,
    /// Take any certificate of a metrics page; false asks for one that the system trusts and that names the address
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub model_server_metrics_https_insecure_skip_verify: bool,
}

/// Protocol of the model servers' metrics pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerScheme {
    /// Clear text.
    Http,
    /// TLS.
    Https,
}

/// The text of the error is upstream's.
fn scheme(text: &str) -> Result<ServerScheme, String> {
    match text {
        "http" => Ok(ServerScheme::Http),
        "https" => Ok(ServerScheme::Https),
        _ => Err(format!(
            "unexpected \"{text}\" value for \"model-server-metrics-scheme\" flag, it can only be set to 'http' or 'https'"
        )),
    }
}

impl ScrapingArgs {
    /// What the flags name to be read.
    pub fn specs(&self) -> MetricSpecs {
        MetricSpecs {
            waiting: self.total_queued_requests_metric.0.clone(),
            running: self.total_running_requests_metric.0.clone(),
            kv_used: self.kv_cache_usage_percentage_metric.0.clone(),
            lora: self.lora_info_metric.0.clone(),
            cache_config: self.cache_info_metric.0.clone(),
        }
    }

    /// How the pages are fetched.
    pub fn scheme(&self) -> Scheme {
        match self.model_server_metrics_scheme {
            ServerScheme::Http => Scheme::Http,
            ServerScheme::Https => {
                Scheme::Https { verify: !self.model_server_metrics_https_insecure_skip_verify }
            }
        }
    }
}

/// Log lines.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logging")]
pub struct LoggingArgs {
    /// Verbosity: 0 errors and warnings, 2 state changes as well, 4 refused requests, 5 everything
    #[arg(long = "v", short = 'v', default_value_t = 2, value_name = "LEVEL")]
    pub verbosity: u8,
    /// Form of the log lines
    #[arg(long, value_enum, default_value_t = Encoder::Console)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_arguments_are_taken_as_printed() {
        let line = "epp --pool-name mistral --pool-namespace default --v 4 --zap-encoder json --grpc-port 9002 \
                    --grpc-health-port 9003 --config-file /config/default-plugins.yaml";
        let args = Args::try_parse_from(line.split_whitespace()).unwrap().serve;
        assert_eq!(
            (args.pool.pool_name.as_str(), args.logging.verbosity, args.logging.zap_encoder),
            ("mistral", 4, Encoder::Json)
        );
        assert!(args.tls.secure_serving);
        assert_eq!(args.scraping.specs(), MetricSpecs::default());
        for (flag, want) in [("--secure-serving", true), ("--secure-serving=false", false)] {
            assert_eq!(Args::try_parse_from(["epp", flag]).unwrap().serve.tls.secure_serving, want, "{flag}");
        }
    }
}

//! The command line: everything static. What changes at run time is in files (configuration, endpoints).
//!
//! The groups are declared here. [`read::read`] is the entry point: it takes what Go and GNU take, and the names and
//! variables of older versions. A line of help is the first paragraph of a field's comment; the rest is for `--help`.

pub mod duration;
mod environment;
pub mod flags;
mod help;
pub mod pool_flag;
pub mod quantity;
pub mod read;
mod review;
pub mod selector;
mod syntax;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use epp_framework::metric_spec::MetricSpecs;

use self::pool_flag::PoolFlag;
use self::selector::{LabelSelector, TargetPorts};
use crate::commands::config::ConfigTool;
use crate::commands::standalone::StandaloneTool;
use crate::compat::Compat;
use crate::ext_proc::destination::{DESTINATION, DestinationHint, HintError, NAMESPACE};
use crate::ext_proc::extractor::{MODEL_HEADERS, ModelHeaders};
use crate::scrape::Scheme;
use crate::scrape::spec::SpecFlag;
use crate::sim::args::SimArgs;
use crate::telemetry::time::TimeEncoding;
use crate::telemetry::verbosity::Verbosity;
use crate::tls::versions::{CipherSuites, MinVersion};

/// What `--version` tells: the package's version and, in brackets, the commit it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("EPP_COMMIT"), ")");

/// Picks the model server that a request should go to: an Endpoint Picker for Envoy-style gateways.
#[derive(Debug, Parser)]
#[command(name = "epp", version = VERSION, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(override_usage = help::USAGE)]
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
    /// Check, show and compare configurations.
    Config(ConfigTool),
    /// Simulated model servers.
    Sim(SimArgs),
    /// Gateways without a cluster: check their manifests.
    Standalone(Box<StandaloneTool>),
}

/// Flags of the server.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Which pool, and whose rules.
    #[command(flatten)]
    pub pool: PoolArgs,
    /// The Kubernetes API.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Ports.
    #[command(flatten)]
    pub listeners: ListenerArgs,
    /// The serving certificate.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Who may read metrics and debug pages.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How model servers are scraped.
    #[command(flatten)]
    pub scraping: ScrapingArgs,
    /// What clients may cost.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Log lines.
    #[command(flatten)]
    pub logging: LoggingArgs,
    /// Whether the command line is one of v0.5.1 or older: it has a camelCase flag.
    #[arg(skip)]
    pub legacy: bool,
    /// Whether there is a model extractor even with port 0, which is the system's choice then.
    #[arg(skip)]
    pub model_extractor_anywhere: bool,
    /// What the writer of the command line should know; for the log.
    #[arg(skip)]
    pub notes: Vec<String>,
}

impl ServeArgs {
    /// Whose texts and rules count where versions differ: what is asked for, or else what the flags were written for.
    pub fn compat(&self) -> Compat {
        self.pool.compat.unwrap_or(if self.legacy { Compat::V0_5_1 } else { Compat::V1_0_1 })
    }

    /// The pools that are served: those of `--pool`, or else the one.
    pub fn served(&self) -> Vec<PoolFlag> {
        if !self.pool.pool.is_empty() {
            return self.pool.pool.clone();
        }
        let PoolArgs { pool_namespace, pool_name, endpoints_file, .. } = &self.pool;
        vec![PoolFlag {
            namespace: pool_namespace.clone(),
            name: pool_name.clone(),
            endpoints_file: endpoints_file.clone(),
            ..PoolFlag::default()
        }]
    }

    /// Whether the model's name in answers is mapped back, as v1.5 and later versions do.
    pub fn rewrite_response_model(&self) -> bool {
        self.pool.rewrite_response_model.unwrap_or(self.compat() >= Compat::V1_5)
    }
}

/// Which pool, and whose rules.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Pool")]
pub struct PoolArgs {
    /// Name of the `InferencePool`; required, unless --pool or --endpoint-selector is given
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    pub pool_name: String,
    /// Namespace of the pool [default: $NAMESPACE, or else default]
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    pub pool_namespace: String,
    /// One of several pools: NAMESPACE/NAME, and after commas port=, authority=, config-file=
    /// and endpoints-file=; give the flag once for each
    ///
    /// A call is for the pool whose picker Service, or NAME.NAMESPACE, its authority names. port= is a port for this pool
    /// alone, authority= another HOST or HOST:PORT by which it is called; the files are those of this pool instead of
    /// --config-file and of a Kubernetes API.
    #[arg(long, value_parser = PoolFlag::parse, action = ArgAction::Append, value_name = "NAMESPACE/NAME")]
    pub pool: Vec<PoolFlag>,
    /// API group of the pool [default: inference.networking.k8s.io]
    ///
    /// Or inference.networking.x-k8s.io, which is the default where flags of v0.5.1 are used.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "GROUP")]
    pub pool_group: String,
    /// YAML file that lists the pool's endpoints, instead of a Kubernetes API;
    /// re-read when it changes
    ///
    /// The configuration may name one as well.
    #[arg(long, value_name = "FILE")]
    pub endpoints_file: Option<PathBuf>,
    /// Whose error texts and reason headers to use where versions differ [default: v1.0.1]
    ///
    /// v0.5.1 also sheds everything that is not critical. It is the default where its flags are used.
    #[arg(long, value_enum, value_name = "VERSION")]
    pub compat: Option<Compat>,
    /// Take objective and model rewrite from request headers, which a client may have set
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub trust_client_headers: bool,
    /// Map the model's name in answers back to the one that the client asked for
    /// [default: true with --compat=v1.5 and llm-d, else false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set, value_name = "BOOL")]
    pub rewrite_response_model: Option<bool>,
    /// Ignore the gateway's hint which endpoints a request may go to
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub disable_endpoint_subset_filter: bool,
}

/// The Kubernetes API, and what is asked of it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct ClusterArgs {
    /// File that says where the API is
    /// [default: $KUBECONFIG, the pod's service account, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Take the pods that this label selector matches, instead of those of an `InferencePool`
    #[arg(long, value_parser = LabelSelector::parse, default_value = "", hide_default_value = true, value_name = "SELECTOR")]
    pub endpoint_selector: LabelSelector,
    /// Ports of these pods that requests go to: 1 to 8, separated by commas
    #[arg(long, value_parser = TargetPorts::parse, default_value = "", hide_default_value = true, value_name = "PORTS")]
    pub endpoint_target_ports: TargetPorts,
    /// Elect one of all replicas, by a lease in the pool's namespace; only that one is ready
    ///
    /// The others follow the pool and scrape, so that a take-over is warm. Needs get, create and update on leases, and
    /// probes of the services liveness and readiness.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub ha_enable_leader_election: bool,
}

/// The configuration.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArgs {
    /// `EndpointPickerConfig` file; re-read when it changes
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// `EndpointPickerConfig` as text, instead of a file
    ///
    /// Without a file and a text, queue-scorer, kv-cache-utilization-scorer and prefix-cache-scorer apply with the
    /// weights 2, 2 and 3; where flags of v0.5.1 are used, the decision tree that v0.4 was built with.
    #[arg(long, value_name = "YAML")]
    pub config_text: Option<String>,
    /// The configuration that applies without a file and a text, if it is not the usual one.
    #[arg(skip)]
    pub built_in: Option<String>,
}

/// Ports.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Listeners")]
pub struct ListenerArgs {
    /// Address of all ports [default: every interface, IPv6 and IPv4]
    #[arg(long, value_name = "IP")]
    pub bind_address: Option<IpAddr>,
    /// Port of the ext_proc service
    #[arg(long, default_value_t = 9002, value_name = "PORT")]
    pub grpc_port: u16,
    /// Port of the gRPC health service (plaintext)
    #[arg(long, default_value_t = 9003, value_name = "PORT")]
    pub grpc_health_port: u16,
    /// Port of the metrics and debug pages
    #[arg(long, default_value_t = 9090, value_name = "PORT")]
    pub metrics_port: u16,
    /// Port of the model extractor, an ext_proc service that says in headers which model a
    /// request is for; 0 is none
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub model_extractor_port: u16,
    /// Headers that it sets, separated by commas
    ///
    /// Where the body has no model, a client's own are removed.
    #[arg(long, value_parser = ModelHeaders::parse, default_value = MODEL_HEADERS, value_name = "NAMES")]
    pub model_extractor_headers: ModelHeaders,
    /// Answer gRPC health checks on the port of the ext_proc service, too
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub health_checking: bool,
    /// Tell the gateway every candidate's score as metadata
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub emit_endpoint_scores: bool,
    /// Expose metrics of the ext_proc streams
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub enable_grpc_stream_metrics: bool,
    /// Header, and key of the metadata, that tells the gateway where a request goes
    ///
    /// In lower case. Gateways of v1.0.1 and later read the default only.
    #[arg(long = "destinationEndpointHintKey", default_value = DESTINATION, value_name = "NAME", hide_short_help = true)]
    pub destination_endpoint_hint_key: String,
    /// Namespace of that metadata; "" for none
    ///
    /// Gateways of v1.0.1 and later read the default only. Without a namespace, the key stands at the top.
    #[arg(long = "DestinationEndpointHintMetadataNamespace", default_value = NAMESPACE, value_name = "NAME", hide_short_help = true)]
    pub destination_endpoint_hint_metadata_namespace: String,
}

impl ListenerArgs {
    /// How the gateway is told where a request goes.
    pub fn destination_hint(&self) -> Result<DestinationHint, HintError> {
        let namespace = &self.destination_endpoint_hint_metadata_namespace;
        DestinationHint::new(&self.destination_endpoint_hint_key, namespace)
    }
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

/// Who may read metrics and debug pages.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Metrics and debug pages")]
pub struct AdminArgs {
    /// Let those read metrics whom a Kubernetes API allows it [default: true where the pool comes from one]
    ///
    /// Callers show the token of a service account. With an endpoints file everybody may read unless this is set.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub metrics_endpoint_auth: Option<bool>,
    /// Folder with tls.crt and tls.key: serve the metrics port over TLS; re-read as that of ext_proc
    #[arg(long, value_name = "DIR")]
    pub metrics_cert_dir: Option<PathBuf>,
    /// PEM file of authorities that must have signed the certificates of the metrics port's clients
    #[arg(long, value_name = "FILE")]
    pub metrics_client_ca_file: Option<PathBuf>,
    /// Who may read the debug pages: nobody, callers on this machine, whom the Kubernetes API allows it, or who
    /// has the token of --debug-token-file [default: off where the pool comes from a Kubernetes API, else loopback]
    #[arg(long, value_enum, value_name = "WHO")]
    pub debug_access: Option<DebugAccess>,
    /// File with the bearer token for the debug pages; re-read when it changes
    #[arg(long, value_name = "FILE")]
    pub debug_token_file: Option<PathBuf>,
}

/// Who may read the debug pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DebugAccess {
    /// Nobody.
    Off,
    /// Callers on this machine.
    Loopback,
    /// Whom the Kubernetes API allows it.
    Review,
    /// Who has the token.
    Token,
}

/// How model servers are scraped.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Scraping")]
pub struct ScrapingArgs {
    /// Time between two scrapes of an endpoint; at least 10ms
    #[arg(long, value_parser = duration::parse, default_value = "50ms", value_name = "TIME")]
    pub refresh_metrics_interval: Duration,
    /// Age from which a scrape counts as stale
    #[arg(long, value_parser = duration::parse, default_value = "2s", value_name = "TIME")]
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
            ..MetricSpecs::default()
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

/// What clients may cost, in bytes and in time.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Longest request body; longer ones get 413
    #[arg(long, value_parser = quantity::parse, default_value = "64MiB", value_name = "SIZE")]
    pub max_body_bytes: usize,
    /// Request bodies held at a time, all together; beyond: 503, for bodies over 256 KiB from three quarters of it on
    #[arg(long, value_parser = quantity::parse, default_value = "1GiB", value_name = "SIZE")]
    pub max_unfinished_bytes: usize,
    /// Longest gRPC message from the gateway [default: twice --max-body-bytes, 64MiB at least]
    ///
    /// A longer one ends its stream with `OUT_OF_RANGE`. Only BUFFERED bodies come in one message; the default
    /// lets even those that are too long come, so that their refusal is a 413.
    #[arg(long, value_parser = quantity::parse, value_name = "SIZE")]
    pub grpc_max_recv_msg_size: Option<usize>,
    /// Longest gRPC message to the gateway [default: twice --max-body-bytes, 64MiB at least]
    ///
    /// Only BUFFERED bodies whose model is rewritten are long; others go in pieces of 62,000 bytes.
    #[arg(long, value_parser = quantity::parse, value_name = "SIZE")]
    pub grpc_max_send_msg_size: Option<usize>,
    /// From the whole body to the decision; beyond: 503
    ///
    /// Gateways give up after some seconds by themselves, older ones after 5.
    #[arg(long, value_parser = duration::parse_positive, default_value = "4s", value_name = "TIME")]
    pub decision_timeout: Duration,
    /// Longest pause of a client within its request; beyond: 408
    #[arg(long, value_parser = duration::parse_positive, default_value = "30s", value_name = "TIME")]
    pub upload_idle_timeout: Duration,
    /// How long open streams may go on after SIGTERM
    #[arg(long, value_parser = duration::parse, default_value = "120s", value_name = "TIME")]
    pub drain_timeout: Duration,
}

/// Log lines.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logging")]
pub struct LoggingArgs {
    /// Verbosity: 0 errors and warnings, 1 to 3 state changes, 4 refused requests and what cannot be read
    ///
    /// Below 0 errors only; above 4 what 4 shows. It can be changed while epp runs: curl -X POST localhost:9090/debug/log-level?v=4
    #[arg(long = "v", short = 'v', default_value = "2", value_name = "LEVEL", allow_hyphen_values = true)]
    pub v: i64,
    /// Verbosity by name or number; wins over -v: debug, info, error, panic …
    #[arg(long, value_parser = Verbosity::parse, value_name = "LEVEL")]
    pub zap_log_level: Option<Verbosity>,
    /// Form of the log lines [default: console, or json with --zap-devel=false]
    ///
    /// JSON lines have the keys level, ts, logger, caller and msg, and the fields beside them.
    #[arg(long, value_enum, ignore_case = true)]
    pub zap_encoder: Option<Encoder>,
    /// Form of the time [default: RFC 3339 with milliseconds]
    #[arg(long, value_enum, ignore_case = true)]
    pub zap_time_encoding: Option<TimeEncoding>,
    /// Chooses the default of --zap-encoder
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub zap_devel: bool,
}

impl LoggingArgs {
    /// How much is logged.
    pub fn verbosity(&self) -> Verbosity {
        self.zap_log_level.unwrap_or_else(|| Verbosity::of_v(self.v))
    }

    /// Form of the log lines.
    pub fn encoder(&self) -> Encoder {
        self.zap_encoder.unwrap_or(if self.zap_devel { Encoder::Console } else { Encoder::Json })
    }
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
mod tests;

//! Builds every part, names and owns every task, and drains on SIGTERM.
//!
//! [`run`] is the server from start to exit; [`start`] is the same without signals, for tests. A task without which
//! the process is useless (a listener, a reload) ends the process when it ends.

mod admin;
mod discovery;
pub mod edge;
mod leadership;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use epp_framework::plugin::PluginType;
use prometheus::{IntGauge, Registry};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::admin::Admin;
use self::discovery::Source;
use crate::admission::Thresholds;
use crate::args::ServeArgs;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::config::build::Composition;
use crate::config::reload::{self, ConfigSource, Following};
use crate::config::standing::ConfigStanding;
use crate::datastore;
use crate::director::{Director, Rules};
use crate::discovery::file_source;
use crate::ext_proc::stream_metrics::StreamMetrics;
use crate::ext_proc::{ExtProc, Limits, Options};
use crate::health::Readiness;
use crate::leader::Candidate;
use crate::metrics::Metrics;
use crate::metrics::pool::PoolCollector;
use crate::pipeline::Pipeline;
use crate::pool::{PoolParts, PoolState};
use crate::scrape::{ScrapeMetrics, ScrapeSettings, Scraper};
use crate::sockets::sockets;
use crate::tls::acceptor::Acceptor;
use crate::tls::{self, Tls};

/// Name of the task that serves ext_proc.
const EXT_PROC: &str = "ext_proc";

/// Name of the task that serves the model extractor.
const MODEL_EXTRACTOR: &str = "model extractor";

/// How often watched files are looked at.
const FILE_INTERVAL: Duration = Duration::from_millis(500);

/// Least time between two scrapes of an endpoint: pages cost the model server more than us.
const MIN_SCRAPE_INTERVAL: Duration = Duration::from_millis(10);

/// After SIGTERM, how long a gateway may take to notice and to send its requests elsewhere; at most a quarter of the
/// drain timeout. Closing the port before costs requests.
const NOTICE: Duration = Duration::from_secs(10);

/// Then, no open stream for this long means that it has gone elsewhere.
const QUIET: Duration = Duration::from_secs(1);

/// How long streams that are cut, and connections, have to end in an orderly way.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// What runs, by name.
type Tasks = JoinSet<(&'static str, anyhow::Result<()>)>;

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends the process at once.
pub async fn run(args: ServeArgs, types: &'static [PluginType]) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let drain_timeout = args.limits.drain_timeout;
    let mut epp = start(args, types).await?;
    let notice = tokio::select! {
        _ = terminate.recv() => NOTICE.min(drain_timeout / 4),
        // A person who types Ctrl-C does not wait for a gateway.
        _ = interrupt.recv() => Duration::ZERO,
        ended = epp.tasks.join_next() => return Err(ended_early(ended)),
    };
    tokio::select! {
        () = epp.drain(notice, drain_timeout) => Ok(()),
        _ = terminate.recv() => bail!("a second signal came while draining"),
        _ = interrupt.recv() => bail!("a second signal came while draining"),
    }
}

type TaskEnd = Option<Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>>;

fn ended_early(ended: TaskEnd) -> anyhow::Error {
    match ended {
        Some(Ok((name, Err(error)))) => error.context(format!("the task {name} failed")),
        Some(Ok((name, Ok(())))) => anyhow::anyhow!("the task {name} ended"),
        Some(Err(error)) => anyhow::anyhow!("a task panicked: {error}"),
        None => anyhow::anyhow!("no task is left"),
    }
}

/// A server that runs. Dropping it ends every task.
pub struct Epp {
    /// Where ext_proc listens.
    pub ext_proc: SocketAddr,
    /// Where the model extractor listens, if there is one.
    pub model_extractor: Option<SocketAddr>,
    /// Where gRPC health listens.
    pub health: SocketAddr,
    /// Where metrics and debug pages listen.
    pub metrics: SocketAddr,
    /// The pool that it serves.
    pub pool: Arc<PoolState>,
    tasks: Tasks,
    draining: watch::Sender<bool>,
    cut: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    streams: IntGauge,
}

/// Starts a server with these arguments; returns once it listens.
pub async fn start(args: ServeArgs, types: &'static [PluginType]) -> anyhow::Result<Epp> {
    // Unheard, the signal would end the process.
    let hangup = signal(SignalKind::hangup())?;
    let clock = Clock::start();
    let metrics = Arc::new(Metrics::new());
    let (store, writer) = datastore::store();
    let (config_source, composition) = configuration(&args, types)?;
    let parts = PoolParts {
        name: args.pool.pool_name.clone(),
        namespace: args.pool.pool_namespace.clone(),
        store: store.clone(),
        metrics: metrics.clone(),
        staleness: args.scraping.metrics_staleness_threshold,
        decision_timeout: args.limits.decision_timeout,
        seed: rand::random(),
        emit_scores: args.listeners.emit_endpoint_scores,
    };
    let pool = Arc::new(PoolState::new(parts, clock, |slots| Pipeline::build(&composition, slots, None)));
    PoolCollector::register(metrics.registry(), &args.pool.pool_name, store.clone(), clock, pool.staleness);
    let source = Source::choose(&args, pool.pipeline().discovery.clone())?;
    let in_cluster = matches!(source, Source::Cluster(_));
    let mut cluster = Cluster::new(args.cluster.kubeconfig.clone());
    let discoverer = source.open(&mut cluster, writer, pool.clone()).await?;
    let candidate = leadership::stand(&args, &mut cluster, metrics.registry(), clock).await?;
    let (tls, certificate) = tls::open(&args.tls, FILE_INTERVAL, metrics.registry())?.unzip();

    let mut tasks = Tasks::new();
    let admin = admin::open(&args, in_cluster, &mut cluster, metrics.registry(), &mut tasks).await?;
    if let Some(reload) = certificate.flatten() {
        tasks.spawn(async move { ("certificate files", reload.run().await) });
    }
    tasks.spawn(discoverer.run());
    let standing = Arc::new(config_source.standing(metrics.registry(), &composition)?);
    let scraper = scraper(&args, &pool, clock)?;
    match config_source.into_watch() {
        Some(file) => {
            let (pool, standing) = (pool.clone(), standing.clone());
            let following = Following { pool, types, layers: scraper.layer_check(), standing };
            tasks.spawn(async move { ("config file", reload::run(file, hangup, following).await) });
        }
        None => {
            tasks.spawn(async move { ("hangups", reload::run_without_file(hangup).await) });
        }
    }
    let (snapshots, layers) = (store.watch(), pool.watch_data_layer());
    tasks.spawn(async move {
        scraper.run(snapshots, layers).await;
        ("scraper", Ok(()))
    });
    let parts = Parts { pool, standing, tls, admin, candidate };
    serve(&args, parts, tasks).await
}

/// Reads the configuration. If that fails, the error also says what is wrong with the endpoints file.
fn configuration(
    args: &ServeArgs,
    types: &'static [PluginType],
) -> anyhow::Result<(ConfigSource, Composition)> {
    let read = || {
        let source = ConfigSource::open(&args.config, FILE_INTERVAL)?;
        let composition = source.first(types)?;
        Ok((source, composition))
    };
    read().map_err(|error: anyhow::Error| {
        let file = args.pool.endpoints_file.as_deref();
        match file.map(|file| file_source::check(file, &args.pool.pool_namespace)) {
            Some(Err(second)) => anyhow::anyhow!("{error:#}\n{second:#}"),
            _ => error,
        }
    })
}

fn scraper(args: &ServeArgs, pool: &PoolState, clock: Clock) -> anyhow::Result<Scraper> {
    let interval = args.scraping.refresh_metrics_interval.max(MIN_SCRAPE_INTERVAL);
    if interval != args.scraping.refresh_metrics_interval {
        tracing::warn!(?interval, "--refresh-metrics-interval is raised to the least that is sensible");
    }
    let port = args.scraping.model_server_metrics_port;
    let settings = ScrapeSettings {
        interval,
        scheme: args.scraping.scheme(),
        verify: !args.scraping.model_server_metrics_https_insecure_skip_verify,
        path: args.scraping.model_server_metrics_path.clone(),
        port: (port != 0).then_some(port),
        specs: args.scraping.specs(),
        seed: rand::random(),
        ..ScrapeSettings::default()
    };
    let metrics = ScrapeMetrics::register(pool.metrics.registry())?;
    Ok(Scraper::build(settings, &pool.pipeline().data_layer, clock, metrics)?)
}

/// What a request may cost.
fn limits(args: &ServeArgs) -> Limits {
    Limits {
        body_bytes: args.limits.max_body_bytes,
        held_bytes: args.limits.max_unfinished_bytes,
        received_bytes: args.limits.grpc_max_recv_msg_size,
        sent_bytes: args.limits.grpc_max_send_msg_size,
        upload_idle: args.limits.upload_idle_timeout,
        ..Limits::default()
    }
}

/// What requests are held to. Shedding is set by the variables of the Go EPP.
fn rules(args: &ServeArgs) -> Rules {
    let (room, problems) = Thresholds::from_env(|name| std::env::var(name).ok());
    for problem in problems {
        tracing::warn!(problem, "an environment variable is not taken");
    }
    if args.scraping.refresh_metrics_interval > room.age {
        let interval_s = args.scraping.refresh_metrics_interval.as_secs_f64();
        let age_s = room.age.as_secs_f64();
        tracing::warn!(
            interval_s,
            age_s,
            "scrapes come further apart than SD_METRICS_STALENESS_THRESHOLD: requests that may be shed will be"
        );
    }
    Rules {
        compat: args.compat(),
        room,
        trust_client_headers: args.pool.trust_client_headers,
        rewrite_response_model: args.rewrite_response_model(),
    }
}

fn options(args: &ServeArgs, registry: &Registry) -> anyhow::Result<Options> {
    let stream_metrics = args.listeners.enable_grpc_stream_metrics.then(|| StreamMetrics::register(registry));
    Ok(Options {
        ignore_subset: args.pool.disable_endpoint_subset_filter,
        hint: args.listeners.destination_hint()?,
        stream_metrics: stream_metrics.transpose()?,
    })
}

/// A server of gRPC. A client that vanished without a word must not hold its streams and its connection for ever.
fn grpc() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
}

/// What the listeners serve.
struct Parts {
    pool: Arc<PoolState>,
    standing: Arc<ConfigStanding>,
    tls: Option<Tls>,
    admin: Admin,
    candidate: Option<Candidate>,
}

/// Binds the listeners and serves them.
async fn serve(args: &ServeArgs, parts: Parts, mut tasks: Tasks) -> anyhow::Result<Epp> {
    let Parts { pool, standing, tls, admin, candidate } = parts;
    let (draining, cut, stop) =
        (watch::Sender::new(false), watch::Sender::new(false), watch::Sender::new(false));
    let streams = pool.metrics.streams.clone();

    let listener = bind("ext_proc (--grpc-port)", args.listeners.grpc_port).await?;
    let ext_proc = listener.local_addr()?;
    let service = ExtProc::new(
        Arc::new(Director::new(pool.clone(), rules(args))),
        streams.clone(),
        cut.subscribe(),
        limits(args),
    )
    .with_options(options(args, pool.metrics.registry())?);
    let health = args
        .listeners
        .health_checking
        .then(|| Readiness::beside_ext_proc(draining.subscribe(), cut.subscribe()));
    let edge = Edge { tls, health, stop: stop.subscribe() };
    let model_extractor = match args.listeners.model_extractor_port {
        0 => None,
        port => {
            let listener = bind("the model extractor (--model-extractor-port)", port).await?;
            let at = listener.local_addr()?;
            let service = service.model_extractor(args.listeners.model_extractor_headers.clone());
            edge.clone().serve(&mut tasks, MODEL_EXTRACTOR, listener, service);
            tracing::info!(model_extractor = %at, "saying models in headers");
            Some(at)
        }
    };
    edge.serve(&mut tasks, EXT_PROC, listener, service);

    let listener = bind("health (--grpc-health-port)", args.listeners.grpc_health_port).await?;
    let health = listener.local_addr()?;
    let readiness = Readiness::new(pool.store.synced(), draining.subscribe(), cut.subscribe());
    let synced = pool.store.synced();
    let readiness =
        leadership::campaign(candidate, readiness, synced, draining.subscribe(), &mut tasks).into_server();
    let incoming = Acceptor::new(sockets(listener), None).connections();
    let stopped = until(stop.subscribe());
    tasks.spawn(async move {
        let end = grpc().add_service(readiness).serve_with_incoming_shutdown(incoming, stopped);
        ("health", end.await.map_err(Into::into))
    });

    let listener = bind("metrics (--metrics-port)", args.listeners.metrics_port).await?;
    let metrics = listener.local_addr()?;
    let pages = admin::serve(listener, pool.clone(), standing, admin);
    tasks.spawn(async move {
        pages.await;
        ("metrics", Ok(()))
    });
    let (tls, pid) = (args.tls.secure_serving, std::process::id());
    tracing::info!(%ext_proc, %health, %metrics, tls, pool = pool.name, pid, "serving");
    Ok(Epp { ext_proc, model_extractor, health, metrics, pool, tasks, draining, cut, stop, streams })
}

/// What the ports that serve streams have in common.
#[derive(Clone)]
struct Edge {
    tls: Option<Tls>,
    health: Option<Readiness>,
    stop: watch::Receiver<bool>,
}

impl Edge {
    fn serve(self, tasks: &mut Tasks, name: &'static str, listener: TcpListener, service: ExtProc) {
        let Self { tls, health, stop } = self;
        let server = grpc().initial_stream_window_size(1 << 20).initial_connection_window_size(16 << 20);
        let (service, health) = (service.into_server(), health.map(Readiness::into_server));
        tasks.spawn(async move {
            let stopped = until(stop.clone());
            let serve = move |dealt| {
                let services =
                    server.clone().add_service(service.clone()).add_optional_service(health.clone());
                let connections = Acceptor::new(dealt, tls.clone()).connections();
                services.serve_with_incoming_shutdown(connections, until(stop.clone()))
            };
            (name, edge::serve(sockets(listener), stopped, serve).await)
        });
    }
}

impl Epp {
    /// Says `NOT_SERVING`, serves on for `notice` and until no stream is open, for at most `timeout` in all; then cuts
    /// the streams that are left, and stops.
    pub async fn drain(&mut self, notice: Duration, timeout: Duration) {
        self.draining.send_replace(true);
        tracing::info!(streams = self.streams.get(), timeout_s = timeout.as_secs_f64(), "draining");
        let streams = self.streams.clone();
        let quiet = async {
            tokio::time::sleep(notice).await;
            let mut quiet_for = Duration::ZERO;
            let step = Duration::from_millis(50);
            while quiet_for < QUIET {
                tokio::time::sleep(step).await;
                quiet_for = if streams.get() == 0 { quiet_for + step } else { Duration::ZERO };
            }
        };
        if tokio::time::timeout(timeout, quiet).await.is_err() {
            let streams = self.streams.get();
            if streams > 0 {
                tracing::warn!(streams, "the drain timeout is over; open streams are cut");
            }
        }
        self.cut.send_replace(true);
        self.stop.send_replace(true);
        // A listener's task ends once its connections have sent what they had, the status of cut streams included.
        let served = async {
            let mut n_serving = 1 + usize::from(self.model_extractor.is_some());
            while n_serving > 0 {
                match self.tasks.join_next().await {
                    None => return,
                    Some(Ok((EXT_PROC | MODEL_EXTRACTOR, _))) => n_serving -= 1,
                    Some(_) => {}
                }
            }
        };
        if tokio::time::timeout(CUT_GRACE, served).await.is_err() {
            tracing::warn!("connections that did not end are closed");
        }
        self.tasks.shutdown().await;
        tracing::info!("stopped");
    }
}

/// Listens on every interface, IPv6 and IPv4 where the machine has both.
async fn bind(what: &str, port: u16) -> anyhow::Result<TcpListener> {
    let v6 = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await;
    let listener = match v6 {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    };
    listener.with_context(|| format!("cannot listen on port {port} for {what}"))
}

async fn until(mut flag: watch::Receiver<bool>) {
    // An error means that the server itself is gone.
    let _ = flag.wait_for(|&set| set).await;
}

#[cfg(test)]
mod tests;

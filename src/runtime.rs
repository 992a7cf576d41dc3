//! Builds every part, names and owns every task, and drains on SIGTERM.
//!
//! [`run`] is the server from start to exit; [`start`] is the same without signals, for tests. A task without which
//! the process is useless (a listener, a reload) ends the process when it ends.

mod admin;
mod discovery;
pub mod edge;
mod leadership;
mod listeners;
pub mod pools;
pub mod standalone;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use epp_framework::plugin::PluginType;
use prometheus::{IntGauge, Registry};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::service::Routes;

use self::admin::Admin;
use self::listeners::{Edge, bind, grpc, until};
use self::pools::{Ended, PoolsHandle};
use crate::admission::Thresholds;
use crate::args::ServeArgs;
use crate::args::pool_flag::PoolFlag;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::config::reload;
use crate::director::{Director, Rules};
use crate::ext_proc::extractor::ModelHeaders;
use crate::ext_proc::gate::Gate;
use crate::ext_proc::stream_metrics::StreamMetrics;
use crate::ext_proc::{ExtProc, Limits, Options, Shared};
use crate::health::Readiness;
use crate::leader::Candidate;
use crate::metrics::process::ProcessMetrics;
use crate::pools::{Choice, Pools};
use crate::sockets::sockets;
use crate::tls::acceptor::Acceptor;
use crate::tls::{self, Tls};

/// Name of the task that serves ext_proc.
const EXT_PROC: &str = "ext_proc";

/// Name of the task that serves the model extractor.
const MODEL_EXTRACTOR: &str = "model extractor";

/// Name of the tasks that serve the ports of single pools.
const OWN_PORT: &str = "ext_proc of one pool";

/// How often watched files are looked at.
const FILE_INTERVAL: Duration = Duration::from_millis(500);

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
        error = epp.failed() => return Err(error),
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
    /// Where ext_proc listens, for all pools.
    pub ext_proc: SocketAddr,
    /// Where it listens for one pool alone, by `namespace/name`.
    pub own_ports: Vec<(String, SocketAddr)>,
    /// Where the model extractor listens, if there is one.
    pub model_extractor: Option<SocketAddr>,
    /// Where gRPC health listens.
    pub health: SocketAddr,
    /// Where metrics and debug pages listen.
    pub metrics: SocketAddr,
    pools: Arc<PoolsHandle>,
    tasks: Tasks,
    draining: watch::Sender<bool>,
    cut: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    streams: IntGauge,
}

/// Starts a server of the pools that these arguments name; returns once it listens.
pub async fn start(args: ServeArgs, types: &'static [PluginType]) -> anyhow::Result<Epp> {
    let served = args.served();
    let is_only = matches!(&served[..], [only] if only.authorities.is_empty());
    let mut base = Base::open(args, types, is_only)?;
    for flag in &served {
        base.in_cluster |= base.handle.start(flag, &mut base.cluster).await?;
    }
    base.serve(&served).await
}

/// Starts a server without pools, which [`PoolsHandle::insert`] adds; returns once it listens. What the arguments say of
/// pools counts for nothing.
pub async fn serve_pools(args: ServeArgs, types: &'static [PluginType]) -> anyhow::Result<Epp> {
    let base = Base::open(args, types, false)?;
    base.handle.pools().tell_synced();
    base.serve(&[]).await
}

/// What there is before anything listens.
struct Base {
    args: ServeArgs,
    handle: Arc<PoolsHandle>,
    /// What words and counts what the model extractor refuses, if no pool does.
    nobody: Option<Arc<Director>>,
    shared: Shared,
    clock: Clock,
    cluster: Cluster,
    /// Whether a pool comes from a Kubernetes API.
    in_cluster: bool,
    hangup: Signal,
    ended: mpsc::Receiver<Ended>,
    streams: IntGauge,
    cut: watch::Sender<bool>,
}

impl Base {
    /// `is_only` says that there is one pool, which every call is for.
    fn open(args: ServeArgs, types: &'static [PluginType], is_only: bool) -> anyhow::Result<Self> {
        // Unheard, the signal would end the process.
        let hangup = signal(SignalKind::hangup())?;
        let (clock, process) = (Clock::start(), ProcessMetrics::new());
        let rules = rules(&args);
        pools::review_interval(&args);
        let nobody = if is_only { None } else { Some(pools::nobody(&args, types, clock)?) };
        let choice = match &nobody {
            Some(nobody) => Choice::by_authority(&process, nobody.metrics.clone())?,
            None => Choice::Only,
        };
        let nobody = nobody.map(|nobody| Arc::new(Director::new(nobody, rules)));
        let (streams, cut) = (process.streams.clone(), watch::Sender::new(false));
        let options = options(&args, process.registry())?;
        let shared = Shared::new(streams.clone(), cut.subscribe(), limits(&args), options);
        let pools = Arc::new(Pools::new(choice, process, clock));
        let (tell, ended) = mpsc::channel(1);
        let cluster = Cluster::new(args.cluster.kubeconfig.clone());
        let handle = PoolsHandle::new((args.clone(), types), (clock, rules), shared.clone(), pools, tell);
        let handle = Arc::new(handle);
        let in_cluster = false;
        Ok(Self { args, handle, nobody, shared, clock, cluster, in_cluster, hangup, ended, streams, cut })
    }

    /// Opens what the ports need, binds and serves them.
    async fn serve(mut self, served: &[PoolFlag]) -> anyhow::Result<Epp> {
        let (args, pools) = (&self.args, self.handle.pools().clone());
        let registry = pools.process.registry();
        let mut tasks = Tasks::new();
        let candidate = leadership::stand(args, &mut self.cluster, registry, self.clock).await?;
        let (tls, certificate) = tls::open(&args.tls, FILE_INTERVAL, registry)?.unzip();
        let admin = admin::open(args, self.in_cluster, &mut self.cluster, registry, &mut tasks).await?;
        if let Some(reload) = certificate.flatten() {
            tasks.spawn(async move { ("certificate files", reload.run().await) });
        }
        let (mut hangup, mut ended) = (self.hangup, self.ended);
        if args.config.config_file.is_none() && served.iter().all(|flag| flag.config_file.is_none()) {
            tasks.spawn(async move { ("hangups", reload::run_without_file(hangup).await) });
        } else {
            // Each pool hears it by itself.
            tasks.spawn(async move {
                while hangup.recv().await.is_some() {}
                ("hangups", Ok(()))
            });
        }
        tasks.spawn(async move { ended.recv().await.unwrap_or(("pools", Ok(()))) });
        let (handle, streams, cut) = (self.handle, self.streams, self.cut);
        // Without an own one, the only pool words and counts what the extractor refuses.
        let extractor = self.nobody.or_else(|| Some(pools.all().first()?.director.clone()));
        let extractor =
            extractor.map(|director| self.shared.model_extractor(director, extractor_headers(args)));
        let parts = Parts { pools: handle, extractor, tls, admin, candidate, streams, cut };
        parts.serve(args, served, tasks).await
    }
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

fn extractor_headers(args: &ServeArgs) -> ModelHeaders {
    args.listeners.model_extractor_headers.clone()
}

/// What the listeners serve.
struct Parts {
    pools: Arc<PoolsHandle>,
    extractor: Option<ExtProc>,
    tls: Option<Tls>,
    admin: Admin,
    candidate: Option<Candidate>,
    streams: IntGauge,
    cut: watch::Sender<bool>,
}

impl Parts {
    /// Binds the listeners and serves them.
    async fn serve(self, args: &ServeArgs, served: &[PoolFlag], mut tasks: Tasks) -> anyhow::Result<Epp> {
        let Self { pools: handle, extractor, tls, admin, candidate, streams, cut } = self;
        let (pools, address) = (handle.pools().clone(), args.listeners.bind_address);
        let (draining, stop) = (watch::Sender::new(false), watch::Sender::new(false));

        let listener = bind("ext_proc (--grpc-port)", address, args.listeners.grpc_port).await?;
        let ext_proc = listener.local_addr()?;
        let health = args
            .listeners
            .health_checking
            .then(|| Readiness::beside_ext_proc(draining.subscribe(), cut.subscribe()));
        let edge = Edge { tls, health, stop: stop.subscribe() };
        let model_extractor = match extractor {
            Some(service) => extractor_port(args, service, &edge, &mut tasks).await?,
            None => None,
        };
        let own_ports = own_ports(args, served, &pools, &edge, &mut tasks).await?;
        edge.serve(&mut tasks, EXT_PROC, listener, Routes::new(Gate::new(pools.clone())));

        let listener = bind("health (--grpc-health-port)", address, args.listeners.grpc_health_port).await?;
        let health = listener.local_addr()?;
        let readiness = Readiness::new(pools.synced(), draining.subscribe(), cut.subscribe());
        let readiness = readiness.of_each(pools.each_synced());
        let readiness =
            leadership::campaign(candidate, readiness, pools.synced(), draining.subscribe(), &mut tasks);
        let incoming = Acceptor::new(sockets(listener), None).connections();
        let stopped = until(stop.subscribe());
        tasks.spawn(async move {
            let grpc = grpc().add_service(readiness.into_server());
            ("health", grpc.serve_with_incoming_shutdown(incoming, stopped).await.map_err(Into::into))
        });

        let listener = bind("metrics (--metrics-port)", address, args.listeners.metrics_port).await?;
        let metrics = listener.local_addr()?;
        let pages = admin::serve(listener, pools, admin);
        tasks.spawn(async move {
            pages.await;
            ("metrics", Ok(()))
        });
        let pool = match served {
            [only] => only.name.clone(),
            several => several.iter().map(PoolFlag::full_name).collect::<Vec<_>>().join(", "),
        };
        let (tls, pid) = (args.tls.secure_serving, std::process::id());
        tracing::info!(%ext_proc, %health, %metrics, tls, pool, pid, "serving");
        let pools = handle;
        Ok(Epp {
            ext_proc,
            own_ports,
            model_extractor,
            health,
            metrics,
            pools,
            tasks,
            draining,
            cut,
            stop,
            streams,
        })
    }
}

/// Serves the model extractor, if it is wanted.
async fn extractor_port(
    args: &ServeArgs,
    service: ExtProc,
    edge: &Edge,
    tasks: &mut Tasks,
) -> anyhow::Result<Option<SocketAddr>> {
    let port = args.listeners.model_extractor_port;
    if port == 0 && !args.model_extractor_anywhere {
        return Ok(None);
    }
    let what = "the model extractor (--model-extractor-port)";
    let listener = bind(what, args.listeners.bind_address, port).await?;
    let at = listener.local_addr()?;
    edge.clone().serve(tasks, MODEL_EXTRACTOR, listener, Routes::new(service.into_server()));
    tracing::info!(model_extractor = %at, "saying models in headers");
    Ok(Some(at))
}

/// Serves the ports of single pools.
async fn own_ports(
    args: &ServeArgs,
    served: &[PoolFlag],
    pools: &Arc<Pools>,
    edge: &Edge,
    tasks: &mut Tasks,
) -> anyhow::Result<Vec<(String, SocketAddr)>> {
    let mut ports = Vec::new();
    for flag in served {
        let Some(port) = flag.port else { continue };
        let pool = flag.full_name();
        let listener = bind(&format!("--pool {pool}"), args.listeners.bind_address, port).await?;
        let at = listener.local_addr()?;
        let gate = Gate::of_pool(pools.clone(), &pool);
        edge.clone().serve(tasks, OWN_PORT, listener, Routes::new(gate));
        tracing::info!(pool, ext_proc = %at, "a pool has a port of its own");
        ports.push((pool, at));
    }
    Ok(ports)
}

impl Epp {
    /// The pools that it serves.
    pub fn pools(&self) -> &Arc<PoolsHandle> {
        &self.pools
    }

    /// Waits until a part without which the process is useless has ended, and says why.
    pub async fn failed(&mut self) -> anyhow::Error {
        ended_early(self.tasks.join_next().await)
    }

    /// Runs a task beside the others; if it ends, the process does.
    pub(crate) fn watch(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (name, task.await) });
    }

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
            let mut n_serving = 1 + self.own_ports.len() + usize::from(self.model_extractor.is_some());
            while n_serving > 0 {
                match self.tasks.join_next().await {
                    None => return,
                    Some(Ok((EXT_PROC | OWN_PORT | MODEL_EXTRACTOR, _))) => n_serving -= 1,
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

#[cfg(test)]
mod tests;

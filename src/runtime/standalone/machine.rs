//! What runs beside Envoy: [`Machine`] takes what was read, and lets pools, simulated servers, limits and Envoy follow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use epp_framework::plugin::PluginType;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep_until};

use super::fed_pools::FedPools;
use super::inputs::{Inputs, Texts, Understood};
use super::sims::Sims;
use super::status::Report;
use super::{Setup, Supervised, read};
use crate::discovery::file::PoolFile;
use crate::rate_limit;
use crate::rate_limit::limiter::Limit;
use crate::rate_limit::metrics::RateLimitMetrics;
use crate::runtime::{Epp, serve_pools};
use crate::standalone::finding::Findings;
use crate::standalone::members::{self, Placed, Workload};
use crate::standalone::render::{Rendered, Settings, render};
use crate::standalone::supervise::admin::AdminAddress;
use crate::standalone::supervise::binary::{self, EnvoyBinary};
use crate::standalone::supervise::restarts::RestartPolicy;
use crate::standalone::supervise::{self, LogLevel, State, Status, Supervisor, ports};
use crate::standalone::topology::{Address, Topology};
use crate::standalone::xds_folder::XdsFolder;
use crate::standalone::{rates, report};

/// How often inputs are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How often hosts of the oldest form of pools are looked up again.
const RESOLVE: Duration = Duration::from_secs(30);

/// How long what nobody needs any more is kept beyond the time that listeners and requests have.
const KEEP: Duration = Duration::from_secs(5);

/// How long Envoy may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// What runs beside Envoy, and what it was told last.
pub(super) struct Machine {
    setup: Setup,
    folder: PathBuf,
    /// What picks.
    pub(super) epp: Epp,
    limits: watch::Sender<Arc<[Limit]>>,
    rate_limit: Address,
    sims: Sims,
    xds: XdsFolder,
    pools: FedPools,
    taken: Taken,
    resolved: BTreeMap<String, Vec<IpAddr>>,
    resolved_at: Instant,
    rendered: Option<Rendered>,
}

/// What was read.
#[derive(Default)]
struct Taken {
    topology: Topology,
    listed: PoolFile,
    /// What is to be simulated.
    wanted: BTreeMap<String, Workload>,
    /// When it was read, in seconds since 1970.
    at: i64,
}

impl Machine {
    pub(super) async fn start(
        mut setup: Setup,
        folder: PathBuf,
        types: &'static [PluginType],
    ) -> anyhow::Result<Self> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let serve = &mut setup.serve;
        serve.listeners.bind_address = Some(loopback);
        (serve.listeners.grpc_port, serve.listeners.grpc_health_port) = (0, 0);
        serve.model_extractor_anywhere = true;
        serve.tls.secure_serving = false;
        serve.pool.trust_client_headers = setup.trust_client_headers;
        let mut epp = serve_pools(setup.serve.clone(), types).await?;
        let limits = watch::Sender::new(Arc::from([]));
        let rate_limit = if let Some(service) = &setup.rate_limit_service {
            service.clone()
        } else {
            let listener = TcpListener::bind((loopback, 0)).await.context("rate limit service")?;
            let at = listener.local_addr()?;
            let metrics = RateLimitMetrics::register(epp.pools().pools().process.registry())?;
            let (changes, stop) = (limits.subscribe(), epp.stop.subscribe());
            let serving = rate_limit::serve(listener, changes, rate_limit::wall, stop, metrics);
            epp.watch("rate limits", async { serving.await.map_err(Into::into) });
            Address::Host(at.ip().to_string(), at.port())
        };
        let xds = XdsFolder::new(folder.join("xds"));
        Ok(Self {
            setup,
            folder,
            epp,
            limits,
            rate_limit,
            sims: Sims::default(),
            xds,
            pools: FedPools::default(),
            taken: Taken::default(),
            resolved: BTreeMap::new(),
            resolved_at: Instant::now(),
            rendered: None,
        })
    }

    /// Serves what was read for the first time.
    pub(super) async fn bring_up(
        &mut self,
        understood: Understood,
        envoy: &EnvoyBinary,
    ) -> anyhow::Result<Supervisor> {
        self.take(understood).await?;
        let placed = self.place();
        self.serve(&placed)?;
        let rendered = self.render(&placed);
        let taken = Self::taken(&rendered);
        if !taken.is_empty() {
            bail!("{}; --port-map takes another port", taken.join("; "));
        }
        self.xds.fill(rendered.files()).await?;
        let bootstrap = self.folder.join("bootstrap.yaml");
        std::fs::write(&bootstrap, rendered.dynamic_bootstrap())
            .with_context(|| format!("cannot write {}", bootstrap.display()))?;
        binary::validate(envoy, &bootstrap).await?;
        let settings = supervise::Settings {
            binary: envoy.path.clone(),
            bootstrap,
            admin: AdminAddress::Unix(self.admin()),
            concurrency: self.setup.concurrency,
            drain: self.setup.drain,
            log_level: LogLevel::default(),
            ready_within: READY_WITHIN,
            restarts: RestartPolicy::default(),
        };
        let supervisor = Supervisor::start(settings).await?;
        self.xds.confirm_start(&supervisor.handle()).await?;
        self.rendered = Some(rendered);
        Ok(supervisor)
    }

    fn admin(&self) -> PathBuf {
        self.folder.join("envoy.sock")
    }

    /// Listeners whose port somebody else has.
    fn taken(rendered: &Rendered) -> Vec<String> {
        let named: Vec<_> = rendered
            .addresses()
            .iter()
            .map(|((gateway, listener), at)| (format!("listener {listener} of Gateway {gateway}"), *at))
            .collect();
        // Several listeners may share a port.
        let mut seen = BTreeSet::new();
        let each = named.iter().filter(|(_, at)| seen.insert(*at)).map(|(name, at)| (name.as_str(), *at));
        ports::probe(each).iter().map(ToString::to_string).collect()
    }

    /// Takes what was read, and starts what is to be simulated.
    async fn take(&mut self, understood: Understood) -> anyhow::Result<()> {
        let Understood { checked, listed, at, .. } = understood;
        let mut taken = Taken { topology: checked.topology, listed, wanted: BTreeMap::new(), at };
        if self.setup.simulate {
            taken.wanted = members::workloads(&taken.topology);
            self.sims.start(&taken.wanted).await?;
        }
        self.taken = taken;
        self.resolve().await;
        Ok(())
    }

    /// Looks hosts up. A host that is not found keeps the addresses that it had.
    async fn resolve(&mut self) {
        let hosts = members::hosts(&self.taken.topology);
        self.resolved.retain(|host, _| hosts.contains(host));
        for host in hosts {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            match found.map(|found| found.map(|at| at.ip()).collect::<BTreeSet<_>>()) {
                Ok(found) => drop(self.resolved.insert(host, found.into_iter().collect())),
                Err(error) => tracing::warn!(host, %error, "a host is not found"),
            }
        }
        self.resolved_at = Instant::now();
    }

    fn place(&self) -> Placed {
        let simulated = self.sims.servers(&self.taken.wanted);
        members::place(&self.taken.topology, &self.taken.listed, &simulated, &self.resolved)
    }

    /// Lets the pools be served, and rates be limited, as they are now. Pools that are gone are served on.
    fn serve(&mut self, placed: &Placed) -> anyhow::Result<()> {
        self.pools.serve(self.epp.pools(), &self.taken.topology, placed)?;
        self.limits.send_replace(rates::service(&self.taken.topology).into());
        Ok(())
    }

    fn render(&self, placed: &Placed) -> Rendered {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let settings = Settings {
            address: self.setup.address,
            ports: self.setup.ports.clone(),
            picker: self.epp.ext_proc,
            picker_tells_health: false,
            model_extractor: self.epp.model_extractor.unwrap_or_else(|| SocketAddr::new(loopback, 0)),
            members: members::addresses(&placed.pools),
            service_hosts: placed.hosts.clone(),
            rate_limit: Some(self.rate_limit.clone()),
            admin: Address::Unix(self.admin().display().to_string()),
            access_log: self.setup.access_log.clone(),
            trust_client_headers: self.setup.trust_client_headers,
            buffer_bytes: self.setup.buffer_bytes,
            folder: self.folder.join("xds"),
            authorities: self.setup.authorities.clone(),
            created: self.taken.at,
        };
        let mut findings = Findings::default();
        let rendered = render(&self.taken.topology, &settings, &mut findings);
        let told = report::lines(&mut findings, &[]);
        told.lines().for_each(|finding| tracing::warn!(finding, "manifests"));
        rendered
    }

    /// Follows the inputs until `stop`, or until something without which nothing works ends.
    pub(super) async fn follow(
        &mut self,
        supervised: &mut Supervised,
        (inputs, mut texts, types): (Inputs, Texts, &'static [PluginType]),
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let mut ticks = interval(LOOK);
        let mut refused = None;
        let mut stop = std::pin::pin!(stop);
        loop {
            let due = self.xds.due();
            tokio::select! {
                () = &mut stop => return Ok(()),
                Some(ended) = supervised.task.join_next() => {
                    let ended = ended.context("the supervisor of Envoy")?;
                    return Err(ended.err().map_or_else(|| anyhow::anyhow!("Envoy ended"), Into::into));
                }
                error = self.epp.failed() => return Err(error),
                _ = supervised.status.changed() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.clear(supervised).await;
                    continue;
                }
                _ = ticks.tick() => {
                    let new = match read(&inputs).await {
                        Ok(new) => new,
                        Err(error) => {
                            tell_once(&mut refused, format!("{error:#}"));
                            continue;
                        }
                    };
                    let is_stale = !self.resolved.is_empty() && self.resolved_at.elapsed() > RESOLVE;
                    if new == texts && !is_stale {
                        continue;
                    }
                    if is_stale {
                        self.resolve().await;
                    }
                    let changed = if new == texts {
                        self.apply(supervised).await
                    } else {
                        texts = new;
                        self.change(&inputs, &texts, types, supervised).await
                    };
                    match changed {
                        Ok(()) => refused = None,
                        Err(error) => tell_once(&mut refused, format!("{error:#}")),
                    }
                }
            }
            self.report(&supervised.status.borrow(), refused.as_deref());
        }
    }

    async fn change(
        &mut self,
        inputs: &Inputs,
        texts: &Texts,
        types: &'static [PluginType],
        supervised: &Supervised,
    ) -> anyhow::Result<()> {
        let understood = inputs.understand(texts, types)?;
        understood.tell();
        let before = std::mem::take(&mut self.taken);
        let taken = self.take(understood).await;
        let applied = if taken.is_ok() { self.apply(supervised).await } else { taken };
        if applied.is_err() {
            // Pools, limits and simulated servers go back to what Envoy still has.
            self.taken = before;
            self.resolve().await;
            let placed = self.place();
            self.serve(&placed)?;
            return applied;
        }
        tracing::info!("the manifests were read again");
        Ok(())
    }

    /// Puts to use what is new.
    async fn apply(&mut self, supervised: &Supervised) -> anyhow::Result<()> {
        let placed = self.place();
        self.serve(&placed)?;
        let mut rendered = self.render(&placed);
        if let Some(before) = &self.rendered {
            rendered.follow(before);
        }
        let (files, between) = (rendered.files(), rendered.clusters_between());
        let grace = self.setup.drain + KEEP;
        let applied = self.xds.apply(files, Some(&between), grace, &supervised.handle).await?;
        if !applied.written.is_empty() {
            tracing::info!(files = applied.written.join(", "), "Envoy follows");
        }
        for file in applied.unconfirmed {
            tracing::warn!(file, "Envoy did not say yet that it follows");
        }
        self.rendered = Some(rendered);
        Ok(())
    }

    /// Ends what nobody needs any more.
    async fn clear(&mut self, supervised: &Supervised) {
        if let Err(error) = self.xds.clear(&supervised.handle).await {
            tracing::warn!(%error, "clearing what Envoy no longer needs");
        }
        if let Some(rendered) = &mut self.rendered {
            rendered.forget();
        }
        self.sims.end_others(&self.taken.wanted);
        self.pools.remove_others(self.epp.pools(), &self.taken.topology);
    }

    /// Says where everything is.
    pub(super) fn announce(&self) {
        let Some(rendered) = &self.rendered else { return };
        for ((gateway, listener), address) in rendered.addresses() {
            tracing::info!(gateway, listener, %address, "listening");
        }
        for (pool, members) in self.pools.members() {
            tracing::info!(pool, members = members.endpoints.len(), "pool");
        }
        tracing::info!(folder = %self.folder.display(), metrics = %self.epp.metrics, "ready");
    }

    pub(super) fn report(&self, envoy: &Status, refused: Option<&str>) {
        let addresses = self.rendered.as_ref().map(Rendered::addresses);
        let mut report = Report::of(&self.taken.topology, addresses, &self.pools.members());
        report.refused = refused.map(str::to_owned);
        (report.envoy, report.is_ready) = (envoy.to_string(), envoy.state == State::Ready);
        report.metrics = self.epp.metrics.to_string();
        if let Err(error) = report.write(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "the status cannot be written");
        }
    }
}

fn tell_once(refused: &mut Option<String>, error: String) {
    if refused.as_ref() != Some(&error) {
        tracing::error!(error, "a change is refused; what was before goes on");
        *refused = Some(error);
    }
}

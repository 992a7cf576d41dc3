//! What runs beside Envoy: [`Machine`] takes what was read, and lets pools, simulated servers, limits and Envoy follow.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use epp_framework::plugin::PluginType;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::fed_pools::FedPools;
use super::inputs::{Inputs, Texts, Understood};
use super::sims::Sims;
use super::status::Report;
use super::{Setup, Stop, Supervised, read};
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

/// Envoy's files, below the run folder.
pub(super) const FILES: &str = "xds";

/// How often inputs are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How often hosts of the oldest form of pools are looked up again.
const RESOLVE: Duration = Duration::from_secs(30);

/// How long a host's addresses may take.
const LOOK_UP: Duration = Duration::from_secs(5);

/// From a change that could not be put to use to the next try.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// How long what nobody needs any more is kept beyond the time that listeners and requests have.
const KEEP: Duration = Duration::from_secs(5);

/// Most limits, those that are about to go included.
const MAX_LIMITS: usize = 100_000;

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
    /// When what nobody needs any more is to go.
    clear_at: Option<Instant>,
}

/// How far the inputs were followed.
#[derive(Default)]
struct Following {
    /// What is served, or was refused.
    texts: Texts,
    /// What the last look saw.
    seen: Texts,
    refused: Option<String>,
    unreadable: Option<String>,
    /// When a change that could not be put to use is tried again.
    again_at: Option<Instant>,
    /// Whether Envoy has what it was told, since it was started last.
    is_confirmed: bool,
}

impl Following {
    fn wrong(&self) -> Option<&str> {
        self.unreadable.as_deref().or(self.refused.as_deref())
    }
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
        let xds = XdsFolder::new(folder.join(FILES));
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
            clear_at: None,
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
            let found = timeout(LOOK_UP, tokio::net::lookup_host((host.as_str(), 0))).await;
            let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
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
        // Those of before stay while Envoy may ask for them; of two for the same the first counts.
        let mut limits = rates::service(&self.taken.topology);
        limits.extend(self.limits.borrow().iter().cloned());
        limits.truncate(MAX_LIMITS);
        self.limits.send_replace(limits.into());
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
            folder: self.folder.join(FILES),
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
        (inputs, texts, types): (Inputs, Texts, &'static [PluginType]),
        stop: &mut Stop,
    ) -> anyhow::Result<()> {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut following = Following { seen: texts.clone(), texts, ..Following::default() };
        loop {
            tokio::select! {
                () = stop.asked() => return Ok(()),
                Some(ended) = supervised.task.join_next() => {
                    let ended = ended.context("the supervisor of Envoy")?;
                    return Err(ended.err().map_or_else(|| anyhow::anyhow!("Envoy ended"), Into::into));
                }
                error = self.epp.failed() => return Err(error),
                _ = supervised.status.changed() => following.is_confirmed = false,
                _ = ticks.tick() => {}
            }
            // What Envoy cannot be told now is told when it is there again.
            let status = supervised.status.borrow_and_update().clone();
            if status.state == State::Ready {
                tokio::select! {
                    () = stop.asked() => return Ok(()),
                    () = self.look(&inputs, types, &mut following, supervised) => {}
                }
            }
            self.report(&status, following.wrong());
        }
    }

    /// Looks at everything that may have changed.
    async fn look(
        &mut self,
        inputs: &Inputs,
        types: &'static [PluginType],
        following: &mut Following,
        supervised: &Supervised,
    ) {
        if !std::mem::replace(&mut following.is_confirmed, true)
            && let Err(error) = self.xds.confirm_start(&supervised.handle).await
        {
            tell_once(&mut following.refused, format!("{error:#}"));
        }
        if self.clear_at.is_some_and(|at| at <= Instant::now()) {
            self.clear(supervised).await;
        }
        let new = match read(inputs).await {
            Ok(new) => new,
            Err(error) => return tell_once(&mut following.unreadable, format!("{error:#}")),
        };
        following.unreadable = None;
        // Whoever writes a file may not be done with it: what two looks saw counts.
        if new != following.seen {
            following.seen = new;
            return;
        }
        let is_due = following.again_at.is_some_and(|at| at <= Instant::now());
        let changed = if new != following.texts || is_due {
            following.texts = new;
            following.again_at = None;
            match inputs.understand(&following.texts, types) {
                Ok(understood) => {
                    let changed = self.change(understood, supervised).await;
                    following.again_at = changed.is_err().then(|| Instant::now() + TRY_AGAIN);
                    changed
                }
                Err(error) => Err(error),
            }
        } else if !members::hosts(&self.taken.topology).is_empty() && self.resolved_at.elapsed() > RESOLVE {
            self.resolve().await;
            return self.apply(supervised).await.unwrap_or_else(|error| {
                tell_once(&mut following.refused, format!("{error:#}"));
            });
        } else {
            return;
        };
        match changed {
            Ok(()) => following.refused = None,
            Err(error) => tell_once(&mut following.refused, format!("{error:#}")),
        }
    }

    async fn change(&mut self, understood: Understood, supervised: &Supervised) -> anyhow::Result<()> {
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
        let has_others = self.xds.due().is_some()
            || self.sims.has_others(&self.taken.wanted)
            || self.pools.has_others(&self.taken.topology);
        // Not put off by the changes that follow.
        self.clear_at = self.clear_at.or_else(|| has_others.then(|| Instant::now() + grace));
        Ok(())
    }

    /// Ends what nobody needs any more.
    async fn clear(&mut self, supervised: &Supervised) {
        self.clear_at = None;
        self.limits.send_replace(rates::service(&self.taken.topology).into());
        if let Err(error) = self.xds.clear(&supervised.handle).await {
            tracing::warn!(%error, "clearing what Envoy no longer needs");
        }
        if let Some(rendered) = &mut self.rendered {
            rendered.forget();
        }
        self.sims.end_others(&self.taken.wanted);
        self.pools.remove_others(self.epp.pools(), &self.taken.topology);
    }

    /// Says that it ends, and takes away what holds keys.
    pub(super) fn leave(&self) {
        std::fs::remove_file(self.folder.join(super::status::FILE)).ok();
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

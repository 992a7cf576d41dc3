//! Makes, runs and removes pools, also while the process runs: [`PoolsHandle`].
//!
//! What a pool is made of is the same for one and for many; where its members come from is its `Discoverer`'s business.
//! Each pool owns its tasks: they end with it, and one that ends by itself ends the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use epp_framework::plugin::PluginType;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::discovery::{Discoverer, Source};
use super::{FILE_INTERVAL, Tasks};
use crate::args::pool_flag::PoolFlag;
use crate::args::{ConfigArgs, ServeArgs};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::config::build::Composition;
use crate::config::reload::{self, ConfigSource, Following};
use crate::datastore::{self, StoreWriter};
use crate::director::{Director, Rules};
use crate::discovery::fed::FedSource;
use crate::discovery::file::PoolFile;
use crate::discovery::file_source;
use crate::discovery::index::endpoints::PickerService;
use crate::ext_proc::Shared;
use crate::file_watch::FileWatch;
use crate::metrics::Metrics;
use crate::metrics::pool::PoolCollector;
use crate::pipeline::Pipeline;
use crate::pool::{PoolParts, PoolState};
use crate::pools::authority::Authority;
use crate::pools::{Pools, PoolsError, Served};
use crate::scrape::{ScrapeMetrics, ScrapeSettings, Scraper};

/// Least time between two scrapes of an endpoint: pages cost the model server more than us.
const MIN_SCRAPE_INTERVAL: Duration = Duration::from_millis(10);

/// Port of a picker's Service, unless its pool says another.
const USUAL_PORT: u16 = 9002;

/// How a task of a pool ended: its name, and why.
pub(super) type Ended = (&'static str, anyhow::Result<()>);

/// A pool whose members somebody in this process knows.
pub struct PoolSetup {
    /// Its namespace.
    pub namespace: String,
    /// Its name, unique within the namespace.
    pub name: String,
    /// How calls name it, beside `name.namespace`: `host` or `host:port`.
    pub authorities: Vec<String>,
    /// Its `EndpointPickerConfig`; `None` is the built-in default.
    pub config: Option<String>,
    /// Parameters of `llm-request-costs`, as YAML or JSON; they count where the configuration does not declare it.
    pub costs: Option<String>,
    /// Its endpoints, objectives and rewrites, as they change. Names and destinations are unique.
    pub members: watch::Receiver<Arc<PoolFile>>,
}

/// Makes and runs pools.
pub struct PoolsHandle {
    args: ServeArgs,
    types: &'static [PluginType],
    clock: Clock,
    rules: Rules,
    shared: Shared,
    pools: Arc<Pools>,
    /// By `namespace/name`.
    running: Mutex<BTreeMap<String, Running>>,
    ended: mpsc::Sender<Ended>,
}

/// A pool that runs; its tasks end when it is dropped.
struct Running {
    following: Arc<Following>,
    _tasks: JoinSet<()>,
}

/// A pool that does not run yet.
struct Built {
    state: Arc<PoolState>,
    following: Arc<Following>,
    scraper: Scraper,
    config_file: Option<FileWatch>,
}

impl PoolsHandle {
    /// No pools yet. What ends by itself of those to come is told to `ended`.
    pub(super) fn new(
        (args, types): (ServeArgs, &'static [PluginType]),
        (clock, rules): (Clock, Rules),
        shared: Shared,
        pools: Arc<Pools>,
        ended: mpsc::Sender<Ended>,
    ) -> Self {
        Self { args, types, clock, rules, shared, pools, running: Mutex::default(), ended }
    }

    /// Adds a pool; calls find it from now on. Within a tokio runtime of several threads.
    ///
    /// Fails if the configuration or an authority is wrong, and if there is a pool of that name or called so.
    pub fn insert(&self, setup: PoolSetup) -> anyhow::Result<()> {
        let PoolSetup { namespace, name, authorities, config, costs, members } = setup;
        let flag = PoolFlag { namespace, name, ..PoolFlag::default() };
        let full_name = flag.full_name();
        if self.pools.all().iter().any(|pool| pool.state.full_name() == full_name) {
            return Err(PoolsError::Known(full_name).into());
        }
        let authorities = authorities.iter().map(|text| Authority::parse(text));
        let authorities: Vec<_> = authorities
            .collect::<Result<_, _>>()
            .map_err(|error| anyhow::anyhow!("authority of the pool {full_name}: {error}"))?;
        let config = ConfigSource::given(&config_name(&full_name), config).with_costs(costs);
        let composition = config.first(self.types)?;
        let (built, writer) = self.build(&flag, config, &composition)?;
        let source = FedSource::new(members, writer, built.state.clone());
        self.begin(built, Discoverer::Fed(Box::new(source)), authorities)
    }

    /// Lets a pool go on with another configuration; plugins that did not change keep what they learned. With any error
    /// the one before goes on, and all problems are returned, one line each.
    pub fn reconfigure(&self, namespace: &str, name: &str, config: Option<&str>) -> Result<(), Vec<String>> {
        let full_name = format!("{namespace}/{name}");
        let running = self.running.lock();
        let Some(pool) = running.get(&full_name) else {
            return Err(vec![format!("there is no pool {full_name}")]);
        };
        let config = config.unwrap_or(crate::config::DEFAULT_CONFIG);
        pool.following.exchange(&config_name(&full_name), config)
    }

    /// Has pools, by `namespace/name`, be called by these authorities, all at once. What one of them is called then, no
    /// other pool is, whether they run already or not.
    pub fn assign(&self, wanted: &BTreeMap<String, Vec<String>>) -> anyhow::Result<()> {
        let parsed = |(pool, texts): (&String, &Vec<String>)| {
            let authorities: Result<Vec<_>, _> = texts.iter().map(|text| Authority::parse(text)).collect();
            let authorities =
                authorities.map_err(|error| anyhow::anyhow!("authority of the pool {pool}: {error}"));
            Ok((pool.clone(), authorities?))
        };
        let wanted = wanted.iter().map(parsed).collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        Ok(self.pools.assign(&wanted)?)
    }

    /// Removes a pool: no call finds it from now on, and its tasks end. Calls that are under way end as they would have.
    /// Says whether it was there.
    pub fn remove(&self, namespace: &str, name: &str) -> bool {
        let full_name = format!("{namespace}/{name}");
        let mut running = self.running.lock();
        let removed = self.pools.remove(&full_name);
        running.remove(&full_name);
        removed
    }

    /// The pools, in the order in which they came.
    pub fn states(&self) -> Vec<Arc<PoolState>> {
        self.pools.all().iter().map(|pool| pool.state.clone()).collect()
    }

    /// The pools as calls find them.
    pub fn pools(&self) -> &Arc<Pools> {
        &self.pools
    }

    /// Adds the pool that a flag names; says whether it comes from a Kubernetes API.
    pub(super) async fn start(&self, flag: &PoolFlag, cluster: &mut Cluster) -> anyhow::Result<bool> {
        let (config, composition) = configuration(&self.args, flag, self.types)?;
        let (built, writer) = self.build(flag, config, &composition)?;
        let configured = built.state.pipeline().discovery.clone();
        let source = Source::choose(&self.args, flag.endpoints_file.as_deref(), configured)?;
        let in_cluster = matches!(source, Source::Cluster(_));
        let discoverer = source.open(cluster, writer, built.state.clone()).await?;
        self.begin(built, discoverer, flag.authorities.clone())?;
        Ok(in_cluster)
    }

    fn build(
        &self,
        flag: &PoolFlag,
        config: ConfigSource,
        composition: &Composition,
    ) -> anyhow::Result<(Built, StoreWriter)> {
        let (state, writer) = state(&self.args, self.clock, flag, composition);
        let registry = state.metrics.registry();
        let PoolState { name, store, clock, staleness, .. } = &*state;
        PoolCollector::register(registry, name, store.clone(), *clock, *staleness);
        let standing = Arc::new(config.standing(registry, composition)?);
        let scraper = scraper(&self.args, &state)?;
        let (config_file, costs) = config.into_parts();
        let layers = scraper.layer_check();
        let following = Following { pool: state.clone(), types: self.types, layers, standing, costs };
        Ok((Built { state, following: Arc::new(following), scraper, config_file }, writer))
    }

    /// Lets calls find it, and starts its tasks.
    fn begin(&self, built: Built, discoverer: Discoverer, authorities: Vec<Authority>) -> anyhow::Result<()> {
        let Built { state, following, scraper, config_file } = built;
        let mut running = self.running.lock();
        let hangup = config_file.is_some().then(|| signal(SignalKind::hangup())).transpose()?;
        let director = Arc::new(Director::new(state.clone(), self.rules));
        let picker = self.shared.picker(director.clone()).into_server();
        let synced = state.store.synced();
        let served = Served { state: state.clone(), director, standing: following.standing.clone(), picker };
        self.pools.insert(Arc::new(served), authorities)?;
        let mut tasks = Tasks::new();
        tasks.spawn(discoverer.run());
        if let Some((file, hangup)) = config_file.zip(hangup) {
            let following = following.clone();
            tasks.spawn(async move { ("config file", reload::run(file, hangup, following).await) });
        }
        let (snapshots, layers) = (state.store.watch(), state.watch_data_layer());
        tasks.spawn(async move {
            scraper.run(snapshots, layers).await;
            ("scraper", Ok(()))
        });
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(tasks, (synced, state.clone()), self.pools.clone(), self.ended.clone()));
        running.insert(state.full_name().to_owned(), Running { following, _tasks: keeper });
        Ok(())
    }
}

/// What messages call a configuration that was handed over.
fn config_name(full_name: &str) -> String {
    format!("configuration of {full_name}")
}

/// Sees to a pool's tasks, and says when the pool comes to be known or is so no more, and how it is called.
async fn keep(
    mut tasks: Tasks,
    (mut synced, pool): (watch::Receiver<bool>, Arc<PoolState>),
    pools: Arc<Pools>,
    ended: mpsc::Sender<Ended>,
) {
    let mut picker = pool.store.picker();
    picker.mark_changed();
    loop {
        tokio::select! {
            Ok(()) = picker.changed() => {
                let service = picker.borrow_and_update().clone();
                let service = service.map(|PickerService { name, port }| {
                    Authority::of_service(&name, &pool.namespace, port.or(Some(USUAL_PORT)))
                });
                pools.tell_service(pool.full_name(), service.as_ref());
            }
            end = tasks.join_next() => {
                let end = match end {
                    Some(Ok(end)) => end,
                    Some(Err(error)) => ("pool", Err(anyhow::anyhow!("a task panicked: {error}"))),
                    None => ("pool", Ok(())),
                };
                // An error means that the server itself is gone.
                let _ = ended.send(end).await;
                return;
            }
            Ok(()) = synced.changed() => pools.tell_synced(),
        }
    }
}

/// A pool without endpoints, and what writes them.
fn state(
    args: &ServeArgs,
    clock: Clock,
    flag: &PoolFlag,
    composition: &Composition,
) -> (Arc<PoolState>, StoreWriter) {
    let (store, writer) = datastore::store();
    let parts = PoolParts {
        name: flag.name.clone(),
        namespace: flag.namespace.clone(),
        store,
        metrics: Arc::new(Metrics::new()),
        staleness: args.scraping.metrics_staleness_threshold,
        decision_timeout: args.limits.decision_timeout,
        seed: rand::random(),
        emit_scores: args.listeners.emit_endpoint_scores,
    };
    let build = |slots: &_| Pipeline::build(composition, slots, None);
    (Arc::new(PoolState::new(parts, clock, build)), writer)
}

/// What stands for a pool where none is known of a request: it has no endpoints and no name.
pub(super) fn nobody(
    args: &ServeArgs,
    types: &'static [PluginType],
    clock: Clock,
) -> anyhow::Result<Arc<PoolState>> {
    let composition = ConfigSource::given("built-in default", None).first(types)?;
    Ok(state(args, clock, &PoolFlag::default(), &composition).0)
}

/// Reads a pool's configuration. If that fails, the error also says what is wrong with the endpoints file.
fn configuration(
    args: &ServeArgs,
    flag: &PoolFlag,
    types: &'static [PluginType],
) -> anyhow::Result<(ConfigSource, Composition)> {
    let read = || {
        let source = match &flag.config_file {
            Some(path) => {
                let own = ConfigArgs { config_file: Some(path.clone()), config_text: None, built_in: None };
                ConfigSource::open(&own, FILE_INTERVAL)
            }
            None => ConfigSource::open(&args.config, FILE_INTERVAL),
        }?;
        let composition = source.first(types)?;
        Ok((source, composition))
    };
    read().map_err(|error: anyhow::Error| {
        let file = flag.endpoints_file.as_deref();
        match file.map(|file| file_source::check(file, &flag.namespace)) {
            Some(Err(second)) => anyhow::anyhow!("{error:#}\n{second:#}"),
            _ => error,
        }
    })
}

fn scraper(args: &ServeArgs, pool: &PoolState) -> anyhow::Result<Scraper> {
    let port = args.scraping.model_server_metrics_port;
    let settings = ScrapeSettings {
        interval: args.scraping.refresh_metrics_interval.max(MIN_SCRAPE_INTERVAL),
        scheme: args.scraping.scheme(),
        verify: !args.scraping.model_server_metrics_https_insecure_skip_verify,
        path: args.scraping.model_server_metrics_path.clone(),
        port: (port != 0).then_some(port),
        specs: args.scraping.specs(),
        seed: rand::random(),
        ..ScrapeSettings::default()
    };
    let metrics = ScrapeMetrics::register(pool.metrics.registry())?;
    Ok(Scraper::build(settings, &pool.pipeline().data_layer, pool.clock, metrics)?)
}

/// Says so if scrapes come further apart than a flag asks for.
pub(super) fn review_interval(args: &ServeArgs) {
    let interval = args.scraping.refresh_metrics_interval.max(MIN_SCRAPE_INTERVAL);
    if interval != args.scraping.refresh_metrics_interval {
        tracing::warn!(?interval, "--refresh-metrics-interval is raised to the least that is sensible");
    }
}

//! A simulated model server: an engine at real time behind vLLM's HTTP routes. Entry point: [`SimServer::start`].
//! It reads no flags and no files; `sim/args.rs` does. Dropping a server cuts its connections, as a killed pod would.

mod answer;
mod call;
mod embeddings;
mod error;
mod live;
mod metrics;
mod page;
mod prefill;
mod record;
mod render;
mod routes;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::http1::{self, Limits};
use crate::sim::engine::{ConfigError, EngineConfig, Gauges};
use crate::sockets::sockets;
use live::Live;
use routes::App;

/// Clients may be silent for long, unlike vLLM's 5 s, so that none meets the race of a closing server.
const LIMITS: Limits = Limits { connections: 8192, silence: Duration::from_secs(600) };

/// What `?name[]=…` on the metrics page does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MetricsFilter {
    /// As on vLLM: filters on `/metrics/`, is ignored on `/metrics`.
    Honour,
    /// The whole page always.
    Ignore,
    /// As on SGLang: an empty page with status 200.
    Empty,
}

/// One server to start.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Its name in the header `x-sim-server`.
    pub name: String,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The names it serves, at least one. The first is the metrics page's.
    pub models: Vec<String>,
    /// Sizes and speeds.
    pub engine: EngineConfig,
    /// Servers of equal seed answer alike.
    pub seed: u64,
    /// How the metrics page filters; `None` leaves the page out (404).
    pub metrics: Option<MetricsFilter>,
    /// What the endpoints file says that it is for, as the label `llm-d.ai/role`; it behaves the same whatever that is.
    pub role: Option<String>,
}

impl Default for SimConfig {
    /// An 8B model on one H100, on a free loopback port.
    fn default() -> Self {
        Self {
            name: "sim-0".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            models: vec!["sim-model".to_owned()],
            engine: EngineConfig::default(),
            seed: 0,
            metrics: Some(MetricsFilter::Honour),
            role: None,
        }
    }
}

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The engine cannot be made.
    #[error(transparent)]
    Engine(#[from] ConfigError),
    /// No model is named.
    #[error("server `{0}` has no model, expected at least one name")]
    NoModel(String),
    /// The name does not fit into a header.
    #[error("server name `{0}` cannot be a header value")]
    Name(String),
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A running server. Dropping it closes the port and cuts all connections at once.
#[derive(Debug)]
pub struct SimServer {
    name: String,
    role: Option<String>,
    addr: SocketAddr,
    live: Arc<Live>,
    tasks: JoinSet<()>,
}

impl SimServer {
    /// Binds and serves. Must be called inside a tokio runtime.
    pub async fn start(config: SimConfig) -> Result<Self, StartError> {
        let SimConfig { name, listen, models, engine, seed, metrics, role } = config;
        if models.is_empty() {
            return Err(StartError::NoModel(name));
        }
        let header = HeaderValue::from_str(&name).map_err(|_invalid| StartError::Name(name.clone()))?;
        let live = Arc::new(Live::new(engine, seed)?);
        let failed = |source| StartError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let app = App {
            live: Arc::clone(&live),
            name: header,
            models,
            metrics,
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64()),
            http: parking_lot::Mutex::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(http1::serve(sockets(listener), LIMITS, routes::router(Arc::new(app))));
        let driven = Arc::clone(&live);
        tasks.spawn(async move { driven.drive().await });
        Ok(Self { name, role, addr, live, tasks })
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for, if the start said so.
    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The engine's state now.
    pub fn gauges(&self) -> Gauges {
        self.live.gauges()
    }

    /// Waits for a task of the server to end, which only a defect brings about.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }
}

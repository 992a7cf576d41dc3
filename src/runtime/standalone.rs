//! `epp standalone`: gateways of manifests on this machine. Entry point: [`run`].
//!
//! One process picks for all pools, limits rates, simulates model servers if asked to, and looks after Envoy. What it
//! reads is read again and again; what is new is put to use in an order that fails no request, and what is wrong is told
//! and changes nothing.

mod fed_pools;
mod inputs;
mod machine;
mod sims;
pub mod status;

use std::fs::{File, TryLockError};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use epp_framework::plugin::PluginType;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

use self::inputs::Texts;
pub use self::inputs::{Inputs, Read};
use self::machine::Machine;
use crate::args::ServeArgs;
use crate::standalone::render::PortMap;
use crate::standalone::supervise::{self, EnvoyError, Status, Supervisor, binary};
use crate::standalone::topology::Address;

/// What is to be run, and how.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What is read.
    pub inputs: Inputs,
    /// Whether model servers are simulated.
    pub simulate: bool,
    /// Where listeners listen.
    pub address: IpAddr,
    /// On which ports.
    pub ports: PortMap,
    /// Envoy's binary, if not the first that is found.
    pub envoy: Option<PathBuf>,
    /// Envoy's threads.
    pub concurrency: Option<u32>,
    /// How long replaced listeners and requests may go on.
    pub drain: Duration,
    /// A rate limit service that is there already.
    pub rate_limit_service: Option<Address>,
    /// Where files for Envoy, its admin socket and the status are.
    pub folder: PathBuf,
    /// The file that is told of requests.
    pub access_log: String,
    /// Whether clients may say objectives and other things that the picker minds.
    pub trust_client_headers: bool,
    /// Longest body that is held in one piece.
    pub buffer_bytes: u32,
    /// Authorities of upstreams that name none.
    pub authorities: PathBuf,
    /// How pools are served. Ports of ext_proc and health are the system's choice.
    pub serve: ServeArgs,
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(setup: Setup, types: &'static [PluginType]) -> anyhow::Result<()> {
    let mut stop = Stop::heard()?;
    let (inputs, drain) = (setup.inputs.clone(), setup.drain);
    let texts = read(&inputs).await?;
    let understood = inputs.understand(&texts, types)?;
    understood.tell();
    let envoy = binary::find(setup.envoy.as_deref()).await?;
    tracing::info!(binary = %envoy.path.display(), version = %envoy.version, "envoy");

    let (folder, _lock) = own(&setup.folder)?;
    let mut machine = Machine::start(setup, folder, types).await?;
    let supervisor = tokio::select! {
        supervisor = machine.bring_up(understood, &envoy) => supervisor?,
        () = stop.asked() => return Ok(()),
    };
    let mut supervised = Supervised::of(supervisor);
    machine.report(&supervised.status.borrow(), None);
    machine.announce();
    let ended = machine.follow(&mut supervised, (inputs, texts, types), &mut stop).await;
    machine.leave();
    supervised.stop.send_replace(true);
    let end = async {
        supervised.task.join_next().await;
        machine.epp.drain(Duration::ZERO, drain).await;
    };
    tokio::select! {
        () = end => ended,
        () = stop.asked_again() => bail!("a second signal came while draining"),
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    is_asked: bool,
}

impl Stop {
    fn heard() -> anyhow::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, is_asked: false })
    }

    /// Waits until one came. Cancel-safe.
    async fn asked(&mut self) {
        if !self.is_asked {
            self.asked_again().await;
            self.is_asked = true;
        }
    }

    /// Waits for another one.
    async fn asked_again(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {} _ = self.interrupt.recv() => {} }
    }
}

async fn read(inputs: &Inputs) -> anyhow::Result<Texts> {
    let inputs = inputs.clone();
    spawn_blocking(move || inputs.texts()).await?
}

/// Envoy, in the care of a task.
struct Supervised {
    status: watch::Receiver<Status>,
    handle: supervise::Handle,
    stop: watch::Sender<bool>,
    task: JoinSet<Result<(), EnvoyError>>,
}

impl Supervised {
    fn of(supervisor: Supervisor) -> Self {
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let (status, handle) = (supervisor.status(), supervisor.handle());
        let mut task = JoinSet::new();
        task.spawn(supervisor.run(async move {
            // An error means that whoever started it is gone.
            let _ = stopped.wait_for(|&stop| stop).await;
        }));
        Self { status, handle, stop, task }
    }
}

/// Makes the folder, if need be for its owner alone, and keeps other processes out of it as long as the lock lives.
fn own(folder: &Path) -> anyhow::Result<(PathBuf, File)> {
    let folder = std::path::absolute(folder)?;
    let shown = folder.display();
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(&folder).with_context(|| format!("cannot make {shown}"))?;
    let lock = File::create(folder.join(status::LOCK)).with_context(|| format!("cannot write to {shown}"))?;
    match lock.try_lock() {
        Ok(()) => {
            // What another run left is neither true nor anybody's to read.
            std::fs::remove_file(folder.join(status::FILE)).ok();
            std::fs::remove_dir_all(folder.join(machine::FILES)).ok();
            Ok((folder, lock))
        }
        Err(TryLockError::WouldBlock) => {
            bail!("another `epp standalone` runs in {shown}; give this one a --run-dir of its own")
        }
        Err(TryLockError::Error(error)) => Err(error).context(format!("cannot lock {shown}")),
    }
}

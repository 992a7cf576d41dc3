//! Envoy as a child: started, watched, started again when it dies, and ended in order. Entry point: [`Supervisor`].
//!
//! It knows nothing of what Envoy is told to do: that is in the bootstrap file and in those that
//! [`XdsFolder`](super::xds_folder::XdsFolder) writes.

pub mod admin;
pub mod binary;
pub mod ports;
mod process;
pub mod restarts;
pub mod words;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, timeout};

use self::admin::{Admin, AdminAddress};
use self::process::Process;
use self::restarts::{RestartPolicy, Restarts};
use self::words::{LOG_FORMAT, Words, address_in_use, unescaped};
use crate::clock::Clock;

/// From one question whether Envoy is ready, or idle, to the next.
const POLL: Duration = Duration::from_millis(20);

/// How long Envoy may take to end once it was asked to.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Last words that an error tells, of all that are kept.
const TOLD: usize = 10;

/// How Envoy is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The binary.
    pub binary: PathBuf,
    /// Its configuration; the ending of its name tells YAML (`.yaml`) from JSON.
    pub bootstrap: PathBuf,
    /// Where that configuration has the admin interface.
    pub admin: AdminAddress,
    /// Worker threads; `None` is one for each core.
    pub concurrency: Option<u32>,
    /// How long a listener that is replaced lets its connections be, and how long requests may take to end when
    /// Envoy is stopped; whole seconds.
    pub drain: Duration,
    /// How much it logs.
    pub log_level: LogLevel,
    /// How long it may take to be ready.
    pub ready_within: Duration,
    /// How it is started again.
    pub restarts: RestartPolicy,
}

/// How much Envoy logs. Less than warnings would hide why it does not take a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// What is wrong.
    #[default]
    Warning,
    /// What it does.
    Info,
    /// More. It may hold bytes of requests.
    Debug,
}

impl LogLevel {
    fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl Settings {
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--config-path".into(), self.bootstrap.clone().into()];
        let drain = self.drain.as_secs().max(1).to_string();
        // With hot restarts Envoy would end with the thread that started it. Clients of a listener that is replaced are
        // asked to leave from the first answer on: what is still there at the end of the time is cut.
        arguments.extend(
            ["--disable-hot-restart", "--drain-strategy", "immediate", "--drain-time-s", &drain]
                .map(Into::into),
        );
        arguments.extend(["--log-level", self.log_level.name()].map(Into::into));
        arguments.extend(["--log-format", LOG_FORMAT, "--log-format-escaped"].map(Into::into));
        if let Some(n) = self.concurrency {
            arguments.extend(["--concurrency".to_owned(), n.to_string()].map(Into::into));
        }
        arguments
    }
}

/// How Envoy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// Its process; `None` while there is none.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// Since when it is in this state.
    pub since: SystemTime,
    /// What it said last, at most 50 lines, if it has died; oldest first.
    pub last_words: Vec<String>,
}

/// What Envoy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was started, and is not ready yet.
    Starting,
    /// It serves.
    Ready,
    /// It has died, and is started again after this time.
    Waiting(Duration),
    /// It was asked to end; requests end.
    Stopping,
    /// It was ended.
    Stopped,
    /// It has died too often.
    GivenUp,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            State::Starting => f.write_str("starting")?,
            State::Ready => f.write_str("ready")?,
            State::Waiting(wait) => write!(f, "died, is started again in {} s", wait.as_secs())?,
            State::Stopping => f.write_str("stopping")?,
            State::Stopped => f.write_str("stopped")?,
            State::GivenUp => f.write_str("died too often")?,
        }
        if let Some(pid) = self.pid {
            write!(f, ", process {pid}")?;
        }
        match self.restarts {
            0 => Ok(()),
            n => write!(f, ", started again {n} times"),
        }
    }
}

/// Why Envoy does not run.
#[derive(Debug, thiserror::Error)]
pub enum EnvoyError {
    /// It could not be started.
    #[error("cannot start envoy: {0}")]
    Spawn(#[source] io::Error),
    /// Somebody else listens where it should.
    #[error("envoy cannot listen on {0}: the address is in use by another program")]
    InUse(String),
    /// It ended before it was ready, or in spite of it.
    #[error("envoy ended ({how}); its last words: {words}")]
    Died {
        /// Its status.
        how: Ended,
        /// What it said last.
        words: String,
    },
    /// It was not ready in time.
    #[error("envoy was not ready within {} s; its last words: {words}", .within.as_secs_f32())]
    NotReady {
        /// The time that it had.
        within: Duration,
        /// What it said last.
        words: String,
    },
    /// It died again and again.
    #[error("envoy died {deaths} times within {} s, giving up: {last}", .within.as_secs_f32())]
    GivenUp {
        /// How often.
        deaths: usize,
        /// Within which time.
        within: Duration,
        /// The last time.
        last: Box<Self>,
    },
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended(io::Result<ExitStatus>);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(status) => status.fmt(f),
            Err(error) => write!(f, "with a status that cannot be read: {error}"),
        }
    }
}

/// The ways to a running Envoy: it is asked, and heard. Stays good when Envoy is started again.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Its admin interface.
    pub admin: Admin,
    /// What it says.
    pub words: Arc<Words>,
}

/// Envoy, and whoever looks after it. Dropping it kills Envoy.
#[derive(Debug)]
pub struct Supervisor {
    settings: Settings,
    handle: Handle,
    status: watch::Sender<Status>,
    process: Option<Process>,
    started: Instant,
}

impl Supervisor {
    /// Starts Envoy and waits until it is ready. It is not started again if that fails: then its configuration, or
    /// its surroundings, are wrong.
    pub async fn start(settings: Settings) -> Result<Self, EnvoyError> {
        let handle = Handle { admin: Admin::new(settings.admin.clone()), words: Arc::default() };
        let status = Status {
            state: State::Starting,
            pid: None,
            restarts: 0,
            since: SystemTime::now(),
            last_words: Vec::new(),
        };
        let status = watch::Sender::new(status);
        let mut supervisor = Self { settings, handle, status, process: None, started: Instant::now() };
        supervisor.bring_up().await?;
        Ok(supervisor)
    }

    /// How Envoy is, from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The ways to Envoy.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Keeps Envoy running until `stop` is done, then ends it in order. Fails if it dies too often.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), EnvoyError> {
        let stopped = tokio::select! {
            given_up = self.keep() => Err(given_up),
            () = stop => Ok(()),
        };
        if stopped.is_ok() {
            self.stop().await;
        }
        stopped
    }

    /// Starts it again whenever it dies, until it has died too often.
    async fn keep(&mut self) -> EnvoyError {
        let clock = Clock::start();
        let mut restarts = Restarts::new(self.settings.restarts);
        loop {
            let mut why = self.death().await;
            loop {
                let last_words = self.handle.words.last();
                let Some(wait) = restarts.died(clock.now(), self.started.elapsed()) else {
                    self.enter(State::GivenUp, |status| status.last_words = last_words);
                    let RestartPolicy { deaths, within, .. } = self.settings.restarts;
                    return EnvoyError::GivenUp { deaths, within, last: Box::new(why) };
                };
                tracing::error!(error = %why, wait_seconds = wait.as_secs_f32(), "Envoy died; starting it again");
                self.enter(State::Waiting(wait), |status| status.last_words = last_words);
                sleep(wait).await;
                self.status.send_modify(|status| status.restarts += 1);
                match self.bring_up().await {
                    Ok(()) => break,
                    Err(error) => why = error,
                }
            }
            tracing::info!(pid = self.pid(), "Envoy serves again");
        }
    }

    /// Starts it and waits until it is ready; leaves no process behind if that fails.
    async fn bring_up(&mut self) -> Result<(), EnvoyError> {
        self.started = Instant::now();
        if let AdminAddress::Unix(path) = &self.settings.admin {
            // That of a life before; Envoy would not start.
            tokio::fs::remove_file(path).await.ok();
        }
        let spawned = Process::spawn(&self.settings.binary, &self.settings.arguments(), &self.handle.words);
        self.process = Some(spawned.map_err(EnvoyError::Spawn)?);
        self.enter(State::Starting, |_| {});
        let within = self.settings.ready_within;
        let admin = self.handle.admin.clone();
        let failure = tokio::select! {
            ready = timeout(within, ready(&admin)) => {
                if ready.is_ok() {
                    self.enter(State::Ready, |_| {});
                    return Ok(());
                }
                self.kill().await;
                EnvoyError::NotReady { within, words: self.last_words() }
            }
            died = self.death() => {
                let lines = self.handle.words.last();
                address_in_use(lines.iter().map(String::as_str)).map_or(died, EnvoyError::InUse)
            }
        };
        self.process = None;
        Err(failure)
    }

    /// Waits for its death. Cancel-safe.
    async fn death(&mut self) -> EnvoyError {
        let Some(process) = &mut self.process else { return std::future::pending().await };
        let how = Ended(process.ended().await);
        self.process = None;
        EnvoyError::Died { how, words: self.last_words() }
    }

    async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Takes no more connections, lets requests end, then ends Envoy; kills it if it does not.
    async fn stop(&mut self) {
        self.enter(State::Stopping, |_| {});
        let (admin, drain) = (self.handle.admin.clone(), self.settings.drain);
        let orderly = async {
            // Answers then tell clients to close their connections.
            admin.post("/healthcheck/fail").await?;
            admin.post("/drain_listeners").await?;
            if timeout(drain, idle(&admin)).await.is_err() {
                tracing::warn!(
                    drain_seconds = drain.as_secs(),
                    "requests are cut off that did not end in time"
                );
            }
            admin.post("/quitquitquit").await
        };
        let ended = async {
            tokio::select! {
                asked = orderly => if let Err(error) = asked {
                    tracing::warn!(%error, "Envoy is killed");
                    return Some(());
                },
                _ = self.death() => return None,
            }
            timeout(END_WITHIN, self.death()).await.err().map(drop)
        };
        if pin!(ended).await.is_some() {
            self.kill().await;
        }
        self.enter(State::Stopped, |_| {});
    }

    fn pid(&self) -> Option<u32> {
        self.process.as_ref().and_then(Process::pid)
    }

    fn enter(&self, state: State, change: impl FnOnce(&mut Status)) {
        let pid = self.pid();
        self.status.send_modify(|status| {
            (status.state, status.pid, status.since) = (state, pid, SystemTime::now());
            change(status);
        });
    }

    fn last_words(&self) -> String {
        let lines = self.handle.words.last();
        let lines = &lines[lines.len().saturating_sub(TOLD)..];
        if lines.is_empty() {
            return "none".to_owned();
        }
        lines.iter().map(|line| unescaped(line)).collect::<Vec<_>>().join(" | ")
    }
}

async fn ready(admin: &Admin) {
    let mut ticks = interval(POLL);
    loop {
        ticks.tick().await;
        if admin.get("/ready").await.is_ok_and(|said| said.trim() == "LIVE") {
            return;
        }
    }
}

/// Waits until no request is under way and no byte of an answer waits to be sent.
async fn idle(admin: &Admin) {
    // downstream_(rq_active|cx_tx_bytes_buffered)$
    const BUSY: &str = "/stats?filter=downstream_%28rq_active%7Ccx_tx_bytes_buffered%29%24";
    let mut ticks = interval(POLL);
    loop {
        ticks.tick().await;
        let Ok(page) = admin.get(BUSY).await else { continue };
        let mut lines =
            page.lines().filter(|line| line.starts_with("http.") && !line.starts_with("http.admin."));
        if lines.all(|line| line.ends_with(": 0")) {
            return;
        }
    }
}

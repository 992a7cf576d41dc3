//! A real Envoy as a child process: entry point [`Envoy::start`].
//!
//! The binary is `$ENVOY`, or what `tools/envoy.py` finds. Ports are chosen by the system and read back from the admin
//! interface. Dropping the value kills the process; so does the end of the test process, however it comes. When the
//! test fails, the access log and Envoy's own log are shown. Knows nothing of what the configuration means.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::envoy_config::EnvoySetup;
use crate::support::{Protocol, client, eventually, leash};

/// A running Envoy with one HTTP listener.
pub(crate) struct Envoy {
    leash: Child,
    folder: TempDir,
    admin: String,
    listener: SocketAddr,
    asker: reqwest::Client,
}

impl Envoy {
    /// Starts Envoy and waits until it takes requests.
    pub(crate) async fn start(setup: EnvoySetup) -> Self {
        Self::with(|access_log| setup.render(access_log)).await
    }

    /// Starts Envoy with this bootstrap configuration, which is told where its access log may go, and waits until it
    /// takes requests.
    pub(crate) async fn with(config: impl FnOnce(&Path) -> Value) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let text = config(&access_log_in(folder.path())).to_string();
        Self::start_in(folder, &text).await
    }

    /// Starts Envoy with a configuration in YAML, whose access log goes to `/dev/stdout` and is ours here.
    pub(crate) async fn with_config(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let access_log = access_log_in(folder.path()).display().to_string();
        Self::start_in(folder, &config.replace("/dev/stdout", &access_log)).await
    }

    /// JSON is YAML as well.
    async fn start_in(folder: TempDir, text: &str) -> Self {
        let config = folder.path().join("envoy.yaml");
        fs::write(&config, text).expect("the folder is ours");
        let mut envoy = Self {
            leash: spawn(folder.path(), &config),
            folder,
            admin: String::new(),
            listener: ([127, 0, 0, 1], 0).into(),
            asker: client(Protocol::Http1),
        };
        envoy.admin = eventually("Envoy opened its admin port", async || {
            let ended = envoy.leash.try_wait().expect("the child is ours");
            assert!(ended.is_none(), "Envoy did not start: {ended:?}");
            fs::read_to_string(envoy.folder.path().join("admin")).ok().filter(|address| !address.is_empty())
        })
        .await;
        eventually("Envoy is ready", async || envoy.ask("/ready").await.filter(|said| said.trim() == "LIVE"))
            .await;
        envoy.listener = envoy.find_listener().await;
        envoy
    }

    /// The base address for requests, without a slash at its end: `http://127.0.0.1:port`.
    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.listener)
    }

    /// The value of the counter or gauge with this full name, such as `http.it.ext_proc.streams_started`.
    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let page = self.ask("/stats").await.expect("Envoy is up");
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.ok_or(name).expect("Envoy has the stat").parse().expect("the stat is a number")
    }

    /// Waits until every `ext_proc` stream has ended, then asserts that Envoy found no fault with any of them.
    pub(crate) async fn assert_clean(&self) {
        eventually("every ext_proc stream ended", async || {
            (self.stat("cluster.epp.upstream_rq_active").await == 0).then_some(())
        })
        .await;
        for name in ["spurious_msgs_received", "streams_failed", "server_half_closed"] {
            assert_eq!(self.stat(&format!("http.it.ext_proc.{name}")).await, 0, "{name}");
        }
    }

    /// The access log as written so far: one line per finished request, up to 50 ms late.
    pub(crate) fn access_log(&self) -> String {
        fs::read_to_string(access_log_in(self.folder.path())).unwrap_or_default()
    }

    /// GET on the admin interface; nothing unless it is up and answers 200.
    async fn ask(&self, path: &str) -> Option<String> {
        let answer = self.asker.get(format!("http://{}{path}", self.admin)).send().await.ok()?;
        answer.error_for_status().ok()?.text().await.ok()
    }

    async fn find_listener(&self) -> SocketAddr {
        let page = self.ask("/listeners?format=json").await.expect("Envoy is ready");
        let page: Value = serde_json::from_str(&page).expect("JSON was asked for");
        let address = &page["listener_statuses"][0]["local_address"]["socket_address"];
        let ip = address["address"].as_str().expect("the listener has an address");
        let port = address["port_value"].as_u64().expect("the listener has a port");
        format!("{ip}:{port}").parse().expect("an address and a port")
    }
}

impl Drop for Envoy {
    #[expect(clippy::print_stderr, reason = "shown with the test that failed")]
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            // Let the last lines reach the files; Envoy flushes every 50 ms.
            std::thread::sleep(Duration::from_millis(200));
        }
        drop(self.leash.stdin.take());
        self.leash.wait().ok();
        if failed {
            let log = fs::read_to_string(log_in(self.folder.path())).unwrap_or_default();
            eprintln!("--- access log\n{}--- Envoy's log\n{log}---", self.access_log());
        }
    }
}

fn access_log_in(folder: &Path) -> PathBuf {
    folder.join("access.log")
}

fn log_in(folder: &Path) -> PathBuf {
    folder.join("envoy.log")
}

fn spawn(folder: &Path, config: &Path) -> Child {
    let log = File::create(log_in(folder)).expect("the folder is ours");
    leash::command(binary())
        .arg("--config-path")
        .arg(config)
        .arg("--admin-address-path")
        .arg(folder.join("admin"))
        .args(["--disable-hot-restart", "--concurrency", "1"])
        .args(["--file-flush-interval-msec", "50", "--log-level", "warning"])
        .stdout(log.try_clone().expect("a handle can be doubled"))
        .stderr(log)
        .spawn()
        .expect("there is a shell")
}

/// What Envoy says of a configuration that it does not take; nothing of one that it takes.
pub(crate) fn validate(config: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("envoy.yaml");
    fs::write(&path, config).expect("the folder is ours");
    let mut command = Command::new(binary());
    command.args(["--disable-hot-restart", "--mode", "validate", "--log-level", "warning", "--config-path"]);
    let run = command.arg(&path).output().expect("Envoy runs");
    if run.status.success() { String::new() } else { String::from_utf8_lossy(&run.stderr).into_owned() }
}

/// The path of the Envoy binary, found once per process.
pub(crate) fn binary() -> &'static OsString {
    static BINARY: OnceLock<OsString> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("ENVOY").filter(|path| !path.is_empty()) {
            return path;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/envoy.py");
        let run = Command::new("python3").arg(script).output().expect("there is a python3");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).expect("the path is UTF-8").trim_end().into()
    })
}

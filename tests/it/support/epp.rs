//! The `epp` binary as a child process: entry point [`Epp::start`].
//!
//! Ports are chosen by the system and read back from its log, which is JSON and kept. Dropping the value kills it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use epp::health::wire::{HealthListRequest, HealthListResponse};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::support::{Protocol, client, eventually, leash};

/// What a test wants of its `epp`. Start from [`EppSetup::new`] and override fields.
#[derive(Clone, Debug)]
pub(crate) struct EppSetup {
    /// Members of the pool, named `server-0`, `server-1` …
    pub(crate) endpoints: Vec<SocketAddr>,
    /// What each of them is for, as the label `llm-d.ai/role`; those beyond this list, or with an empty text, say nothing.
    pub(crate) roles: Vec<&'static str>,
    /// The configuration file; the seeds' unless said.
    pub(crate) config: String,
    /// Whether `ext_proc` speaks TLS.
    pub(crate) secure: bool,
    /// Further arguments.
    pub(crate) args: Vec<String>,
    /// Further variables of the environment.
    pub(crate) env: Vec<(String, String)>,
    /// What it is started with in a cluster, instead of a pool's name, an endpoints file and ports.
    pub(crate) cluster: Option<InCluster>,
}

/// How a Deployment starts it.
#[derive(Clone, Debug)]
pub(crate) struct InCluster {
    /// Who it is, and where the API is.
    pub(crate) kubeconfig: PathBuf,
    /// Its arguments; ports of theirs are replaced by the system's choice, `/config` by a folder of the test.
    pub(crate) args: Vec<String>,
}

impl EppSetup {
    /// The seeds' configuration over these endpoints, in clear text.
    pub(crate) fn new(endpoints: &[SocketAddr]) -> Self {
        let config = super::hermetic::SEED_CONFIG.to_owned();
        let endpoints = endpoints.to_vec();
        let (roles, args, env) = (Vec::new(), Vec::new(), Vec::new());
        Self { endpoints, roles, config, secure: false, args, env, cluster: None }
    }

    /// The seeds' configuration over a pool of a Kubernetes API, in clear text.
    pub(crate) fn of_pool(pool: &str, kubeconfig: PathBuf) -> Self {
        let args = ["--pool-name", pool, "--grpc-port", "9002", "--grpc-health-port", "9003"];
        let args = args.into_iter().chain(["--config-file", "/config/default-plugins.yaml"]);
        let cluster = InCluster { kubeconfig, args: args.map(str::to_owned).collect() };
        Self { cluster: Some(cluster), ..Self::new(&[]) }
    }
}

/// A running `epp`.
pub(crate) struct Epp {
    leash: Child,
    folder: TempDir,
    pid: u64,
    /// Where `ext_proc` listens.
    pub(crate) ext_proc: SocketAddr,
    /// Where gRPC health listens.
    pub(crate) health: SocketAddr,
    /// Where metrics and debug pages listen.
    pub(crate) metrics: SocketAddr,
}

impl Epp {
    /// Starts `epp` over these endpoints and waits until it listens.
    pub(crate) async fn start(endpoints: &[SocketAddr]) -> Self {
        Self::with(EppSetup::new(endpoints)).await
    }

    /// Starts `epp` and waits until it listens.
    pub(crate) async fn with(setup: EppSetup) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        fs::write(folder.path().join("config.yaml"), &setup.config).expect("the folder is ours");
        fs::write(folder.path().join("endpoints.yaml"), with_roles(&setup.endpoints, &setup.roles))
            .expect("the folder is ours");
        let leash = spawn(folder.path(), &setup);
        let nowhere = ([127, 0, 0, 1], 0).into();
        let mut epp = Self { leash, folder, pid: 0, ext_proc: nowhere, health: nowhere, metrics: nowhere };
        let serving = eventually("epp listens", async || {
            let ended = epp.leash.try_wait().expect("the child is ours");
            assert!(ended.is_none(), "epp did not start: {}", epp.log());
            epp.log_lines().into_iter().find(|line| line["msg"] == "serving")
        })
        .await;
        let at = |name: &str| {
            let bound: SocketAddr = serving[name].as_str().expect("an address").parse().expect("an address");
            SocketAddr::from(([127, 0, 0, 1], bound.port()))
        };
        epp.pid = serving["pid"].as_u64().expect("a number");
        (epp.ext_proc, epp.health, epp.metrics) = (at("ext_proc"), at("health"), at("metrics"));
        epp
    }

    /// Everything it logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its log lines so far, those that are JSON.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The path of its endpoints file.
    pub(crate) fn endpoints_file(&self) -> PathBuf {
        self.folder.path().join("endpoints.yaml")
    }

    /// The path of its configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// GET on the metrics port.
    pub(crate) async fn get(&self, path: &str) -> String {
        let answer = client(Protocol::Http1).get(format!("http://{}{path}", self.metrics)).send().await;
        answer.expect("the metrics port answers").text().await.expect("the page is text")
    }

    /// The value of the series whose line begins with `series`, such as `inference_pool_ready_pods{name="it"}`.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let page = self.get("/metrics").await;
        page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// The last decisions, newest first.
    pub(crate) async fn decisions(&self) -> Vec<Value> {
        let page: Value = serde_json::from_str(&self.get("/debug/decisions?limit=256").await).expect("JSON");
        page["decisions"].as_array().expect("a list").clone()
    }

    /// The health of `service`.
    pub(crate) async fn health(&self, service: &str) -> ServingStatus {
        let mut client = self.health_client(false).await;
        let request = HealthCheckRequest { service: service.to_owned() };
        client.check(request).await.expect("Check is implemented").into_inner().status()
    }

    /// A client of the health service on the health port, or beside `ext_proc` in clear text.
    pub(crate) async fn health_client(&self, beside_ext_proc: bool) -> HealthClient<Channel> {
        let at = if beside_ext_proc { self.ext_proc } else { self.health };
        let endpoint = Endpoint::from_shared(format!("http://{at}")).expect("an address");
        HealthClient::new(endpoint.connect().await.expect("the port answers"))
    }

    /// Name and status of the services that `List` tells of, in order of name.
    pub(crate) async fn health_list(&self, beside_ext_proc: bool) -> Vec<(String, i32)> {
        let at = if beside_ext_proc { self.ext_proc } else { self.health };
        let endpoint = Endpoint::from_shared(format!("http://{at}")).expect("an address");
        let mut client = tonic::client::Grpc::new(endpoint.connect().await.expect("the port answers"));
        client.ready().await.expect("it is connected");
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/List");
        let codec = tonic_prost::ProstCodec::<HealthListRequest, HealthListResponse>::default();
        let request = tonic::Request::new(HealthListRequest {});
        let listed = client.unary(request, path, codec).await.expect("List is implemented").into_inner();
        let mut listed: Vec<_> = listed.statuses.into_iter().map(|(name, of)| (name, of.status)).collect();
        listed.sort();
        listed
    }

    /// Waits until nothing is held: no request runs, no stream is open, nothing is in flight.
    pub(crate) async fn wait_until_idle(&self) {
        eventually("nothing is held", async || {
            let page = self.get("/metrics").await;
            let held = |line: &str| {
                let gauge = line.starts_with("inference_model_running_requests")
                    || line.starts_with("epp_extproc_streams ");
                gauge && !line.ends_with(" 0")
            };
            (!page.lines().any(held)).then_some(())
        })
        .await;
    }

    /// Its memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let ps = Command::new("ps").args(["-o", "rss=", "-p", &self.pid.to_string()]).output();
        let kib = String::from_utf8(ps.expect("there is ps").stdout).expect("a number");
        kib.trim().parse::<u64>().expect("a number") << 10
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal("HUP");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid)).status();
        assert!(status.expect("there is a shell").success());
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually("epp ended", async || self.leash.try_wait().expect("the child is ours")).await
    }
}

impl Drop for Epp {
    #[expect(clippy::print_stderr, reason = "shown with the test that failed")]
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        self.leash.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- epp's log\n{}---", self.log());
        }
    }
}

/// An endpoints file with these members.
pub(crate) fn endpoints_yaml(endpoints: &[SocketAddr]) -> String {
    with_roles(endpoints, &[])
}

/// The same with what each of them is for; see [`EppSetup::roles`].
pub(crate) fn with_roles(endpoints: &[SocketAddr], roles: &[&str]) -> String {
    let entry = |(n, at): (usize, &SocketAddr)| {
        let role = roles.get(n).filter(|role| !role.is_empty());
        let labels = role.map_or(String::new(), |role| format!(", labels: {{llm-d.ai/role: {role}}}"));
        format!("- {{name: server-{n}, address: \"{}\", port: {}{labels}}}\n", at.ip(), at.port())
    };
    let entries: String = endpoints.iter().enumerate().map(entry).collect();
    if entries.is_empty() { "endpoints: []\n".to_owned() } else { format!("endpoints:\n{entries}") }
}

/// Runs `epp` with these arguments and ports of the system's choice; what it says when it refuses to start.
pub(crate) fn refused_start(args: &[impl AsRef<OsStr>]) -> String {
    let run = Command::new(env!("CARGO_BIN_EXE_epp"))
        .args(args)
        .args(["--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "0"])
        .stdin(Stdio::null())
        .output()
        .expect("there is a binary");
    assert!(!run.status.success());
    String::from_utf8_lossy(&run.stderr).into_owned()
}

fn spawn(folder: &Path, setup: &EppSetup) -> Child {
    let log = File::create(folder.join("log")).expect("the folder is ours");
    let mut command = leash::command(env!("CARGO_BIN_EXE_epp"));
    if let Some(cluster) = &setup.cluster {
        let config = folder.join("config.yaml").display().to_string();
        let here = |arg: &String| match arg.as_str() {
            "9002" | "9003" => "0".to_owned(),
            "/config/default-plugins.yaml" => config.clone(),
            _ => arg.clone(),
        };
        command.args(cluster.args.iter().map(here)).env("KUBECONFIG", &cluster.kubeconfig);
        // Tests read the page; one that is about who may sets the flag behind this one.
        command.arg("--metrics-endpoint-auth=false");
    } else {
        command
            .args(["--pool-name", "it", "--grpc-port", "0", "--grpc-health-port", "0", "--config-file"])
            .arg(folder.join("config.yaml"))
            .arg("--endpoints-file")
            .arg(folder.join("endpoints.yaml"));
    }
    command
        .args(["--metrics-port", "0", "--zap-encoder", "json", "--v", "5"])
        .arg(format!("--secure-serving={}", setup.secure))
        .args(&setup.args)
        .envs(setup.env.iter().cloned())
        .stdout(log.try_clone().expect("a handle can be doubled"))
        .stderr(log)
        .spawn()
        .expect("there is a shell")
}

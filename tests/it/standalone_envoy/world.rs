//! A supervised Envoy with a small configuration of one listener, clusters and routes: [`World`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use epp::standalone::supervise::admin::AdminAddress;
use epp::standalone::supervise::restarts::RestartPolicy;
use epp::standalone::supervise::{EnvoyError, Handle, LogLevel, Settings, State, Status, Supervisor};
use epp::standalone::xds::{XdsFile, XdsKind};
use epp::standalone::xds_folder::XdsFolder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::support::envoy::binary;
use crate::support::{Protocol, client, eventually};

/// Waits that do not make tests long.
const QUICK: RestartPolicy = RestartPolicy {
    first: Duration::from_millis(10),
    longest: Duration::from_millis(40),
    deaths: 5,
    within: Duration::from_secs(60),
};

/// What Envoy is told.
#[derive(Clone)]
pub(super) struct Plan {
    /// Name and place of each cluster.
    pub(super) clusters: BTreeMap<&'static str, SocketAddr>,
    /// Clusters that get requests, with their weights.
    pub(super) shares: Vec<(&'static str, u32)>,
    /// Tells versions of the listener apart.
    pub(super) listener: u32,
    /// The name of the routes.
    pub(super) routes: &'static str,
    /// Certificate and key of the listener.
    pub(super) certificate: Option<(String, String)>,
    /// The listener's port; 0 is any.
    pub(super) port: u16,
}

impl Plan {
    /// All requests go to the first of these clusters.
    pub(super) fn new(clusters: &[(&'static str, SocketAddr)]) -> Self {
        Self {
            clusters: clusters.iter().copied().collect(),
            shares: vec![(clusters[0].0, 1)],
            listener: 1,
            routes: "default/gw/http",
            certificate: None,
            port: 0,
        }
    }

    /// As files in this folder.
    pub(super) fn files(&self, root: &Path) -> Vec<XdsFile> {
        let routes = format!("rds/{}.yaml", self.routes.replace('/', "~"));
        let source = |path: &str| json!({ "path_config_source": { "path": root.join(path) }, "resource_api_version": "V3" });
        let shares = self.shares.iter().map(|(name, weight)| json!({ "name": name, "weight": weight }));
        let shares = json!({ "clusters": shares.collect::<Vec<_>>() });
        let route =
            json!({ "match": { "prefix": "/" }, "route": { "weighted_clusters": shares, "timeout": "0s" } });
        let hosts = json!([{ "name": "all", "domains": ["*"], "routes": [route] }]);
        let mut chain = json!({ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": extension("filters.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": "it",
                "server_name": format!("version-{}", self.listener),
                "rds": { "route_config_name": self.routes, "config_source": source(&routes) },
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": { "@type": extension("filters.http.router.v3.Router") },
                }],
            },
        }] });
        let mut files = Vec::new();
        if let Some((certificate, key)) = &self.certificate {
            let secret = json!({ "name": "default/cert", "sds_config": source("sds/default~cert.yaml") });
            chain["transport_socket"] = json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": extension("transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": { "tls_certificate_sds_secret_configs": [secret] },
            } });
            files.push(file(
                XdsKind::Secret,
                "sds/default~cert.yaml",
                &json!({
                    "@type": extension("transport_sockets.tls.v3.Secret"), "name": "default/cert",
                    "tls_certificate": {
                        "certificate_chain": { "inline_string": certificate },
                        "private_key": { "inline_string": key },
                    },
                }),
            ));
        }
        files.push(self.clusters_file());
        files.push(file(
            XdsKind::Routes,
            &routes,
            &json!({
                "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
                "name": self.routes, "virtual_hosts": hosts,
            }),
        ));
        files.push(file(
            XdsKind::Listeners,
            "lds.yaml",
            &json!({
                "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
                "name": "default/gw/http",
                "address": { "socket_address": { "address": "127.0.0.1", "port_value": self.port } },
                "filter_chains": [chain],
            }),
        ));
        files
    }

    /// The clusters alone.
    pub(super) fn clusters_file(&self) -> XdsFile {
        let cluster = |(name, address): (&&str, &SocketAddr)| {
            let address = json!({ "address": address.ip(), "port_value": address.port() });
            json!({
                "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                "name": name, "type": "STATIC", "connect_timeout": "1s",
                "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [
                    { "endpoint": { "address": { "socket_address": address } } },
                ] }] },
            })
        };
        let clusters: Vec<_> = self.clusters.iter().map(cluster).collect();
        XdsFile {
            path: "cds.yaml".to_owned(),
            kind: XdsKind::Clusters,
            text: json!({ "resources": clusters }).to_string(),
        }
    }
}

fn file(kind: XdsKind, path: &str, resource: &Value) -> XdsFile {
    XdsFile { path: path.to_owned(), kind, text: json!({ "resources": [resource] }).to_string() }
}

fn extension(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}

/// A folder with a bootstrap configuration, and how Envoy is run with it.
pub(super) fn settings(folder: &Path) -> Settings {
    let (bootstrap, admin) = (folder.join("envoy.yaml"), folder.join("admin"));
    let source = |path: &str| {
        let path = xds(folder).join(path);
        json!({ "path_config_source": { "path": path }, "resource_api_version": "V3" })
    };
    let config = json!({
        "node": { "id": "it", "cluster": "it" },
        "admin": { "address": { "pipe": { "path": admin, "mode": 0o600 } } },
        "dynamic_resources": { "lds_config": source("lds.yaml"), "cds_config": source("cds.yaml") },
    });
    std::fs::write(&bootstrap, config.to_string()).unwrap();
    Settings {
        binary: PathBuf::from(binary()),
        bootstrap,
        admin: AdminAddress::Unix(admin),
        concurrency: Some(1),
        drain: Duration::from_secs(30),
        log_level: LogLevel::Warning,
        ready_within: Duration::from_secs(30),
        restarts: QUICK,
    }
}

/// Where the files are that Envoy watches.
pub(super) fn xds(folder: &Path) -> PathBuf {
    folder.join("xds")
}

/// A running Envoy.
pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) xds: XdsFolder,
    pub(super) envoy: Handle,
    pub(super) status: watch::Receiver<Status>,
    /// Ends Envoy in order.
    pub(super) stop: Option<oneshot::Sender<()>>,
    supervised: JoinSet<Result<(), EnvoyError>>,
}

impl World {
    pub(super) async fn start(plan: &Plan) -> Self {
        Self::draining(plan, Duration::from_secs(30)).await
    }

    /// One whose listeners, once replaced, let their connections be for so long.
    pub(super) async fn draining(plan: &Plan, drain: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut files = XdsFolder::new(xds(folder.path()));
        files.fill(plan.files(&xds(folder.path()))).await.unwrap();
        let settings = Settings { drain, ..settings(folder.path()) };
        let supervisor = Supervisor::start(settings).await.unwrap();
        let (envoy, status) = (supervisor.handle(), supervisor.status());
        files.confirm_start(&envoy).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let mut supervised = JoinSet::new();
        supervised.spawn(supervisor.run(async {
            stopped.await.ok();
        }));
        Self { folder, xds: files, envoy, status, stop: Some(stop), supervised }
    }

    /// How the supervision ended.
    pub(super) async fn ended(&mut self) -> Result<(), EnvoyError> {
        self.supervised.join_next().await.unwrap().unwrap()
    }

    /// Changes Envoy's files; all of them must be confirmed.
    pub(super) async fn apply(&mut self, plan: &Plan, between: Option<&XdsFile>) -> Vec<String> {
        let files = plan.files(&xds(self.folder.path()));
        let applied = self.xds.apply(files, between, Duration::from_secs(60), &self.envoy).await.unwrap();
        assert_eq!(applied.unconfirmed, [""; 0]);
        applied.written
    }

    /// Where the listener is.
    pub(super) async fn listener(&self) -> SocketAddr {
        let page = eventually("Envoy tells its listener", async || {
            let page = self.envoy.admin.get("/listeners?format=json").await.ok()?;
            let page: Value = serde_json::from_str(&page).unwrap();
            Some(page["listener_statuses"][0]["local_address"]["socket_address"].clone())
                .filter(|at| !at.is_null())
        });
        let at = page.await;
        format!("{}:{}", at["address"].as_str().unwrap(), at["port_value"]).parse().unwrap()
    }

    /// Asks the listener once: status and the `server` header.
    pub(super) async fn asked(&self) -> (u16, String) {
        let url = format!("http://{}/", self.listener().await);
        let answer = client(Protocol::Http1).get(url).send().await.unwrap();
        let server = answer.headers().get("server").map_or("", |server| server.to_str().unwrap());
        (answer.status().as_u16(), server.to_owned())
    }

    /// The value of one of Envoy's statistics.
    pub(super) async fn stat(&self, name: &str) -> u64 {
        let page = self.envoy.admin.get("/stats").await.unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("Envoy has no {name}")).parse().unwrap()
    }

    /// Waits until Envoy is in this state after so many restarts.
    pub(super) async fn state(&mut self, state: State, restarts: u32) -> Status {
        let there = self.status.wait_for(|status| status.state == state && status.restarts == restarts);
        tokio::time::timeout(Duration::from_secs(60), there).await.unwrap().unwrap().clone()
    }
}

/// Requests without a pause, over connections that are kept and over new ones.
pub(super) struct Load {
    tasks: JoinSet<(usize, Vec<String>)>,
    over: Arc<AtomicBool>,
}

impl Load {
    pub(super) fn on(listener: SocketAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for is_kept in [true, true, false] {
            let over = Arc::clone(&over);
            tasks.spawn(async move {
                let kept = client(Protocol::Http1);
                let (mut n, mut failures) = (0, Vec::new());
                while !over.load(Ordering::Relaxed) {
                    let asker = if is_kept { kept.clone() } else { client(Protocol::Http1) };
                    let answer = asker.get(format!("http://{listener}/")).send().await;
                    let failure = match answer {
                        Ok(answer) => Some(answer.status().to_string()).filter(|status| status != "200 OK"),
                        Err(error) => Some(format!("{error:?}")),
                    };
                    failures.extend(failure);
                    n += 1;
                }
                (n, failures)
            });
        }
        Self { tasks, over }
    }

    /// Ends it; none of its requests, of which there must be some, may have failed.
    pub(super) async fn assert_served(mut self) {
        self.over.store(true, Ordering::Relaxed);
        while let Some(done) = self.tasks.join_next().await {
            let (n, failures) = done.unwrap();
            assert!(n > 0 && failures.is_empty(), "{n} requests, failures: {failures:#?}");
        }
    }
}

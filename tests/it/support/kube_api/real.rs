//! A real `kube-apiserver` over an `etcd` of its own, as child processes: entry point [`Real::start`].

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};

use super::access::{ADMIN, Access, USERS, groups, token};
use crate::support::{eventually, leash};

/// Ports are chosen before the server takes them; somebody else may be quicker.
const ATTEMPTS: usize = 3;

/// Needs controllers, or changes what was applied.
const DISABLED_ADMISSION: &str = "DefaultTolerationSeconds,NamespaceLifecycle,ServiceAccount";

/// The two processes, killed when dropped.
pub(super) struct Real {
    /// Where the API is, as an URL.
    pub(super) url: String,
    etcd: Child,
    apiserver: Child,
}

impl Real {
    /// Starts both from the folder `assets`, and waits until the API is ready.
    pub(super) async fn start(assets: &Path, access: &Access) -> Self {
        write_files(access);
        for _ in 0..ATTEMPTS {
            let mut real = Self::spawn(assets, access);
            let client = access.client(&real.url, ADMIN).await;
            let ready = eventually("the Kubernetes API is ready", async || {
                if real.has_ended() {
                    return Some(false);
                }
                let request = http::Request::get("/readyz").body(Vec::new()).expect("a path");
                client.request_text(request).await.is_ok_and(|text| text == "ok").then_some(true)
            });
            if ready.await {
                return real;
            }
        }
        let log = |name: &str| fs::read_to_string(access.folder().join(name)).unwrap_or_default();
        panic!("no Kubernetes API came up:\n{}\n{}", log("etcd.log"), log("apiserver.log"));
    }

    fn spawn(assets: &Path, access: &Access) -> Self {
        let folder = access.folder();
        let [etcd_at, peer_at, api_at] = free_ports();
        let file = |name: &str| folder.join(name).display().to_string();
        let etcd_url = format!("http://127.0.0.1:{etcd_at}");
        let etcd_args = [
            format!("--data-dir={}", file(&format!("etcd-{etcd_at}"))),
            format!("--listen-client-urls={etcd_url}"),
            format!("--advertise-client-urls={etcd_url}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer_at}"),
            "--unsafe-no-fsync".to_owned(),
        ];
        let api_args = [
            format!("--etcd-servers={etcd_url}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={api_at}"),
            format!("--tls-cert-file={}", file("tls.crt")),
            format!("--tls-private-key-file={}", file("tls.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            format!("--disable-admission-plugins={DISABLED_ADMISSION}"),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--enable-priority-and-fairness=false".to_owned(),
            format!("--cert-dir={}", file("certificates")),
        ];
        Self {
            url: format!("https://127.0.0.1:{api_at}"),
            etcd: child(&assets.join("etcd"), &etcd_args, &folder.join("etcd.log")),
            apiserver: child(&assets.join("kube-apiserver"), &api_args, &folder.join("apiserver.log")),
        }
    }

    fn has_ended(&mut self) -> bool {
        [&mut self.etcd, &mut self.apiserver].into_iter().any(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

fn child(program: &Path, args: &[String], log: &Path) -> Child {
    let log = File::create(log).expect("the folder is ours");
    let mut command = leash::command(program);
    command.args(args).stdout(Stdio::from(log.try_clone().expect("a file"))).stderr(log);
    command.spawn().expect("there is a shell")
}

fn write_files(access: &Access) {
    let folder = access.folder();
    access.server.write(folder);
    let accounts = rcgen::KeyPair::generate().expect("keys can be made");
    let users = [ADMIN].into_iter().chain(USERS);
    let line = |user| {
        let groups = groups(user).join(",");
        let groups = if groups.is_empty() { groups } else { format!(",\"{groups}\"") };
        format!("{},{user},{user}{groups}\n", token(user))
    };
    let tokens: String = users.map(line).collect();
    for (name, text) in [
        ("accounts.key", accounts.serialize_pem()),
        ("accounts.pub", accounts.public_key_pem()),
        ("tokens.csv", tokens),
    ] {
        fs::write(folder.join(name), text).expect("the folder is ours");
    }
}

fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

impl Drop for Real {
    fn drop(&mut self) {
        for child in [&mut self.apiserver, &mut self.etcd] {
            drop(child.stdin.take());
            child.wait().ok();
        }
    }
}

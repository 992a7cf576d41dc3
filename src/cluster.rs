//! The way to a Kubernetes API: [`Cluster`] finds the configuration and makes the client that everything shares.
//!
//! Nothing is asked here: whoever uses the client says what it needs, and what it means if that cannot be had.

use std::error::Error;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long a connection to the API may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The Kubernetes API of this process, if it needs one.
pub struct Cluster {
    kubeconfig: Option<PathBuf>,
    client: Option<Client>,
}

impl Cluster {
    /// Remembers what the flag says; looks for nothing yet.
    pub fn new(kubeconfig: Option<PathBuf>) -> Self {
        Self { kubeconfig, client: None }
    }

    /// The client, which the first who asks makes. Fails if no API is known, or what says where it is cannot be read.
    pub async fn client(&mut self) -> anyhow::Result<Client> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = connect(self.kubeconfig.as_deref()).await?;
        Ok(self.client.insert(client).clone())
    }
}

/// Looks where Go's client looks, in this order: the flag, `$KUBECONFIG`, the service account of the pod,
/// `~/.kube/config`.
async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let mut config = config(kubeconfig).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Who asks waits and asks again by itself; a second layer of retries would only hide for how long.
    config.default_retry = false;
    Client::try_from(config).context("the configuration of the Kubernetes API cannot be used")
}

async fn config(flag: Option<&Path>) -> anyhow::Result<Config> {
    if let Some(path) = flag {
        return from_file(path).await.with_context(|| format!("--kubeconfig {}", path.display()));
    }
    let options = KubeConfigOptions::default();
    if let Some(paths) = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty()) {
        let paths = PathBuf::from(paths);
        let config = Config::from_kubeconfig(&options).await.map_err(plain);
        return config.with_context(|| format!("KUBECONFIG={}", paths.display()));
    }
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        let text = "the pod's service account in /var/run/secrets/kubernetes.io/serviceaccount (is \
                    automountServiceAccountToken false?)";
        return Config::incluster_env().map_err(plain).context(text);
    }
    Config::from_kubeconfig(&options).await.map_err(plain).context(
        "no Kubernetes API is known: this is no pod with a service account, and neither --kubeconfig nor KUBECONFIG nor \
         ~/.kube/config names one (a pool without Kubernetes takes --endpoints-file)",
    )
}

async fn from_file(path: &Path) -> anyhow::Result<Config> {
    let file = Kubeconfig::read_from(path).map_err(plain)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(plain)
}

/// These errors repeat their sources in their own words.
fn plain(error: impl Display) -> anyhow::Error {
    anyhow::Error::msg(error.to_string())
}

/// The error with its causes, which the texts of the client leave out. What a program said that was asked for
/// credentials is left out: it may be them.
pub fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => return format!("{}: {}", status.code, status.message),
        kube::Error::Auth(_) => return "no credentials for the Kubernetes API could be had".to_owned(),
        _ => {}
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

//! Who may knock: users with their tokens, and the files by which clients reach the API. Entry point [`Access::new`].

use std::fs;
use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tempfile::TempDir;

use crate::support::tls::{Authority, Issued};

/// The user whom everything is allowed.
pub(crate) const ADMIN: &str = "admin";

/// Who has a token, besides [`ADMIN`].
pub(crate) const USERS: [&str; 7] = [
    "alice",
    "bob",
    "system:serviceaccount:default:default",
    "system:serviceaccount:default:epp",
    "system:serviceaccount:default:mistral-epp",
    "system:serviceaccount:default:nobody",
    "system:serviceaccount:monitoring:prometheus",
];

/// Tokens, the server's certificate, and files for clients.
pub(super) struct Access {
    authority: Authority,
    pub(super) server: Issued,
    folder: TempDir,
}

impl Access {
    pub(super) fn new() -> Self {
        let authority = Authority::new();
        let server = authority.issue_for(&["127.0.0.1", "localhost"]);
        Self { authority, server, folder: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the configuration with which a client reaches `server` as this user.
    pub(super) fn kubeconfig(&self, server: &str, user: &str) -> PathBuf {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
            "clusters": [{
                "name": "test",
                "cluster": { "server": server, "certificate-authority": self.authority.file() },
            }],
            "users": [{ "name": "test", "user": { "token": token(user) } }],
        });
        let port = server.rsplit(':').next().unwrap_or_default();
        // `KUBECONFIG` is a list of paths with colons between them.
        let path = self.folder().join(format!("{port}-{}.kubeconfig", user.replace(':', "-")));
        fs::write(&path, config.to_string()).expect("the folder is ours");
        path
    }

    /// A client that reaches `server` as this user.
    pub(super) async fn client(&self, server: &str, user: &str) -> Client {
        let file = Kubeconfig::read_from(self.kubeconfig(server, user)).expect("just written");
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        let mut config = config.expect("it is whole");
        // A test that makes the API fail wants to see it.
        config.default_retry = false;
        Client::try_from(config).expect("it can be used")
    }
}

/// The token of one of [`USERS`] or [`ADMIN`].
pub(crate) fn token(user: &str) -> String {
    assert!(user == ADMIN || USERS.contains(&user), "{user} has no token; `USERS` lists who has");
    format!("token-of-{}", user.replace(':', "-"))
}

/// The groups in which a real server sees this user.
pub(super) fn groups(user: &str) -> Vec<String> {
    let mut groups = Vec::new();
    if user == ADMIN {
        groups.push("system:masters".to_owned());
    }
    if let Some((namespace, _)) =
        user.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':'))
    {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    groups
}

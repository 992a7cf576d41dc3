//! A Kubernetes API for tests: entry point [`KubeApi::start`].
//!
//! Where `KUBEBUILDER_ASSETS` names a folder with `kube-apiserver` and `etcd`, as `setup-envtest` makes it, those are
//! started; else a [`Double`] answers. Both are reached over HTTPS, hold the same users, and run no controllers: pods
//! are ready when somebody writes so. What only the double can do is on [`Double`].

mod access;
mod double;
mod real;

use std::env;
use std::path::{Path, PathBuf};

use http::{Method, Request};
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use self::access::Access;
pub(crate) use self::access::{ADMIN, USERS, token};
pub(crate) use self::double::{Delivery, Double, Order};
use self::real::Real;
use super::eventually;

/// A running API with its users.
pub(crate) struct KubeApi {
    server: Server,
    access: Access,
    admin: Client,
}

enum Server {
    Real(Real),
    Double(Box<Double>),
}

impl KubeApi {
    /// Starts the real one if there is one, else the double. No definition is applied yet.
    pub(crate) async fn start() -> Self {
        match Self::start_real().await {
            Some(real) => real,
            None => Self::start_double().await,
        }
    }

    /// Starts the double; [`KubeApi::double`] makes it fail.
    pub(crate) async fn start_double() -> Self {
        let access = Access::new();
        let double = Double::start(access.server.acceptor());
        for user in [ADMIN].into_iter().chain(USERS) {
            let mut groups = access::groups(user);
            groups.push("system:authenticated".to_owned());
            double.admit(token(user), user, groups);
        }
        let admin = access.client(&format!("https://{}", double.back()), ADMIN).await;
        Self { server: Server::Double(Box::new(double)), access, admin }
    }

    // Starts the real one, if `KUBEBUILDER_ASSETS` says where it is.
    async fn start_real() -> Option<Self> {
        let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|assets| !assets.is_empty())?;
        let access = Access::new();
        let real = Real::start(Path::new(&assets), &access).await;
        let admin = access.client(&real.url, ADMIN).await;
        Some(Self { server: Server::Real(real), access, admin })
    }

    /// Whether this is a real `kube-apiserver`.
    pub(crate) fn is_real(&self) -> bool {
        matches!(self.server, Server::Real(_))
    }

    /// What only the double can do.
    pub(crate) fn double(&self) -> &Double {
        match &self.server {
            Server::Double(double) => double,
            Server::Real(_) => panic!("faults need `start_double`"),
        }
    }

    /// A file with which a client is one of [`USERS`] or [`ADMIN`].
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.access.kubeconfig(&self.url(), user)
    }

    /// A client that may do everything, and meets no faults.
    pub(crate) fn client(&self) -> Client {
        self.admin.clone()
    }

    /// A client as such a user, which meets the faults.
    pub(crate) async fn client_of(&self, user: &str) -> Client {
        self.access.client(&self.url(), user).await
    }

    fn url(&self) -> String {
        match &self.server {
            Server::Real(real) => real.url.clone(),
            Server::Double(double) => format!("https://{}", double.front()),
        }
    }

    /// Defines the kind of this resource and group, such as `inferencepools.inference.networking.k8s.io`.
    pub(crate) async fn define(&self, resource: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/crds");
        let text = std::fs::read_to_string(folder.join(format!("{resource}.yaml")));
        self.apply(&text.expect("a file in tests/it/fixtures/crds")).await;
    }

    /// Creates each document of a YAML or JSON text, or replaces what is there, status and all. Returns when
    /// definitions and permissions are in force. Namespaced objects without a namespace go to `default`.
    pub(crate) async fn apply(&self, text: &str) {
        let objects = documents(text);
        for object in &objects {
            self.put(object).await;
        }
        for definition in objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition") {
            self.established(definition).await;
        }
        let role = |object: &Value| object["apiVersion"] == "rbac.authorization.k8s.io/v1";
        if self.is_real() && objects.iter().any(role) {
            self.permissions_are_in_force().await;
        }
    }

    async fn put(&self, object: &Value) {
        let key = object["metadata"]["name"].as_str().expect("objects have a name");
        let (collection, name) = place(object, key);
        let path = format!("{collection}/{name}");
        let mut stored = match self.send(Method::POST, &collection, object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                self.change(&path, |current| {
                    let mut new = object.clone();
                    new["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
                    new
                })
                .await
            }
            stored => stored.unwrap_or_else(|error| panic!("{object}: {error}")),
        };
        if object["status"].is_object() {
            stored["status"] = object["status"].clone();
            let path = format!("{path}/status");
            self.send(Method::PUT, &path, &stored).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        }
    }

    /// Replaces an object by what becomes of its newest version.
    async fn change(&self, path: &str, become_of: impl Fn(Value) -> Value) -> Value {
        eventually("nobody else changes the object", async || {
            let current = self.send(Method::GET, path, &Value::Null).await.expect("it was there");
            match self.send(Method::PUT, path, &become_of(current)).await {
                Err(kube::Error::Api(status)) if status.is_conflict() => None,
                stored => Some(stored.unwrap_or_else(|error| panic!("{path}: {error}"))),
            }
        })
        .await
    }

    /// Deletes an object at once, whatever its grace period. The key is `namespace/name`, or a name alone.
    pub(crate) async fn delete(&self, api_version: &str, kind: &str, key: &str) {
        let (collection, name) = place(&json!({ "apiVersion": api_version, "kind": kind }), key);
        let path = format!("{collection}/{name}");
        self.send(Method::DELETE, &path, &json!({ "gracePeriodSeconds": 0 }))
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// An object, if it is there.
    pub(crate) async fn get(&self, api_version: &str, kind: &str, key: &str) -> Option<Value> {
        let (collection, name) = place(&json!({ "apiVersion": api_version, "kind": kind }), key);
        self.send(Method::GET, &format!("{collection}/{name}"), &Value::Null).await.ok()
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> kube::Result<Value> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        self.admin.request(request.body(body).expect("paths are valid")).await
    }

    async fn established(&self, definition: &Value) {
        let spec = &definition["spec"];
        let (group, plural) = (spec["group"].as_str(), spec["names"]["plural"].as_str());
        let (group, plural) = (group.expect("it has one"), plural.expect("it has one"));
        for version in spec["versions"].as_array().into_iter().flatten() {
            let version = version["name"].as_str().expect("it has one");
            let path = format!("/apis/{group}/{version}/{plural}");
            eventually("the definition is in force", async || {
                self.send(Method::GET, &path, &Value::Null).await.ok()
            })
            .await;
        }
    }

    /// A real server learns of roles and bindings by watches; what it is told last, it knows last.
    async fn permissions_are_in_force(&self) {
        for (role, binding) in [("Role", "RoleBinding"), ("ClusterRole", "ClusterRoleBinding")] {
            let rules = json!([{ "apiGroups": ["test"], "resources": [uuid()], "verbs": ["get"] }]);
            let resource = rules[0]["resources"][0].clone();
            let kind = |kind: &str| {
                json!({
                    "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": { "name": resource },
                    "rules": rules,
                    "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": resource },
                    "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "last" }],
                })
            };
            self.put(&kind(role)).await;
            self.put(&kind(binding)).await;
            let attributes =
                json!({ "namespace": "default", "verb": "get", "group": "test", "resource": resource });
            let review = json!({ "spec": { "user": "last", "resourceAttributes": attributes } });
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            eventually("the permissions are in force", async || {
                let answer = self.send(Method::POST, path, &review).await.expect("reviews are answered");
                (answer["status"]["allowed"] == true).then_some(())
            })
            .await;
        }
    }
}

/// The documents of a YAML or JSON text.
fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    let objects = documents.map(|document| Value::deserialize(document).expect("the text is YAML"));
    objects.filter(|object| !object.is_null()).collect()
}

/// The path of an object's collection, and its name. A key without a namespace is `default`'s.
fn place(object: &Value, key: &str) -> (String, String) {
    const CLUSTERS: [&str; 5] =
        ["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace", "Node"];
    let (api_version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
    let (api_version, kind) = (api_version.expect("objects say it"), kind.expect("objects say it"));
    let root = if api_version.contains('/') { "/apis" } else { "/api" };
    let (namespace, name) = match key.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => (object["metadata"]["namespace"].as_str().unwrap_or("default"), key),
    };
    let within = if CLUSTERS.contains(&kind) { String::new() } else { format!("/namespaces/{namespace}") };
    (format!("{root}/{api_version}{within}/{}s", kind.to_lowercase()), name.to_owned())
}

/// A name that nobody else has.
fn uuid() -> String {
    format!("last-{:016x}", rand::random::<u64>())
}

/// A ready pod in `default` with a label `app`.
pub(crate) fn pod(name: &str, app: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "labels": { "app": app } },
        "spec": { "containers": [{ "name": "server", "image": "server:1" }] },
        "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{ "ip": ip }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

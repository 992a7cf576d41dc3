//! A Kubernetes API in this process, and what can go wrong with it: entry point [`Double::start`].
//!
//! It stores any object of a kind that it knows or was given a definition for, with versions, watches, permissions and
//! the words of the real one. It runs no controller and no admission, and of patches knows the merge patch.
//!
//! It has two ports with the same content. Faults are for the one that the configurations of users name; the other is
//! the test's own, so that a test can change things while the API is in trouble.

mod faults;
mod kinds;
mod list;
mod object;
mod rbac;
mod review;
mod route;
mod schema;
mod selector;
mod serve;
mod status;
mod store;
mod watch;
mod write;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use self::faults::Faults;
pub(crate) use self::faults::{Delivery, Order};
use self::kinds::Kind;
use self::rbac::Asker;
use self::serve::{Front, Service};
use self::store::Store;
use super::documents;
use crate::support::server_runtime;

/// The roles that every cluster has, as far as somebody here could need them.
const BUILT_IN_ROLES: &str = include_str!("double/roles.yaml");

/// What all requests share.
struct Cluster {
    store: Mutex<Store>,
    tokens: Mutex<HashMap<String, Asker>>,
}

impl Cluster {
    /// Whose request this is; nobody's if the token is not known.
    fn who(&self, headers: &HeaderMap) -> Option<Asker> {
        let Some(header) = headers.get(header::AUTHORIZATION) else {
            let groups = vec!["system:unauthenticated".to_owned()];
            return Some(Asker { user: "system:anonymous".to_owned(), groups });
        };
        self.bearer(header.to_str().ok()?.strip_prefix("Bearer ")?)
    }

    fn bearer(&self, token: &str) -> Option<Asker> {
        self.tokens.lock().get(token).cloned()
    }
}

/// The double, running until dropped.
pub(crate) struct Double {
    cluster: Arc<Cluster>,
    faults: Arc<Faults>,
    front: Front,
    back: Front,
    cutter: Mutex<Option<AbortHandle>>,
    runtime: Option<Runtime>,
}

impl Double {
    /// Starts it; it knows no token yet.
    pub(super) fn start(tls: TlsAcceptor) -> Self {
        let cluster = Arc::new(Cluster { store: Mutex::new(Store::new()), tokens: Mutex::default() });
        let (faults, runtime) = (Arc::<Faults>::default(), server_runtime("kube-api"));
        let mut service = Service { cluster: cluster.clone(), faults: None, tls };
        let back = Front::open(service.clone(), runtime.handle().clone());
        service.faults = Some(faults.clone());
        let front = Front::open(service, runtime.handle().clone());
        let double = Self { cluster, faults, front, back, cutter: Mutex::default(), runtime: Some(runtime) };
        for role in documents(BUILT_IN_ROLES) {
            double.put(role);
        }
        double.compact();
        double
    }

    /// The port that users are told of, with faults.
    pub(super) fn front(&self) -> SocketAddr {
        self.front.at
    }

    /// The port without faults.
    pub(super) fn back(&self) -> SocketAddr {
        self.back.at
    }

    /// Believes a token.
    pub(super) fn admit(&self, token: String, user: &str, groups: Vec<String>) {
        self.cluster.tokens.lock().insert(token, Asker { user: user.to_owned(), groups });
    }

    /// Believes no token of this user any more.
    pub(crate) fn revoke(&self, user: &str) {
        self.cluster.tokens.lock().retain(|_, asker| asker.user != user);
    }

    /// Stores an object with its status as one change and without a request: for thousands of them.
    pub(crate) fn put(&self, object: Value) {
        let mut store = self.cluster.store.lock();
        let kind = kind_of(&store, &object);
        write::overwrite(&mut store, &kind, object);
    }

    /// Takes out the object of the kind, namespace and name of this one, likewise.
    pub(crate) fn take(&self, object: &Value) {
        let mut store = self.cluster.store.lock();
        let kind = kind_of(&store, object);
        let key = ["namespace", "name"].map(|part| object::text(&object["metadata"][part]));
        store.take(&kind, &key.into()).expect("the object is there");
    }

    /// Cuts the connections of all watches.
    pub(crate) fn cut_watches(&self) {
        self.faults.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Goes on cutting them, or ceases to.
    pub(crate) fn cut_watches_every(&self, period: Option<Duration>) {
        let faults = self.faults.clone();
        let task = period.map(|period| {
            let runtime = self.runtime.as_ref().expect("it runs until dropped");
            let cutting = runtime.spawn(async move {
                let mut ticks = tokio::time::interval(period);
                loop {
                    ticks.tick().await;
                    faults.cuts.send_modify(|cuts| *cuts += 1);
                }
            });
            cutting.abort_handle()
        });
        if let Some(before) = std::mem::replace(&mut *self.cutter.lock(), task) {
            before.abort();
        }
    }

    /// Answers every request with this status code, or truly again. Open watches go on.
    pub(crate) fn answer_with(&self, code: Option<u16>) {
        *self.faults.answer.lock() = code;
    }

    /// Accepts connections and answers nothing, nor do watches tell anything; or goes on where it was.
    pub(crate) fn hang(&self, hung: bool) {
        self.faults.hung.send_replace(hung);
    }

    /// Closes the port and every connection, until [`Double::come_back`].
    pub(crate) async fn go_down(&self) {
        self.front.close().await;
    }

    /// Listens on the same port again.
    pub(crate) fn come_back(&self) {
        self.front.listen();
    }

    /// Forgets all history: open watches end with 410, and so do watches from any version that was told so far.
    pub(crate) fn compact(&self) {
        self.cluster.store.lock().forget();
    }

    /// Has watches tell what happens in this way.
    pub(crate) fn deliver(&self, delivery: Delivery) {
        *self.faults.delivery.lock() = delivery;
    }
}

fn kind_of(store: &Store, object: &Value) -> Arc<Kind> {
    let api_version = object["apiVersion"].as_str().expect("objects say their version");
    let mut kinds = store.kinds().iter();
    let kind = kinds.find(|kind| object["kind"] == *kind.name && kind.api_version() == api_version);
    kind.unwrap_or_else(|| panic!("{api_version} {} is not defined", object["kind"])).clone()
}

impl Drop for Double {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

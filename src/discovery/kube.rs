//! Follows a pool through a Kubernetes API; [`KubeSource::run`] is the entry point.
//!
//! A follower a kind (`follow`) tells the one owner here, which asks the pure [`PoolIndex`] what that changes and
//! writes it to the store. The pool's pods are selected by the API: of the others nothing comes over the wire. Kinds
//! other than pods and the pool are optional: where one is not installed or may not be read, what it asks for is off.

mod follow;
pub mod kinds;
mod lines;
mod standing;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::follow::{Follower, Message, Selection};
use self::kinds::{Kind, MODELS, OBJECTIVES, PODS, REWRITES, pools};
use self::standing::Standings;
use super::Change;
use super::index::endpoints::PoolSpec;
use super::index::rewrites::PoolRef;
use super::index::{Event, PoolIndex, Update};
use crate::datastore::StoreWriter;
use crate::pool::PoolState;

/// Messages that wait for the owner; followers wait beyond.
const INBOX: usize = 1024;

/// After a change of endpoints, how long further ones gather: a rollout is some snapshots, not one for each pod.
const SETTLE: Duration = Duration::from_millis(10);

/// How often the log tells of a state that ages.
const REMINDER: Duration = Duration::from_secs(60);

/// What makes a pool.
#[derive(Clone, Debug)]
pub enum PoolSource {
    /// An `InferencePool` of this API group, by the pool's name.
    Object {
        /// The group.
        group: String,
    },
    /// The pods that a label selector matches, without any object of the Inference Extension.
    Selector {
        /// The selector, as the API takes it.
        selector: String,
        /// Ports that traffic goes to.
        target_ports: Vec<u16>,
    },
}

/// A Kubernetes API, as a source of a pool.
pub struct KubeSource {
    client: Client,
    source: PoolSource,
    writer: StoreWriter,
    pool: Arc<PoolState>,
    index: PoolIndex,
    /// Which pods are followed; the follower of pods listens.
    pods: watch::Sender<Option<Selection>>,
    /// Whether the API said that there is no such pool.
    missing: bool,
}

impl KubeSource {
    /// Makes the source of `pool`; asks nothing yet.
    pub fn new(client: Client, source: PoolSource, writer: StoreWriter, pool: Arc<PoolState>) -> Self {
        let group = match &source {
            PoolSource::Object { group } => group.clone(),
            PoolSource::Selector { .. } => String::new(),
        };
        let reference = PoolRef { name: pool.name.clone(), group };
        let index = PoolIndex::new(pool.namespace.clone(), reference);
        Self { client, source, writer, pool, index, pods: watch::Sender::default(), missing: false }
    }

    /// Follows the pool for ever.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let (out, mut inbox) = mpsc::channel(INBOX);
        let mut followers = Followers::new(&self, out);
        followers.start(PODS, true, self.pods.subscribe());
        match &self.source {
            PoolSource::Object { group } => {
                let pool = format!("metadata.name={}", self.pool.name);
                followers.start(
                    pools(group),
                    true,
                    always(Selection { fields: pool, ..Selection::default() }),
                );
                let all = || always(Selection::default());
                for kind in OBJECTIVES {
                    followers.start(kind, false, all());
                }
                for kind in REWRITES {
                    followers.start(kind, false, all());
                }
                followers.start(MODELS, false, all());
            }
            PoolSource::Selector { selector, target_ports } => {
                let labels = selector.clone();
                self.pods.send_replace(Some(Selection { labels, ..Selection::default() }));
                let spec = PoolSpec { target_ports: target_ports.clone(), ..PoolSpec::default() };
                self.index.tell(Event::Pool(Some(spec)));
                self.index.update();
            }
        }
        let (standings, mut tasks) = followers.registered(&self.pool)?;
        let mut reminder = tokio::time::interval(REMINDER);
        reminder.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(message) = inbox.recv() => {
                    self.take(message, &standings);
                    while let Ok(message) = inbox.try_recv() {
                        self.take(message, &standings);
                    }
                    if self.apply(&standings) {
                        tokio::time::sleep(SETTLE).await;
                    }
                }
                _ = reminder.tick() => {
                    standings.tell_age();
                    self.tell_missing();
                }
                ended = tasks.join_next() => anyhow::bail!("a follower ended: {ended:?}"),
            }
        }
    }

    fn take(&mut self, message: Message, standings: &Standings) {
        match message {
            Message::Standing(at, standing) => standings.set(at, standing),
            Message::Event(event) => {
                if let Event::Pool(spec) = &event {
                    self.writer.set_picker(spec.as_ref().and_then(|spec| spec.picker.clone()));
                    if spec.is_none() {
                        self.pods.send_replace(None);
                    }
                    if std::mem::replace(&mut self.missing, spec.is_none()) != self.missing {
                        self.tell_missing();
                    }
                }
                self.index.tell(event);
            }
        }
    }

    fn tell_missing(&self) {
        if let (true, PoolSource::Object { group }) = (self.missing, &self.source) {
            let (pool, namespace) = (&self.pool.name, &self.pool.namespace);
            tracing::warn!(pool, namespace, group, "there is no such pool; nothing is served until there is");
        }
    }

    /// Writes what changed to the store; says whether endpoints did.
    fn apply(&mut self, standings: &Standings) -> bool {
        let Update { changes, objectives, model_priorities, rewrites, relist_pods, synced } =
            self.index.update();
        if let Some(selected) = relist_pods.then(|| self.index.selected()).flatten() {
            let labels: Vec<_> = selected.iter().map(|(key, value)| format!("{key}={value}")).collect();
            self.pods.send_replace(Some(Selection { labels: labels.join(","), ..Selection::default() }));
        }
        if objectives.is_some() || model_priorities.is_some() || rewrites.is_some() {
            self.writer.update_rules(|rules| {
                if let Some(objectives) = objectives {
                    rules.objectives = objectives;
                }
                if let Some(model_priorities) = model_priorities {
                    rules.model_priorities = model_priorities;
                }
                if let Some(rewrites) = rewrites {
                    rules.rewrites = rewrites;
                }
            });
        }
        let changed = !changes.is_empty();
        if changed {
            let removed = changes.iter().filter(|change| matches!(change, Change::Remove { .. })).count();
            let changed = changes.len() - removed;
            // Forgetting walks whole indices; other tasks of this thread must not wait for it.
            tokio::task::block_in_place(|| self.writer.apply(changes, |left| self.pool.forget(left)));
            let endpoints = self.pool.store.snapshot().endpoints.len();
            let pool = self.pool.name.as_str();
            tracing::info!(pool, endpoints, changed, removed, "endpoints changed");
        }
        // Before the first answer of each kind, requests could go to a model that is to be rewritten.
        let synced = synced && (*self.pool.store.synced().borrow() || standings.heard_of_all());
        if self.writer.set_synced(synced) {
            if synced {
                let endpoints = self.pool.store.snapshot().endpoints.len();
                tracing::info!(pool = self.pool.name, endpoints, "the pool is known");
            } else {
                tracing::warn!(pool = self.pool.name, "the pool is gone; nothing is served until it is back");
            }
        }
        changed
    }
}

/// What does not change.
fn always(selection: Selection) -> watch::Receiver<Option<Selection>> {
    watch::channel(Some(selection)).1
}

/// The followers, as they are made.
struct Followers {
    client: Client,
    namespace: String,
    out: mpsc::Sender<Message>,
    resources: Vec<(String, bool)>,
    tasks: JoinSet<()>,
}

impl Followers {
    fn new(source: &KubeSource, out: mpsc::Sender<Message>) -> Self {
        let (client, namespace) = (source.client.clone(), source.pool.namespace.clone());
        Self { client, namespace, out, resources: Vec::new(), tasks: JoinSet::new() }
    }

    fn start<T: Send + 'static>(
        &mut self,
        kind: Kind<T>,
        required: bool,
        selection: watch::Receiver<Option<Selection>>,
    ) {
        let at = self.resources.len();
        self.resources.push((kind.name(), required));
        let (client, namespace, out) = (self.client.clone(), self.namespace.clone(), self.out.clone());
        self.tasks.spawn(Follower { client, kind, namespace, at, required, out }.run(selection));
    }

    fn registered(self, pool: &PoolState) -> prometheus::Result<(Standings, JoinSet<()>)> {
        let standings = Standings::register(self.resources, pool.clock, pool.metrics.registry())?;
        Ok((standings, self.tasks))
    }
}

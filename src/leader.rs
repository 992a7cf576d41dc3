//! Leader election: [`Candidate::run`] reads and writes the Lease, and tells whether this replica leads.
//!
//! What to do when is [`elector`]'s business; here are requests, metrics and log lines. A replica that loses the lease
//! goes on as a candidate. Nothing is held back from one that does not lead: only health asks (`health.rs`), so that a
//! take-over finds a pool that is known and scraped.

pub mod elector;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff;
use kube::api::PostParams;
use kube::{Api, Client};
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::elector::{Answer, Elector, Step};
use crate::clock::Clock;
use crate::cluster;

/// How long a drain may take to release the lease; nobody waits for it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a release is tried: a renewal that was under way may get through in between.
const RELEASE_TRIES: usize = 3;

/// The Lease of a pool: the Go EPP's, so that during a swap one of all replicas leads.
pub fn lease_name(namespace: &str, pool: &str) -> String {
    format!("epp-{namespace}-{pool}.gateway-api-inference-extension.sigs.k8s.io")
}

/// One replica in the election.
pub struct Candidate {
    api: Api<Lease>,
    namespace: String,
    name: String,
    clock: Clock,
    elector: Elector,
    /// The lease as it was read or written last, which the next one is written over.
    base: Lease,
    leading: watch::Sender<bool>,
    status: IntGauge,
    /// What was last told of requests that fail, and which one failed last.
    trouble: Option<(Verb, Trouble)>,
    /// Who else was last told to lead.
    other: Option<String>,
}

/// The rights that it takes, by the names that a Role has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    Create,
    Update,
}

/// Why a request failed; log lines come when this changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// What is asked for is refused, with this status; other requests may do.
    Refused(u16),
    /// The API fails with this status.
    Status(u16),
    /// There is no answer in time.
    Silent,
    /// There is none.
    Unreachable,
}

impl Candidate {
    /// Makes a candidate for the lease of that namespace and name; `identity` must be nobody else's, ever. Registers
    /// `leader_election_master_status`, which fails when it is registered already.
    pub fn new(
        client: Client,
        [namespace, name]: [String; 2],
        identity: String,
        clock: Clock,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let status = Opts::new("leader_election_master_status", "Whether this process holds the lease.");
        let status = IntGaugeVec::new(status, &["name"])?;
        registry.register(Box::new(status.clone()))?;
        Ok(Self {
            api: Api::namespaced(client, &namespace),
            status: status.with_label_values(&[&name]),
            namespace,
            name,
            clock,
            elector: Elector::new(identity),
            base: Lease::default(),
            leading: watch::Sender::new(false),
            trouble: None,
            other: None,
        })
    }

    /// Whether this replica leads.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Stands for election until `draining`, then releases the lease if it holds it.
    pub async fn run(mut self, mut draining: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                // An error means that the server itself is gone.
                _ = draining.wait_for(|&draining| draining) => break,
                () = self.step() => {}
            }
        }
        self.release().await;
    }

    async fn step(&mut self) {
        let now = self.clock.now();
        match self.elector.next(now, &wall()) {
            Step::Wait(until) => sleep(until.since(now)).await,
            Step::Read => self.request(Verb::Get, LeaseSpec::default()).await,
            Step::Create(spec) => self.request(Verb::Create, spec).await,
            Step::Write(spec) => self.request(Verb::Update, spec).await,
        }
        self.tell();
    }

    async fn request(&mut self, verb: Verb, spec: LeaseSpec) {
        let sent = self.clock.now();
        let patience = self.elector.patience(sent).since(sent);
        let answer = match timeout(patience, self.send(verb, spec)).await {
            Ok(Ok(lease)) => {
                self.works(verb);
                let spec = lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
                self.base = lease.unwrap_or_default();
                match spec {
                    Some(spec) if verb != Verb::Get => Answer::Written(spec),
                    spec => Answer::Read(spec),
                }
            }
            Ok(Err(kube::Error::Api(status)))
                if status.code == 409 || (verb == Verb::Update && status.code == 404) =>
            {
                self.works(verb);
                Answer::Conflict
            }
            Ok(Err(error)) => {
                self.fails(verb, trouble(&error), &cluster::told(&error));
                Answer::Failed
            }
            Err(_) => {
                self.fails(verb, Trouble::Silent, "no answer in time");
                Answer::Failed
            }
        };
        self.elector.heard(answer, sent, self.clock.now(), rand::random());
    }

    /// Sends one request. `spec` is of no account to one that reads.
    async fn send(&self, verb: Verb, spec: LeaseSpec) -> kube::Result<Option<Lease>> {
        let (parameters, spec) = (PostParams::default(), Some(spec));
        match verb {
            Verb::Get => self.read().await,
            Verb::Create => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.api.create(&parameters, &Lease { metadata, spec }).await.map(Some)
            }
            Verb::Update => {
                let lease = Lease { metadata: self.base.metadata.clone(), spec };
                self.api.replace(&self.name, &parameters, &lease).await.map(Some)
            }
        }
    }

    async fn read(&self) -> kube::Result<Option<Lease>> {
        match self.api.get(&self.name).await {
            // `get_opt` looks at the reason, which not every 404 has.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            read => read.map(Some),
        }
    }

    /// Ends the term, and gives the lease back so that others need not wait for its end.
    async fn release(&mut self) {
        self.elector.resign();
        let led = self.publish(false);
        let failed = match timeout(RELEASE_TIMEOUT, self.give_back()).await {
            Ok(Ok(false)) => return,
            Ok(Ok(true)) => {
                tracing::info!(lease = self.name, "the lease is released");
                return;
            }
            Ok(Err(error)) => cluster::told(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        if led {
            tracing::warn!(
                lease = self.name,
                reason = failed,
                "the lease is not released; others wait for its end"
            );
        }
    }

    /// Writes that nobody holds the lease; `false` if this replica did not hold it.
    async fn give_back(&mut self) -> kube::Result<bool> {
        let mut tried = 0;
        while let Some(lease) = self.read().await? {
            let spec = lease.spec.as_ref().and_then(|spec| self.elector.released(spec, &wall()));
            let Some(spec) = spec else { break };
            self.base = lease;
            tried += 1;
            match self.send(Verb::Update, spec).await {
                Err(kube::Error::Api(status)) if status.code == 409 && tried < RELEASE_TRIES => {}
                sent => return sent.map(|_| true),
            }
        }
        Ok(false)
    }

    fn publish(&self, leads: bool) -> bool {
        self.status.set(leads.into());
        self.leading.send_if_modified(|led| std::mem::replace(led, leads) != leads)
    }

    /// Tells everybody what changed.
    fn tell(&mut self) {
        let leads = self.elector.leads(self.clock.now());
        let changed = self.publish(leads);
        let (lease, other) = (&self.name, self.elector.other_holder());
        if changed && leads {
            tracing::info!(lease, identity = self.elector.identity(), "this replica leads");
        } else if changed {
            let reason =
                if other.is_some() { "another one does" } else { "the lease was not renewed in time" };
            tracing::warn!(lease, reason, "this replica does not lead any more");
        }
        if self.other.as_deref() != other {
            self.other = other.map(str::to_owned);
            if let Some(holder) = other {
                tracing::info!(lease, holder, "another replica leads");
            }
        }
    }

    fn works(&mut self, verb: Verb) {
        // That another one works says little: that leases can be read, say, of writes that fail.
        if self.trouble.take_if(|(failed, _)| *failed == verb).is_some() {
            tracing::info!(lease = self.name, "the lease can be used again");
        }
    }

    fn fails(&mut self, verb: Verb, trouble: Trouble, reason: &str) {
        let told = self.trouble.replace((verb, trouble)).is_some_and(|(before, told)| {
            told == trouble && (before == verb || !matches!(trouble, Trouble::Refused(_)))
        });
        if told {
            return;
        }
        let lease = &self.name;
        if let Some(remedy) = self.remedy(verb, trouble) {
            tracing::error!(lease, reason, remedy, "the lease cannot be used; going on to try");
        } else {
            tracing::warn!(lease, reason, "the lease cannot be used; going on to try");
        }
    }

    /// What somebody has to do about it, unless it may pass.
    fn remedy(&self, verb: Verb, trouble: Trouble) -> Option<String> {
        let namespace = &self.namespace;
        match trouble {
            Trouble::Refused(403) => Some(format!(
                "grant the service account `{}` on `leases` of `coordination.k8s.io` in the namespace {namespace}, or drop \
                 --ha-enable-leader-election",
                verb.name()
            )),
            Trouble::Refused(404) => Some(format!(
                "the API must serve `coordination.k8s.io/v1` and have the namespace {namespace}"
            )),
            _ => None,
        }
    }
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Create => "create",
            Self::Update => "update",
        }
    }
}

fn trouble(error: &kube::Error) -> Trouble {
    match error {
        kube::Error::Api(status) if (400..500).contains(&status.code) => Trouble::Refused(status.code),
        kube::Error::Api(status) => Trouble::Status(status.code),
        _ => Trouble::Unreachable,
    }
}

/// The time of day as records have it, to the microsecond.
fn wall() -> MicroTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    MicroTime(jiff::Timestamp::from_microsecond(micros).unwrap_or_default())
}

#[cfg(test)]
mod tests;

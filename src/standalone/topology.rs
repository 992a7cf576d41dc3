//! What the manifests come to: [`Topology`], from gateways down to the answer of each route entry. Plain values, for a
//! renderer and for people.

mod rates;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::rates::{RateCost, RateHeader, RateRule, RateUnit};
use super::manifest::route::Match;
use crate::discovery::index::rewrites::Rewrites;

/// All gateways and pools, and what is thought of each object.
#[derive(Debug, Default)]
pub struct Topology {
    /// The gateways, by namespace and name.
    pub gateways: Vec<GatewayPlan>,
    /// The pools, by namespace, name and group; also those that no route leads to.
    pub pools: Vec<PoolPlan>,
    /// Services that requests are sent to without a picker and that workloads of the manifests would serve.
    pub services: Vec<ServicePlan>,
    /// What listeners prove themselves with, by namespace and name of the Secret.
    pub certificates: BTreeMap<(String, String), Certificate>,
    /// The conditions of objects, as controllers would write them into their status.
    pub conditions: Vec<Condition>,
}

/// One gateway.
#[derive(Debug)]
pub struct GatewayPlan {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its listeners that serve, in order.
    pub listeners: Vec<ListenerPlan>,
}

/// One listener that serves.
#[derive(Debug)]
pub struct ListenerPlan {
    /// Its name.
    pub name: String,
    /// Its port, as written.
    pub port: u16,
    /// The host that clients must name for TLS; `None` for any.
    pub hostname: Option<String>,
    /// Secrets with its certificates, by namespace and name; none without TLS.
    pub certificates: Vec<(String, String)>,
    /// Its hosts, the most precise first.
    pub hosts: Vec<Host>,
}

/// A certificate and its key, both PEM.
pub struct Certificate {
    /// The chain, the listener's own first.
    pub chain: String,
    /// The key; it is never shown.
    pub key: String,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// A host of a listener: a name, `*.` and its ending, or `*` for all.
#[derive(Debug)]
pub struct Host {
    /// The name.
    pub name: String,
    /// What is done with a request: the first entry that matches.
    pub entries: Vec<Entry>,
}

/// A match of a rule.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name in access logs, but for the host: `httproute/<namespace>/<route>/rule/<i>/match/<j>`.
    pub name: String,
    /// Which requests it is for.
    pub requests: Match,
    /// The route, as `Kind namespace/name`.
    pub route: String,
    /// The rule's path in it.
    pub rule: String,
    /// Whether it comes of an AIGatewayRoute: it matches once the model is known.
    pub is_ai: bool,
    /// What is done with them.
    pub answer: Answer,
    /// How long it may take, and how often it is tried.
    pub limits: Limits,
    /// What is changed in requests and answers.
    pub edits: Edits,
    /// Limits of rates, with the policy that has each; all of them count.
    pub rates: Vec<Arc<RateRule>>,
}

/// How long a request may take, and how often it is tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// From the whole request to the whole answer; zero is no limit, `None` Envoy's 15 s.
    pub request: Option<Duration>,
    /// The same of each try.
    pub backend_request: Option<Duration>,
    /// Longest pause of an answer.
    pub stream_idle: Option<Duration>,
    /// What is tried again, if anything.
    pub retry: Option<Retry>,
}

/// What is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Most tries after the first.
    pub attempts: u32,
    /// Envoy's conditions, such as `connect-failure`.
    pub on: Vec<String>,
    /// Statuses of answers.
    pub statuses: Vec<u16>,
    /// Longest try.
    pub per_try: Option<Duration>,
    /// First and longest wait between tries.
    pub backoff: Option<(Duration, Duration)>,
}

/// What is changed in requests and answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Headers of the request.
    pub request: HeaderEdits,
    /// Headers of the answer.
    pub response: HeaderEdits,
    /// The request's host becomes this.
    pub host: Option<String>,
    /// Its path becomes this.
    pub path: Option<PathEdit>,
}

/// What is changed in headers; `Debug` shows no values, for one may be the key of a provider.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Names and values that replace what is there.
    pub set: Vec<(String, String)>,
    /// Names and values that come beside what is there.
    pub add: Vec<(String, String)>,
    /// Names that are removed.
    pub remove: Vec<String>,
}

impl HeaderEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// The names alone, each with what is done to it: `=`, `+` or `-`.
impl fmt::Debug for HeaderEdits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.set.iter().map(|(name, _)| format!("={name}"));
        let added = self.add.iter().map(|(name, _)| format!("+{name}"));
        let removed = self.remove.iter().map(|name| format!("-{name}"));
        f.debug_set().entries(set.chain(added).chain(removed)).finish()
    }
}

/// What a path becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathEdit {
    /// This, whole.
    Full(String),
    /// What stands behind the prefix that matched, behind this.
    Prefix(String),
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It goes to one of these, by weight.
    Forward(Vec<Share>),
    /// It is redirected.
    Redirect(Redirect),
    /// It is answered with this status; why.
    Status(u16, String),
    /// It is told the models.
    Models(Vec<Model>),
}

/// Where a redirect leads; what is not given stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The status, 301 to 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// The host.
    pub hostname: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathEdit>,
}

/// A model that `/v1/models` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub id: String,
    /// Who owns it.
    pub owned_by: String,
    /// When it was made, in seconds since 1970; `None` where nothing says it.
    pub created: Option<i64>,
}

/// A target and its weight.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its part of the sum of all weights.
    pub weight: u32,
    /// Those of the lowest priority get all requests while one of them is healthy.
    pub priority: u32,
    /// The target.
    pub target: Target,
    /// The model that it is asked for, if not the request's own.
    pub model: Option<String>,
    /// What is changed for it alone.
    pub edits: Edits,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An InferencePool of a group: its picker chooses among its members.
    Pool {
        /// The API group.
        group: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A port of a Service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The port.
        port: u16,
    },
    /// The endpoints of a Backend.
    Backend {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its endpoints.
        endpoints: Vec<Address>,
        /// How it is spoken to over TLS, if it is.
        tls: Option<UpstreamTls>,
    },
    /// Nowhere: this share is answered with 500; why.
    Nowhere(String),
}

/// An address outside of the manifests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A host's name or an IP address, and a port.
    Host(String, u16),
    /// The path of a socket.
    Unix(String),
}

/// How an upstream proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name that its certificate must have; `None` takes the host of each request.
    pub name: Option<String>,
    /// Authorities, PEM; `None` is the system's.
    pub authorities: Option<String>,
    /// Whether any certificate will do.
    pub insecure: bool,
}

/// One pool: what its picker is told, and how Envoy speaks to it.
#[derive(Debug)]
pub struct PoolPlan {
    /// Its API group.
    pub group: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Labels of its members.
    pub selector: BTreeMap<String, String>,
    /// Ports of its members; none where each member's own counts.
    pub ports: Vec<u16>,
    /// Whether its members speak HTTP/2 without TLS.
    pub is_h2c: bool,
    /// The authority of calls to its picker: `<service>.<namespace>.svc:<port>`.
    pub authority: String,
    /// Its `EndpointPickerConfig`; `None` is the default.
    pub config: Option<String>,
    /// How bodies are sent to the picker.
    pub body_mode: BodyMode,
    /// Whether the picker may change the mode.
    pub allow_mode_override: bool,
    /// Whether requests go on without the picker.
    pub fail_open: bool,
    /// Members that the manifests give themselves, in the oldest form; else the selector chooses.
    pub members: Option<Vec<Address>>,
    /// What would be started to serve it.
    pub replicas: Vec<Replicas>,
    /// Priorities by objective.
    pub objectives: BTreeMap<String, i32>,
    /// Priorities by model, of the older `InferenceModel`s.
    pub model_priorities: BTreeMap<String, i32>,
    /// Which models are served by others.
    pub rewrites: Rewrites,
    /// What is told of answers: the costs of all routes that lead here.
    pub costs: Vec<Cost>,
}

/// A port of a Service, and what would be started to serve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The names by which it is resolved.
    pub hosts: Vec<String>,
    /// The port.
    pub port: u16,
    /// What it is called at the servers.
    pub target_port: u16,
    /// What would be started to serve it.
    pub replicas: Vec<Replicas>,
}

/// How bodies are sent to a picker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyMode {
    /// In pieces, both ways.
    #[default]
    Duplex,
    /// Each as a whole.
    Buffered,
}

/// Model servers that a workload would start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// Kind and name of the workload, as `Deployment namespace/name`.
    pub workload: String,
    /// How many.
    pub count: u16,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
    /// The models they serve; none where nothing says it.
    pub models: Vec<String>,
    /// The port they listen on.
    pub port: u16,
}

/// A number that is told of an answer, as `llmRequestCosts` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Its key in the metadata.
    pub key: String,
    /// `InputToken` …, or `CEL`.
    pub kind: &'static str,
    /// The expression of `CEL`.
    pub cel: Option<String>,
}

/// A condition of an object.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The object, as `Kind namespace/name`.
    pub object: String,
    /// The gateway that it is about, or the listener.
    pub parent: String,
    /// `Accepted`, `ResolvedRefs` ….
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// The reason, in one word.
    pub reason: &'static str,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool { namespace, name, .. } => write!(f, "InferencePool {namespace}/{name}"),
            Self::Service { namespace, name, port } => write!(f, "Service {namespace}/{name}:{port}"),
            Self::Backend { namespace, name, endpoints, .. } => {
                let endpoints: Vec<_> = endpoints.iter().map(Address::to_string).collect();
                write!(f, "Backend {namespace}/{name} ({})", endpoints.join(", "))
            }
            Self::Nowhere(why) => write!(f, "500 ({why})"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirect(redirect) => write!(f, "redirect {}", redirect.status),
            Self::Models(models) => write!(f, "200 (the list of {} models)", models.len()),
            Self::Status(status, why) => write!(f, "{status} ({why})"),
            Self::Forward(shares) => {
                let sum: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
                for (n, Share { weight, target, .. }) in shares.iter().enumerate() {
                    let comma = if n == 0 { "" } else { ", " };
                    if shares.len() == 1 {
                        write!(f, "{target}")?;
                    } else {
                        write!(f, "{comma}{weight}/{sum} {target}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

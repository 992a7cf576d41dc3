//! What the manifests come to: [`Topology`], from gateways down to the answer of each route entry. Plain values, for a
//! renderer and for people.

use std::fmt;

use super::manifest::route::Match;

/// All gateways, and what is thought of each object.
#[derive(Debug, Default)]
pub struct Topology {
    /// The gateways, by namespace and name.
    pub gateways: Vec<GatewayPlan>,
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
    /// Its port.
    pub port: u16,
    /// Secrets with its certificates, by namespace and name; none without TLS.
    pub certificates: Vec<(String, String)>,
    /// Its hosts, the most precise first.
    pub hosts: Vec<Host>,
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
    /// Which requests it is for.
    pub requests: Match,
    /// The route, as `Kind namespace/name`.
    pub route: String,
    /// The rule's path in it.
    pub rule: String,
    /// What is done with them.
    pub answer: Answer,
    /// How long it may take, as written; `None` is Envoy's default.
    pub timeout: Option<String>,
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It goes to one of these, by weight.
    Forward(Vec<Share>),
    /// It is redirected with this status.
    Redirect(u16),
    /// It is answered with this status; why.
    Status(u16, String),
}

/// A target and its weight.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its part of the sum of all weights.
    pub weight: u32,
    /// The target.
    pub target: Target,
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
        endpoints: Vec<String>,
    },
    /// Nowhere: this share is answered with 500; why.
    Nowhere(String),
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
            Self::Backend { namespace, name, endpoints } => {
                write!(f, "Backend {namespace}/{name} ({})", endpoints.join(", "))
            }
            Self::Nowhere(why) => write!(f, "500 ({why})"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirect(status) => write!(f, "redirect {status}"),
            Self::Status(status, why) => write!(f, "{status} ({why})"),
            Self::Forward(shares) => {
                let sum: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
                for (n, Share { weight, target }) in shares.iter().enumerate() {
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

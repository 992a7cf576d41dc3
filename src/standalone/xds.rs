//! Files by which Envoy is told what to do: [`XdsFile`], one `DiscoveryResponse` each.
//!
//! The renderer makes them, the supervisor writes them.

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdsFile {
    /// Its place below the folder that Envoy watches: `lds.yaml`, `rds/<name>.yaml` …, with `~` for the `/` of names.
    pub path: String,
    /// What it holds.
    pub kind: XdsKind,
    /// Its text, YAML.
    pub text: String,
}

/// What a file holds. The order is that in which new files must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum XdsKind {
    /// A certificate and its key: readable for its owner alone.
    Secret,
    /// The endpoints of a cluster.
    Endpoints,
    /// All clusters.
    Clusters,
    /// The routes of a listener.
    Routes,
    /// All listeners.
    Listeners,
}

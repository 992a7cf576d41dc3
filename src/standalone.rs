//! Gateways without a cluster: manifests are read, checked and resolved. Entry point: [`check`].

pub mod finding;
pub mod input;
pub mod manifest;
pub mod objects;
pub mod report;
pub mod resolve;
pub mod topology;
pub mod xds;

use epp_framework::plugin::PluginType;

use self::finding::Findings;
use self::input::Source;
use self::objects::Objects;
use self::topology::Topology;

/// What is thought of manifests.
#[derive(Debug)]
pub struct Checked {
    /// What they come to, as far as they are right.
    pub topology: Topology,
    /// Everything that is to be told.
    pub findings: Findings,
    /// How many objects and fragments were read.
    pub documents: usize,
}

/// Reads, checks and resolves manifests; `namespace` is that of objects that name none, `types` the plugins that
/// configurations of pickers may name.
pub fn check(sources: &[Source], namespace: &str, types: &'static [PluginType]) -> Checked {
    let mut findings = Findings::default();
    let documents = input::documents(sources, &mut findings);
    let objects = Objects::read(&documents, namespace, &mut findings);
    let topology = resolve::resolve(&objects, types, &mut findings);
    Checked { topology, findings, documents: documents.len() }
}

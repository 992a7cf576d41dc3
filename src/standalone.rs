//! Gateways without a cluster: manifests are read, checked and resolved ([`check`]), and become
//! the configuration of an Envoy ([`render::render`]).

pub mod envoy;
pub mod finding;
pub mod input;
pub mod manifest;
pub mod members;
pub mod objects;
pub mod rates;
pub mod render;
pub mod report;
pub mod resolve;
pub mod supervise;
pub mod topology;
pub mod xds;
pub mod xds_folder;

use epp_framework::plugin::PluginType;

use self::finding::{Findings, Level};
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
    /// When certificates end.
    expiries: resolve::Expiries,
}

impl Checked {
    /// Tells which certificates have ended; `now` is in seconds since 1970.
    pub fn tell_expired(&mut self, now: i64) {
        for (id, (place, _)) in self.expiries.iter().filter(|(_, (_, ends))| *ends < now) {
            let message = "its certificate has expired; clients will refuse it";
            self.findings.tell(Level::Warning, *place, id, message);
        }
    }
}

/// Reads, checks and resolves manifests; `namespace` is that of objects that name none, `types` the plugins that
/// configurations of pickers may name.
pub fn check(sources: &[Source], namespace: &str, types: &'static [PluginType]) -> Checked {
    let mut findings = Findings::default();
    let documents = input::documents(sources, &mut findings);
    let objects = Objects::read(&documents, namespace, &mut findings);
    let (topology, expiries) = resolve::resolve(&objects, types, &mut findings);
    Checked { topology, findings, documents: documents.len(), expiries }
}

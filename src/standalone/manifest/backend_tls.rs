//! How servers prove themselves: `tls` of a Backend, and `BackendTLSPolicy`.

use super::map::Map;
use super::policy::{Target, targets};
use super::{Meta, Object, values};
use crate::config::problem::Position;

/// How endpoints prove themselves.
#[derive(Debug)]
pub struct BackendTls {
    /// Where it is written.
    pub at: Position,
    /// The name that they are asked for.
    pub name: Option<String>,
    /// Kind and name of what holds their authorities; none is those of the system.
    pub authorities: Vec<(String, String)>,
    /// Whether any certificate will do.
    pub insecure: bool,
}

/// The same for Services and Backends.
#[derive(Debug)]
pub struct BackendTlsPolicy {
    /// Its name, and where it is.
    pub meta: Meta,
    /// What it is for.
    pub targets: Vec<Target>,
    /// How they prove themselves.
    pub tls: BackendTls,
}

/// Reads a `BackendTLSPolicy`.
pub fn read_policy(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    if !spec.has("targetRefs") {
        spec.lacks("targetRefs");
    }
    let targets = targets(&spec);
    let map = spec.required_map("validation")?;
    let name = map.required_checked("hostname", values::precise_hostname);
    let authorities = authority_refs(&map);
    if authorities.is_empty() && !map.has("wellKnownCACertificates") {
        map.lacks("caCertificateRefs");
    }
    map.ignore(&["subjectAltNames"]);
    let at = map.at;
    map.finish();
    spec.ignore(&["options"]);
    spec.finish();
    let tls = BackendTls { at, name: Some(name?.value), authorities, insecure: false };
    Some(Object::BackendTlsPolicy(BackendTlsPolicy { meta, targets, tls }))
}

fn authority_refs(map: &Map<'_>) -> Vec<(String, String)> {
    map.choice("wellKnownCACertificates", &["System"]);
    let refs = map.maps("caCertificateRefs", 8).into_iter().filter_map(|item| {
        item.checked("group", values::group);
        let kind = item.choice("kind", &["ConfigMap", "Secret"]);
        let name = item.required_checked("name", values::name);
        item.pass(&["namespace"]);
        item.finish();
        Some((kind.map_or("ConfigMap", |kind| kind.value).to_owned(), name?.value))
    });
    refs.collect()
}

/// Reads `tls` of a Backend.
pub(super) fn read(map: Map<'_>) -> BackendTls {
    let authorities = ["caCertificateRefs", "wellKnownCACertificates"];
    let n_authorities = authorities.iter().filter(|key| map.has(key)).count();
    let insecure = map.boolean("insecureSkipVerify") == Some(true);
    if n_authorities == 2 {
        map.error(
            "wellKnownCACertificates",
            "caCertificateRefs and wellKnownCACertificates exclude each other",
        );
    } else if insecure && n_authorities > 0 {
        map.error("insecureSkipVerify", "it excludes authorities; remove one");
    }
    let refs = authority_refs(&map);
    let name = map.checked("sni", values::precise_hostname).map(|name| name.value);
    map.boolean("autoSNIFromEndpointHostname");
    map.ignore(&["clientCertificateRef", "ciphers", "minVersion", "maxVersion", "alpnProtocols"]);
    map.ignore(&["ecdhCurves", "signatureAlgorithms"]);
    let at = map.at;
    map.finish();
    BackendTls { at, name, authorities: refs, insecure }
}

//! AIServiceBackend, and Envoy Gateway's Backend.

use super::ai_gateway_route::{NO_BODY_MUTATION, body_mutation, header_mutation};
use super::backend_tls::{self, BackendTls};
use super::http_route;
use super::map::Map;
use super::route::BackendRef;
use super::{Meta, Object, values};
use crate::config::Located;
use crate::standalone::topology::{Address, HeaderEdits};

/// Group of Envoy Gateway's kinds.
pub const ENVOY_GROUP: &str = "gateway.envoyproxy.io";

/// A server of an API.
#[derive(Debug)]
pub struct AiServiceBackend {
    /// Its name, and where it is.
    pub meta: Meta,
    /// The API that it speaks.
    pub schema: Option<Located<&'static str>>,
    /// Where it is.
    pub backend: Option<Box<BackendRef>>,
    /// What is changed in the headers of requests.
    pub edits: HeaderEdits,
}

/// Reads an AIServiceBackend.
pub fn read_ai(top: &Map<'_>, meta: Meta) -> Option<Object> {
    const SCHEMAS: [&str; 8] = [
        "OpenAI",
        "Cohere",
        "AWSBedrock",
        "AzureOpenAI",
        "GCPVertexAI",
        "GCPAnthropic",
        "Anthropic",
        "AWSAnthropic",
    ];
    let spec = top.required_map("spec")?;
    let mut schema = None;
    if let Some(map) = spec.required_map("schema") {
        if !map.has("name") {
            map.lacks("name");
        }
        schema = map.choice("name", &SCHEMAS);
        map.text("version");
        let prefix =
            map.text("prefix").filter(|prefix| !["", "v1"].contains(&prefix.value.trim_matches('/')));
        if prefix.is_some() {
            map.warning("prefix", "paths are passed on as they are; it has no effect");
        }
        map.finish();
    }
    let mut backend = None;
    if let Some(item) = spec.required_map("backendRef") {
        // A Service is of an old version; whether that is meant shows when all objects are known.
        backend = http_route::backend_ref(&item);
        let is_backend = |to: &BackendRef| to.kind == "Backend" && to.group.as_deref() == Some(ENVOY_GROUP);
        if backend.as_ref().is_some_and(|to| !is_backend(to) && !is_service(to)) {
            item.error("kind", format!("expected `Backend` of group `{ENVOY_GROUP}`"));
            backend = None;
        }
        item.finish();
    }
    let edits = header_mutation(&spec).unwrap_or_default();
    if body_mutation(&spec) {
        spec.warning("bodyMutation", NO_BODY_MUTATION);
    }
    spec.ignore(&["timeouts", "backendSecurityPolicyRef"]);
    spec.finish();
    let backend = backend.map(Box::new);
    Some(Object::AiServiceBackend(AiServiceBackend { meta, schema, backend, edits }))
}

/// Whether a reference is to a Service.
pub fn is_service(to: &BackendRef) -> bool {
    to.kind == "Service" && to.group.as_deref() == Some("")
}

/// Addresses outside of the manifests.
#[derive(Debug)]
pub struct Backend {
    /// Its name, and where it is.
    pub meta: Meta,
    /// Whether the host of each request says where it goes.
    pub is_dynamic: bool,
    /// Its endpoints.
    pub endpoints: Vec<Address>,
    /// How they prove themselves, if they do.
    pub tls: Option<BackendTls>,
}

/// Reads a Backend.
pub fn read(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let kind = spec.choice("type", &["Endpoints", "DynamicResolver"]);
    let is_dynamic = kind.is_some_and(|kind| kind.value == "DynamicResolver");
    let (mut endpoints, mut n_names) = (Vec::new(), 0);
    let maps = spec.maps("endpoints", 256);
    if maps.is_empty() && !is_dynamic {
        if spec.has("endpoints") {
            spec.error("endpoints", "expected at least one endpoint");
        } else {
            spec.lacks("endpoints");
        }
    }
    let n_maps = maps.len();
    for map in maps {
        n_names += usize::from(map.has("fqdn"));
        endpoints.extend(endpoint(&map));
        map.text("hostname");
        map.text("zone");
        map.finish();
    }
    if n_names > 0 && n_names < n_maps {
        spec.error("endpoints", "`fqdn` cannot be mixed with `ip` and `unix`; make two Backends");
    }
    spec.boolean("fallback");
    spec.texts("appProtocols", 3, values::anything);
    let tls = spec.map("tls").map(backend_tls::read);
    spec.finish();
    Some(Object::Backend(Backend { meta, is_dynamic, endpoints, tls }))
}

fn endpoint(map: &Map<'_>) -> Option<Address> {
    let given = ["fqdn", "ip", "unix"].iter().filter(|key| map.has(key)).count();
    if given != 1 {
        let message = format!("{}: expected exactly one of `fqdn`, `ip` and `unix`, found {given}", map.path);
        map.log().error(map.at, message);
    }
    let mut endpoint = None;
    for (key, host, check) in [
        ("fqdn", "hostname", values::endpoint_hostname as fn(&str) -> Result<(), String>),
        ("ip", "address", values::address),
    ] {
        let Some(inner) = map.map(key) else { continue };
        let host = inner.required_checked(host, check);
        if !inner.has("port") {
            inner.lacks("port");
        }
        let port = inner.integer("port", 0..=65535);
        inner.finish();
        let port = port.and_then(|port| u16::try_from(port).ok());
        endpoint = host.zip(port).map(|(host, port)| Address::Host(host.value, port));
    }
    if let Some(inner) = map.map("unix") {
        let path = inner.required("path");
        if path.as_ref().is_some_and(|path| path.value.len() > 108) {
            inner.error("path", "expected at most 108 characters");
        }
        inner.finish();
        endpoint = path.map(|path| Address::Unix(path.value));
    }
    endpoint
}

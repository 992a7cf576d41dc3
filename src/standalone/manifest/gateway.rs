//! GatewayClass, Gateway and ReferenceGrant.

use std::collections::BTreeMap;

use super::map::Map;
use super::route::GATEWAY_GROUP;
use super::{Meta, Object, values};
use crate::config::Located;
use crate::config::problem::Position;

/// The controller whose classes are meant.
pub const CONTROLLER: &str = "gateway.envoyproxy.io/gatewayclass-controller";

/// A class of gateways.
#[derive(Debug)]
pub struct GatewayClass {
    /// Its name, and where it is.
    pub meta: Meta,
    /// Whose it is.
    pub controller: Located<String>,
}

/// A gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Its name, and where it is.
    pub meta: Meta,
    /// The class.
    pub class: Located<String>,
    /// Its listeners, in order.
    pub listeners: Vec<Listener>,
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    /// Where it is written.
    pub at: Position,
    /// Its path in the gateway.
    pub path: String,
    /// Its name.
    pub name: String,
    /// The hosts it is for.
    pub hostname: Option<String>,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: String,
    /// Secrets with certificates.
    pub certificates: Vec<CertificateRef>,
    /// Routes of which namespaces may be attached.
    pub from: From,
    /// Kinds of routes that may be attached; none means what the protocol allows.
    pub kinds: Vec<String>,
}

/// A Secret with a certificate.
#[derive(Debug)]
pub struct CertificateRef {
    /// Where it is written.
    pub at: Position,
    /// Its path in the gateway.
    pub path: String,
    /// Its name.
    pub name: String,
    /// Its namespace, if it is not the gateway's.
    pub namespace: Option<String>,
}

/// Namespaces of routes.
#[derive(Debug)]
pub enum From {
    /// All.
    All,
    /// The gateway's.
    Same,
    /// Those with these labels.
    Selector(BTreeMap<String, Located<String>>, Vec<Expression>),
}

/// What a label must be.
#[derive(Debug)]
pub struct Expression {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: &'static str,
    /// Its values, of the first two.
    pub values: Vec<String>,
}

impl Expression {
    /// Whether it holds for a label of this value, or for none.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let is_among = value.is_some_and(|value| self.values.iter().any(|known| known == value));
        match self.operator {
            "In" => is_among,
            "NotIn" => !is_among,
            "Exists" => value.is_some(),
            _ => value.is_none(),
        }
    }
}

/// Reads a class.
pub fn read_class(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let controller = spec.required_checked("controllerName", values::anything);
    spec.pass(&["description"]);
    spec.ignore(&["parametersRef"]);
    spec.finish();
    Some(Object::GatewayClass(GatewayClass { meta, controller: controller? }))
}

/// Reads a gateway.
pub fn read(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let class = spec.required_checked("gatewayClassName", values::name);
    if !spec.has("listeners") {
        spec.lacks("listeners");
    }
    let maps = spec.maps("listeners", 64);
    if maps.is_empty() && spec.has("listeners") {
        spec.error("listeners", "expected at least one listener");
    }
    let listeners: Vec<Listener> = maps.into_iter().filter_map(read_listener).collect();
    for (n, listener) in listeners.iter().enumerate() {
        if listeners[..n].iter().any(|known| known.name == listener.name) {
            let message =
                format!("{}.name: `{}` stands twice; names are unique", listener.path, listener.name);
            spec.log().error(listener.at, message);
        }
    }
    spec.ignore(&["addresses", "infrastructure", "tls", "allowedListeners", "defaultScope", "backendTLS"]);
    spec.finish();
    Some(Object::Gateway(Gateway { meta, class: class?, listeners }))
}

fn read_listener(map: Map<'_>) -> Option<Listener> {
    let name = map.required_checked("name", values::name);
    let hostname = map.checked("hostname", values::hostname);
    if !map.has("port") {
        map.lacks("port");
    }
    let port = map.port("port");
    if !map.has("protocol") {
        map.lacks("protocol");
    }
    let protocol = map.choice("protocol", &["HTTP", "HTTPS", "TLS", "TCP", "UDP"]).map(|text| text.value);
    if protocol.is_some_and(|protocol| ["TCP", "UDP"].contains(&protocol)) && hostname.is_some() {
        map.error("hostname", "a TCP or UDP listener has none");
    }
    let certificates = certificates(&map, protocol);
    let (from, kinds) = allowed_routes(&map);
    let (at, path) = (map.at, map.path.clone());
    map.finish();
    Some(Listener {
        at,
        path,
        name: name?.value,
        hostname: hostname.map(|hostname| hostname.value),
        port: port?,
        protocol: protocol?.to_owned(),
        certificates,
        from,
        kinds,
    })
}

fn certificates(listener: &Map<'_>, protocol: Option<&str>) -> Vec<CertificateRef> {
    let tls = listener.map("tls");
    let is_tls = protocol.is_some_and(|protocol| ["HTTPS", "TLS"].contains(&protocol));
    let Some(tls) = tls else {
        if is_tls && !listener.has("tls") {
            listener.error("tls", "an HTTPS listener needs it; add `tls.certificateRefs` with a Secret");
        }
        return Vec::new();
    };
    if protocol.is_some_and(|_| !is_tls) {
        listener.error("tls", "only HTTPS and TLS listeners have it; remove it, or change the protocol");
    }
    let mode = tls.choice("mode", &["Terminate", "Passthrough"]).map_or("Terminate", |mode| mode.value);
    if protocol == Some("HTTPS") && mode == "Passthrough" {
        tls.error("mode", "HTTPS needs `Terminate`");
    }
    let mut certificates = Vec::new();
    for item in tls.maps("certificateRefs", 64) {
        let group = item.checked("group", values::group);
        let kind = item.checked("kind", values::kind);
        let name = item.required_checked("name", values::name);
        let namespace = item.checked("namespace", values::namespace).map(|namespace| namespace.value);
        if group.is_some_and(|group| !group.value.is_empty())
            || kind.is_some_and(|kind| kind.value != "Secret")
        {
            item.error("kind", "expected `Secret` of the core group");
        }
        let (at, path) = (item.at, item.path.clone());
        item.finish();
        certificates.extend(name.map(|name| CertificateRef { at, path, name: name.value, namespace }));
    }
    if is_tls && mode == "Terminate" && certificates.is_empty() && !tls.has("options") {
        tls.error("certificateRefs", "expected at least one Secret");
    }
    tls.ignore(&["options", "frontendValidation"]);
    tls.finish();
    certificates
}

fn allowed_routes(listener: &Map<'_>) -> (From, Vec<String>) {
    let (mut from, mut kinds) = (From::Same, Vec::new());
    let Some(map) = listener.map("allowedRoutes") else { return (from, kinds) };
    for item in map.maps("kinds", 8) {
        let group = item.checked("group", values::group);
        let kind = item.required_checked("kind", values::kind);
        item.finish();
        let is_ours = group.is_none_or(|group| group.value == GATEWAY_GROUP);
        kinds.extend(kind.filter(|_| is_ours).map(|kind| kind.value));
    }
    if map.has("kinds") && !kinds.iter().any(|kind| kind == "HTTPRoute") {
        map.warning("kinds", "no HTTPRoute is among them, so nothing can be attached here");
        // An empty list would mean the opposite.
        kinds.push("none".to_owned());
    }
    if let Some(namespaces) = map.map("namespaces") {
        let word = namespaces.choice("from", &["All", "Selector", "Same"]).map_or("Same", |word| word.value);
        let selector = namespaces.map("selector");
        from = match (word, selector) {
            ("All", _) => From::All,
            ("Selector", Some(selector)) => {
                let labels = selector.labels("matchLabels");
                let expressions = selector.maps("matchExpressions", 64).into_iter().filter_map(expression);
                let expressions = expressions.collect();
                selector.finish();
                From::Selector(labels, expressions)
            }
            ("Selector", None) => {
                namespaces.lacks("selector");
                From::Same
            }
            _ => From::Same,
        };
        namespaces.finish();
    }
    map.finish();
    (from, kinds)
}

fn expression(map: Map<'_>) -> Option<Expression> {
    let key = map.required("key");
    if !map.has("operator") {
        map.lacks("operator");
    }
    let operator = map.choice("operator", &["In", "NotIn", "Exists", "DoesNotExist"]);
    let values: Vec<_> = map.texts("values", 256, |_| Ok(())).into_iter().map(|value| value.value).collect();
    let operator = operator?.value;
    if ["In", "NotIn"].contains(&operator) == values.is_empty() {
        let expected = if values.is_empty() { "at least one" } else { "none" };
        map.error("values", format!("expected {expected} with `{operator}`"));
    }
    map.finish();
    Some(Expression { key: key?.value, operator, values })
}

/// A permission to refer to objects of another namespace.
#[derive(Debug)]
pub struct ReferenceGrant {
    /// Its name, and where it is; its namespace is the one of the objects.
    pub meta: Meta,
    /// Group, kind and namespace of who may refer.
    pub from: Vec<(String, String, String)>,
    /// Group, kind and maybe name of what may be referred to.
    pub to: Vec<(String, String, Option<String>)>,
}

/// Reads a grant.
pub fn read_grant(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for (key, is_from) in [("from", true), ("to", false)] {
        if !spec.has(key) {
            spec.lacks(key);
        }
        for item in spec.maps(key, 16) {
            let group = item.checked("group", values::group).map_or_else(String::new, |group| group.value);
            let kind = item.required_checked("kind", values::kind).map(|kind| kind.value);
            if is_from {
                let namespace = item.required_checked("namespace", values::namespace);
                from.extend(kind.zip(namespace).map(|(kind, namespace)| (group, kind, namespace.value)));
            } else {
                let name = item.text("name").map(|name| name.value);
                to.extend(kind.map(|kind| (group, kind, name)));
            }
            item.finish();
        }
    }
    spec.finish();
    Some(Object::Grant(ReferenceGrant { meta, from, to }))
}

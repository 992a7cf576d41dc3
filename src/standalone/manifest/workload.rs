//! Service, ConfigMap, Secret, Namespace, and what runs pods: where names lead to, and how pickers are started.
//!
//! These kinds have many fields that say nothing about requests; unknown ones are not told.

use std::collections::BTreeMap;

use super::map::Map;
use super::server::Server;
use super::{Meta, Object};
use crate::config::Located;
use crate::config::node::Value;
use crate::config::problem::Position;

type Texts = BTreeMap<String, Located<String>>;

/// A Service.
#[derive(Debug)]
pub struct Service {
    /// Its name, and where it is.
    pub meta: Meta,
    /// Labels of its pods.
    pub selector: Texts,
    /// Its ports, and what each is called at the pods.
    pub ports: Vec<(u16, TargetPort)>,
    /// Whether it is another name for a host.
    pub is_external: bool,
}

impl Service {
    /// Whether it has this port.
    pub fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|(known, _)| *known == port)
    }

    /// Its ports, for messages.
    pub fn shown_ports(&self) -> String {
        self.ports.iter().map(|(port, _)| port.to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// A port of pods.
#[derive(Debug)]
pub enum TargetPort {
    /// Its number.
    Number(u16),
    /// The name of a container's port.
    Name(String),
}

/// Reads a Service.
pub fn read_service(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let selector = spec.labels("selector");
    let is_external = spec.text("type").is_some_and(|kind| kind.value == "ExternalName");
    let ports = spec
        .maps("ports", usize::MAX)
        .into_iter()
        .filter_map(|map| {
            if !map.has("port") {
                map.lacks("port");
            }
            let port = map.port("port")?;
            let target = match map.node("targetPort").map(|node| &node.value) {
                Some(Value::String(name)) => TargetPort::Name(name.clone()),
                Some(_) => TargetPort::Number(map.port("targetPort")?),
                None => TargetPort::Number(port),
            };
            Some((port, target))
        })
        .collect();
    Some(Object::Service(Service { meta, selector, ports, is_external }))
}

/// A ConfigMap.
#[derive(Debug)]
pub struct ConfigMap {
    /// Its name, and where it is.
    pub meta: Meta,
    /// Its texts.
    pub data: Texts,
}

/// Reads a ConfigMap.
pub fn read_config_map(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let data = top.labels("data");
    top.pass(&["binaryData", "immutable"]);
    Some(Object::ConfigMap(ConfigMap { meta, data }))
}

/// A Secret; what is in it is never shown.
pub struct Secret {
    /// Its name, and where it is.
    pub meta: Meta,
    /// Its type.
    pub kind: String,
    /// Its texts in base64.
    pub data: Texts,
    /// Its plain texts, which win.
    pub plain: Texts,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// Reads a Secret.
pub fn read_secret(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let kind = top.text("type").map_or_else(|| "Opaque".to_owned(), |kind| kind.value);
    let (data, plain) = (top.labels("data"), top.labels("stringData"));
    top.pass(&["immutable"]);
    Some(Object::Secret(Secret { meta, kind, data, plain }))
}

/// A namespace; only its labels matter.
#[derive(Debug)]
pub struct Namespace {
    /// Its name and labels.
    pub meta: Meta,
}

/// Takes a namespace.
pub fn read_namespace(top: &Map<'_>, meta: Meta) -> Option<Object> {
    top.pass(&["spec"]);
    Some(Object::Namespace(Namespace { meta }))
}

/// What runs pods.
#[derive(Debug)]
pub struct Workload {
    /// Its name, and where it is.
    pub meta: Meta,
    /// Labels of its pods.
    pub labels: Texts,
    /// How many pods.
    pub replicas: u16,
    /// How it starts a picker, if it does.
    pub picker: Option<Start>,
    /// What its first container serves.
    pub server: Server,
    /// Named ports of its containers.
    pub named_ports: Vec<(String, u16)>,
}

/// How a picker is started.
#[derive(Debug)]
pub struct Start {
    /// The pool that it serves.
    pub pool: Option<Located<String>>,
    /// That pool's namespace.
    pub namespace: Option<Located<String>>,
    /// Its configuration.
    pub config: Option<Config>,
}

/// Where a picker's configuration comes from.
#[derive(Debug)]
pub enum Config {
    /// A key of a ConfigMap: the flag's place and value, the ConfigMap's name, the key.
    Key(Located<String>, String, String),
    /// A file that no volume has.
    Nowhere(Located<String>),
    /// A text on the command line.
    Text(Located<String>),
}

/// Reads a Deployment, StatefulSet or DaemonSet.
pub fn read_workload(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let replicas = spec.integer("replicas", 0..=i64::from(u16::MAX));
    let template = spec.required_map("template")?;
    let labels = template.map("metadata").map_or_else(Texts::new, |metadata| metadata.labels("labels"));
    let replicas = replicas.and_then(|replicas| u16::try_from(replicas).ok()).unwrap_or(1);
    Some(Object::Workload(read_pods(meta, labels, replicas, template.map("spec").as_ref())))
}

/// Reads a Pod.
pub fn read_pod(top: &Map<'_>, meta: Meta) -> Option<Object> {
    let spec = top.required_map("spec")?;
    let labels = meta.labels.clone();
    Some(Object::Workload(read_pods(meta, labels, 1, Some(&spec))))
}

fn read_pods(meta: Meta, labels: Texts, replicas: u16, pod: Option<&Map<'_>>) -> Workload {
    let containers: Vec<_> = pod.map_or_else(Vec::new, |pod| {
        pod.maps("containers", usize::MAX).into_iter().map(|map| (words(&map), map)).collect()
    });
    let picker = pod.and_then(|pod| containers.iter().find_map(|(words, map)| start(pod, map, words)));
    let (mut servers, mut named_ports) = (Vec::new(), Vec::new());
    for (words, container) in &containers {
        let words: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
        servers.push(Server::read(&words, &variables(container)));
        for port in container.maps("ports", usize::MAX) {
            let (name, number) = (port.text("name"), port.port("containerPort"));
            named_ports.extend(name.zip(number).map(|(name, number)| (name.value, number)));
        }
    }
    // A sidecar may stand before the model server.
    let at = servers.iter().position(|server| !server.models.is_empty()).unwrap_or(0);
    let server = servers.into_iter().nth(at).unwrap_or_default();
    Workload { meta, labels, replicas, picker, server, named_ports }
}

/// Variables of a container that have a plain value.
fn variables(container: &Map<'_>) -> Vec<(String, String)> {
    let variables = container.maps("env", usize::MAX).into_iter().filter_map(|map| {
        let is_plain = map.node("value").is_some_and(|node| matches!(node.value, Value::String(_)));
        let value = if is_plain { map.text("value") } else { None };
        Some((map.text("name")?.value, value?.value))
    });
    variables.collect()
}

/// The command line of a container.
fn words(container: &Map<'_>) -> Vec<(String, Position)> {
    let mut words = Vec::new();
    for key in ["command", "args"] {
        let items = container.items(key, usize::MAX).into_iter();
        let told = items.filter_map(|(path, node)| {
            if let Value::String(word) = &node.value {
                return Some((word.clone(), node.at));
            }
            let found = node.describe();
            let log = container.log();
            log.error(node.at, format!("{path}: expected a string, found {found}; quote the value"));
            None
        });
        words.extend(told);
    }
    words
}

fn start(pod: &Map<'_>, container: &Map<'_>, words: &[(String, Position)]) -> Option<Start> {
    let file = flag(words, "config-file", "configFile");
    let text = flag(words, "config-text", "configText");
    let pool = flag(words, "pool-name", "poolName");
    if file.is_none() && text.is_none() && pool.is_none() {
        return None;
    }
    let config = file.filter(|file| !file.value.is_empty()).map(|file| mounted(pod, container, file));
    let config = config.or_else(|| text.filter(|text| !text.value.is_empty()).map(Config::Text));
    Some(Start { pool, namespace: flag(words, "pool-namespace", "poolNamespace"), config })
}

/// A flag's value, in the same word behind `=` or in the next one; the last counts.
fn flag(words: &[(String, Position)], name: &str, older: &str) -> Option<Located<String>> {
    let mut found = None;
    for (n, (word, at)) in words.iter().enumerate() {
        let Some(word) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
        let (flag, value) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
        if flag == name || flag == older {
            let next = words.get(n + 1).map(|(next, at)| (next.as_str(), *at));
            found = value.map(|value| (value, *at)).or(next);
        }
    }
    found.map(|(value, at)| Located { value: value.trim_matches(['"', '\'']).to_owned(), at })
}

/// The key of a ConfigMap that a container sees as this file.
fn mounted(pod: &Map<'_>, container: &Map<'_>, file: Located<String>) -> Config {
    let mut best: Option<(usize, String, String)> = None;
    for mount in container.maps("volumeMounts", usize::MAX) {
        let (Some(volume), Some(path)) = (mount.text("name"), mount.text("mountPath")) else { continue };
        let folder = path.value.trim_end_matches('/');
        let Some(rest) = file.value.strip_prefix(folder) else { continue };
        let key = match (rest.strip_prefix('/'), mount.text("subPath")) {
            (_, Some(sub)) if rest.is_empty() => sub.value,
            (Some(rest), Some(sub)) => format!("{}/{rest}", sub.value),
            (Some(rest), None) => rest.to_owned(),
            (None, _) => continue,
        };
        if best.as_ref().is_none_or(|(length, ..)| *length < folder.len()) {
            best = Some((folder.len(), volume.value, key));
        }
    }
    let volumes = pod.maps("volumes", usize::MAX);
    let found = best.and_then(|(_, name, key)| {
        let volume = volumes.iter().find(|map| map.text("name").is_some_and(|text| text.value == name))?;
        let source = volume.map("configMap")?;
        let item = source.maps("items", usize::MAX).into_iter().find_map(|item| {
            let path = item.text("path")?;
            item.text("key").filter(|_| path.value == key)
        });
        Some((source.text("name")?.value, item.map_or(key, |item| item.value)))
    });
    match found {
        Some((name, key)) => Config::Key(file, name, key),
        None => Config::Nowhere(file),
    }
}

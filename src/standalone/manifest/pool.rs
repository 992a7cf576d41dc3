//! InferencePool in both versions.

use std::collections::BTreeMap;

use super::map::Map;
use super::{Meta, Object, values};
use crate::config::Located;
use crate::config::problem::Position;
use crate::discovery::kube::kinds::{OLDER_GROUP, POOL_GROUP};
use crate::standalone::topology::BodyMode;

/// The port of a picker whose port is not given.
pub const PICKER_PORT: u16 = 9002;

/// Annotations that say how bodies are sent to the picker, with their values; the first is the default.
const ANNOTATIONS: [(&str, [&str; 2]); 2] =
    [("processing-body-mode", ["duplex", "buffered"]), ("allow-mode-override", ["false", "true"])];

/// What stands before them.
pub const ANNOTATION_PREFIX: &str = "aigateway.envoyproxy.io/";

/// A pool.
#[derive(Debug)]
pub struct InferencePool {
    /// Its name, and where it is.
    pub meta: Meta,
    /// Its API group.
    pub group: &'static str,
    /// Labels of its members.
    pub selector: BTreeMap<String, Located<String>>,
    /// Ports of its members.
    pub ports: Vec<u16>,
    /// Whether they speak HTTP/2 without TLS.
    pub is_h2c: bool,
    /// Its picker.
    pub picker: Option<Picker>,
}

impl InferencePool {
    /// How bodies are sent to the picker.
    pub fn body_mode(&self) -> BodyMode {
        if self.says("processing-body-mode", "buffered") { BodyMode::Buffered } else { BodyMode::Duplex }
    }

    /// Whether the picker may change that.
    pub fn allows_mode_override(&self) -> bool {
        self.says("allow-mode-override", "true")
    }

    fn says(&self, key: &str, value: &str) -> bool {
        let found = self.meta.annotations.get(&format!("{ANNOTATION_PREFIX}{key}"));
        found.is_some_and(|found| found.value == value)
    }
}

/// The service that picks.
#[derive(Debug)]
pub struct Picker {
    /// Where it is written.
    pub at: Position,
    /// Its path in the pool.
    pub path: String,
    /// Name of the Service.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Whether requests go on without it.
    pub fail_open: bool,
}

/// Reads one of `inference.networking.k8s.io`.
pub fn read(top: &Map<'_>, meta: Meta) -> Option<Object> {
    tell_annotations(top, &meta);
    let spec = top.required_map("spec")?;
    let older = "this is how v1alpha2 writes it; in v1 it is `selector.matchLabels` and `targetPorts`";
    if spec.has("targetPortNumber") {
        spec.error("targetPortNumber", older);
    } else if !spec.has("targetPorts") {
        spec.lacks("targetPorts");
    }
    if spec.has("extensionRef") {
        spec.error("extensionRef", "this is how v1alpha2 writes it; in v1 it is `endpointPickerRef`");
    }
    spec.pass(&["targetPortNumber", "extensionRef"]);
    let mut selector = BTreeMap::new();
    if let Some(map) = spec.required_map("selector") {
        if map.has("matchLabels") {
            selector = map.labels("matchLabels");
            tell_selector(&spec, selector.len());
            map.finish();
        } else {
            spec.error("selector", older);
        }
    }
    let mut ports = Vec::new();
    let maps = spec.maps("targetPorts", 8);
    if maps.is_empty() && spec.has("targetPorts") {
        spec.error("targetPorts", "expected at least one port");
    }
    for map in maps {
        if !map.has("number") {
            map.lacks("number");
        }
        if let Some(port) = map.port("number") {
            if ports.contains(&port) {
                map.error("number", format!("{port} stands twice"));
            }
            ports.push(port);
        }
        map.finish();
    }
    let protocol = spec.choice("appProtocol", &["http", "kubernetes.io/h2c"]);
    let is_h2c = protocol.is_some_and(|protocol| protocol.value == "kubernetes.io/h2c");
    let picker = spec.map("endpointPickerRef").and_then(|map| {
        let port = map.map("port").and_then(|port| {
            let number = port.port("number");
            port.finish();
            number
        });
        read_picker(&map, "port", port)
    });
    spec.finish();
    Some(Object::InferencePool(InferencePool { meta, group: POOL_GROUP, selector, ports, is_h2c, picker }))
}

/// Reads one of `inference.networking.x-k8s.io`.
pub fn read_older(top: &Map<'_>, meta: Meta) -> Option<Object> {
    tell_annotations(top, &meta);
    let spec = top.required_map("spec")?;
    let newer =
        "this is how v1 writes it; in v1alpha2 it is a plain map as `selector`, and `targetPortNumber`";
    if spec.has("targetPorts") {
        spec.error("targetPorts", newer);
    } else if !spec.has("targetPortNumber") {
        // A page of an old version shows a pool like this, whose members have ports of their own.
        if spec.log().is_page {
            spec.warning("targetPortNumber", "it is missing; the members' own ports are taken");
        } else {
            spec.lacks("targetPortNumber");
        }
    }
    if spec.has("endpointPickerRef") {
        spec.error("endpointPickerRef", "this is how v1 writes it; in v1alpha2 it is `extensionRef`");
    }
    spec.pass(&["targetPorts", "endpointPickerRef"]);
    let mut selector = BTreeMap::new();
    if let Some(map) = spec.required_map("selector") {
        if map.has("matchLabels") {
            spec.error("selector", newer);
        } else {
            selector = spec.labels("selector");
            tell_selector(&spec, selector.len());
        }
    }
    let ports = spec.port("targetPortNumber").into_iter().collect();
    let picker = spec.map("extensionRef").and_then(|map| {
        let port = map.port("portNumber");
        read_picker(&map, "portNumber", port)
    });
    spec.finish();
    let (group, is_h2c) = (OLDER_GROUP, false);
    Some(Object::InferencePool(InferencePool { meta, group, selector, ports, is_h2c, picker }))
}

fn tell_selector(spec: &Map<'_>, n_labels: usize) {
    if n_labels == 0 {
        spec.error("selector", "expected at least one label");
    } else if n_labels > 64 {
        spec.error("selector", format!("expected at most 64 labels, found {n_labels}"));
    }
}

fn read_picker(map: &Map<'_>, port_key: &'static str, port: Option<u16>) -> Option<Picker> {
    let group = map.checked("group", values::group).map_or_else(String::new, |group| group.value);
    let kind = map.checked("kind", values::kind).map_or_else(|| "Service".to_owned(), |kind| kind.value);
    let name = map.required_checked("name", values::name);
    let mode = map.choice("failureMode", &["FailOpen", "FailClose"]);
    let fail_open = mode.is_some_and(|mode| mode.value == "FailOpen");
    if !group.is_empty() || kind != "Service" {
        map.error("kind", "expected `Service` of the core group");
    }
    if !map.has(port_key) && port_key == "port" {
        map.warning(
            "port",
            format!("the picker's port is missing; {PICKER_PORT} is taken, add `port.number`"),
        );
    }
    map.pass(&[port_key]);
    let (at, path) = (map.at, map.path_of("name"));
    Some(Picker { at, path, name: name?.value, port: port.unwrap_or(PICKER_PORT), fail_open })
}

fn tell_annotations(top: &Map<'_>, meta: &Meta) {
    for (key, value) in &meta.annotations {
        let Some((prefix, short)) = key.rsplit_once('/') else { continue };
        let Some((known, values)) = ANNOTATIONS.iter().find(|(known, _)| *known == short) else { continue };
        let path = format!("metadata.annotations[`{key}`]");
        if format!("{prefix}/") != ANNOTATION_PREFIX {
            let message = format!("{path}: it has no effect, did you mean `{ANNOTATION_PREFIX}{known}`?");
            top.log().warning(value.at, message);
        } else if !values.contains(&value.value.as_str()) {
            let [default, other] = values;
            let found = crate::config::problem::shown(&value.value);
            let message = format!("{path}: expected `{default}` or `{other}`, found {found}");
            top.log().error(value.at, message);
        }
    }
}

/// Whether an annotation is one of a pool's.
pub fn is_pool_annotation(key: &str) -> bool {
    key.strip_prefix(ANNOTATION_PREFIX)
        .is_some_and(|short| ANNOTATIONS.iter().any(|(known, _)| *known == short))
}

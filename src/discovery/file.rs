//! The endpoints file, for pools without Kubernetes; [`parse`] is the entry point.
//!
//! ```yaml
//! endpoints:
//! - {name: vllm-0, address: 10.0.0.5, port: 8000, labels: {role: decode}}
//! objectives:
//! - {name: interactive, priority: 10}
//! modelRewrites:
//! - {name: alias, rules: [{matches: [{model: llama}], targets: [{modelRewrite: llama-3}]}]}
//! ```
//!
//! Strict: unknown keys, host names and duplicates are refused, all at once. It neither reads nor watches the file.

mod rewrites;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use epp_framework::endpoint::EndpointMeta;

use crate::config::node::{self, Fields, Node, Value};
use crate::config::problem::{Position, Problem, Problems, shown};
use crate::discovery::index::rewrites::Rewrites;

/// Most entries in each of the lists.
const MAX_ENTRIES: usize = 100_000;

/// Longest name or namespace, in bytes, as Kubernetes has it.
const MAX_NAME_BYTES: usize = 253;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolFile {
    /// Endpoints in file order; names (within a namespace) and destinations are unique.
    pub endpoints: Vec<EndpointMeta>,
    /// Priority by objective; negative means sheddable.
    pub objectives: BTreeMap<String, i32>,
    /// Priority by model, which a file cannot say.
    pub model_priorities: BTreeMap<String, i32>,
    /// Which model a request is sent to.
    pub rewrites: Rewrites,
}

/// Reads the file of a pool in `namespace`, which is that of entries without one.
///
/// An empty text is an error: no endpoints are written as `endpoints: []`.
pub fn parse(text: &str, namespace: &str) -> Result<PoolFile, Vec<Problem>> {
    let root = node::parse(text).map_err(|problem| vec![problem])?;
    let mut reader = Reader { namespace, ..Reader::default() };
    let file = reader.read(&root);
    if reader.problems.has_errors() { Err(reader.problems.into_vec()) } else { Ok(file) }
}

#[derive(Default)]
struct Reader<'a> {
    /// Namespace of entries without one.
    namespace: &'a str,
    problems: Problems,
    /// The one pool that entries name, if any does.
    pool: Option<&'a str>,
    /// Line of each endpoint's name.
    names: HashMap<(&'a str, &'a str), u32>,
    /// Line of each endpoint's address.
    destinations: HashMap<SocketAddr, u32>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, root: &'a Node) -> PoolFile {
        let mut file = PoolFile::default();
        let Some(fields) = root.fields("the endpoints file", &mut self.problems) else { return file };
        fields.refuse_unknown(&["endpoints", "objectives", "modelRewrites"], &mut self.problems);
        if !fields.iter().any(|(key, ..)| key == "endpoints") {
            self.problems.error(fields.at, "`endpoints` is missing");
        }
        for node in self.entries(&fields, "endpoints") {
            file.endpoints.extend(self.endpoint(node));
        }
        for node in self.entries(&fields, "objectives") {
            self.objective(node, &mut file.objectives);
        }
        let rewrites = self.entries(&fields, "modelRewrites");
        file.rewrites = self.rewrites(rewrites);
        file
    }

    fn entries(&mut self, fields: &Fields<'a>, key: &str) -> &'a [Node] {
        let Some(node) = fields.get(key) else { return &[] };
        let items = node.list(&shown(key), &mut self.problems);
        if items.len() > MAX_ENTRIES {
            let message = format!("`{key}`: expected at most {MAX_ENTRIES} entries, found {}", items.len());
            self.problems.error(node.at, message);
            return &[];
        }
        items
    }

    fn endpoint(&mut self, node: &'a Node) -> Option<EndpointMeta> {
        let fields = node.fields("entry of `endpoints`", &mut self.problems)?;
        let known = ["name", "namespace", "address", "port", "labels", "pool"];
        fields.refuse_unknown(&known, &mut self.problems);
        self.same_pool(&fields);
        let name = self.required(&fields, "name").and_then(|node| self.name(node, "name"));
        let namespace = match fields.get("namespace") {
            Some(node) => self.name(node, "namespace"),
            None => Some(self.namespace),
        };
        let address = self.required(&fields, "address").and_then(|node| self.address(node));
        let port = self.required(&fields, "port").and_then(|node| self.port(node));
        let labels = fields.get("labels").map(|node| self.labels(node)).unwrap_or_default();
        if let (Some(name), Some(namespace)) = (name, namespace) {
            let at = fields.get("name").map_or(fields.at, |node| node.at);
            self.unique_name(namespace, name, at);
        }
        if let (Some(address), Some(port)) = (address, port) {
            let at = fields.get("address").map_or(fields.at, |node| node.at);
            self.unique_destination(SocketAddr::new(address, port), at);
        }
        Some(EndpointMeta {
            name: name?.to_owned(),
            namespace: namespace?.to_owned(),
            address: address?,
            port: port?,
            labels,
        })
    }

    fn unique_name(&mut self, namespace: &'a str, name: &'a str, at: Position) {
        if let Some(line) = self.names.get(&(namespace, name)) {
            let full = shown(&format!("{namespace}/{name}"));
            self.problems.error(at, format!("endpoint {full} is already listed at line {line}"));
        } else {
            self.names.insert((namespace, name), at.line);
        }
    }

    fn unique_destination(&mut self, destination: SocketAddr, at: Position) {
        if let Some(line) = self.destinations.get(&destination) {
            self.problems.error(at, format!("`{destination}` is already listed at line {line}"));
        } else {
            self.destinations.insert(destination, at.line);
        }
    }

    fn objective(&mut self, node: &'a Node, objectives: &mut BTreeMap<String, i32>) {
        let Some(fields) = node.fields("entry of `objectives`", &mut self.problems) else { return };
        fields.refuse_unknown(&["name", "priority", "pool"], &mut self.problems);
        self.same_pool(&fields);
        let name = self.required(&fields, "name").and_then(|node| self.name(node, "name"));
        let priority = self.required(&fields, "priority").and_then(|node| {
            let priority = node.whole_number().and_then(|priority| i32::try_from(priority).ok());
            if priority.is_none() {
                node.mismatch("`priority`", "an integer of 32 bits", &mut self.problems);
            }
            priority
        });
        let (Some(name), Some(priority)) = (name, priority) else { return };
        if objectives.insert(name.to_owned(), priority).is_some() {
            self.problems.error(fields.at, format!("objective {} is listed twice", shown(name)));
        }
    }

    /// The value of a key that no entry can be without.
    fn required(&mut self, fields: &Fields<'a>, key: &str) -> Option<&'a Node> {
        let node = fields.get(key);
        if node.is_none() {
            self.problems.error(fields.at, format!("entry has no {}", shown(key)));
        }
        node
    }

    /// All entries belong to one pool; which name it has does not matter.
    fn same_pool(&mut self, fields: &Fields<'a>) {
        let Some(node) = fields.get("pool") else { return };
        let Some(pool) = self.name(node, "pool") else { return };
        let first = *self.pool.get_or_insert(pool);
        if first != pool {
            let message = format!("`pool`: expected {} as above, a file is about one pool", shown(first));
            self.problems.error(node.at, message);
        }
    }

    /// A name that may appear in logs and as part of a `namespace/name` key.
    fn name(&mut self, node: &'a Node, key: &str) -> Option<&'a str> {
        let key = shown(key);
        let name = node.string(&key, &mut self.problems)?;
        let printable = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(printable) {
            let expected = format!("1 to {MAX_NAME_BYTES} printable characters without spaces and `/`");
            node.mismatch(&key, &expected, &mut self.problems);
            return None;
        }
        Some(name)
    }

    fn address(&mut self, node: &'a Node) -> Option<IpAddr> {
        if let Value::List(_) = node.value {
            node.mismatch("`address`", "an IP address (put brackets in quotes)", &mut self.problems);
            return None;
        }
        let text = node.string("`address`", &mut self.problems)?;
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = match bare {
            Some(bare) => bare.parse().ok().map(IpAddr::V6),
            None => text.parse().ok(),
        };
        match address {
            Some(address) if address.is_unspecified() || address.is_multicast() => {
                node.mismatch("`address`", "the IP address of one endpoint", &mut self.problems);
                None
            }
            Some(address) => Some(address),
            None => {
                let found = if text.parse::<SocketAddr>().is_ok() {
                    "an address with a port (which belongs into `port`)"
                } else if text.chars().any(char::is_alphabetic) && !text.contains(':') {
                    "a host name (names are not resolved)"
                } else {
                    "something else"
                };
                let message = format!("`address`: expected an IP address, found {found}: {}", shown(text));
                self.problems.error(node.at, message);
                None
            }
        }
    }

    fn port(&mut self, node: &'a Node) -> Option<u16> {
        let port = match &node.value {
            Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            _ => node.whole_number().and_then(|port| u16::try_from(port).ok()),
        };
        let port = port.filter(|&port| port != 0);
        if port.is_none() {
            node.mismatch("`port`", "a port from 1 to 65535", &mut self.problems);
        }
        port
    }

    fn labels(&mut self, node: &'a Node) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let Some(fields) = node.fields("`labels`", &mut self.problems) else { return labels };
        for (key, _, node) in fields.iter() {
            if let Some(value) = node.string(&format!("label {}", shown(key)), &mut self.problems) {
                labels.insert(key.to_owned(), value.to_owned());
            }
        }
        labels
    }
}

#[cfg(test)]
mod tests;

//! What HTTPRoute and AIGatewayRoute have in common: parents, rules and matches, as [`Route`].

use std::fmt;

use super::Meta;
use super::map::Map;
use super::values;
use crate::config::Located;
use crate::config::problem::Position;
use crate::standalone::topology::{Cost, Edits, Limits, Redirect};

/// Group of Gateway and its routes.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// The header in which the model's name is.
pub const MODEL_HEADER: &str = "x-ai-eg-model";

/// A route of either kind.
#[derive(Debug)]
pub struct Route {
    /// Its name, and where it is.
    pub meta: Meta,
    /// Whether it is an AIGatewayRoute: its rules end in one that answers 404, and wait for the model's name.
    pub is_ai: bool,
    /// The gateways that it wants to be attached to.
    pub parents: Vec<ParentRef>,
    /// The hosts it is for; none means those of the listener.
    pub hostnames: Vec<Located<String>>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
    /// What it tells of answers.
    pub costs: Vec<CostRule>,
}

/// One of a route's costs.
#[derive(Debug)]
pub struct CostRule {
    /// Where it is written.
    pub at: Position,
    /// Its path in the object.
    pub path: String,
    /// The cost.
    pub cost: Cost,
}

/// A gateway, or one listener of it.
#[derive(Debug)]
pub struct ParentRef {
    /// Where it is written.
    pub at: Position,
    /// Its path in the route.
    pub path: String,
    /// Group and kind of the parent.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace, if it is not the route's.
    pub namespace: Option<String>,
    /// The listener, if it is for one only.
    pub section: Option<Located<String>>,
    /// The listener's port, if it is for one only.
    pub port: Option<u16>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Where it is written.
    pub at: Position,
    /// Its path in the route.
    pub path: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Which requests it is for; never empty.
    pub matches: Vec<Match>,
    /// Where they go.
    pub backends: Vec<BackendRef>,
    /// What is done instead of or before that.
    pub action: Action,
    /// What is changed in requests and answers.
    pub edits: Edits,
    /// How long an answer may take, and what is tried again.
    pub limits: Limits,
    /// Who owns its models, and when they were made, as `/v1/models` tells it.
    pub models: (Option<String>, Option<i64>),
}

impl Rule {
    /// A rule for all requests that does nothing with them.
    pub fn plain(at: Position, path: String) -> Self {
        Self {
            at,
            path,
            name: None,
            matches: vec![Match::any()],
            backends: Vec::new(),
            action: Action::Forward,
            edits: Edits::default(),
            limits: Limits::default(),
            models: (None, None),
        }
    }
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It sends requests to its backends.
    Forward,
    /// It redirects them.
    Redirect(Redirect),
    /// It answers 500, because a filter cannot be done.
    Fail(String),
}

/// Requests that a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// How the path is compared.
    pub path_kind: PathKind,
    /// What it is compared with.
    pub path: String,
    /// The method, if it matters.
    pub method: Option<&'static str>,
    /// Headers that must be there.
    pub headers: Vec<ValueMatch>,
    /// Parameters of the query that must be there.
    pub query: Vec<ValueMatch>,
}

impl Match {
    /// Every request.
    pub fn any() -> Self {
        Self {
            path_kind: PathKind::Prefix,
            path: "/".to_owned(),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }
    }
}

/// How a path is compared; the order is that of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathKind {
    /// As a whole.
    Exact,
    /// With an expression for the whole.
    Regex,
    /// Element by element, as far as the prefix goes.
    Prefix,
}

/// A header or a parameter of the query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueMatch {
    /// Its name; a header's is in lower case.
    pub name: String,
    /// Whether the value is an expression for the whole value.
    pub is_regex: bool,
    /// The value.
    pub value: String,
}

impl fmt::Display for ValueMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.name, if self.is_regex { "~" } else { "=" }, self.value)
    }
}

/// The same for all matches that take the same requests, apart from how expressions are written.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = self.method {
            write!(f, "{method} ")?;
        }
        match self.path_kind {
            PathKind::Exact => write!(f, "= {}", self.path)?,
            PathKind::Regex => write!(f, "~ {}", self.path)?,
            PathKind::Prefix if self.path == "/" => f.write_str("/*")?,
            PathKind::Prefix => write!(f, "{}/*", self.path.trim_end_matches('/'))?,
        }
        for (mark, values) in [("", &self.headers), ("?", &self.query)] {
            let mut values: Vec<_> = values.iter().collect();
            values.sort();
            for value in values {
                write!(f, " {mark}{value}")?;
            }
        }
        Ok(())
    }
}

/// Where a rule sends requests.
#[derive(Clone, Debug)]
pub struct BackendRef {
    /// Where it is written.
    pub at: Position,
    /// Its path in the object.
    pub path: String,
    /// Group of the object; `None` in the older form, which names a pool without it.
    pub group: Option<String>,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace, if it is not the route's.
    pub namespace: Option<String>,
    /// Its port, where it has several.
    pub port: Option<u16>,
    /// Its share among the rule's backends.
    pub weight: u32,
    /// Those of the lowest priority come first.
    pub priority: u32,
    /// The model that it is asked for, if not the request's own.
    pub model: Option<String>,
    /// What is changed for it alone.
    pub edits: Edits,
    /// Why it cannot be used, whatever it is.
    pub refused: Option<String>,
}

impl BackendRef {
    /// One of no group and kind.
    pub fn plain(at: Position, path: String, name: String) -> Self {
        Self {
            at,
            path,
            group: None,
            kind: String::new(),
            name,
            namespace: None,
            port: None,
            weight: 1,
            priority: 0,
            model: None,
            edits: Edits::default(),
            refused: None,
        }
    }
}

/// Reads `parentRefs`.
pub fn parents(spec: &Map<'_>, key: &'static str, most: usize) -> Vec<ParentRef> {
    spec.maps(key, most)
        .into_iter()
        .filter_map(|map| {
            let group = map.checked("group", values::group);
            let kind = map.checked("kind", values::kind);
            let name = map.required_checked("name", values::name);
            let parent = ParentRef {
                at: map.at,
                path: map.path.clone(),
                group: group.map_or_else(|| GATEWAY_GROUP.to_owned(), |group| group.value),
                kind: kind.map_or_else(|| "Gateway".to_owned(), |kind| kind.value),
                name: String::new(),
                namespace: map.checked("namespace", values::namespace).map(|namespace| namespace.value),
                section: map.checked("sectionName", values::name),
                port: map.port("port"),
            };
            map.finish();
            Some(ParentRef { name: name?.value, ..parent })
        })
        .collect()
}

/// Reads headers or parameters of a query; a name that stands twice is told.
pub fn value_matches(map: &Map<'_>, key: &'static str) -> Vec<ValueMatch> {
    let is_header = key == "headers";
    let mut matches: Vec<ValueMatch> = Vec::new();
    for item in map.maps(key, 16) {
        let kind = item.choice("type", &["Exact", "RegularExpression"]);
        let name =
            item.required_checked("name", if is_header { values::header_name } else { values::anything });
        let is_regex = kind.is_some_and(|kind| kind.value == "RegularExpression");
        let value = item.required_checked("value", if is_regex { values::regex } else { values::anything });
        let most = if is_header { 4096 } else { 1024 };
        if value.as_ref().is_some_and(|value| value.value.len() > most) {
            item.error("value", format!("expected at most {most} characters"));
        }
        let (at, path) = (item.at("name"), item.path_of("name"));
        item.finish();
        let (Some(name), Some(value)) = (name, value) else { continue };
        let folded = if is_header { name.value.to_lowercase() } else { name.value.clone() };
        if matches.iter().any(|known| known.name == folded) {
            let message = format!("{path}: `{}` stands twice; only the first counts", name.value);
            map.log().warning(at, message);
            continue;
        }
        matches.push(ValueMatch { name: folded, is_regex, value: value.value });
    }
    matches
}

/// Reads `timeouts`.
pub fn timeouts(rule: &Map<'_>) -> Limits {
    let Some(map) = rule.map("timeouts") else { return Limits::default() };
    let (request, backend_request) = (map.duration("request"), map.duration("backendRequest"));
    if let (Some(request), Some(backend)) = (request, backend_request)
        && backend > request
        && !request.is_zero()
    {
        map.error("backendRequest", "expected no more than `request`, unless that is `0s`");
    }
    map.finish();
    Limits { request, backend_request, ..Limits::default() }
}

/// Tells names of rules that stand twice, or that are reserved.
pub fn check_names(names: &[Located<String>], reserved: &[&str], rules: &Map<'_>) {
    for (n, name) in names.iter().enumerate() {
        let path = format!("{}: the rule's name `{}`", rules.path_of("rules"), name.value);
        if reserved.contains(&name.value.as_str()) {
            rules.log().error(name.at, format!("{path} is reserved; choose another"));
        } else if names[..n].iter().any(|known| known.value == name.value) {
            rules.log().error(name.at, format!("{path} stands twice; names are unique in a route"));
        }
    }
}

/// Reads `weight`.
pub fn weight(map: &Map<'_>) -> u32 {
    map.integer("weight", 0..=1_000_000).and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1)
}

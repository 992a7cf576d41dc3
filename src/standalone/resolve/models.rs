//! `/v1/models`: which models each host tells, and where among its entries. Entry points: [`Resolver::scopes`] and
//! [`insert`].

use std::collections::{BTreeMap, BTreeSet};

use super::{Attached, Resolver};
use crate::standalone::manifest::route::{MODEL_HEADER, Match, PathKind, Route};
use crate::standalone::manifest::values;
use crate::standalone::topology::{Answer, Edits, Entry, Limits, Model};

/// Who owns models of which nothing says it.
const OWNER: &str = "Envoy AI Gateway";

/// The hosts of a route, and its models.
pub(super) type Scopes = Vec<(Vec<String>, Vec<Model>)>;

impl Resolver<'_> {
    /// The `AIGatewayRoute`s of a listener, with the hosts that they name themselves.
    pub(super) fn scopes(&self, table: &BTreeMap<String, Vec<Attached>>) -> Scopes {
        let attached: BTreeSet<&str> =
            table.values().flatten().map(|attached| attached.entry.route.as_str()).collect();
        let routes = self.objects.routes.values();
        let routes = routes.filter(|route| route.is_ai && attached.contains(route.meta.id().as_str()));
        routes
            .map(|route| (route.hostnames.iter().map(|host| host.value.clone()).collect(), models(route)))
            .collect()
    }
}

/// The models that a route names, one for each match.
fn models(route: &Route) -> Vec<Model> {
    let made = route.meta.created.as_deref().and_then(values::seconds);
    let mut models = Vec::new();
    for rule in &route.rules {
        let (owner, created) = &rule.models;
        let headers = rule.matches.iter().flat_map(|one| &one.headers);
        models.extend(headers.filter(|one| one.name == MODEL_HEADER && !one.is_regex).map(|one| Model {
            id: one.value.clone(),
            owned_by: owner.clone().unwrap_or_else(|| OWNER.to_owned()),
            created: created.or(made),
        }));
    }
    models
}

/// Puts the entry that tells the models of `host` before the first one that would ask for a model and get none.
pub(super) fn insert(entries: &mut Vec<Entry>, host: &str, scopes: &Scopes) {
    let needs_none = |entry: &Entry| !entry.requests.headers.iter().any(|one| one.name == MODEL_HEADER);
    let Some(at) = entries.iter().position(|entry| entry.is_ai && needs_none(entry)) else { return };
    let rank = |hosts: &[String]| hosts.iter().filter_map(|known| closeness(known, host)).max();
    let best = scopes.iter().filter_map(|(hosts, _)| rank(hosts)).max();
    let mut models = Vec::new();
    for (hosts, own) in scopes {
        if hosts.is_empty() || (best.is_some() && rank(hosts) == best) {
            models.extend(own.iter().cloned());
        }
    }
    let Entry { name, route, .. } = &entries[at];
    let name = name.split_once("/rule/").map_or(name.as_str(), |(route, _)| route);
    let requests = Match {
        path_kind: PathKind::Exact,
        path: "/v1/models".to_owned(),
        method: Some("GET"),
        ..Match::any()
    };
    let entry = Entry {
        name: format!("{name}/models"),
        requests,
        route: route.clone(),
        rule: "models".to_owned(),
        is_ai: false,
        answer: Answer::Models(models),
        limits: Limits::default(),
        edits: Edits::default(),
        rates: Vec::new(),
    };
    entries.insert(at, entry);
}

/// How well a route's host fits one of a listener: 2 if it is the same, 1 if it is one label below a wildcard.
fn closeness(known: &str, host: &str) -> Option<u8> {
    if known == host {
        return Some(2);
    }
    let label = host.strip_suffix(known.strip_prefix('*')?)?;
    (!label.is_empty() && !label.contains(['.', '*'])).then_some(1)
}

//! Rules of a route: what each answers, and its entries at the listeners that take the route.

use std::time::Duration;

use super::attach::Places;
use super::order::{Origin, precedence};
use super::refs::Referrer;
use super::{Attached, Resolver};
use crate::standalone::finding::Level;
use crate::standalone::manifest::gateway::Gateway;
use crate::standalone::manifest::route::{Action, Match, Route, Rule};
use crate::standalone::manifest::values;
use crate::standalone::topology::{Answer, Edits, Entry, Limits, Redirect, Share, Target};

/// Most entries of all hosts of all listeners: matches, times hosts, times listeners.
const MAX_ENTRIES: usize = 100_000;

impl Resolver<'_> {
    /// Puts the rules of a route where it is taken.
    pub(super) fn rules(&mut self, route: &Route, taken: &[(&Gateway, Places)]) {
        let id = route.meta.id();
        let mut reason = "ResolvedRefs";
        let mut all: Vec<Attached> = Vec::new();
        for (n, rule) in route.rules.iter().enumerate() {
            let answer = self.answer(route, rule, &mut reason);
            for (m, requests) in rule.matches.iter().enumerate() {
                let request = rule
                    .timeout
                    .as_ref()
                    .and_then(|text| values::milliseconds(text))
                    .map(Duration::from_millis);
                let answer = answer.clone();
                let (route_id, path) = (id.clone(), rule.path.clone());
                all.push(Attached {
                    precedence: precedence(requests, origin(route, (n, m))),
                    entry: Entry {
                        name: format!(
                            "httproute/{}/{}/rule/{n}/match/{m}",
                            route.meta.namespace, route.meta.name
                        ),
                        requests: requests.clone(),
                        route: route_id,
                        rule: path,
                        is_ai: route.is_ai,
                        answer,
                        limits: Limits { request, ..Limits::default() },
                        edits: Edits::default(),
                        rates: Vec::new(),
                    },
                    place: route.meta.at(rule.at),
                    is_added: false,
                });
            }
        }
        if route.is_ai {
            all.push(not_found(route));
        }
        for (gateway, places) in taken {
            self.condition(&id, &gateway.meta.id(), "ResolvedRefs", reason);
            let meta = &gateway.meta;
            for (listener, hosts) in places {
                let table =
                    self.tables.entry((meta.namespace.clone(), meta.name.clone(), *listener)).or_default();
                for host in hosts {
                    let entries = table.entry(host.clone()).or_default();
                    // Two references may lead to the same listener.
                    if entries.last().is_some_and(|known| known.entry.route == id) {
                        continue;
                    }
                    self.n_entries += all.len();
                    if self.n_entries > MAX_ENTRIES {
                        let message = format!("expected at most {MAX_ENTRIES} entries at all listeners");
                        self.findings.tell(Level::Error, route.meta.place, &id, message);
                        return;
                    }
                    entries.extend(all.iter().map(Attached::again));
                }
            }
        }
    }

    fn answer(&mut self, route: &Route, rule: &Rule, reason: &mut &'static str) -> Answer {
        let id = route.meta.id();
        let place = route.meta.at(rule.at);
        match &rule.action {
            Action::Redirect(status) => {
                let redirect =
                    Redirect { status: *status, scheme: None, hostname: None, port: None, path: None };
                return Answer::Redirect(redirect);
            }
            Action::Fail(why) => {
                let message = format!("{}: {why}; the rule answers 500", rule.path);
                self.findings.tell(Level::Degraded, place, &id, message);
                return Answer::Status(500, why.clone());
            }
            Action::Forward => {}
        }
        let used: Vec<_> = rule.backends.iter().filter(|backend| backend.weight > 0).collect();
        if used.is_empty() {
            let why = if rule.backends.is_empty() { "no backendRefs" } else { "all weights are 0" };
            if !self.objects.broken.contains(&id) {
                let message = format!("{}: {why}, so the rule answers 500", rule.path);
                self.findings.tell(Level::Warning, place, &id, message);
            }
            return Answer::Status(500, why.to_owned());
        }
        let mut shares = Vec::new();
        let effect = if used.len() == 1 { "the rule answers 500" } else { "its share is answered with 500" };
        for backend in used {
            let target = match self.target(Referrer::of(&route.meta), backend) {
                Ok(target) => target,
                Err(broken) => {
                    self.tell_broken(&route.meta, backend, &broken, effect);
                    *reason = broken.reason;
                    Target::Nowhere(broken.short)
                }
            };
            let (weight, edits) = (backend.weight, Edits::default());
            shares.push(Share { weight, priority: 0, target, model: None, edits });
        }
        match shares.as_slice() {
            [Share { target: Target::Nowhere(why), .. }] => Answer::Status(500, why.clone()),
            _ => Answer::Forward(shares),
        }
    }
}

impl Attached {
    /// The same entry for another host.
    fn again(&self) -> Self {
        Self { precedence: self.precedence.clone(), entry: self.entry.clone(), ..*self }
    }
}

fn origin(route: &Route, index: (usize, usize)) -> Origin {
    let created = route.meta.created.clone();
    Origin { created: (created.is_none(), created.unwrap_or_default()), route: route.meta.full_name(), index }
}

/// What stands behind an AIGatewayRoute's own rules.
fn not_found(route: &Route) -> Attached {
    let requests = Match::any();
    Attached {
        precedence: precedence(&requests, origin(route, (route.rules.len(), 0))),
        entry: Entry {
            name: format!(
                "httproute/{}/{}/rule/{}/match/0",
                route.meta.namespace,
                route.meta.name,
                route.rules.len()
            ),
            requests,
            route: route.meta.id(),
            rule: "route-not-found".to_owned(),
            is_ai: true,
            answer: Answer::Status(404, "no rule for the model".to_owned()),
            limits: Limits::default(),
            edits: Edits::default(),
            rates: Vec::new(),
        },
        place: route.meta.place,
        is_added: true,
    }
}

//! Rules of a route: what each answers, and its entries at the listeners that take the route.

use super::attach::Places;
use super::order::{Origin, precedence};
use super::refs::Referrer;
use super::{Attached, Resolver};
use crate::standalone::finding::Level;
use crate::standalone::manifest::gateway::Gateway;
use crate::standalone::manifest::route::{Action, MODEL_HEADER, Match, Route, Rule, ValueMatch};
use crate::standalone::topology::{Answer, Edits, Entry, Limits, Share, Target};

/// Most entries of all hosts of all listeners: matches, times hosts, times listeners.
const MAX_ENTRIES: usize = 100_000;

/// The annotation of a gateway that names its GatewayConfig.
const CONFIG_ANNOTATION: &str = "aigateway.envoyproxy.io/gateway-config";

/// Entries of a route, each with its rule.
type Entries<'o> = Vec<(Attached, Option<&'o Rule>)>;

impl<'o> Resolver<'o> {
    /// Puts the rules of a route where it is taken.
    pub(super) fn rules(&mut self, route: &'o Route, taken: &[(&'o Gateway, Places)]) {
        let id = route.meta.id();
        let mut reason = "ResolvedRefs";
        let mut all: Entries<'o> = Vec::new();
        for (n, rule) in route.rules.iter().enumerate() {
            let answer = self.answer(route, rule, &mut reason);
            self.lead(route, &answer, taken);
            for (m, requests) in self.matches(route, rule, &answer).into_iter().enumerate() {
                let entry = Entry {
                    name: format!(
                        "httproute/{}/{}/rule/{n}/match/{m}",
                        route.meta.namespace, route.meta.name
                    ),
                    route: id.clone(),
                    rule: rule.path.clone(),
                    is_ai: route.is_ai,
                    answer: answer.clone(),
                    limits: rule.limits.clone(),
                    edits: rule.edits.clone(),
                    rates: Vec::new(),
                    requests,
                };
                let precedence = precedence(&entry.requests, origin(route, (n, m)));
                let place = route.meta.at(rule.at);
                all.push((Attached { precedence, entry, place, is_added: false }, Some(rule)));
            }
        }
        if route.is_ai {
            all.push((not_found(route), None));
        }
        for (gateway, places) in taken {
            self.condition(&id, &gateway.meta.id(), "ResolvedRefs", reason);
            for (listener, hosts) in places {
                if !self.put(route, &all, gateway, (*listener, hosts)) {
                    return;
                }
            }
        }
    }

    /// Puts entries at the hosts of a listener, with the policies that hold there; not if they are too many.
    fn put(
        &mut self,
        route: &Route,
        all: &Entries<'_>,
        gateway: &Gateway,
        (listener, hosts): (usize, &[String]),
    ) -> bool {
        let (id, meta) = (route.meta.id(), &gateway.meta);
        let at = (meta.namespace.clone(), meta.name.clone(), listener);
        for host in hosts {
            let known = self.tables.get(&at).and_then(|table| table.get(host)).and_then(|known| known.last());
            // Two references may lead to the same listener.
            if known.is_some_and(|known| known.entry.route == id) {
                continue;
            }
            self.n_entries += all.len();
            if self.n_entries > MAX_ENTRIES {
                let message = format!("expected at most {MAX_ENTRIES} entries at all listeners");
                self.findings.tell(Level::Error, route.meta.place, &id, message);
                return false;
            }
            let section = gateway.listeners[listener].name.as_str();
            let entries = all.iter().map(|(attached, rule)| {
                let name = rule.and_then(|rule| rule.name.as_deref());
                let mut attached = attached.again();
                self.govern(&mut attached.entry, (route, name), (gateway, section));
                attached
            });
            let entries: Vec<_> = entries.collect();
            self.tables.entry(at.clone()).or_default().entry(host.clone()).or_default().extend(entries);
        }
        true
    }

    /// A rule's matches; in the older form a pool that names its models takes no others.
    fn matches(&self, route: &Route, rule: &Rule, answer: &Answer) -> Vec<Match> {
        let models = match answer {
            Answer::Forward(shares) if self.is_older_form && route.is_ai => match shares.as_slice() {
                [Share { target: Target::Pool { namespace, name, .. }, .. }] => {
                    self.models_of_older_pool(namespace, name)
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        let mut matches = Vec::new();
        for one in &rule.matches {
            if models.is_empty() || one.headers.iter().any(|header| header.name == MODEL_HEADER) {
                matches.push(one.clone());
                continue;
            }
            matches.extend(models.iter().map(|model| {
                let mut one = one.clone();
                let name = MODEL_HEADER.to_owned();
                one.headers.push(ValueMatch { name, is_regex: false, value: model.clone() });
                one
            }));
        }
        matches
    }

    /// Notes which pools a route leads to.
    fn lead(&mut self, route: &'o Route, answer: &Answer, taken: &[(&'o Gateway, Places)]) {
        let Answer::Forward(shares) = answer else { return };
        for share in shares.iter().filter(|_| route.is_ai) {
            let Target::Pool { group, namespace, name } = &share.target else { continue };
            let leading = self.leading.entry((namespace.clone(), name.clone(), *group)).or_default();
            if !leading.routes.iter().any(|known| std::ptr::eq(*known, route)) {
                leading.routes.push(route);
            }
            for (gateway, _) in taken {
                let Some(config) = gateway.meta.annotations.get(CONFIG_ANNOTATION) else { continue };
                let key = (gateway.meta.namespace.clone(), config.value.clone());
                if let Some(config) = self.objects.configs.get(&key)
                    && !leading.configs.iter().any(|known| std::ptr::eq(*known, config))
                {
                    leading.configs.push(config);
                }
            }
        }
    }

    fn answer(&mut self, route: &Route, rule: &Rule, reason: &mut &'static str) -> Answer {
        let id = route.meta.id();
        let place = route.meta.at(rule.at);
        match &rule.action {
            Action::Redirect(redirect) => return Answer::Redirect(redirect.clone()),
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
            let share = self.share(Referrer::of(&route.meta), backend).unwrap_or_else(|broken| {
                self.tell_broken(&route.meta, backend, &broken, effect);
                *reason = broken.reason;
                let target = Target::Nowhere(broken.short);
                Share { weight: backend.weight, priority: 0, target, model: None, edits: Edits::default() }
            });
            shares.push(share);
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

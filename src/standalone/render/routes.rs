//! Routes: entries of hosts → what Envoy does with the first that matches.

use super::Renderer;
use super::clusters::Reached;
use super::edits::{self, header_edits, literal, merged};
use super::filters::{no_picker_but, with_model};
use crate::standalone::envoy::filter::PerFilter;
use crate::standalone::envoy::route::{
    Action, BodyFormat, ClusterWeight, Destination, DirectResponse, HeaderEdits, HeaderValue,
    HeaderValueOption, PathMatch, PreviousPriorities, RetryBackOff, RetryPolicy, Route, RouteAction,
    RouteConfiguration, RouteMatch, ValueMatcher, VirtualHost, WeightedClusters,
};
use crate::standalone::envoy::{DataSource, Empty, Extension, Regex, Span, StringMatch, Typed};
use crate::standalone::manifest::route::{MODEL_HEADER, Match, PathKind, ValueMatch};
use crate::standalone::rates;
use crate::standalone::topology::{Answer, Edits, Entry, Host, Limits, ListenerPlan, Model, PoolPlan, Share};

/// Longest answer that Envoy makes itself unless told otherwise.
const DIRECT_BYTES: usize = 4096;

/// Paths on which the model is read; the gateway controllers answer all others with 404.
const AI_PATHS: &str = "/v1/(chat/completions|completions|embeddings|responses(/input_tokens)?|images/generations|\
                        audio/(speech|transcriptions|translations))|/tokenize|/cohere/v2/rerank|\
                        /anthropic/v1/messages(/count_tokens)?";

const NOT_FOUND: &str =
    "No matching route found. The model of the request is probably not configured at this gateway.\n";

impl<'t> Renderer<'t> {
    /// All routes of hosts, under these names of the filter chain and of the routes.
    pub(super) fn routes(
        &mut self,
        (name, routes_name): (&str, &str),
        hosts: &[&Host],
        pools: &[&'t PoolPlan],
        port: u16,
    ) -> RouteConfiguration {
        let virtual_hosts: Vec<_> = hosts
            .iter()
            .map(|host| {
                let suffix = host.name.replace('.', "_");
                let domain = self.domain(host);
                let entries = host.entries.iter();
                let routes = entries.flat_map(|entry| {
                    let mut routes = self.entry(entry, &suffix, pools, (&host.name, port));
                    if self.settings.rate_limit.is_some() {
                        let limits = rates::of_route(entry, &domain);
                        let limits =
                            limits.into_iter().map(|(filter, rates)| (filter.to_owned(), rates.into()));
                        routes[0].typed_per_filter_config.extend(limits);
                    }
                    routes
                });
                VirtualHost {
                    name: format!("{name}/{suffix}"),
                    domains: vec![host.name.clone()],
                    routes: routes.collect(),
                }
            })
            .collect();
        let bodies = virtual_hosts.iter().flat_map(|host| &host.routes).filter_map(direct_body);
        let longest = bodies.map(str::len).max().unwrap_or_default();
        RouteConfiguration {
            name: routes_name.to_owned(),
            ignore_port_in_host_matching: true,
            // The cluster of dead shares is never there.
            validate_clusters: false,
            most_specific_header_mutations_wins: true,
            max_direct_response_body_size_bytes: (longest > DIRECT_BYTES).then_some(longest),
            virtual_hosts,
        }
    }

    /// The domain of the limits of a host: that of its listener.
    fn domain(&self, host: &Host) -> String {
        let gateways = self.topology.gateways.iter();
        let mut listeners =
            gateways.flat_map(|gateway| gateway.listeners.iter().map(move |it| (gateway, it)));
        let has = |listener: &ListenerPlan| listener.hosts.iter().any(|own| std::ptr::eq(own, host));
        let found = listeners.find(|(_, listener)| has(listener));
        found.map_or_else(String::new, |(gateway, listener)| rates::domain(gateway, listener))
    }

    /// The routes of an entry; nearly always one.
    fn entry(&mut self, entry: &Entry, suffix: &str, pools: &[&'t PoolPlan], at: (&str, u16)) -> Vec<Route> {
        let name = format!("{}/{suffix}", entry.name);
        let mut headers = header_edits(&entry.edits);
        let nobody = || no_picker_but(None, pools);
        let mut more = None;
        let (action, per_filter) = match &entry.answer {
            Answer::Forward(shares) => {
                let (action, own, per_filter) = self.forward(entry, shares, pools);
                headers = own;
                (Action::Route(Box::new(action)), model_read(entry, per_filter))
            }
            Answer::Redirect(to) => {
                (Action::Redirect(edits::redirect(to, &entry.requests, at)), model_read(entry, nobody()))
            }
            Answer::Models(models) => {
                headers.response_headers_to_add.push(json());
                // No body is read for this.
                (Action::DirectResponse(direct(200, Some(told(models, self.settings.created)))), nobody())
            }
            Answer::Status(404, _) if entry.is_ai => {
                more = Some(unsupported(entry, &name, nobody()));
                (Action::DirectResponse(direct(404, Some(NOT_FOUND.to_owned()))), model_read(entry, nobody()))
            }
            Answer::Status(status, _) => {
                (Action::DirectResponse(direct(*status, None)), model_read(entry, nobody()))
            }
        };
        let first = Route {
            name,
            // Where a path is none of those the model is not read, so entries that want one do not match anyway.
            r#match: route_match(&entry.requests, entry.is_ai && !wants_model(&entry.requests)),
            action,
            headers,
            typed_per_filter_config: per_filter,
        };
        std::iter::once(first).chain(more).collect()
    }

    /// What sends requests to shares: the action, and the edits and filters of all shares or the only one.
    fn forward(
        &mut self,
        entry: &Entry,
        shares: &[Share],
        pools: &[&'t PoolPlan],
    ) -> (RouteAction, HeaderEdits, PerFilter) {
        let rule = entry.name.rsplit_once("/match/").map_or(entry.name.as_str(), |(rule, _)| rule);
        let is_wanted = shares.iter().any(|share| share.priority != shares[0].priority);
        let ordered = if is_wanted { self.prioritized(rule, shares) } else { None };
        let is_ordered = ordered.is_some();
        let mut edits = entry.edits.clone();
        let (to, has_pool, has_backend, per_filter) = if let Some(cluster) = ordered {
            (Destination::Cluster(cluster), false, true, no_picker_but(None, pools))
        } else if let [share] = shares {
            let Reached { cluster, pool } = self.reach(rule, share, &entry.route);
            edits = merged(&edits, &share.edits);
            (Destination::Cluster(cluster), pool.is_some(), pool.is_none(), no_picker_but(pool, pools))
        } else {
            let mut clusters = Vec::new();
            let (mut has_pool, mut has_backend) = (false, false);
            for (n, share) in shares.iter().enumerate() {
                let Reached { cluster, pool } =
                    self.reach(&format!("{rule}/backend/{n}"), share, &entry.route);
                (has_pool, has_backend) = (has_pool || pool.is_some(), has_backend || pool.is_none());
                clusters.push(ClusterWeight {
                    name: cluster,
                    weight: share.weight,
                    host_rewrite_literal: share.edits.host.clone(),
                    headers: header_edits(&share.edits),
                    typed_per_filter_config: no_picker_but(pool, pools),
                });
            }
            let to = Destination::WeightedClusters(WeightedClusters { clusters });
            (to, has_pool, has_backend, PerFilter::new())
        };
        let (prefix_rewrite, regex_rewrite) = edits::path_rewrite(&edits, &entry.requests);
        let action = RouteAction {
            to,
            cluster_not_found_response_code: Some("INTERNAL_SERVER_ERROR"),
            timeout: timeout(&entry.limits),
            idle_timeout: entry.limits.request.map(idle_timeout),
            retry_policy: retries(&entry.limits, has_pool, is_ordered),
            prefix_rewrite,
            regex_rewrite,
            // Servers outside know themselves by their own name; members of pools take any.
            auto_host_rewrite: (entry.is_ai && has_backend && edits.host.is_none()).then_some(true),
            host_rewrite_literal: edits.host.clone(),
        };
        (action, header_edits(&Edits { host: None, path: None, ..edits }), per_filter)
    }
}

/// Switches the model extractor on for entries of AI routes: it counts for the entry that a request has at first, which
/// for those that are told apart by the model is the catch-all.
fn model_read(entry: &Entry, per_filter: PerFilter) -> PerFilter {
    if entry.is_ai { with_model(per_filter) } else { per_filter }
}

/// What is said of paths on which no model is read.
fn unsupported(entry: &Entry, name: &str, per_filter: PerFilter) -> Route {
    let text = DataSource::InlineString("unsupported path: %REQ(:PATH)%\n".to_owned());
    Route {
        name: format!("{name}/unsupported-path"),
        r#match: route_match(&entry.requests, false),
        action: Action::DirectResponse(DirectResponse {
            status: 404,
            body: None,
            body_format: Some(BodyFormat { text_format_source: text }),
        }),
        headers: header_edits(&entry.edits),
        typed_per_filter_config: per_filter,
    }
}

fn wants_model(requests: &Match) -> bool {
    requests.headers.iter().any(|header| header.name == MODEL_HEADER)
}

fn direct(status: u16, body: Option<String>) -> DirectResponse {
    DirectResponse { status, body: body.map(DataSource::InlineString), body_format: None }
}

fn direct_body(route: &Route) -> Option<&str> {
    let Action::DirectResponse(DirectResponse { body: Some(DataSource::InlineString(body)), .. }) =
        &route.action
    else {
        return None;
    };
    Some(body)
}

fn json() -> HeaderValueOption {
    HeaderValueOption {
        header: HeaderValue { key: "content-type".to_owned(), value: literal("application/json") },
        append_action: "OVERWRITE_IF_EXISTS_OR_ADD",
    }
}

/// The list of models as `OpenAI` has it.
fn told(models: &[Model], created: i64) -> String {
    #[derive(serde::Serialize)]
    struct List<'m> {
        object: &'static str,
        data: Vec<One<'m>>,
    }
    #[derive(serde::Serialize)]
    struct One<'m> {
        id: &'m str,
        object: &'static str,
        created: i64,
        owned_by: &'m str,
    }
    let mut data = Vec::new();
    for Model { id, owned_by, created: at } in models {
        data.push(One { id, object: "model", created: at.unwrap_or(created), owned_by });
    }
    serde_json::to_string(&List { object: "list", data }).expect("keys are texts")
}

fn route_match(requests: &Match, is_known_only: bool) -> RouteMatch {
    let regex = |regex: &str| PathMatch::SafeRegex(Regex { regex: regex.to_owned() });
    let path = match requests.path_kind {
        PathKind::Exact => PathMatch::Path(requests.path.clone()),
        PathKind::Regex => regex(&requests.path),
        PathKind::Prefix => match requests.path.trim_end_matches('/') {
            "" if is_known_only => regex(AI_PATHS),
            "" => PathMatch::Prefix("/".to_owned()),
            path => PathMatch::PathSeparatedPrefix(path.to_owned()),
        },
    };
    let matcher = |of: &ValueMatch| ValueMatcher {
        name: of.name.clone(),
        string_match: if of.is_regex {
            StringMatch::SafeRegex(Regex { regex: of.value.clone() })
        } else {
            StringMatch::Exact(of.value.clone())
        },
    };
    let method = requests.method.map(|method| ValueMatcher {
        name: ":method".to_owned(),
        string_match: StringMatch::Exact(method.to_owned()),
    });
    RouteMatch {
        path,
        headers: method.into_iter().chain(requests.headers.iter().map(matcher)).collect(),
        query_parameters: requests.query.iter().map(matcher).collect(),
    }
}

/// From the whole request to the whole answer.
fn timeout(limits: &Limits) -> Option<Span> {
    let per_try = limits.backend_request.filter(|_| limits.retry.is_none());
    per_try.or(limits.request).map(Span)
}

/// A stream may be silent as long as the request may take, and an hour at least.
fn idle_timeout(request: std::time::Duration) -> Span {
    if request.is_zero() { Span(request) } else { Span(request.max(std::time::Duration::from_secs(3600))) }
}

/// What is tried again. A pool's picker names several endpoints, of which each try takes the next one.
fn retries(limits: &Limits, has_pool: bool, is_ordered: bool) -> Option<RetryPolicy> {
    let named = |name: &str, typed| Extension::new(name, typed);
    let mut policy = RetryPolicy {
        retry_on: None,
        num_retries: None,
        retriable_status_codes: Vec::new(),
        per_try_timeout: None,
        per_try_idle_timeout: limits.stream_idle.map(Span),
        retry_back_off: None,
        retry_host_predicate: Vec::new(),
        host_selection_retry_max_attempts: None,
        retry_priority: None,
    };
    if let Some(retry) = &limits.retry {
        let codes = (!retry.statuses.is_empty()).then(|| "retriable-status-codes".to_owned());
        let mut on = retry.on.clone();
        on.extend(codes.filter(|codes| !on.contains(codes)));
        policy.retry_on = Some(on.join(","));
        policy.num_retries = Some(retry.attempts);
        policy.retriable_status_codes.clone_from(&retry.statuses);
        policy.per_try_timeout = limits.backend_request.or(retry.per_try).map(Span);
        let back_off = |(base, max)| RetryBackOff { base_interval: Span(base), max_interval: Span(max) };
        policy.retry_back_off = retry.backoff.map(back_off);
        if !has_pool {
            let previous =
                named("envoy.retry_host_predicates.previous_hosts", Typed::PreviousHosts(Empty {}));
            policy.retry_host_predicate = vec![previous];
            policy.host_selection_retry_max_attempts = Some(5);
        }
        if is_ordered {
            let config = Typed::PreviousPriorities(PreviousPriorities { update_frequency: 1 });
            policy.retry_priority = Some(named("envoy.retry_priorities.previous_priorities", config));
        }
    } else if has_pool {
        let on = "connect-failure,refused-stream,reset-before-request,retriable-status-codes";
        policy.retry_on = Some(on.to_owned());
        policy.num_retries = Some(3);
        policy.retriable_status_codes = vec![503];
    } else if limits.stream_idle.is_none() {
        return None;
    }
    Some(policy)
}

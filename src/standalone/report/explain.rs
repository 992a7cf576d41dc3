//! What a [`Topology`] does with requests: [`explanation`] for people, [`gateways`] and [`pools`] for programs.
//!
//! Values of headers are not shown: one may be the key of a provider.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::standalone::topology::{
    Answer, BodyMode, Cost, Edits, Entry, HeaderEdits, PathEdit, PoolPlan, RateCost, RateHeader, RateRule,
    Replicas, Retry, ServicePlan, Share, Topology,
};

/// From listeners over hosts to what is done with requests, in the order in which entries count; then the pools.
pub fn explanation(topology: &Topology) -> String {
    let mut text = String::new();
    for gateway in &topology.gateways {
        let _ = writeln!(text, "Gateway {}/{}", gateway.namespace, gateway.name);
        for listener in &gateway.listeners {
            let tls: Vec<_> = listener.certificates.iter().map(|(ns, name)| format!("{ns}/{name}")).collect();
            let tls = if tls.is_empty() { String::new() } else { format!(", TLS with {}", tls.join(", ")) };
            let _ = writeln!(text, "  listener {}, port {}{tls}", listener.name, listener.port);
            for host in &listener.hosts {
                let _ = writeln!(text, "    host {}", host.name);
                for (n, entry) in host.entries.iter().enumerate() {
                    let Entry { requests, route, rule, answer, .. } = entry;
                    let more = details(entry).join(", ");
                    let more = if more.is_empty() { more } else { format!(", {more}") };
                    let n = n + 1;
                    let _ = writeln!(text, "      {n}. {requests} -> {answer}{more}  [{route} {rule}]");
                }
            }
        }
    }
    for pool in &topology.pools {
        let _ = writeln!(text, "InferencePool {}/{} of {}", pool.namespace, pool.name, pool.group);
        for line in pool_lines(pool) {
            let _ = writeln!(text, "  {line}");
        }
    }
    for ServicePlan { namespace, name, port, target_port, replicas, .. } in &topology.services {
        let _ = writeln!(text, "Service {namespace}/{name}:{port}, port {target_port} of its pods");
        for line in replicas.iter().map(shown_replicas) {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn details(entry: &Entry) -> Vec<String> {
    let mut details = Vec::new();
    let limits = &entry.limits;
    details.extend(limits.request.map(|longest| format!("at most {longest:?}")));
    details.extend(limits.stream_idle.map(|longest| format!("pauses of at most {longest:?}")));
    details.extend(limits.retry.as_ref().map(|retry| {
        let each = retry.per_try.or(limits.backend_request);
        let each = each.map_or_else(String::new, |longest| format!(", each at most {longest:?}"));
        format!("tried again {}x on {}{each}", retry.attempts, shown_conditions(retry))
    }));
    details.extend(edits(&entry.edits));
    if let Answer::Forward(shares) = &entry.answer {
        for Share { edits: own, model, priority, .. } in shares {
            details.extend(model.as_ref().map(|model| format!("asked for {model}")));
            details.extend((*priority > 0).then(|| format!("priority {priority}")));
            details.extend(edits(own));
        }
    }
    details.extend(entry.rates.iter().map(|rate| shown_rate(rate)));
    details
}

fn shown_conditions(retry: &Retry) -> String {
    let mut on: Vec<String> = retry.on.iter().filter(|it| *it != "retriable-status-codes").cloned().collect();
    on.extend(retry.statuses.iter().map(u16::to_string));
    on.join(" ")
}

fn edits(edits: &Edits) -> Vec<String> {
    let mut told = Vec::new();
    for (headers, whose) in [(&edits.request, "request"), (&edits.response, "answer")] {
        told.extend((!headers.is_empty()).then(|| format!("{whose} {}", shown_headers(headers))));
    }
    told.extend(edits.host.as_ref().map(|host| format!("host {host}")));
    told.extend(edits.path.as_ref().map(|path| match path {
        PathEdit::Full(path) => format!("path {path}"),
        PathEdit::Prefix(path) => format!("prefix {path}"),
    }));
    told
}

/// Names alone: `=` is set, `+` added, `-` removed.
fn shown_headers(headers: &HeaderEdits) -> String {
    let set = headers.set.iter().map(|(name, _)| format!("={name}"));
    let added = headers.add.iter().map(|(name, _)| format!("+{name}"));
    let removed = headers.remove.iter().map(|name| format!("-{name}"));
    set.chain(added).chain(removed).collect::<Vec<_>>().join(" ")
}

fn shown_rate(rate: &RateRule) -> String {
    let unit = format!("{:?}", rate.unit).to_lowercase();
    let cost = |cost: &RateCost| match cost {
        RateCost::Number(number) => number.to_string(),
        RateCost::Metadata(_, key) => key.clone(),
    };
    let mut text = format!("{} per {unit}", rate.requests);
    for client in &rate.clients {
        let _ = match client {
            RateHeader::Is(value, false) => write!(text, " for {value}"),
            RateHeader::Is(value, true) => write!(text, " unless {value}"),
            RateHeader::Distinct(name) => write!(text, " for each {name}"),
        };
    }
    let _ = write!(text, " (costs {}", cost(&rate.request_cost));
    if let Some(response) = &rate.response_cost {
        let _ = write!(text, " and then {}", cost(response));
    }
    text + ")"
}

fn pool_lines(pool: &PoolPlan) -> Vec<String> {
    let mut lines = Vec::new();
    let mode = if pool.body_mode == BodyMode::Buffered { "buffered" } else { "duplex" };
    let over = if pool.allow_mode_override { ", may be overridden" } else { "" };
    let open = if pool.fail_open { ", fails open" } else { "" };
    let config = if pool.config.is_some() { "a configuration of its own" } else { "the default" };
    lines.push(format!("picker {}, {config}, bodies {mode}{over}{open}", pool.authority));
    let ports: Vec<_> = pool.ports.iter().map(u16::to_string).collect();
    let h2c = if pool.is_h2c { ", h2c" } else { "" };
    if let Some(members) = &pool.members {
        let members: Vec<_> = members.iter().map(ToString::to_string).collect();
        lines.push(format!("members {}{h2c}", members.join(", ")));
    } else {
        let labels: Vec<_> = pool.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let port = if ports.is_empty() { String::new() } else { format!(", port {}", ports.join(" ")) };
        lines.push(format!("members with {}{port}{h2c}", labels.join(",")));
    }
    lines.extend(pool.replicas.iter().map(shown_replicas));
    for (what, values) in [("objective", &pool.objectives), ("model", &pool.model_priorities)] {
        lines.extend(values.iter().map(|(name, priority)| format!("{what} {name}: priority {priority}")));
    }
    if pool.rewrites != crate::discovery::index::rewrites::Rewrites::default() {
        lines.push("some models are served by others".to_owned());
    }
    for Cost { key, kind, cel } in &pool.costs {
        let what = cel.as_ref().map_or_else(|| (*kind).to_owned(), |cel| format!("`{cel}`"));
        lines.push(format!("cost {key}: {what}"));
    }
    lines
}

fn shown_replicas(replicas: &Replicas) -> String {
    let Replicas { workload, count, models, port, .. } = replicas;
    let models = if models.is_empty() { String::new() } else { format!(", {}", models.join(", ")) };
    format!("{count} of {workload}, port {port}{models}")
}

/// The gateways.
pub(super) fn gateways(topology: &Topology) -> Value {
    let entry = |it: &Entry| {
        json!({
            "requests": it.requests.to_string(),
            "route": it.route,
            "rule": it.rule,
            "answer": it.answer.to_string(),
            "details": details(it),
            "timeout_s": it.limits.request.map(|longest| longest.as_secs_f64()),
        })
    };
    let gateways = topology.gateways.iter().map(|gateway| {
        let listeners = gateway.listeners.iter().map(|listener| {
            let hosts = listener.hosts.iter().map(|host| {
                json!({"host": host.name, "entries": host.entries.iter().map(entry).collect::<Vec<_>>()})
            });
            let hosts: Vec<_> = hosts.collect();
            json!({"name": listener.name, "port": listener.port, "hosts": hosts})
        });
        let listeners: Vec<_> = listeners.collect();
        json!({"namespace": gateway.namespace, "name": gateway.name, "listeners": listeners})
    });
    gateways.collect()
}

/// The pools.
pub(super) fn pools(topology: &Topology) -> Value {
    let pools = topology.pools.iter().map(|pool| {
        json!({
            "group": pool.group,
            "namespace": pool.namespace,
            "name": pool.name,
            "details": pool_lines(pool),
        })
    });
    pools.collect()
}

//! HTTP on the metrics port: `/metrics`; for callers on this machine `/debug/decisions` and `/debug/log-level`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, Query, State};
use axum::http::header::{self, HeaderName};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use epp_framework::endpoint::{Freshness, Load};
use serde::{Deserialize, Serialize};

use crate::pool::PoolState;
use crate::recorder::{CandidateRecord, DecisionRecord, Eligibility, ProfileRecord};
use crate::telemetry::{self, verbosity::Verbosity};

/// The routes of one pool.
pub fn router(pool: Arc<PoolState>) -> Router {
    let log_level = get(log_level).post(set_log_level).layer(DefaultBodyLimit::max(1024));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/debug/decisions", get(decisions))
        .route("/debug/log-level", log_level)
        .with_state(pool)
}

async fn metrics(State(pool): State<Arc<PoolState>>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, pool.metrics_page()).into_response()
}

/// A caller on this machine; anybody else is refused. Whoever changes something must not be another site's page, either.
struct OnThisMachine;

impl<S: Sync> FromRequestParts<S> for OnThisMachine {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let near = peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback());
        if near && names_this_machine(&parts.headers) && !comes_from_elsewhere(&parts.headers) {
            return Ok(Self);
        }
        let text =
            "debug pages answer to callers on this machine only, for instance through kubectl port-forward\n";
        Err((StatusCode::FORBIDDEN, text))
    }
}

fn header_text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether the caller asked for an address or `localhost`: a browser that was led here by a name of somebody else's
/// sends that name.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Ok(authority) = header_text(headers, header::HOST).parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
}

/// Whether a browser asks on behalf of a page that is not ours: it then names the page's origin.
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let ours = format!("http://{}", header_text(headers, header::HOST));
    headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes() != ours.as_bytes())
}

fn log_level_page() -> Response {
    match telemetry::verbosity() {
        Some(verbosity) => {
            let shows = verbosity.filter().to_string().to_lowercase();
            // No number that this page would take stands for errors only.
            let v =
                if verbosity.v() < 0 { shows.clone().into() } else { serde_json::Value::from(verbosity.v()) };
            Json(serde_json::json!({ "v": v, "shows": shows })).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "this process does not log\n").into_response(),
    }
}

async fn log_level(_: OnThisMachine) -> Response {
    log_level_page()
}

/// What `/debug/log-level` is told: in the query, or as a JSON body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogLevelQuery {
    v: Option<String>,
}

async fn set_log_level(
    _: OnThisMachine,
    query: Result<Query<LogLevelQuery>, QueryRejection>,
    body: String,
) -> Response {
    let bad = |why: &str| {
        let text = format!("{why}; write for instance /debug/log-level?v=4, or the body 4 or {{\"v\":4}}\n");
        (StatusCode::BAD_REQUEST, text).into_response()
    };
    let Ok(Query(LogLevelQuery { v })) = query else { return bad("expected the parameter v") };
    let in_body = || match serde_json::from_str(&body) {
        Ok(serde_json::Value::Object(fields)) => fields.get("v").map(ToString::to_string).unwrap_or_default(),
        _ => body.trim().to_owned(),
    };
    let asked = v.unwrap_or_else(in_body);
    match Verbosity::parse(asked.trim_matches('"')) {
        Ok(verbosity) if telemetry::set_verbosity(verbosity) => {
            tracing::warn!(v = verbosity.v(), "the log level was changed");
            log_level_page()
        }
        Ok(_) => log_level_page(),
        Err(why) => bad(&why),
    }
}

/// What `/debug/decisions` may be asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DecisionsQuery {
    limit: Option<usize>,
    request_id: Option<String>,
}

async fn decisions(
    State(pool): State<Arc<PoolState>>,
    _: OnThisMachine,
    query: Result<Query<DecisionsQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        let text = "expected the parameters limit (a number) and request_id, both optional\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let records = pool.last_decisions(query.limit.unwrap_or(50), query.request_id.as_deref());
    let uptime = pool.clock.now();
    let started = SystemTime::now() - uptime.since(epp_framework::time::Timestamp(0));
    let decisions: Vec<_> = records.iter().map(|record| decision_json(record, started)).collect();
    Json(serde_json::json!({ "pool": pool.name, "decisions": decisions })).into_response()
}

#[derive(Serialize)]
struct DecisionJson<'a> {
    sequence: u64,
    at_unix_ms: u128,
    request_id: &'a str,
    model: &'a str,
    target_model: &'a str,
    priority: i32,
    eligibility: Eligibility,
    endpoints: usize,
    eligible: usize,
    profiles: Vec<ProfileJson<'a>>,
    picked: Vec<&'a str>,
}

#[derive(Serialize)]
struct ProfileJson<'a> {
    name: &'a str,
    scorers: Vec<ScorerJson<'a>>,
    dropped_by_filters: usize,
    candidates: Vec<CandidateJson<'a>>,
}

#[derive(Serialize)]
struct ScorerJson<'a> {
    name: &'a str,
    weight: f64,
}

#[derive(Serialize)]
struct CandidateJson<'a> {
    endpoint: &'a str,
    namespace: &'a str,
    address: &'a str,
    /// One per scorer, same order.
    scores: &'a [f64],
    total: f64,
    picked: bool,
    waiting: u32,
    running: u32,
    kv_used: f64,
    in_flight: u32,
    since_scrape: u32,
    freshness: &'static str,
}

fn decision_json(record: &DecisionRecord, started: SystemTime) -> DecisionJson<'_> {
    let at = started + record.at.since(epp_framework::time::Timestamp(0));
    DecisionJson {
        sequence: record.sequence,
        at_unix_ms: at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis(),
        request_id: &record.request_id,
        model: &record.model,
        target_model: &record.target_model,
        priority: record.priority,
        eligibility: record.eligibility,
        endpoints: record.n_endpoints,
        eligible: record.n_eligible,
        profiles: record.profiles().iter().map(profile_json).collect(),
        picked: record.picked.iter().map(|endpoint| endpoint.destination.as_str()).collect(),
    }
}

fn profile_json(profile: &ProfileRecord) -> ProfileJson<'_> {
    ProfileJson {
        name: &profile.name,
        scorers: profile.scorers.iter().map(|(name, weight)| ScorerJson { name, weight: *weight }).collect(),
        dropped_by_filters: profile.dropped,
        candidates: profile.candidates.iter().map(candidate_json).collect(),
    }
}

fn candidate_json(candidate: &CandidateRecord) -> CandidateJson<'_> {
    let Load { waiting, running, kv_used, in_flight, since_scrape, freshness, .. } = candidate.load;
    CandidateJson {
        endpoint: &candidate.endpoint.meta.name,
        namespace: &candidate.endpoint.meta.namespace,
        address: &candidate.endpoint.destination,
        scores: &candidate.scores,
        total: candidate.total,
        picked: candidate.picked,
        waiting,
        running,
        kv_used,
        in_flight: in_flight.requests,
        since_scrape: since_scrape.requests,
        freshness: match freshness {
            Freshness::Fresh => "fresh",
            Freshness::Stale(_) => "stale",
            Freshness::NeverScraped => "never_scraped",
            Freshness::NoMetrics => "no_metrics",
        },
    }
}

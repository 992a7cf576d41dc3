//! `/debug/decisions`: the last decisions as JSON. The entry point is [`show`].

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use epp_framework::endpoint::{Endpoint, Freshness};
use epp_framework::scheduling::Role;
use serde::{Deserialize, Serialize};

use super::chosen::Chosen;
use crate::recorder::{CandidateRecord, DecisionRecord, Eligibility, LoadRecord, ProfileRecord};

/// What `/debug/decisions` may be asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DecisionsQuery {
    limit: Option<usize>,
    request_id: Option<String>,
    /// Read by [`Chosen`].
    #[serde(rename = "pool")]
    _pool: Option<String>,
}

/// The page.
pub(super) async fn show(
    Chosen(chosen): Chosen,
    query: Result<Query<DecisionsQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        let text = "expected the parameters limit (a number), request_id and pool, all optional\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let pool = &chosen.state;
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
    companions: Vec<CompanionJson<'a>>,
}

#[derive(Serialize)]
struct CompanionJson<'a> {
    role: &'static str,
    address: &'a str,
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
        profiles: record.profiles.iter().map(profile_json).collect(),
        picked: record.picked.iter().map(|endpoint| endpoint.destination.as_str()).collect(),
        companions: record.companions.iter().map(companion_json).collect(),
    }
}

fn companion_json((role, endpoint): &(Role, Arc<Endpoint>)) -> CompanionJson<'_> {
    CompanionJson { role: role.name(), address: &endpoint.destination }
}

fn profile_json(profile: &ProfileRecord) -> ProfileJson<'_> {
    ProfileJson {
        name: &profile.outline.name,
        scorers: profile
            .outline
            .scorers
            .iter()
            .map(|(name, weight)| ScorerJson { name, weight: *weight })
            .collect(),
        dropped_by_filters: profile.dropped,
        candidates: profile.candidates.iter().map(candidate_json).collect(),
    }
}

fn candidate_json(candidate: &CandidateRecord) -> CandidateJson<'_> {
    let LoadRecord { waiting, running, kv_used, in_flight, since_scrape, freshness } = candidate.load;
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
        in_flight,
        since_scrape,
        freshness: freshness_word(freshness),
    }
}

/// How debug pages call it.
pub(super) fn freshness_word(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Fresh => "fresh",
        Freshness::Stale => "stale",
        Freshness::NeverScraped => "never_scraped",
        Freshness::NoMetrics => "no_metrics",
    }
}

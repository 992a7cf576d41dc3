//! `/debug/log-level`: [`show`] tells how much is logged, [`set`] changes it.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;

use crate::telemetry::{self, verbosity::Verbosity};

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

/// The page.
pub(super) async fn show() -> Response {
    log_level_page()
}

/// What `/debug/log-level` is told: in the query, or as a JSON body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogLevelQuery {
    v: Option<String>,
}

/// Changes the level to what the query or the body says.
pub(super) async fn set(query: Result<Query<LogLevelQuery>, QueryRejection>, body: String) -> Response {
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

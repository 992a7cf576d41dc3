//! `/debug/config`: which configuration runs, with which plugins since when, and why the last one was refused.

use axum::response::{IntoResponse, Json, Response};

use super::chosen::Chosen;

/// The page.
pub(super) async fn show(Chosen(chosen): Chosen) -> Response {
    let (pool, standing) = (&chosen.state, &chosen.standing);
    let pipeline = pool.pipeline();
    let plugins = pipeline.instances().map(|(name, type_name, since)| {
        serde_json::json!({ "name": name, "type": type_name, "since_generation": since })
    });
    let plugins: Vec<_> = plugins.collect();
    let page = serde_json::json!({ "pool": pool.name, "config": standing.now(), "plugins": plugins });
    Json(page).into_response()
}

//! `/debug/config`: which configuration runs, with which plugins since when, and why the last one was refused.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Json, Response};

use crate::config::standing::ConfigStanding;
use crate::pool::PoolState;

/// The page.
pub(super) async fn show(State((pool, standing)): State<(Arc<PoolState>, Arc<ConfigStanding>)>) -> Response {
    let pipeline = pool.pipeline();
    let plugins = pipeline.instances().map(|(name, type_name, since)| {
        serde_json::json!({ "name": name, "type": type_name, "since_generation": since })
    });
    let plugins: Vec<_> = plugins.collect();
    let page = serde_json::json!({ "pool": pool.name, "config": standing.now(), "plugins": plugins });
    Json(page).into_response()
}

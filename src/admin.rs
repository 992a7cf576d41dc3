//! HTTP on the metrics port: [`router`], `/metrics` and the debug pages `/debug/config`, `/debug/decisions`,
//! `/debug/endpoints` and `/debug/log-level`.
//!
//! A debug page is about the pool that `?pool=namespace/name` names, or about the only one.
//! Who may read them is said by flags ([`access`]) and seen to by a [`Guard`] for either kind of page.

pub mod access;
mod chosen;
mod config;
mod decisions;
pub mod digest;
mod endpoints;
pub mod guard;
mod log_level;
pub mod review_cache;
pub mod reviews;
pub mod token_file;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::admin::guard::Guard;
use crate::pools::Pools;

/// Who may read what.
pub struct Guards {
    /// `/metrics`.
    pub metrics: Guard,
    /// The debug pages; without a guard there are none.
    pub debug: Option<Guard>,
}

/// The routes.
pub fn router(pools: Arc<Pools>, guards: Guards) -> Router {
    let mut pages = guarded(Router::new().route("/metrics", get(metrics)), guards.metrics);
    if let Some(guard) = guards.debug {
        let log_level = get(log_level::show).post(log_level::set).layer(DefaultBodyLimit::max(1024));
        let debug = Router::new().route("/debug/decisions", get(decisions::show));
        let debug = debug.route("/debug/endpoints", get(endpoints::show));
        let debug = debug.route("/debug/log-level", log_level).route("/debug/config", get(config::show));
        pages = pages.merge(guarded(debug, guard));
    }
    pages.with_state(pools)
}

fn guarded(pages: Router<Arc<Pools>>, guard: Guard) -> Router<Arc<Pools>> {
    pages.route_layer(from_fn_with_state(Arc::new(guard), guard::check))
}

async fn metrics(State(pools): State<Arc<Pools>>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, pools.metrics_page()).into_response()
}

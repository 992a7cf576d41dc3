//! The pool that a debug page is about: [`Chosen`], by `?pool=namespace/name`, or the only one.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;

use crate::pools::{Pools, Served};

/// The pool.
pub(super) struct Chosen(pub(super) Arc<Served>);

/// What of the query names it.
#[derive(Default, Deserialize)]
struct Named {
    pool: Option<String>,
}

impl FromRequestParts<Arc<Pools>> for Chosen {
    type Rejection = (StatusCode, String);

    async fn from_request_parts(parts: &mut Parts, pools: &Arc<Pools>) -> Result<Self, Self::Rejection> {
        // What cannot be read is for the page to say.
        let named = Query::<Named>::try_from_uri(&parts.uri).map(|query| query.0).unwrap_or_default();
        let pools = pools.all();
        let chosen = match &named.pool {
            Some(name) => pools.iter().find(|pool| pool.state.full_name() == *name),
            None if pools.len() == 1 => pools.first(),
            None => None,
        };
        if let Some(chosen) = chosen {
            return Ok(Self(chosen.clone()));
        }
        let (status, why) = match (&named.pool, pools.is_empty()) {
            (_, true) => (StatusCode::NOT_FOUND, "there is no pool"),
            (Some(_), _) => (StatusCode::NOT_FOUND, "there is no such pool; say which with one of these"),
            (None, _) => {
                (StatusCode::MULTIPLE_CHOICES, "there are several pools; say which with one of these")
            }
        };
        let mut text = format!("{why}\n");
        for pool in pools {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "?pool={}", pool.state.full_name());
        }
        Err((status, text))
    }
}

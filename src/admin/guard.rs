//! Who may read a page: [`check`], a layer before the routes, asks a [`Guard`].
//!
//! A refusal tells its reader why, and never repeats what the caller sent.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::admin::reviews::{Refusal, Reviews};
use crate::admin::token_file::TokenFile;

/// No token is longer than this.
const LONGEST_TOKEN: usize = 16 << 10;

/// Who may read.
pub enum Guard {
    /// Anybody.
    Open,
    /// Callers on this machine, and no pages of other sites.
    Loopback,
    /// Whom the Kubernetes API knows and allows it.
    Review(Arc<Reviews>),
    /// Who has the token.
    Token(TokenFile),
}

/// Why a caller may not read.
#[derive(Debug)]
enum No {
    /// They are not on this machine, or were led here by somebody else's name.
    NotNear,
    /// A browser asks on behalf of another site's page.
    Elsewhere,
    /// The token is missing or wrong, or another reason of a review.
    Review(Refusal),
}

/// Lets a request pass if the guard admits it.
pub async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match guard.admit(&parts).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(no) => no.into_response(),
    }
}

impl Guard {
    async fn admit(&self, parts: &Parts) -> Result<(), No> {
        if !matches!(self, Self::Open) && comes_from_elsewhere(&parts.headers) {
            return Err(No::Elsewhere);
        }
        match self {
            Self::Open => Ok(()),
            Self::Loopback => {
                let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
                let near = peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback());
                if near && names_this_machine(&parts.headers) { Ok(()) } else { Err(No::NotNear) }
            }
            Self::Token(file) => {
                let known = bearer(&parts.headers).is_some_and(|token| file.is(token));
                if known { Ok(()) } else { Err(No::Review(Refusal::Unauthorized)) }
            }
            Self::Review(reviews) => {
                let verb = parts.method.as_str().to_ascii_lowercase();
                let admitted = reviews.admit(bearer(&parts.headers), parts.uri.path(), &verb).await;
                admitted.map_err(No::Review)
            }
        }
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NotNear => {
                let text = "debug pages answer to callers on this machine only, for instance through kubectl \
                            port-forward; --debug-access says otherwise";
                (StatusCode::FORBIDDEN, text.to_owned())
            }
            Self::Elsewhere => (StatusCode::FORBIDDEN, "this is not for pages of other sites".to_owned()),
            Self::Review(refusal) => (refusal.status(), refusal.to_string()),
        };
        let mut response = (status, text + "\n").into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// The bearer token that a caller shows, as Kubernetes reads it.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut words = header_text(headers, header::AUTHORIZATION).split_whitespace();
    let scheme = words.next()?;
    let token = words.next().filter(|token| token.len() <= LONGEST_TOKEN)?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn header_text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether the caller asked for an address or `localhost`: a browser that was led here by a name of somebody else's
/// sends that name.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Ok(authority) = header_text(headers, header::HOST).parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

/// Whether a browser asks on behalf of a page that is not ours: it then names the page's origin.
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let host = header_text(headers, header::HOST);
    let is_ours = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme) == Some(host))
    };
    headers.get(header::ORIGIN).is_some_and(|origin| !is_ours(origin))
}

#[cfg(test)]
mod tests;

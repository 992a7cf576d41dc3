//! The HTTP routes of a simulated server. Entry point: [`router`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use serde_json::json;

use super::MetricsFilter;
use super::answer::Answer;
use super::call::Call;
use super::error::ApiError;
use super::live::{Live, Manner};
use super::metrics::{self, HttpLabels, Shown};
use crate::sim::engine::hash;

const MAX_BODY_BYTES: usize = 64 << 20;
const METRICS_TYPE: &str = "text/plain; version=1.0.0; charset=utf-8";

/// What the handlers of one server share.
#[derive(Debug)]
pub(super) struct App {
    pub(super) live: Arc<Live>,
    /// Value of the header that names the server.
    pub(super) name: HeaderValue,
    /// Not empty; the first is the model's name on the metrics page.
    pub(super) models: Vec<String>,
    pub(super) metrics: Option<MetricsFilter>,
    /// Unix time in seconds.
    pub(super) started: f64,
    /// Requests by labels from closed sets.
    pub(super) http: Mutex<BTreeMap<HttpLabels, u64>>,
}

/// Makes the service of one server.
pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/health", get(|| async { StatusCode::OK }))
        .route("/version", get(|| async { Json(json!({ "version": "0.32.0" })) }))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion));
    if app.metrics.is_some() {
        router = router.route("/metrics", get(plain_metrics)).route("/metrics/", get(slash_metrics));
    }
    router
        .fallback(|| async { (StatusCode::NOT_FOUND, Json(json!({ "detail": "Not Found" }))) })
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, Json(json!({ "detail": "Method Not Allowed" })))
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&app), sign))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

/// Counts each request and puts the server's name on each response.
async fn sign(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let handler = handler_name(request.uri().path());
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        _ => "OTHER",
    };
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static("uvicorn"));
    headers.insert("x-sim-server", app.name.clone());
    if let Some(handler) = handler {
        let class = match response.status().as_u16() / 100 {
            2 => "2xx",
            4 => "4xx",
            _ => "5xx",
        };
        *app.http.lock().entry((handler, method, class)).or_default() += 1;
    }
    response
}

/// The handler's label; `None` for paths that vLLM does not count.
fn handler_name(path: &str) -> Option<&'static str> {
    match path {
        "/health" | "/metrics" | "/metrics/" | "/version" => None,
        "/v1/models" => Some("/v1/models"),
        "/v1/chat/completions" => Some("/v1/chat/completions"),
        "/v1/completions" => Some("/v1/completions"),
        _ => Some("none"),
    }
}

async fn models(State(app): State<Arc<App>>) -> Response {
    let max_model_len = app.live.longest_request();
    let created = unix_seconds();
    let model = |id: &String| {
        json!({
            "id": id, "object": "model", "created": created, "owned_by": "vllm", "root": app.models[0],
            "parent": null, "max_model_len": max_model_len, "permission": [],
        })
    };
    Json(json!({ "object": "list", "data": app.models.iter().map(model).collect::<Vec<_>>() }))
        .into_response()
}

async fn chat(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = json_body(&headers, body)?;
    let call = Call::chat(&body, app.live.longest_request())?;
    answer(&app, call).await
}

async fn completion(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = json_body(&headers, body)?;
    let call = Call::completion(&body, app.live.longest_request())?;
    answer(&app, call).await
}

fn json_body(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !essence.eq_ignore_ascii_case(b"application/json") {
        return Err(ApiError::NotJson);
    }
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge,
        _ => ApiError::BodyCut,
    })
}

async fn answer(app: &App, call: Call) -> Result<Response, ApiError> {
    let model = match call.model {
        None => app.models[0].clone(),
        Some(asked) if app.models.contains(&asked) => asked,
        Some(asked) => return Err(ApiError::UnknownModel { asked, served: app.models.join(", ") }),
    };
    let manner = Manner { is_stream: call.stream.is_some(), finish: call.finish };
    let ticket = app.live.submit(&call.engine, manner)?;
    let unique = hash::mix(hash::of_text(app.name.to_str().unwrap_or_default()), ticket.id().0);
    let answer = Answer {
        id: format!("{}-{unique:016x}", if call.is_chat { "chatcmpl" } else { "cmpl" }),
        ticket,
        created: unix_seconds(),
        model,
        is_chat: call.is_chat,
        n_prompt: call.engine.prompt_tokens.len(),
        finish: call.finish,
    };
    match call.stream {
        Some(usage) => Ok(answer.stream(usage)),
        None => answer.body().await,
    }
}

/// vLLM's own route, which knows no filter.
async fn plain_metrics(State(app): State<Arc<App>>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let names = wanted_names(query);
    match app.metrics {
        Some(MetricsFilter::Empty) if !names.is_empty() => page(String::new()),
        _ => page(render(&app, None)),
    }
}

/// The page mounted below the same path, which filters by sample name.
async fn slash_metrics(State(app): State<Arc<App>>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let names = wanted_names(query);
    match app.metrics {
        Some(MetricsFilter::Empty) if !names.is_empty() => page(String::new()),
        Some(MetricsFilter::Honour) if !names.is_empty() => page(render(&app, Some(&names))),
        _ => page(render(&app, None)),
    }
}

fn wanted_names(query: Vec<(String, String)>) -> Vec<String> {
    query.into_iter().filter(|(key, _)| key == "name[]").map(|(_, name)| name).collect()
}

fn page(text: String) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

fn render(app: &App, only: Option<&[String]>) -> String {
    let http: Vec<(HttpLabels, u64)> = app.http.lock().iter().map(|(labels, n)| (*labels, *n)).collect();
    let (model_name, started) = (app.models[0].as_str(), app.started);
    app.live.read(|gauges, config, record| {
        metrics::render(&Shown { model_name, started, gauges, config, record, http: &http }, only)
    })
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

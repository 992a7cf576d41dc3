//! The HTTP routes of a simulated server. Entry point: [`router`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::MetricsFilter;
use super::answer::Answer;
use super::call::{Call, Form, messages};
use super::embeddings::{self, Asked, Title};
use super::error::{self, ApiError};
use super::live::{Live, Manner, Ticket};
use super::metrics::{self, HttpLabels, Shown};
use super::prefill::prefill;
use super::record::Finish;
use super::render::render;
use crate::sim::engine::hash;

const MAX_BODY_BYTES: usize = 64 << 20;
/// Handlers as the metrics page names them.
const COUNTED: &[&str] = &[
    "/v1/models",
    "/v1/chat/completions",
    "/v1/chat/completions/render",
    "/v1/completions",
    "/v1/completions/render",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/inference/v1/generate",
    "/api/chat",
];
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

impl App {
    /// The name of the model that answers: the one asked for, if it is served.
    fn model(&self, asked: Option<String>) -> Result<String, ApiError> {
        match asked {
            None => Ok(self.models[0].clone()),
            Some(asked) if self.models.contains(&asked) => Ok(asked),
            Some(asked) => Err(ApiError::UnknownModel { asked, served: self.models.join(", ") }),
        }
    }

    /// An id that no other server gives.
    fn unique_id(&self, prefix: &str, number: u64) -> String {
        let unique = hash::mix(hash::of_text(self.name.to_str().unwrap_or_default()), number);
        format!("{prefix}{unique:016x}")
    }
}

/// Makes the service of one server.
pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/health", get(|| async { StatusCode::OK }))
        .route("/version", get(|| async { Json(json!({ "version": "0.32.0" })) }))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", generating(Call::chat, error::vllm))
        .route("/v1/chat/completions/render", rendering(Call::chat))
        .route("/v1/completions", generating(Call::completion, error::vllm))
        .route("/v1/completions/render", rendering(Call::completion))
        .route("/v1/embeddings", post(embed))
        .route("/v1/responses", generating(Call::response, error::vllm))
        .route("/v1/messages", generating(Call::message, error::anthropic))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .route("/inference/v1/generate", generating(Call::tokens, error::vllm))
        .route("/api/chat", generating(Call::ollama, error::ollama));
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
    if matches!(path, "/health" | "/metrics" | "/metrics/" | "/version") {
        return None;
    }
    Some(COUNTED.iter().find(|route| **route == path).unwrap_or(&"none"))
}

async fn models(State(app): State<Arc<App>>) -> Response {
    let max_model_len = app.live.longest_request();
    let created = since_1970().as_secs();
    let model = |id: &String| {
        json!({
            "id": id, "object": "model", "created": created, "owned_by": "vllm", "root": app.models[0],
            "parent": null, "max_model_len": max_model_len, "permission": [],
        })
    };
    Json(json!({ "object": "list", "data": app.models.iter().map(model).collect::<Vec<_>>() }))
        .into_response()
}

/// Reads a body into what the engine is asked; the number is the longest request in tokens.
type Read = fn(&[u8], u32) -> Result<Call, ApiError>;
type ToError = fn(&ApiError) -> Response;
type Body = Result<Bytes, BytesRejection>;

/// A route that generates, with its API's words for errors.
fn generating(read: Read, to_error: ToError) -> MethodRouter<Arc<App>> {
    post(async move |State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap, body: Body| {
        generate(&app, (uri.path(), &headers), body, read).await.unwrap_or_else(|error| to_error(&error))
    })
}

async fn generate(
    app: &App,
    (path, headers): (&str, &HeaderMap),
    body: Body,
    read: Read,
) -> Result<Response, ApiError> {
    let (asked, created) = (Instant::now(), since_1970());
    let body = json_body(headers, body)?;
    let call = read(&body, app.live.longest_request())?;
    let model = app.model(call.model)?;
    let prefiller = prefill(path, headers, &body).await;
    let manner = Manner { is_stream: call.is_stream, finish: call.finish };
    let ticket = app.live.submit(&call.engine, manner)?;
    let answer = Answer {
        id: app.unique_id(id_prefix(call.form), ticket.id().0),
        ticket,
        asked,
        created,
        model,
        form: call.form,
        n_prompt: call.engine.prompt_tokens.len(),
        finish: call.finish,
        n_events: 0,
    };
    let mut response = if call.is_stream { answer.stream() } else { answer.body().await? };
    if let Some(prefiller) = prefiller {
        response.headers_mut().insert("x-sim-prefiller", prefiller);
    }
    Ok(response)
}

fn id_prefix(form: Form) -> &'static str {
    match form {
        Form::Chat(_) | Form::Message | Form::Ollama => "chatcmpl-",
        Form::Completion(_) => "cmpl-",
        Form::Response { .. } => "resp_",
        Form::Tokens(_) => "generate-tokens-",
    }
}

/// A route that shows what the one without `/render` would give the engine.
fn rendering(read: Read) -> MethodRouter<Arc<App>> {
    post(async move |State(app): State<Arc<App>>, headers: HeaderMap, body: Body| {
        let body = json_body(&headers, body)?;
        let limit = app.live.longest_request();
        let mut call = read(&body, limit)?;
        let model = app.model(call.model.take())?;
        let now = since_1970();
        let number = hash::mix(now.as_secs(), u64::from(now.subsec_nanos()));
        let request_id = app.unique_id(id_prefix(call.form), number);
        render(&call, &model, &request_id, limit).map(Json)
    })
}

async fn embed(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let body = json_body(&headers, body)?;
    let asked = Asked::read(&body, app.live.longest_request())?;
    let model = app.model(asked.model)?;
    let manner = Manner { is_stream: false, finish: Finish::Stop };
    let tickets: Result<Vec<Ticket>, _> =
        asked.inputs.iter().map(|input| app.live.submit(input, manner)).collect();
    let tickets = tickets?;
    let id = tickets.first().map_or(0, |ticket| ticket.id().0);
    let title = Title {
        id: app.unique_id("embd-", id),
        created: since_1970().as_secs(),
        model,
        n_prompt: asked.inputs.iter().map(|input| input.prompt_tokens.len()).sum(),
    };
    embeddings::answer(tickets, title, asked.encoding).await
}

async fn count_tokens(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    let counted = || {
        let (model, input_tokens) = messages::count(&json_body(&headers, body)?)?;
        app.model(model)?;
        Ok(Json(json!({ "input_tokens": input_tokens })).into_response())
    };
    counted().unwrap_or_else(|error| error::anthropic(&error))
}

fn json_body(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
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

/// vLLM's own route, which knows no filter.
async fn plain_metrics(State(app): State<Arc<App>>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let names = wanted_names(query);
    match app.metrics {
        Some(MetricsFilter::Empty) if !names.is_empty() => page(String::new()),
        _ => page(render_page(&app, None)),
    }
}

/// The page mounted below the same path, which filters by sample name.
async fn slash_metrics(State(app): State<Arc<App>>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let names = wanted_names(query);
    match app.metrics {
        Some(MetricsFilter::Empty) if !names.is_empty() => page(String::new()),
        Some(MetricsFilter::Honour) if !names.is_empty() => page(render_page(&app, Some(&names))),
        _ => page(render_page(&app, None)),
    }
}

fn wanted_names(query: Vec<(String, String)>) -> Vec<String> {
    query.into_iter().filter(|(key, _)| key == "name[]").map(|(_, name)| name).collect()
}

fn page(text: String) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

fn render_page(app: &App, only: Option<&[String]>) -> String {
    let http: Vec<(HttpLabels, u64)> = app.http.lock().iter().map(|(labels, n)| (*labels, *n)).collect();
    let (model_name, started) = (app.models[0].as_str(), app.started);
    app.live.read(|gauges, config, record| {
        metrics::render(&Shown { model_name, started, gauges, config, record, http: &http }, only)
    })
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

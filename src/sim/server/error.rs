//! Errors as vLLM answers them. Entry point: [`ApiError`], which turns into a response as [`vllm`] words it; [`anthropic`]
//! and [`ollama`] are for the routes that word it otherwise. One table gives status, type and parameter of each.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use super::live::EngineGone;
use crate::sim::engine::SubmitError;

/// Why a request is not answered.
#[derive(Debug, Error)]
pub(super) enum ApiError {
    #[error("the body is larger than may be")]
    BodyTooLarge,
    #[error("the body ended before it was whole")]
    BodyCut,
    #[error("unsupported media type, expected `application/json`")]
    NotJson,
    #[error("{what} at line {line} column {column}")]
    BadJson { what: &'static str, line: usize, column: usize },
    #[error("{message}")]
    BadValue { param: &'static str, message: String },
    #[error("The model `{asked}` does not exist. Valid aliases: {served}.")]
    UnknownModel { asked: String, served: String },
    #[error("Response with id '{0}' not found.")]
    UnknownResponse(String),
    #[error(transparent)]
    Refused(#[from] SubmitError),
    #[error("the engine is dead")]
    EngineGone,
}

impl From<EngineGone> for ApiError {
    fn from(EngineGone: EngineGone) -> Self {
        Self::EngineGone
    }
}

impl From<serde_json::Error> for ApiError {
    /// Keeps the place only: the text of the error may quote the body.
    fn from(error: serde_json::Error) -> Self {
        let what = if error.is_data() { "unexpected or missing value" } else { "JSON decode error" };
        Self::BadJson { what, line: error.line(), column: error.column() }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: u16,
}

impl ApiError {
    fn table(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        match self {
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large", None),
            Self::BodyCut | Self::NotJson | Self::BadJson { .. } => {
                (StatusCode::BAD_REQUEST, "Bad Request", None)
            }
            Self::BadValue { param, .. } => (StatusCode::BAD_REQUEST, "BadRequestError", Some(param)),
            Self::UnknownModel { .. } => (StatusCode::NOT_FOUND, "NotFoundError", Some("model")),
            Self::UnknownResponse(_) => (StatusCode::NOT_FOUND, "invalid_request_error", Some("response_id")),
            Self::Refused(SubmitError::EmptyPrompt) => {
                (StatusCode::BAD_REQUEST, "BadRequestError", Some("prompt"))
            }
            Self::Refused(SubmitError::TooLong { .. }) => {
                (StatusCode::BAD_REQUEST, "BadRequestError", Some("input_tokens"))
            }
            Self::Refused(SubmitError::QueueFull(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", None)
            }
            Self::EngineGone => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", None),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        vllm(&self)
    }
}

/// The error as vLLM tells it on most routes, which is OpenAI's way.
pub(super) fn vllm(error: &ApiError) -> Response {
    let (status, kind, param) = error.table();
    let message = error.to_string();
    let error = Inner { message: &message, r#type: kind, param, code: status.as_u16() };
    (status, Json(Body { error })).into_response()
}

/// The error in Anthropic's words.
pub(super) fn anthropic(error: &ApiError) -> Response {
    let (status, ..) = error.table();
    let kind = match status {
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        _ if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    };
    let body = json!({ "type": "error", "error": { "type": kind, "message": error.to_string() } });
    (status, Json(body)).into_response()
}

/// The error as Ollama tells it.
pub(super) fn ollama(error: &ApiError) -> Response {
    let (status, ..) = error.table();
    (status, Json(json!({ "error": error.to_string() }))).into_response()
}

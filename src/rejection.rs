//! Why a request is refused: a closed set, with one exhaustive match for status and label, and a text each.

use epp_framework::scheduling::Unschedulable;

/// Why a request is refused. Texts are those of v1.0.1 where it has one.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The body is not JSON, or not a JSON object.
    #[error("Error unmarshaling request body")]
    NotAnObject,
    /// The body has no string `model`.
    #[error("model not found in request body")]
    ModelMissing,
    /// The body has neither `prompt` nor `messages`.
    #[error("prompt not found in request")]
    PromptMissing,
    /// `prompt` is neither a string nor a list of strings or token ids.
    #[error("prompt is not a string")]
    PromptNotAString,
    /// `messages` is not a list.
    #[error("messages is not a list")]
    MessagesNotAList,
    /// `messages` is an empty list.
    #[error("messages is empty")]
    MessagesEmpty,
    /// The body is longer than the limit.
    #[error("request body is longer than {limit} bytes")]
    BodyTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The client paused too long within its request.
    #[error("the request body stalled for {seconds} seconds")]
    UploadStalled {
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// The process holds as many unfinished request bodies as it may.
    #[error("too many request bodies are being received")]
    Overloaded,
    /// The pool, or the part of it that the gateway allows, has no endpoint.
    #[error("failed to find candidate pods for serving the request")]
    NoEndpoints,
    /// A request without a body came while the pool has no endpoint.
    #[error("no pods available in datastore")]
    NoEndpointsForBodiless,
    /// The scheduler found nobody who may serve the request.
    #[error("failed to find target pod: {0}")]
    Unschedulable(#[from] Unschedulable),
}

impl Rejection {
    /// HTTP status that the client sees, and label `error_code` of `inference_model_request_error_total`.
    fn status_and_code(&self) -> (u16, &'static str) {
        match self {
            Self::NotAnObject
            | Self::ModelMissing
            | Self::PromptMissing
            | Self::PromptNotAString
            | Self::MessagesNotAList
            | Self::MessagesEmpty => (400, "BadRequest"),
            Self::BodyTooLarge { .. } => (413, "PayloadTooLarge"),
            Self::UploadStalled { .. } => (408, "RequestTimeout"),
            Self::NoEndpoints | Self::Overloaded => (503, "ServiceUnavailable"),
            Self::NoEndpointsForBodiless => (500, "Internal"),
            Self::Unschedulable(_) => (429, "InferencePoolResourceExhausted"),
        }
    }

    /// HTTP status that the client sees, 400–599.
    pub fn http_status(&self) -> u16 {
        self.status_and_code().0
    }

    /// Label `error_code` of `inference_model_request_error_total`, and the first word of the body.
    pub fn code(&self) -> &'static str {
        self.status_and_code().1
    }

    /// Body of the error page.
    pub fn body(&self) -> String {
        format!("inference gateway: {} - {self}", self.code())
    }
}

//! Why a request is refused: a closed set, with one exhaustive match for status and label, and one for the text.

use std::borrow::Cow;

use epp_framework::lifecycle::Denied;
use epp_framework::parsing::{Fault, ParseError};
use epp_framework::scheduling::Unschedulable;

use crate::compat::Compat;

/// Why a request is refused.
#[derive(Debug)]
pub enum Rejection {
    /// The body cannot be read.
    Unreadable(ParseError),
    /// No parser is for the path of the request.
    NoParser {
        /// The path.
        path: String,
    },
    /// The body has no string `model`.
    ModelMissing,
    /// The body lacks what its API cannot be without.
    Faulty(Fault),
    /// The body is longer than the limit.
    BodyTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The client paused too long within its request.
    UploadStalled {
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// The process holds as many request bodies as it may.
    Overloaded,
    /// The body came without the headers before it: the gateway does not send them, so none can be set.
    HeadersUnseen,
    /// The decision took too long.
    TooLate,
    /// The pool, or the part of it that the gateway allows, has no endpoint.
    NoEndpoints,
    /// A request without a body came while the pool has no endpoint.
    NoEndpointsForBodiless,
    /// The request may be shed, and the pool is saturated.
    Shed,
    /// A plugin of the configuration let it not in.
    Denied(Denied),
    /// The scheduler found nobody who may serve the request.
    Unschedulable(Unschedulable),
}

/// An error page, as one generation of the Go EPP words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    /// HTTP status, 400–599.
    pub status: u16,
    /// Label `error_code` of `inference_model_request_error_total`, and the first word of the body.
    pub code: &'static str,
    /// Body of the page.
    pub body: String,
    /// Value of the header `x-llm-d-request-dropped-reason`.
    pub dropped_reason: Option<&'static str>,
}

impl Rejection {
    /// The page that `compat` answers with.
    pub fn page(&self, compat: Compat) -> ErrorPage {
        let (status, code) = self.status_and_code(compat);
        let prefix = if compat >= Compat::V1_5 { "inference error: " } else { "inference gateway: " };
        ErrorPage {
            status,
            code,
            body: format!("{prefix}{code} - {}", self.text(compat)),
            dropped_reason: self.dropped_reason().filter(|_| compat == Compat::LlmD),
        }
    }

    fn status_and_code(&self, compat: Compat) -> (u16, &'static str) {
        match self {
            Self::Unreadable(_) | Self::NoParser { .. } | Self::ModelMissing | Self::Faulty(_) => {
                (400, "BadRequest")
            }
            Self::BodyTooLarge { .. } => (413, "PayloadTooLarge"),
            Self::UploadStalled { .. } => (408, "RequestTimeout"),
            Self::NoEndpoints | Self::Overloaded | Self::TooLate => (503, "ServiceUnavailable"),
            Self::NoEndpointsForBodiless | Self::HeadersUnseen => (500, "Internal"),
            Self::Shed | Self::Denied(_) | Self::Unschedulable(_) if compat >= Compat::V1_5 => {
                (429, "ResourceExhausted")
            }
            Self::Shed | Self::Denied(_) | Self::Unschedulable(_) => (429, "InferencePoolResourceExhausted"),
        }
    }

    /// What is wrong. Never holds bytes of the request, which v0.5.1 put behind its first text.
    fn text(&self, compat: Compat) -> Cow<'static, str> {
        let text = |old, new| if compat >= Compat::V1_5 { new } else { old };
        let text = match self {
            Self::Unreadable(ParseError::NotAnObject(why)) if compat >= Compat::V1_5 => {
                return format!("error unmarshaling request bodyMap: {why}").into();
            }
            Self::Unreadable(ParseError::NotAnObject(_)) => "Error unmarshaling request body",
            Self::Unreadable(ParseError::Invalid(why)) => return why.clone(),
            Self::NoParser { path } => {
                let path: String = path.chars().take(MAX_PATH_CHARS).collect();
                return format!("no parser registered matching path suffix for: {path}").into();
            }
            Self::ModelMissing => "model not found in request body",
            Self::Faulty(Fault { legacy: Some(legacy), .. }) if compat < Compat::V1_5 => legacy,
            Self::Faulty(fault) => return fault.message.clone(),
            Self::BodyTooLarge { limit } => {
                return format!("request body is longer than {limit} bytes").into();
            }
            Self::UploadStalled { seconds } => {
                return format!("the request body stalled for {seconds} seconds").into();
            }
            Self::Overloaded => "too many request bodies are being received",
            Self::HeadersUnseen => {
                "the endpoint picker was not sent the request headers (Envoy: request_header_mode: SEND)"
            }
            Self::TooLate => "no decision within the time limit",
            Self::NoEndpoints => text(
                "failed to find candidate pods for serving the request",
                "failed to find endpoint candidates for serving the request",
            ),
            Self::NoEndpointsForBodiless => "no pods available in datastore",
            Self::Shed if compat == Compat::V0_5_1 => "system saturated, non-critical request dropped",
            Self::Shed => "system saturated, sheddable request dropped",
            Self::Denied(denied) => denied.message,
            Self::Unschedulable(why) => {
                return format!("failed to find target {}: {why}", text("pod", "endpoint")).into();
            }
        };
        text.into()
    }

    fn dropped_reason(&self) -> Option<&'static str> {
        match self {
            Self::NoEndpoints => Some("rejected-no-endpoints"),
            Self::Unschedulable(Unschedulable::Drained { .. } | Unschedulable::NoDecoder) => {
                Some("rejected-saturated")
            }
            _ => None,
        }
    }
}

/// How much of a path is told back, in characters.
const MAX_PATH_CHARS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 3.6 of the functional specification, and section 4.4 of that of v0.5.1.
    #[test]
    fn pages_are_worded_as_the_generation_that_is_asked_for() {
        let (v0, v1, v1_5, llm_d) = (Compat::V0_5_1, Compat::V1_0_1, Compat::V1_5, Compat::LlmD);
        let (old, new) = ("inference gateway: ", "inference error: ");
        let full = "InferencePoolResourceExhausted - ";
        let unreadable = || Rejection::Unreadable(ParseError::NotAnObject("why".to_owned()));
        let faulty = |legacy| Rejection::Faulty(Fault { message: "new".into(), legacy });
        for (rejection, compat, status, prefix, text) in [
            (unreadable(), v0, 400, old, "BadRequest - Error unmarshaling request body"),
            (unreadable(), v1, 400, old, "BadRequest - Error unmarshaling request body"),
            (unreadable(), v1_5, 400, new, "BadRequest - error unmarshaling request bodyMap: why"),
            (Rejection::Unreadable(ParseError::Invalid("odd".into())), v1, 400, old, "BadRequest - odd"),
            (faulty(Some("old")), v1, 400, old, "BadRequest - old"),
            (faulty(Some("old")), v1_5, 400, new, "BadRequest - new"),
            (faulty(None), v1, 400, old, "BadRequest - new"),
            (
                Rejection::NoParser { path: "/p".to_owned() },
                llm_d,
                400,
                new,
                "BadRequest - no parser registered matching path suffix for: /p",
            ),
            (Rejection::Shed, v0, 429, old, &format!("{full}system saturated, non-critical request dropped")),
            (Rejection::Shed, v1, 429, old, &format!("{full}system saturated, sheddable request dropped")),
            (
                Rejection::Shed,
                v1_5,
                429,
                new,
                "ResourceExhausted - system saturated, sheddable request dropped",
            ),
            (
                Rejection::Unschedulable(Unschedulable::NoProfileRun),
                llm_d,
                429,
                new,
                "ResourceExhausted - failed to find target endpoint: failed to run any scheduler profile",
            ),
        ] {
            let page = rejection.page(compat);
            assert_eq!((page.status, page.body), (status, format!("{prefix}{text}")), "{compat:?}");
        }
    }

    /// Row 22 of the functional specification: only llm-d tells the reason in a header.
    #[test]
    fn row_22_the_reason_header_is_llm_ds() {
        for (compat, want) in
            [(Compat::V1_0_1, None), (Compat::V1_5, None), (Compat::LlmD, Some("rejected-no-endpoints"))]
        {
            assert_eq!(Rejection::NoEndpoints.page(compat).dropped_reason, want, "{compat:?}");
        }
        assert_eq!(Rejection::Shed.page(Compat::LlmD).dropped_reason, None);
    }

    /// Row 89 of the functional specification, for the one reason of the scheduler that llm-d tells apart.
    #[test]
    fn row_89_a_lack_of_capacity_is_told_as_such() {
        let saturated = Some("rejected-saturated");
        let unknown = Unschedulable::UnknownProfile { header: "epp-profile".into(), profiles: "a, b".into() };
        for (why, compat, want) in [
            (Unschedulable::Drained { profile: "default".into() }, Compat::V1_5, None),
            (Unschedulable::Drained { profile: "default".into() }, Compat::LlmD, saturated),
            (Unschedulable::NoDecoder, Compat::LlmD, saturated),
            (unknown, Compat::LlmD, None),
        ] {
            let page = Rejection::Unschedulable(why).page(compat);
            assert_eq!((page.status, page.code, page.dropped_reason), (429, "ResourceExhausted", want));
        }
    }
}

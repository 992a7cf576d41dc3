//! What a Kubernetes API says when it refuses: `metav1.Status` with the words of the real one. Entry point [`Refusal`].

use serde_json::{Value, json};

use super::kinds::{Kind, qualified};

/// An answer other than the one that was wanted.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(super) code: u16,
    reason: &'static str,
    message: String,
    details: Option<Value>,
}

impl Refusal {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    /// Says which object of which kind it is about, as far as there is one.
    pub(super) fn about(mut self, kind: &str, group: &str, name: &str) -> Self {
        let told = [("kind", kind), ("group", group), ("name", name)];
        let told = told.into_iter().filter(|(_, word)| !word.is_empty());
        self.details = Some(told.map(|(field, word)| (field.to_owned(), json!(word))).collect());
        self
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(super) fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", kind.qualified())).about(
            &kind.plural,
            &kind.group,
            name,
        )
    }

    pub(super) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.qualified());
        Self::new(409, "AlreadyExists", message).about(&kind.plural, &kind.group, name)
    }

    /// `word` is the kind or the resource: the real one uses both.
    pub(super) fn conflict(word: &str, kind: &Kind, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(word, &kind.group));
        Self::new(409, "Conflict", message).about(word, &kind.group, name)
    }

    /// `word` likewise.
    pub(super) fn invalid(word: &str, kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is invalid: {why}", qualified(word, &kind.group));
        Self::new(422, "Invalid", message).about(word, &kind.group, name)
    }

    pub(super) fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", why)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// History does not reach back to `asked`.
    pub(super) fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// What a server in trouble answers, whatever it was asked.
    pub(super) fn trouble(code: u16) -> Self {
        match code {
            429 => Self::new(429, "TooManyRequests", "Too many requests, please try again later."),
            503 => {
                Self::new(503, "ServiceUnavailable", "the server is currently unable to handle the request")
            }
            code => Self::new(code, "InternalError", "Internal error occurred: the double was told to fail"),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}

//! The model extractor: says in headers which model a request is for, so that a gateway can route by it.
//!
//! Entry point: [`ModelHeaders`]. It picks nothing and refuses no body: whoever cannot be read has no model, and the
//! gateway's routes say what becomes of that. Exchange, limits and stream are those of the picker. Pure.

use epp_plugins::parser::model::{model_of, model_of_beginning};

use super::destination;
use super::exchange::Verdict;
use super::reply::{HeaderEdits, OutgoingBody, Pick};
use crate::config::problem::shown;
use crate::raw_request::RawRequest;
use crate::rejection::Rejection;

/// Names of the headers unless told otherwise: Envoy AI Gateway's, and that of upstream's body-based router.
pub const MODEL_HEADERS: &str = "x-ai-eg-model,X-Gateway-Model-Name";

/// Longest model that goes into a header, in bytes: Envoy takes 60 KiB of headers in all.
const MAX_MODEL_BYTES: usize = 1024;

/// The headers that say the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelHeaders {
    /// As they were written.
    names: Vec<String>,
}

impl ModelHeaders {
    /// Reads names separated by commas; the error says what is wrong.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut names: Vec<String> = Vec::new();
        for name in list.split(',').map(str::trim) {
            let wrong = |what: &str| Err(format!("{}: {what}", shown(name)));
            if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                return wrong("expected the name of a header");
            }
            if destination::is_taken(&name.to_ascii_lowercase()) {
                return wrong("HTTP, the gateway or the picker uses this header for something else");
            }
            if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                return wrong("is named twice");
            }
            names.push(name.to_owned());
        }
        Ok(Self { names })
    }

    /// What headers need that say no model: a client's word is not taken for it.
    pub fn removed(&self) -> HeaderEdits {
        HeaderEdits { set: Vec::new(), remove: self.names.clone() }
    }

    /// What becomes of a request: its headers say its model, and everything else stays.
    pub fn verdict(&self, raw: RawRequest) -> Result<Verdict, Rejection> {
        if raw.headless {
            return Err(Rejection::HeadersUnseen);
        }
        let body = raw.body.as_deref().unwrap_or_default();
        let model = if raw.more { model_of_beginning(body) } else { model_of(body) };
        let edits = match model.filter(|model| fits_a_header(model)) {
            Some(model) => {
                let set = self.names.iter().map(|name| (name.clone(), model.clone())).collect();
                HeaderEdits { set, remove: Vec::new() }
            }
            None => self.removed(),
        };
        let body = raw.body.map(OutgoingBody::unchanged);
        Ok(Verdict { pick: Pick { edits, ..Pick::default() }, body, body_changed: false })
    }
}

/// Whether a gateway takes it as a header's value and passes it on as it is.
fn fits_a_header(model: &str) -> bool {
    let trimmed = model.trim_matches([' ', '\t']);
    !model.is_empty()
        && model.len() <= MAX_MODEL_BYTES
        && model == trimmed
        && http::HeaderValue::from_bytes(model.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests;

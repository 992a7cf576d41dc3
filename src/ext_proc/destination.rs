//! How the gateway is told where a request goes: [`DestinationHint`], the name of a header, and the metadata that says
//! the same. Writes no message; `reply` does.

use std::borrow::Cow;

use thiserror::Error;

use crate::config::problem::shown;
use crate::control_headers;

/// Header, and key of the metadata, that carries the picked endpoint; gateways of v1.0.1 and later read no other.
pub const DESTINATION: &str = "x-gateway-destination-endpoint";

/// Namespace of that metadata.
pub const NAMESPACE: &str = "envoy.lb";

/// Key of the metadata that carries every candidate's score, in the same namespace.
pub const SCORES: &str = "x-gateway-destination-endpoint-scores";

/// Names that mean something else: to HTTP, to the picker, or to the gateway beside the destination.
const TAKEN: [&str; 15] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-gateway-destination-endpoint-served",
    "x-gateway-destination-endpoint-subset",
    "x-request-id",
    SCORES,
];

/// Why a name cannot be that of the destination's header.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HintError {
    /// HTTP has no such names.
    #[error("{}: expected the name of a header, in lower case", shown(.0))]
    NoName(String),
    /// It has capitals, which metadata would keep and HTTP would not.
    #[error("{}: expected lower case, write {}", shown(.0), shown(&.0.to_ascii_lowercase()))]
    Capitals(String),
    /// It means something else.
    #[error("{}: HTTP, the gateway or the picker itself uses this header for something else", shown(.0))]
    Taken(String),
}

/// Names under which the destination is told. The usual ones cost no allocation to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationHint {
    key: Cow<'static, str>,
    namespace: Cow<'static, str>,
}

impl Default for DestinationHint {
    fn default() -> Self {
        Self { key: Cow::Borrowed(DESTINATION), namespace: Cow::Borrowed(NAMESPACE) }
    }
}

impl DestinationHint {
    /// Checks the name of the header; the namespace may be any, and an empty one puts the key at the top.
    pub fn new(key: &str, namespace: &str) -> Result<Self, HintError> {
        let name = key.to_owned();
        // All of HTTP's own characters but capitals.
        if http::HeaderName::from_lowercase(key.to_ascii_lowercase().as_bytes()).is_err() {
            return Err(HintError::NoName(name));
        }
        if key.contains(|c: char| c.is_ascii_uppercase()) {
            return Err(HintError::Capitals(name));
        }
        if key != DESTINATION && is_taken(key) {
            return Err(HintError::Taken(name));
        }
        let cow = |given: &str, usual| {
            if given == usual { Cow::Borrowed(usual) } else { Cow::Owned(given.to_owned()) }
        };
        Ok(Self { key: cow(key, DESTINATION), namespace: cow(namespace, NAMESPACE) })
    }

    /// Name of the header, and key of the metadata.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Every header by which a gateway may be steered: ours, and the usual one.
    pub fn names(&self) -> [&str; 2] {
        [self.key(), DESTINATION]
    }

    /// Namespace of the metadata, unless the key stands at the top.
    pub fn namespace(&self) -> Option<&str> {
        Some(&*self.namespace).filter(|namespace| !namespace.is_empty())
    }

    /// Makes the names of the headers to remove fit: the one that is set is not among them, and a client's header of
    /// the usual name, which then nothing replaces, is.
    pub fn adjust_removed(&self, removed: &mut Vec<String>) {
        if self.key != DESTINATION {
            removed.retain(|name| *name != self.key);
            removed.push(DESTINATION.to_owned());
        }
    }
}

/// Whether the header `name` (lower case) means something to HTTP, to the picker, or to the gateway beside it.
pub(super) fn is_taken(name: &str) -> bool {
    name == DESTINATION || TAKEN.contains(&name) || control_headers::is_named(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_headers_are_taken_and_others_refused() {
        let long = "x".repeat(70_000);
        for (key, want) in [
            (DESTINATION, None),
            ("x-mine", None),
            ("x_mine.1", None),
            ("x-envoy-original-dst-host", None),
            ("x-gateway-destination-endpoint-v2", None),
            ("", Some("name of a header")),
            (":authority", Some("name of a header")),
            ("x mine", Some("name of a header")),
            ("x-caf\u{e9}", Some("name of a header")),
            ("x-mine\r\nhost", Some("name of a header")),
            (&long, Some("name of a header")),
            ("X-Mine", Some("write `x-mine`")),
            ("Host", Some("write `host`")),
            ("host", Some("something else")),
            ("content-length", Some("something else")),
            ("transfer-encoding", Some("something else")),
            ("connection", Some("something else")),
            ("x-request-id", Some("something else")),
            ("x-gateway-inference-objective", Some("something else")),
            ("x-prefiller-host-port", Some("something else")),
            (SCORES, Some("something else")),
        ] {
            let hint = DestinationHint::new(key, "");
            match want {
                None => assert_eq!(hint.expect(key).key(), key),
                Some(want) => {
                    let error = hint.expect_err(key).to_string();
                    assert!(error.contains(want) && error.len() < 400, "{error}");
                }
            }
        }
    }

    #[test]
    fn the_usual_names_are_borrowed() {
        let usual = DestinationHint::new(DESTINATION, NAMESPACE).unwrap();
        assert_eq!(usual, DestinationHint::default());
        assert!(matches!((usual.key, usual.namespace), (Cow::Borrowed(_), Cow::Borrowed(_))));
    }

    #[test]
    fn a_header_that_is_set_is_not_removed() {
        for (key, before, want) in [
            (DESTINATION, &["x-b"][..], &["x-b"][..]),
            ("x-mine", &["x-b"], &["x-b", DESTINATION]),
            (
                "x-gateway-destination-endpoint-v2",
                &["x-b", "x-gateway-destination-endpoint-v2"],
                &["x-b", DESTINATION],
            ),
        ] {
            let mut removed: Vec<_> = before.iter().map(|name| (*name).to_owned()).collect();
            DestinationHint::new(key, NAMESPACE).unwrap().adjust_removed(&mut removed);
            assert_eq!(removed, want, "{key}");
        }
    }
}

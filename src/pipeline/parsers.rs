//! Which parser reads a request: the one that claims the longest end of its path.

use std::sync::Arc;

use epp_framework::parsing::Parser;
use epp_plugins::parser::claims;

/// How a request counts whose path nobody tells.
const UNKNOWN: &str = "v1/completions";

/// The parsers of a configuration.
pub(super) struct Parsers {
    /// Longest claim first; of equal ones the first in the configuration.
    by_path: Vec<(&'static str, Arc<dyn Parser>)>,
    fallback: Option<Arc<dyn Parser>>,
}

impl Parsers {
    /// `parsers` in the order of the configuration. The first without a path takes what is left, and those behind it
    /// take nothing.
    pub(super) fn new(parsers: Vec<Arc<dyn Parser>>) -> Self {
        let mut by_path = Vec::new();
        let mut fallback = None;
        for parser in parsers {
            if parser.paths().is_empty() {
                fallback = Some(parser);
                break;
            }
            by_path.extend(parser.paths().iter().map(|&path| (path, parser.clone())));
        }
        by_path.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self { by_path, fallback }
    }

    /// Who reads requests on `path`; empty, or the root, where no API is, if it is not known.
    pub(super) fn of(&self, path: &str) -> Option<&Arc<dyn Parser>> {
        let path = if path.trim_matches('/').is_empty() { UNKNOWN } else { path };
        let claimed = self.by_path.iter().find(|(claim, _)| claims(claim, path));
        claimed.map(|(_, parser)| parser).or(self.fallback.as_ref())
    }
}

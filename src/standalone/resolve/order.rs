//! Which of several matches counts: [`precedence`], as the Gateway API orders them.

use std::cmp::Reverse;

use crate::standalone::manifest::route::{Match, PathKind, ValueMatch};

/// Where a match comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    /// Whether its route has no creation time, and the time: older ones come first.
    pub created: (bool, String),
    /// Namespace and name of the route.
    pub route: String,
    /// The rule, and the match in it.
    pub index: (usize, usize),
}

/// What a match is sorted by; the least counts first.
pub(super) type Precedence = (PathKind, Reverse<usize>, bool, Reverse<Values>, Reverse<Values>, Origin);

/// How many values, and how many of them exact.
type Values = (usize, usize);

/// The key of a match.
pub(super) fn precedence(of: &Match, origin: Origin) -> Precedence {
    // `/` is as good as no path.
    let length = match of.path_kind {
        PathKind::Prefix if of.path == "/" => 0,
        _ => of.path.chars().count(),
    };
    (
        of.path_kind,
        Reverse(length),
        of.method.is_none(),
        Reverse(count(&of.headers)),
        Reverse(count(&of.query)),
        origin,
    )
}

fn count(values: &[ValueMatch]) -> Values {
    (values.len(), values.iter().filter(|value| !value.is_regex).count())
}

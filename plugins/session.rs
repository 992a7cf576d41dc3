//! Which endpoint a request's session belongs to: [`SessionAffinity`], for the scorer and the filter of that name.
//!
//! Either the request says it by a token that the answer before carried, and nothing is kept here; or it says its
//! session, and [`bindings`] knows where that went.

mod bindings;

use std::sync::Arc;

use epp_framework::endpoint::{Endpoint, EndpointId};
use epp_framework::lifecycle::{Answered, Responder};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Data, Kind, Plugin, Review};
use epp_framework::scheduling::{Commit, Cycle, Decision};
use epp_framework::slot::RequestSlot;
use epp_framework::snapshot::Candidates;

use crate::identity::SessionId;
use crate::sources::check_header;
use bindings::Bindings;

const STRATEGY: &str = "strategy";
const BY_TOKEN: &str = "encoded_endpoint_header";
const BY_SESSION: &str = "session_id";
const PROFILE: &str = "profileName";
const TOKEN_CONFIG: &str = "encodedEndpointHeaderConfig";
const HEADER: &str = "header";
const DEFAULT_TOKEN: &str = "x-session-token";
const SESSION_CONFIG: &str = "sessionIdConfig";
const SOURCES: &str = "sources";
const ATTRIBUTE: &str = "attribute";
const PRODUCER: &str = "producer";
const DEFAULT_SESSION: &str = "x-session-id";
const TTL: &str = "evictionTtlSeconds";
const SWEEP: &str = "evictionSweepSeconds";
const MAX_SESSIONS: &str = "maxSessions";

/// A year, in seconds.
const MAX_SECONDS: i64 = 365 * 24 * 3600;

/// Parameters of both types.
pub(crate) const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: STRATEGY,
        kind: ParameterKind::Word { of: &[BY_TOKEN, BY_SESSION], default: Some(BY_TOKEN) },
        unit: "",
        summary: "Whether a token that answers carry names the endpoint, or sessions are remembered here.",
    },
    Parameter {
        name: PROFILE,
        kind: ParameterKind::Text { default: Some(""), check: |_| None },
        unit: "",
        summary: "Profile whose pick the session sticks to; the one that decides unless said.",
    },
    Parameter {
        name: TOKEN_CONFIG,
        kind: ParameterKind::Map { fields: || TOKEN_FIELDS, required: false, one_of: false },
        unit: "",
        summary: "Settings of `encoded_endpoint_header`.",
    },
    Parameter {
        name: SESSION_CONFIG,
        kind: ParameterKind::Map { fields: || SESSION_FIELDS, required: false, one_of: false },
        unit: "",
        summary: "Settings of `session_id`.",
    },
];

const TOKEN_FIELDS: &[Parameter] = &[Parameter {
    name: HEADER,
    kind: ParameterKind::Text { default: Some(DEFAULT_TOKEN), check: check_header },
    unit: "",
    summary: "The header that holds the token, of requests and of answers.",
}];

const SESSION_FIELDS: &[Parameter] = &[
    Parameter {
        name: SOURCES,
        kind: ParameterKind::List { fields: || SOURCE_FIELDS, required: false, check: check_source },
        unit: "",
        summary: "Where the session is looked for, in order; in the header `x-session-id` unless said.",
    },
    Parameter {
        name: TTL,
        kind: ParameterKind::Integer { default: 300, min: 1, max: MAX_SECONDS },
        unit: "s",
        summary: "How long a session without requests is remembered.",
    },
    Parameter {
        name: SWEEP,
        kind: ParameterKind::Integer { default: 10, min: 1, max: MAX_SECONDS },
        unit: "s",
        summary: "How often those that are no longer remembered give their memory back.",
    },
    Parameter {
        name: MAX_SESSIONS,
        kind: ParameterKind::Integer { default: 100_000, min: 1, max: 10_000_000 },
        unit: "sessions",
        summary: "How many are remembered; beyond it those without requests for longest are forgotten.",
    },
];

const SOURCE_FIELDS: &[Parameter] = &[
    Parameter {
        name: HEADER,
        kind: ParameterKind::Text { default: Some(""), check: check_header },
        unit: "",
        summary: "A header that holds the session's id.",
    },
    Parameter {
        name: ATTRIBUTE,
        kind: ParameterKind::Text { default: Some(""), check: |_| None },
        unit: "",
        summary: "Any word: the id is what the producer found.",
    },
    Parameter {
        name: PRODUCER,
        kind: ParameterKind::Reference { to: Kind::Produces(Data::SessionId), default: None },
        unit: "",
        summary: "Who finds it, if not `session-id-producer`.",
    },
];

fn check_source(source: &Parameters) -> Option<String> {
    let found = match [HEADER, ATTRIBUTE].map(|name| !source.text(name).is_empty()) {
        [true, true] => "both",
        [false, false] => "neither",
        _ => return None,
    };
    Some(format!("expected either `{HEADER}` or `{ATTRIBUTE}`, found {found}"))
}

/// Warns of settings of the other strategy, and of a producer that is not there.
pub(crate) fn review(cx: &Review<'_>) -> Vec<String> {
    let mut told = Vec::new();
    let strategy = cx.parameters.text(STRATEGY);
    let other = if strategy == BY_SESSION { TOKEN_CONFIG } else { SESSION_CONFIG };
    if cx.parameters.has(other) {
        told.push(format!("`{other}` does nothing with the strategy `{strategy}`"));
    }
    let default = Data::SessionId.default_producer();
    let asks_default =
        |source: &&Parameters| !source.text(ATTRIBUTE).is_empty() && source.reference(PRODUCER).is_none();
    if sources(cx.parameters).iter().any(|source| asks_default(&source)) && (cx.find)(default).is_none() {
        told.push(format!("a source has an `{ATTRIBUTE}`, but no `{default}` is declared to find it"));
    }
    told
}

fn sources(parameters: &Parameters) -> &[Parameters] {
    parameters.map(SESSION_CONFIG).and_then(|config| config.list(SOURCES)).unwrap_or_default()
}

/// Knows to which endpoint a request's session belongs.
pub(crate) struct SessionAffinity {
    strategy: Strategy,
    /// Profile whose pick counts; empty for the one that decides.
    profile: String,
}

enum Strategy {
    Token { header: String },
    Session { sources: Vec<Source>, bindings: Bindings },
}

enum Source {
    Header(String),
    Slot(RequestSlot<SessionId>),
}

impl SessionAffinity {
    /// Builds one from [`PARAMETERS`].
    pub(crate) fn new(parameters: &Parameters, cx: &BuildContext<'_>) -> Arc<Self> {
        let strategy = if parameters.text(STRATEGY) == BY_SESSION {
            let config = parameters.map(SESSION_CONFIG).cloned();
            let config = config.unwrap_or_else(|| Parameters::defaults(SESSION_FIELDS));
            Strategy::session(&config, cx)
        } else {
            let header = parameters.map(TOKEN_CONFIG).map_or(DEFAULT_TOKEN, |config| config.text(HEADER));
            Strategy::Token { header: header.to_ascii_lowercase() }
        };
        Arc::new(Self { strategy, profile: parameters.text(PROFILE).to_owned() })
    }

    /// What scorer and filter have in common.
    pub(crate) fn plugin(self: &Arc<Self>) -> Plugin {
        match &self.strategy {
            Strategy::Token { header } => Plugin {
                responder: Some(self.clone()),
                request_headers: vec![header.clone()],
                ..Plugin::default()
            },
            Strategy::Session { sources, .. } => {
                let header = |source: &Source| match source {
                    Source::Header(name) => Some(name.clone()),
                    Source::Slot(_) => None,
                };
                let request_headers = sources.iter().filter_map(header).collect();
                Plugin { commit: Some(self.clone()), request_headers, ..Plugin::default() }
            }
        }
    }

    /// The candidate that the request's session belongs to, if there is one and it is among them.
    pub(crate) fn bound(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>) -> Option<EndpointId> {
        let mut candidates = candidates.iter();
        match &self.strategy {
            Strategy::Token { header } => {
                let token = cycle.request.headers.get(header)?;
                let bound = candidates.find(|candidate| encoded(candidate.endpoint).eq(token.bytes()))?;
                Some(bound.id)
            }
            Strategy::Session { sources, bindings } => {
                let session = bindings.key(session(sources, cycle)?);
                let bound = bindings.endpoint_of(session, cycle.now)?;
                let present = candidates.any(|candidate| candidate.id == bound);
                present.then(|| bindings.note_present(session, cycle.now))?;
                Some(bound)
            }
        }
    }

    /// The endpoint that the decision binds the session to.
    fn target<'a>(&self, cycle: &Cycle<'a>, decision: &Decision) -> Option<&'a Arc<Endpoint>> {
        let picked = if self.profile.is_empty() {
            decision.targets.first()
        } else {
            let profile = cycle.profiles.iter().position(|name| *name == self.profile)?;
            let run = cycle.runs.iter().find(|run| run.profile == profile)?;
            run.picks.as_ref()?.first()
        };
        cycle.endpoint(*picked?)
    }
}

impl Strategy {
    fn session(config: &Parameters, cx: &BuildContext<'_>) -> Self {
        let seconds = |name| u64::try_from(config.integer(name)).unwrap_or(1);
        let source = |source: &Parameters| match source.text(HEADER) {
            "" => {
                let producer = source.reference(PRODUCER).unwrap_or(Data::SessionId.default_producer());
                Source::Slot(cx.slot_of(producer))
            }
            header => Source::Header(header.to_ascii_lowercase()),
        };
        let sources: Vec<_> = config.list(SOURCES).unwrap_or_default().iter().map(source).collect();
        let default = || vec![Source::Header(DEFAULT_SESSION.to_owned())];
        let capacity = usize::try_from(config.integer(MAX_SESSIONS)).unwrap_or(1);
        Self::Session {
            sources: if sources.is_empty() { default() } else { sources },
            bindings: Bindings::new(capacity, seconds(TTL), seconds(SWEEP)),
        }
    }
}

fn session<'a>(sources: &[Source], cycle: &Cycle<'a>) -> Option<&'a str> {
    let ids = sources.iter().filter_map(|source| match source {
        Source::Header(name) => cycle.request.headers.get(name),
        Source::Slot(slot) => slot.get(cycle.request).map(SessionId::as_str),
    });
    ids.map(str::trim).find(|id| !id.is_empty())
}

impl Commit for SessionAffinity {
    fn commit(&self, cycle: &Cycle<'_>, decision: &Decision) {
        if let Strategy::Session { sources, bindings } = &self.strategy
            && let Some(session) = session(sources, cycle)
            && let Some(target) = self.target(cycle, decision)
        {
            bindings.learn(bindings.key(session), target.id, cycle.now);
        }
    }
}

impl Responder for SessionAffinity {
    fn respond(&self, answered: &Answered<'_>, headers: &mut Vec<(String, String)>) {
        let Strategy::Token { header } = &self.strategy else { return };
        let placement = answered.placement;
        let endpoint = match answered.served.filter(|_| self.profile.is_empty()) {
            // It may have gone to a fallback, or to somebody that it was not told of.
            Some(served) => placement.served_by(served),
            None => placement.of(&self.profile),
        };
        let Some(endpoint) = endpoint else { return };
        headers.push((header.clone(), encoded(endpoint).map(char::from).collect()));
    }
}

/// `namespace/name` of an endpoint in base64, with padding.
fn encoded(endpoint: &Endpoint) -> impl Iterator<Item = u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let meta = &endpoint.meta;
    let mut bytes = meta.namespace.bytes().chain([b'/']).chain(meta.name.bytes());
    std::iter::from_fn(move || {
        let first = bytes.next()?;
        let (second, third) = (bytes.next(), bytes.next());
        let group = u32::from_be_bytes([0, first, second.unwrap_or(0), third.unwrap_or(0)]);
        let digit = |shift: u32| DIGITS[((group >> shift) & 63) as usize];
        let or_padding = |there: bool, digit: u8| if there { digit } else { b'=' };
        Some([
            digit(18),
            digit(12),
            or_padding(second.is_some(), digit(6)),
            or_padding(third.is_some(), digit(0)),
        ])
    })
    .flatten()
}

#[cfg(test)]
mod tests;

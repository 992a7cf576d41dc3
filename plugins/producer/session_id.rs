//! `session-id-producer`: the request's session, from a header or a cookie.

use std::sync::Arc;

use epp_framework::lifecycle::{Hook, Producer};
use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Data, Kind, Plugin, PluginType, releases};
use epp_framework::request::InferenceRequest;
use epp_framework::slot::RequestSlot;

use crate::identity::SessionId;
use crate::sources::check_header;

const HEADER: &str = "headerName";
const COOKIE: &str = "cookieName";

/// The header that holds cookies.
const COOKIES: &str = "cookie";

/// `session-id-producer`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "session-id-producer",
    summary: "Tells other plugins the request's session, from a header or a cookie.",
    about: "Exactly one of the two is given. An id is taken without blanks around it; an empty one, or one of more than \
            256 bytes, is none. `session-affinity-scorer` and `session-affinity-filter` read it as a source with \
            `attribute` and `producer`; headers they can also read by themselves.",
    parameters: &[
        Parameter {
            name: HEADER,
            kind: ParameterKind::Text { default: Some(""), check: check_header },
            unit: "",
            summary: "The header that holds the id.",
        },
        Parameter {
            name: COOKIE,
            kind: ParameterKind::Text { default: Some(""), check: check_header },
            unit: "",
            summary: "The cookie that holds the id.",
        },
    ],
    kinds: &[Kind::Produces(Data::SessionId)],
    check,
    build,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn check(parameters: &Parameters) -> Vec<String> {
    let found = match [HEADER, COOKIE].map(|name| !parameters.text(name).is_empty()) {
        [true, true] => "both",
        [false, false] => "neither",
        _ => return Vec::new(),
    };
    vec![format!("expected either `{HEADER}` or `{COOKIE}`, found {found}")]
}

fn build(parameters: &Parameters, cx: &BuildContext<'_>) -> Plugin {
    let (header, cookie) = (parameters.text(HEADER).to_ascii_lowercase(), parameters.text(COOKIE).to_owned());
    let (header, cookie) =
        if header.is_empty() { (COOKIES.to_owned(), Some(cookie)) } else { (header, None) };
    let request_headers = vec![header.clone()];
    let producer = SessionIdProducer { header, cookie, slot: cx.own_slot() };
    Plugin { producer: Some(Arc::new(producer)), request_headers, ..Plugin::default() }
}

struct SessionIdProducer {
    header: String,
    /// Name of the cookie in the header, if that holds cookies.
    cookie: Option<String>,
    slot: RequestSlot<SessionId>,
}

impl Producer for SessionIdProducer {
    fn produce(&self, _cx: &Hook<'_>, request: &mut InferenceRequest) {
        let value = request.headers.get(&self.header);
        let value = match &self.cookie {
            Some(name) => value.and_then(|cookies| cookie(cookies, name)),
            None => value,
        };
        if let Some(session) = value.and_then(SessionId::of) {
            self.slot.put(request, session);
        }
    }
}

/// The value of a cookie, without the quotes that it may be in.
fn cookie<'a>(cookies: &'a str, name: &str) -> Option<&'a str> {
    let pairs = cookies.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name)?;
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use epp_framework::slot::SlotNames;

    use super::*;
    use crate::testing::{Pool, built_in, checked};

    #[test]
    fn ids_come_from_a_header_or_a_cookie() {
        let header = r#"{"headerName": "X-Session"}"#;
        let cookie = r#"{"cookieName": "sid"}"#;
        for (name, parameters, reads, value, want) in [
            ("a header", header, "x-session", Some("abc"), Some("abc")),
            ("no header", header, "x-session", None, None),
            ("an empty one", header, "x-session", Some(" "), None),
            ("a cookie", cookie, "cookie", Some("a=1; sid=abc; b=2"), Some("abc")),
            ("with `=` in it", cookie, "cookie", Some("sid=a=="), Some("a==")),
            ("in quotes", cookie, "cookie", Some("sid=\"abc\""), Some("abc")),
            ("another one", cookie, "cookie", Some("SID=abc; xsid=abc"), None),
            ("no cookies", cookie, "cookie", None, None),
        ] {
            let slots = SlotNames::default();
            let plugin = built_in(&slots, &TYPE, parameters);
            assert_eq!(plugin.request_headers, [reads], "{name}");
            let mut pool = Pool::new([]);
            pool.request.headers = value.map(|value| (reads, value.to_owned())).into_iter().collect();
            pool.produce(&*plugin.producer.unwrap());
            let found = slots.request_slot::<SessionId>(TYPE.name).get(&pool.request).map(SessionId::as_str);
            assert_eq!(found, want, "{name}");
        }
    }

    #[test]
    fn exactly_one_of_both_is_given() {
        for (parameters, wrong) in [
            ("{}", "found neither"),
            (r#"{"headerName": "a", "cookieName": "b"}"#, "found both"),
            (r#"{"cookieName": "b"}"#, ""),
        ] {
            let told = checked(&TYPE, parameters);
            assert!(told.ends_with(wrong) && told.is_empty() == wrong.is_empty(), "{parameters}: {told}");
        }
    }
}

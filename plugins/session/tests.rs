//! Both strategies, through the scorer, the filter and the hooks that they share.

use epp_framework::endpoint::Load;
use epp_framework::lifecycle::Placement;
use epp_framework::plugin::PluginType;
use epp_framework::scheduling::ProfileRun;
use epp_framework::slot::SlotNames;
use epp_framework::time::Timestamp;
use smallvec::smallvec;

use super::*;
use crate::filter::session_affinity::TYPE as FILTER;
use crate::scorer::session_affinity::TYPE as SCORER;
use crate::testing::{Pool, assert_close, built, built_in, parsed, reviewed};

const SESSIONS: &str = r#"{"strategy": "session_id"}"#;

/// `default/pod1` and so on.
const POD_1: &str = "ZGVmYXVsdC9wb2Qx";

const POD_2: &str = "ZGVmYXVsdC9wb2Qy";
const POD_9: &str = "ZGVmYXVsdC9wb2Q5";

fn with_header(pool: &mut Pool, name: &str, value: Option<&str>) {
    pool.request.headers = value.map(|value| (name, value.to_owned())).into_iter().collect();
}

#[test]
fn tokens_name_the_endpoint() {
    for (name, token, scores, left) in [
        ("S1", Some(POD_1), [1.0, 0.0], &[0][..]),
        ("S2", Some(POD_9), [0.0, 0.0], &[0, 1]),
        ("S3", Some("!!!"), [0.0, 0.0], &[0, 1]),
        ("none", None, [0.0, 0.0], &[0, 1]),
        ("empty", Some(""), [0.0, 0.0], &[0, 1]),
        ("more than a token", Some("ZGVmYXVsdC9wb2QxMA=="), [0.0, 0.0], &[0, 1]),
    ] {
        let mut pool = Pool::new([Load::default(); 2]);
        with_header(&mut pool, "x-session-token", token);
        let plugin = built(&SCORER, "{}");
        assert_eq!(plugin.request_headers, ["x-session-token"]);
        assert_close(&pool.score(&*plugin.scorer.unwrap()), &scores, name);
        assert_eq!(pool.filter(&*built(&FILTER, "{}").filter.unwrap(), 1), left, "{name}");
    }
}

#[test]
fn answers_carry_the_token_of_who_served_them() {
    let pool = Pool::new([Load::default(); 10]);
    let placement = Placement {
        primary: "decode".to_owned(),
        picks: vec![
            ("prefill".to_owned(), pool.endpoint(1).clone()),
            ("decode".to_owned(), pool.endpoint(0).clone()),
        ],
        targets: vec![
            ("10.0.0.1:8000".to_owned(), pool.endpoint(0).clone()),
            // Told by a port in place of its own.
            ("10.0.0.2:1".to_owned(), pool.endpoint(1).clone()),
        ],
    };
    let own = r#"{"encodedEndpointHeaderConfig": {"header": "X-Mine"}}"#;
    for (name, parameters, served, want) in [
        ("who decided", "{}", None, Some(("x-session-token", POD_1))),
        ("who served", "{}", Some("10.0.0.1:8000"), Some(("x-session-token", POD_1))),
        ("a fallback", "{}", Some("10.0.0.2:1"), Some(("x-session-token", POD_2))),
        ("somebody else", "{}", Some("10.0.0.3:8000"), None),
        ("another header", own, None, Some(("x-mine", POD_1))),
        (
            "another profile",
            r#"{"profileName": "prefill"}"#,
            Some("10.0.0.1:8000"),
            Some(("x-session-token", POD_2)),
        ),
        ("one that did not run", r#"{"profileName": "encode"}"#, None, None),
    ] {
        for plugin_type in [&SCORER, &FILTER] {
            let mut headers = Vec::new();
            let responder = built(plugin_type, parameters).responder.expect("it sets a header");
            responder.respond(&Answered { placement: &placement, served }, &mut headers);
            let found = headers.first().map(|(name, value)| (name.as_str(), value.as_str()));
            assert_eq!(found, want, "{name}");
        }
    }
}

#[test]
fn base64_is_padded() {
    // pod1 to pod10: lengths of all three remainders with the namespace.
    let pool = Pool::new([Load::default(); 10]);
    let text = |index: usize| encoded(pool.endpoint(index)).map(char::from).collect::<String>();
    assert_eq!((text(0).as_str(), text(9).as_str()), (POD_1, "ZGVmYXVsdC9wb2QxMA=="));
}

/// A plugin that binds sessions, and a pool of two.
struct Setup {
    pool: Pool,
    plugin: Plugin,
}

impl Setup {
    fn of(plugin_type: &PluginType, parameters: &str) -> Self {
        let mut pool = Pool::new([Load::default(); 2]);
        with_header(&mut pool, "x-session-id", Some("s"));
        Self { pool, plugin: built(plugin_type, parameters) }
    }

    fn scores(&self) -> Vec<f64> {
        self.pool.score(&**self.plugin.scorer.as_ref().unwrap())
    }

    fn send(&mut self, to: u32) {
        self.pool.commit(&**self.plugin.commit.as_ref().unwrap(), to);
        self.pool.now = Timestamp(self.pool.now.0 + 1);
    }
}

#[test]
fn sessions_stick_to_the_endpoint_that_they_began_with() {
    let mut setup = Setup::of(&SCORER, SESSIONS);
    assert!(setup.plugin.responder.is_none(), "no header is set");
    assert_close(&setup.scores(), &[0.0, 0.0], "new");
    setup.send(1);
    assert_close(&setup.scores(), &[0.0, 1.0], "bound");
    setup.send(0);
    assert_close(&setup.scores(), &[0.0, 1.0], "another was picked, but the first was there");
    with_header(&mut setup.pool, "x-session-id", Some("t"));
    assert_close(&setup.scores(), &[0.0, 0.0], "another session");
    with_header(&mut setup.pool, "x-session-id", None);
    assert_close(&setup.scores(), &[0.0, 0.0], "no session");
    setup.send(0);

    with_header(&mut setup.pool, "x-session-id", Some("s"));
    setup.pool.replace(1);
    assert_close(&setup.scores(), &[0.0, 0.0], "the endpoint left");
    setup.send(0);
    assert_close(&setup.scores(), &[1.0, 0.0], "migrated");
}

#[test]
fn the_filter_keeps_the_bound_endpoint_if_it_is_there() {
    let mut setup = Setup::of(&FILTER, SESSIONS);
    let left = |setup: &Setup| setup.pool.filter(&**setup.plugin.filter.as_ref().unwrap(), 1);
    assert_eq!(left(&setup), [0, 1]);
    setup.send(1);
    assert_eq!(left(&setup), [1]);
    setup.pool.now.0 += 1;
    setup.pool = setup.pool.only(&[0]);
    assert_eq!(left(&setup), [0], "it is no candidate");
    setup.send(0);
    setup.pool = setup.pool.only(&[0, 1]);
    assert_eq!(left(&setup), [0], "migrated");
}

#[test]
fn sessions_come_from_the_first_source_that_has_one() {
    let parameters = r#"{"strategy": "session_id", "sessionIdConfig": {"sources": [
        {"header": "X-Own"}, {"attribute": "SessionID"}, {"attribute": "SessionID", "producer": "p"}]}}"#;
    let slots = SlotNames::default();
    let plugin = built_in(&slots, &SCORER, parameters);
    assert_eq!(plugin.request_headers, ["x-own"]);
    let mut setup = Setup { pool: Pool::new([Load::default(); 2]), plugin };
    let named = slots.request_slot("p");
    named.put(&mut setup.pool.request, SessionId::of("third").unwrap());
    setup.send(0);
    slots.request_slot("session-id-producer").put(&mut setup.pool.request, SessionId::of("second").unwrap());
    setup.send(1);
    assert_close(&setup.scores(), &[0.0, 1.0], "the default producer's");
    with_header(&mut setup.pool, "x-own", Some("third"));
    assert_close(&setup.scores(), &[1.0, 0.0], "the header's");
    with_header(&mut setup.pool, "x-own", Some(" "));
    assert_close(&setup.scores(), &[0.0, 1.0], "an empty header is none");
}

#[test]
fn a_profile_can_be_named() {
    for (name, profile, want) in [
        ("the one that decides", "", [1.0, 0.0]),
        ("another", "prefill", [0.0, 1.0]),
        ("unknown", "encode", [0.0, 0.0]),
    ] {
        let parameters = format!(r#"{{"strategy": "session_id", "profileName": "{profile}"}}"#);
        let mut setup = Setup::of(&SCORER, &parameters);
        setup.pool.profiles = vec!["prefill".to_owned(), "decode".to_owned(), "encode".to_owned()];
        setup.pool.runs = smallvec![
            ProfileRun { profile: 1, picks: Some(smallvec![0]) },
            ProfileRun { profile: 0, picks: Some(smallvec![1]) },
            ProfileRun { profile: 2, picks: None },
        ];
        setup.send(0);
        assert_close(&setup.scores(), &want, name);
    }
}

#[test]
fn sources_and_settings_are_judged() {
    for (source, wrong) in [
        (r#"{"header": "a"}"#, None),
        (r#"{"attribute": "a", "producer": "p"}"#, None),
        (r#"{"header": "a", "attribute": "b"}"#, Some("expected either `header` or `attribute`, found both")),
        ("{}", Some("expected either `header` or `attribute`, found neither")),
    ] {
        let found = check_source(&parsed(SOURCE_FIELDS, &serde_json::from_str(source).unwrap()));
        assert_eq!(found.as_deref(), wrong, "{source}");
    }
    for (parameters, told) in [
        (r#"{"sessionIdConfig": {}}"#, "`sessionIdConfig` does nothing"),
        (r#"{"strategy": "session_id", "encodedEndpointHeaderConfig": {}}"#, "does nothing"),
        (
            r#"{"strategy": "session_id", "sessionIdConfig": {"sources": [{"attribute": "a"}]}}"#,
            "no `session-id-producer` is declared",
        ),
    ] {
        assert!(reviewed(&SCORER, parameters).contains(told), "{parameters}");
    }
    assert_eq!(reviewed(&SCORER, SESSIONS), "");
}

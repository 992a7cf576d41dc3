//! Tables of texts that are taken and refused.

use super::*;

type Check = fn(&str) -> Result<(), String>;

#[test]
fn texts_are_taken_and_refused() {
    let rows: [(Check, &[&str], &[&str]); 8] = [
        (
            hostname,
            &["a", "a.x.com", "*.x.com", "1.2.3"],
            &["", "*", "10.0.0.1", "*.10.0.0.1", "A.com", "a.*.com", "a..b", "-a.com", "::1"],
        ),
        (precise_hostname, &["a.x.com"], &["*.x.com"]),
        (endpoint_hostname, &["a.x.com."], &["a.x.com..", "*.x"]),
        (
            path,
            &["/", "/v1/chat", "/a%20b", "/.well-known/x", "/a.."],
            &["", "foo", "/a//b", "/a/./b", "/a/../b", "/a%2fb", "/a%2Fb", "/a#b", "/a/.", "/a/..", "/a b"],
        ),
        (regex, &[".*", "/v[0-9]+/x"], &["(?=x)", "[", r"(a)\1"]),
        (kind, &["Service"], &["", "1x", "a b"]),
        (header_name, &["x-ai-eg-model"], &["", "a b", ":path", "a/b"]),
        (timestamp, &["2025-01-31T12:00:00Z"], &["2025-01-31", "yesterday"]),
    ];
    for (check, taken, refused) in rows {
        for text in taken {
            assert_eq!(check(text), Ok(()), "{text:?}");
        }
        for text in refused {
            assert!(check(text).is_err(), "{text:?}");
        }
    }
}

#[test]
fn durations_are_those_of_the_gateway_api() {
    for (text, want) in [
        ("90s", Some(90_000)),
        ("1m30s", Some(90_000)),
        ("500ms", Some(500)),
        ("0s", Some(0)),
        ("1h1m1s1ms", Some(3_661_001)),
        ("1h1m1s1ms1s", None),
        ("123456s", None),
        ("1.5s", None),
        ("-1s", None),
        ("1m 30s", None),
        ("60", None),
        ("", None),
    ] {
        assert_eq!(milliseconds(text), want, "{text:?}");
    }
}

//! Rows 78 and 79 of the functional specification, and what holds for any answer, however it is cut.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Feeds `body` in chunks of the given sizes, over and over; tells what came out and how much was held back at most.
fn rewrite(target: &str, client: &str, body: &[u8], sizes: &[usize]) -> (Vec<u8>, usize) {
    let Some(mut names) = ModelNames::new(target, client) else { return (body.to_vec(), 0) };
    let (mut out, mut most_held, mut rest) = (Vec::new(), 0, body);
    for size in sizes.iter().cycle() {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        out.extend(names.feed(chunk.to_vec()));
        most_held = most_held.max(names.held.len());
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    out.extend(names.finish());
    (out, most_held)
}

fn whole(target: &str, client: &str, body: &str) -> String {
    let (out, _) = rewrite(target, client, body.as_bytes(), &[body.len()]);
    String::from_utf8(out).unwrap()
}

/// Rows 78 and 79 of the functional specification.
#[test]
fn rows_78_and_79_the_target_becomes_what_the_client_asked_for() {
    let (target, client) = ("vllm-backend-01", "gpt-4-proxy");
    for (row, target, client, body, want) in [
        ("78", target, client, r#"{"model":"vllm-backend-01"}"#, r#"{"model":"gpt-4-proxy"}"#),
        ("78", target, client, r#"{"model": "vllm-backend-01"}"#, r#"{"model": "gpt-4-proxy"}"#),
        (
            "78",
            target,
            client,
            "data: {\"id\":\"1\",\"model\":\"vllm-backend-01\",\"choices\":[]}\n\n",
            "data: {\"id\":\"1\",\"model\":\"gpt-4-proxy\",\"choices\":[]}\n\n",
        ),
        ("79, same names", target, target, r#"{"model":"vllm-backend-01"}"#, ""),
        ("79, empty target", "", client, r#"{"model":""}"#, ""),
        ("79, empty incoming", target, "", r#"{"model":"vllm-backend-01"}"#, ""),
        ("79, no model", target, client, r#"{"id":"vllm-backend-01"}"#, ""),
        ("79", target, client, "data: [DONE]\n\n", ""),
    ] {
        let want = if want.is_empty() { body } else { want };
        for size in [1, 2, 7, body.len()] {
            let (out, _) = rewrite(target, client, body.as_bytes(), &[size]);
            assert_eq!(String::from_utf8(out).unwrap(), want, "row {row}, chunks of {size}: {body}");
        }
    }
}

#[test]
fn members_are_told_from_what_looks_like_them() {
    for (case, body, want) in [
        ("nested", r#"{"response":{"model":"t/1"}}"#, Some(r#"{"response":{"model":"c"}}"#)),
        ("twice", r#"[{"model":"t/1"},{"model":"t/1"}]"#, Some(r#"[{"model":"c"},{"model":"c"}]"#)),
        ("spaces", "{\"model\" \t\r\n:\n \"t/1\" }", Some("{\"model\" \t\r\n:\n \"c\" }")),
        ("escaped slash", r#"{"model":"t\/1"}"#, Some(r#"{"model":"c"}"#)),
        ("escaped letter", r#"{"model":"\u0074\u002F1"}"#, Some(r#"{"model":"c"}"#)),
        (
            "behind a text that ends in a backslash",
            r#"{"a":"\\","model":"t/1"}"#,
            Some(r#"{"a":"\\","model":"c"}"#),
        ),
        ("a longer name", r#"{"model":"t/12"}"#, None),
        ("a shorter name", r#"{"model":"t/"}"#, None),
        ("no text", r#"{"model":{"a":"t/1"},"b":["model","t/1"]}"#, None),
        ("a value, then the key's look", r#"["model","model","t/1"]"#, None),
        ("in a text", r#"{"text":"{\"model\":\"t/1\"}"}"#, None),
        ("the end of a key", r#"{"a\"model":"t/1","b\\\"model":"t/1","amodel":"t/1"}"#, None),
        ("another case", r#"{"Model":"t/1"}"#, None),
        ("what ends there", r#"{"model":"t/1"#, None),
        ("no JSON", "\"model\":\"t/1\n\"", None),
    ] {
        assert_eq!(whole("t/1", "c", body), want.unwrap_or(body), "{case}");
    }
}

#[test]
fn names_of_any_letters_are_found_and_written() {
    let target = "a\"\\/\u{8}\u{c}\n\r\t\u{1}é\u{ffff}\u{1f600}";
    let spelled = [
        serde_json::to_string(target).unwrap(),
        r#""a\u0022\u005C\/\u0008\u000c\u000A\u000d\u0009\u0001\u00E9\uffff\uD83d\uDe00""#.to_owned(),
    ];
    for name in spelled {
        let out = whole(target, "\"\n\u{1f600}", &format!(r#"{{"model":{name}}}"#));
        assert_eq!(out, "{\"model\":\"\\\"\\n\u{1f600}\"}", "{name}");
    }
    for other in [r"\ud83d", r"\ude00\ud83d", r"\ud83d\u0041", r"\x", r"\u00", r"\u+1f6", "\u{1f601}"] {
        let body = format!(r#"{{"model":"{other}"}}"#);
        assert_eq!(whole("\u{1f600}", "c", &body), body);
    }
}

/// The common chunk, and one in which the name is another one.
#[test]
fn a_chunk_without_a_replacement_is_not_copied() {
    let mut names = ModelNames::new("target", "client").unwrap();
    for event in ["data: {\"model\":\"other\",\"text\":\"a\"}\n\n", "data: [DONE]\n\n", "", "\"mod", "el\" :"]
    {
        let chunk = event.as_bytes().to_vec();
        let address = chunk.as_ptr();
        let out = names.feed(chunk);
        assert_eq!((out.as_ptr(), out.as_slice()), (address, event.as_bytes()));
    }
    assert_eq!(names.finish(), b"");
}

#[test]
fn no_more_than_the_beginning_of_the_name_is_held_back() {
    let mut names = ModelNames::new("target", "client").unwrap();
    for (chunk, want, held) in [
        ("{\"model\" : \"tar", "{\"model\" : \"", "tar"),
        ("g", "", "targ"),
        ("o", "targo", ""),
        ("\",\"model\":\"", "\",\"model\":\"", ""),
        ("\\u0", "", "\\u0"),
        ("074arget", "", "\\u0074arget"),
        ("\"}", "client\"}", ""),
        ("{\"model\":\"targ", "{\"model\":\"", "targ"),
    ] {
        let out = names.feed(chunk.as_bytes().to_vec());
        assert_eq!((out.as_slice(), names.held.as_slice()), (want.as_bytes(), held.as_bytes()), "{chunk}");
    }
    assert_eq!(names.finish(), b"targ");
}

const TARGET: &str = "v/\"m\u{e9}\u{1f600}";
const CLIENT: &str = "gpt \"4\"";
const CLIENT_JSON: &str = r#""gpt \"4\"""#;

/// Length of the JSON string that `text` begins with.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.expect("it ends") + 2
}

/// The reference: reads `json` from its beginning, string by string.
fn reference(json: &str) -> String {
    let (mut out, mut rest, mut behind_key) = (String::new(), json, false);
    while let Some(quote) = rest.find('"') {
        let (between, string) = rest.split_at(quote);
        let (string, behind) = string.split_at(string_length(string));
        let is_value = behind_key && between.trim() == ":";
        let is_target = is_value && serde_json::from_str::<String>(string).unwrap() == TARGET;
        out += between;
        out += if is_target { CLIENT_JSON } else { string };
        (rest, behind_key) = (behind, string == "\"model\"");
    }
    out + rest
}

/// The same by a whole parse.
fn renamed(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let rename = |(key, value)| match value {
                Value::String(name) if key == "model" && name == TARGET => (key, CLIENT.into()),
                value => (key, renamed(value)),
            };
            members.into_iter().map(rename).collect()
        }
        Value::Array(elements) => elements.into_iter().map(renamed).collect(),
        value => value,
    }
}

/// The beginning of the target's name, in one of its spellings, as a JSON string.
fn spelled() -> impl Strategy<Value = String> {
    (prop::collection::vec(0..3, 6), 0..=6usize, "[a]{0,1}").prop_map(|(spellings, n, more)| {
        let n = if n == 0 { 6 } else { n };
        let mut json = String::from('"');
        for (c, spelling) in TARGET.chars().zip(spellings).take(n) {
            match (c, spelling) {
                ('/' | '"', 0) => json.extend(['\\', c]),
                ('"', _) | (_, 2) => {
                    json.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")));
                }
                (c, _) => json.push(c),
            }
        }
        json + &more + "\""
    })
}

fn string() -> impl Strategy<Value = String> {
    let text = r#"([a"\\:{}, ]|model|"model":"v|é){0,5}"#;
    prop_oneof![3 => spelled(), 2 => text.prop_map(|text| serde_json::to_string(&text).unwrap())]
}

fn key() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![r#""a\"model""#, r#""model\"""#, r#""\\model""#, r#""mode""#]);
    prop_oneof![4 => Just("\"model\"".to_owned()), 1 => odd.prop_map(str::to_owned), 1 => string()]
}

fn json() -> impl Strategy<Value = String> {
    let number = prop::sample::select(vec!["1", "-2.5e3", "true", "null"]).prop_map(str::to_owned);
    let leaf = prop_oneof![4 => string(), 1 => number];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let space = "[ \t\n]{0,2}";
        let member = (key(), space, space, inner.clone())
            .prop_map(|(key, a, b, value)| format!("{key}{a}:{b}{value}"));
        let members = prop::collection::vec(member, 0..5).prop_map(|all| format!("{{{}}}", all.join(",")));
        let elements = prop::collection::vec(inner, 0..5).prop_map(|all| format!("[{}]", all.join(" , ")));
        prop_oneof![4 => members, 1 => elements]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_json_in_any_chunks_is_rewritten_as_by_a_parse(
        body in json(),
        sizes in prop::collection::vec(1..20usize, 1..8),
    ) {
        let want = reference(&body);
        prop_assert_eq!(&whole(TARGET, CLIENT, &body), &want);
        for sizes in [&[1][..], &sizes] {
            let (out, held) = rewrite(TARGET, CLIENT, body.as_bytes(), sizes);
            prop_assert_eq!(String::from_utf8(out).unwrap(), want.clone());
            prop_assert!(held < 6 * TARGET.len(), "{} bytes held", held);
        }
        let parsed: Value = serde_json::from_str(&want).unwrap();
        prop_assert_eq!(parsed, renamed(serde_json::from_str(&body).unwrap()));
    }

    /// What is no JSON may come out in any way, but in one only, however it is cut.
    #[test]
    fn any_bytes_come_out_the_same_in_any_chunks(
        picks in prop::collection::vec(0..10usize, 0..30),
        sizes in prop::collection::vec(1..20usize, 1..8),
    ) {
        let e_acute = "\u{e9}".as_bytes();
        let parts: [&[u8]; 10] = [
            b"\"model\"", b":", b"\"", b"\\", b"v/\\\"m", &e_acute[..1], &e_acute[1..], b"\\u00e9", b"\\ud83d\\ude00", b" ",
        ];
        let body: Vec<u8> = picks.iter().flat_map(|pick| parts[*pick]).copied().collect();
        let (at_once, _) = rewrite(TARGET, CLIENT, &body, &[body.len().max(1)]);
        for sizes in [&[1][..], &sizes] {
            prop_assert_eq!(&rewrite(TARGET, CLIENT, &body, sizes).0, &at_once);
        }
        if !at_once.windows(3).any(|part| part == b"gpt") {
            prop_assert_eq!(at_once, body);
        }
    }
}

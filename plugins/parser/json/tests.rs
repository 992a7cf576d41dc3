//! The scanner against `serde_json`: it takes the same texts and finds the same in them.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// What is wrong with a text, if anything is.
fn error(text: &str) -> Option<String> {
    let mut scanner = Scanner::new(text.as_bytes());
    scanner.skip().and_then(|_| scanner.end()).err().map(|error| error.to_string())
}

/// Reads a value as a tree, by the steps that parsers use.
fn tree(scanner: &mut Scanner<'_>) -> Result<Value, SyntaxError> {
    Ok(match scanner.kind()? {
        Kind::Object => {
            let mut object = serde_json::Map::new();
            scanner.object(|scanner, key| {
                object.insert(key.to_owned(), tree(scanner)?);
                Ok(())
            })?;
            Value::Object(object)
        }
        Kind::List => {
            let mut list = Vec::new();
            scanner.list(|scanner| {
                list.push(tree(scanner)?);
                Ok(())
            })?;
            Value::Array(list)
        }
        Kind::String => {
            let text = scanner.string()?;
            let decoded = scanner.decode(&text);
            assert_eq!(decoded.len(), text.n_bytes, "{decoded:?}");
            Value::String(decoded.into_owned())
        }
        _ => {
            let span = scanner.skip()?;
            serde_json::from_slice(&scanner.text()[span]).unwrap()
        }
    })
}

/// In the words of Go, which clients of the Go EPP know; row 6 of the functional specification is the first.
#[test]
fn errors_are_worded_as_gos() {
    for (text, want) in [
        ("no healthy upstream", "invalid character 'o' in literal null (expecting 'u')"),
        ("", "unexpected end of JSON input"),
        ("  ", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        ("[1", "unexpected end of JSON input"),
        ("\"a", "unexpected end of JSON input"),
        ("<html>", "invalid character '<' looking for beginning of value"),
        ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
        ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
        ("{\"a\" 1}", "invalid character '1' after object key"),
        ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("{} x", "invalid character 'x' after top-level value"),
        ("{\"a\":\"\u{1}\"}", "invalid character '\\u{1}' in string literal"),
        ("\"\\x\"", "invalid character 'x' in string escape code"),
        ("\"\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape"),
        ("-a", "invalid character 'a' in numeric literal"),
        ("1.x", "invalid character 'x' after decimal point in numeric literal"),
        ("1e+", "unexpected end of JSON input"),
        ("trux", "invalid character 'x' in literal true (expecting 'e')"),
        ("fals ", "invalid character ' ' in literal false (expecting 'e')"),
        ("01", "invalid character '1' after top-level value"),
        ("[\"a\" \"b\"]", "invalid character '\"' after array element"),
    ] {
        assert_eq!(error(text).as_deref(), Some(want), "{text:?}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(error(&nested(MAX_DEPTH)), None);
    let too_deep = Some(format!("exceeded max depth of {MAX_DEPTH}"));
    for depth in [MAX_DEPTH + 1, 10_000_000] {
        assert_eq!(error(&nested(depth)), too_deep, "{depth}");
        assert_eq!(error(&"[".repeat(depth)), too_deep, "{depth}, open");
        assert_eq!(error(&"{\"a\":".repeat(depth)), too_deep, "{depth}, objects");
    }
    // Lists and objects in turns, and what follows them.
    let turns = "[{\"a\":".repeat(200) + "1" + &"},2]".repeat(200);
    assert_eq!(error(&turns), None);
    assert!(error(&turns.replacen("1}", "1]", 1)).is_some());
}

#[test]
fn what_breaks_off_is_read_as_far_as_it_goes() {
    for (text, want, end) in [
        (r#"{"a":"bc"#, "bc", 8),
        (r#"{"a":"b\"#, "b", 7),
        (r#"{"a":"b\u00"#, "b", 7),
        (r#"{"a":"b\n"#, "b\\n", 9),
        (r#"{"a":"b\ud83d"#, "b", 7),
        (r#"{"a":"b\ud83d\ude"#, "b", 7),
        (r#"{"a":"b\ud83d\n"#, "b\\ud83d\\n", 15),
        (r#"{"a":"b\ud83d\ude00"#, "b\\ud83d\\ude00", 19),
    ] {
        let mut scanner = Scanner::of_beginning(text.as_bytes());
        let mut found = None;
        let read = scanner.object(|scanner, _| {
            found = Some(scanner.string()?);
            assert!(scanner.broke_off());
            Ok(())
        });
        assert!(read.unwrap_err().is_end());
        let span = found.expect(text).span;
        assert_eq!((&text[span.clone()], span.end), (want, end), "{text}");
    }
    for text in ["{", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":tr", "[1,", "", "[\"a\"", "-"] {
        let error = Scanner::of_beginning(text.as_bytes()).skip().unwrap_err();
        assert!(error.is_end(), "{text}");
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 4.0)),
        ".{0,40}".prop_map(Value::String),
        "[a-z \\\\\"\n\u{1f600}]{0,90}".prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_serde_writes_is_read(value in values(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(error(&text), None);
        let mut scanner = Scanner::new(text.as_bytes());
        prop_assert_eq!(tree(&mut scanner).unwrap(), value);
        prop_assert!(scanner.end().is_ok());
        for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
            let beginning = &text[..end];
            prop_assert_eq!(error(beginning).is_none(), serde_json::from_str::<Value>(beginning).is_ok());
            if let Err(error) = Scanner::of_beginning(beginning.as_bytes()).skip() {
                prop_assert!(error.is_end(), "{}: {}", beginning, error);
            }
        }
    }

    #[test]
    fn it_takes_what_serde_takes(text in r#"[\[\]{}",:\\0-9a-fnul.eE+\- tr\n\u{1}é]{0,30}"#) {
        let serde = serde_json::from_str::<serde::de::IgnoredAny>(&text);
        prop_assert_eq!(error(&text).is_none(), serde.is_ok(), "{}", text);
    }
}

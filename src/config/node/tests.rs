//! Reading YAML: positions, bounds, and agreement with `serde_yaml` on every fixture.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The value without its places, as `serde_json` holds it; `None` where JSON has no such value.
fn as_json(node: &Node) -> Option<serde_json::Value> {
    Some(match &node.value {
        Value::Null => json!(null),
        Value::Boolean(value) => json!(value),
        Value::Integer(value) => i64::try_from(*value)
            .map(|value| json!(value))
            .or_else(|_| u64::try_from(*value).map(|value| json!(value)))
            .ok()?,
        Value::Float(value) => json!(value),
        Value::String(value) => json!(value),
        Value::List(items) => json!(items.iter().map(as_json).collect::<Option<Vec<_>>>()?),
        Value::Map(entries) => {
            let mut map = serde_json::Map::new();
            for (key, node) in entries {
                let Value::String(key) = &key.value else { return None };
                map.insert(key.clone(), as_json(node)?);
            }
            map.into()
        }
    })
}

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["config", "tests/it/fixtures/config", "tests/it/fixtures/endpoints"];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "json")).collect()
}

fn error_of(text: &str) -> String {
    parse(text).expect_err("the text has a problem").to_string()
}

#[test]
fn fixtures_decode_as_with_serde_yaml() {
    let mut n_compared = 0;
    for path in fixtures() {
        let text = std::fs::read_to_string(&path).unwrap();
        // `serde_yaml` takes the closing marker for a second document.
        let first = serde_yaml::Deserializer::from_str(&text).next().unwrap();
        let value = serde_yaml::Value::deserialize(first).unwrap();
        // Infinity is `null` in JSON for both.
        let want: serde_json::Value = serde_yaml::from_value(value).unwrap();
        assert_eq!(as_json(&parse(&text).unwrap()), Some(want), "{}", path.display());
        n_compared += 1;
    }
    assert!(n_compared >= 7, "found only {n_compared} fixtures");
}

#[test]
fn nodes_know_their_places() {
    let root = parse("a: 1\nlist:\n  - x\n  - {é: ü, k: [2]}\n").unwrap();
    let mut problems = Problems::default();
    let fields = root.fields("root", &mut problems).unwrap();
    let items = fields.get("list").unwrap().list("list", &mut problems);
    let inner = items[1].fields("item", &mut problems).unwrap();
    let places: Vec<_> = inner.iter().map(|(key, at, node)| (key, at.column, node.at.column)).collect();
    assert_eq!((items[0].at.line, items[0].at.column), (3, 5));
    assert_eq!(places, [("é", 6, 9), ("k", 12, 15)], "columns count characters");
    assert!(!problems.has_errors());
}

#[test]
fn duplicate_and_odd_keys_are_told_and_the_first_counts() {
    let root = parse("a: 1\nb: 2\n? [x]\n: 3\na: 4\nnull: 5\n6: 7\n").unwrap();
    let mut problems = Problems::default();
    let fields = root.fields("root", &mut problems).unwrap();
    assert_eq!(fields.get("a").unwrap().value, Value::Integer(1));
    let told: Vec<_> = problems.into_vec().iter().map(Problem::to_string).collect();
    let want = [
        "3:3: error: key: expected a string, found a list",
        "5:1: error: duplicate key `a`, first given at line 1",
        "6:1: error: key: expected a string, found nothing",
        "7:1: error: key: expected a string (in quotes), found 6",
    ];
    assert_eq!(told, want);
}

#[test]
fn one_document_is_read_and_no_more() {
    for text in [
        "a: 1",
        "---\na: 1\n",
        "a: 1\n---\n",
        "a: 1\n...\n# end\n",
        "%YAML 1.2\n---\na: 1\n---\n",
        "\u{feff}a: 1",
    ] {
        assert_eq!(as_json(&parse(text).unwrap()), Some(json!({"a": 1})), "{text:?}");
    }
    for (text, line) in [
        ("a: 1\n---\nb: 2\n", 3),
        ("a: 1\r\n---\r\nb: 2\r\n", 3),
        ("a: 1\n--- b", 2),
        ("---\n---\na: 1", 3),
        ("a: 1\n...\n%%garbage [", 3),
        ("a: 1\n---\n---\n---\nb: 2", 5),
    ] {
        let want = format!("{line}:1: error: expected one document, found a second at line {line}");
        assert_eq!(error_of(text), want, "{text:?}");
    }
    let block = parse("a: |\n  ---\n  b\n").unwrap();
    assert_eq!(as_json(&block), Some(json!({"a": "---\nb\n"})));
    assert_eq!(parse("").unwrap().value, Value::Null);
    assert_eq!(parse("# nothing\n").unwrap().value, Value::Null);
}

#[test]
fn scalars_have_the_types_of_yaml_1_2() {
    for (text, want) in [
        ("yes", Value::String("yes".into())),
        ("'1'", Value::String("1".into())),
        ("10.0.0.1", Value::String("10.0.0.1".into())),
        ("True", Value::Boolean(true)),
        ("0x1f", Value::Integer(31)),
        ("010", Value::Integer(8)),
        ("-9223372036854775808", Value::Integer(i64::MIN.into())),
        ("18446744073709551615", Value::Integer(u64::MAX.into())),
        ("2.50", Value::Float(2.5)),
        ("1e999", Value::Float(f64::INFINITY)),
        ("~", Value::Null),
    ] {
        assert_eq!(parse(text).unwrap().value, want, "{text}");
    }
}

#[test]
fn texts_that_are_no_yaml_are_told_with_their_place() {
    for (text, want) in [
        ("a: [1", "1:4: error: unclosed bracket '['"),
        ("a: *nope", "1:4: error: alias references unknown anchor"),
        ("a: &a [*a]", "1:8: error: an alias refers to what contains it"),
        ("a: !!python/object x", "1:20: error: unsupported tag `!!python/object`"),
    ] {
        assert_eq!(error_of(text), want, "{text:?}");
    }
}

#[test]
fn an_alias_may_be_used_often() {
    let text = format!("- &labels {{role: decode}}\n{}", "- *labels\n".repeat(1000));
    let mut problems = Problems::default();
    assert_eq!(parse(&text).unwrap().list("list", &mut problems).len(), 1001);
}

#[test]
fn sizes_are_bounded() {
    let ten = |item: &str| [item; 10].join(", ");
    let laughs = (1..20).map(|i| format!("a{i}: &a{i} [{}]\n", ten(&format!("*a{}", i - 1))));
    let laughs = format!("a0: &a0 [{}]\n", ten("x")) + &laughs.collect::<String>();
    let merges = format!("base: &b {{k: v}}\nlist:\n{}", "- {<<: *b}\n".repeat(MAX_REPLAYED));
    let nested = "expected at most 32 levels of nesting";
    let repeated = "aliases may repeat at most 10000 values";
    for (name, text, want) in [
        ("flow", "[".repeat(100_000), nested),
        ("maps", "{a: ".repeat(100_000), nested),
        ("block", "- ".repeat(100_000), nested),
        ("laughs", laughs, repeated),
        ("merges", merges, repeated),
        ("string", "x".repeat(MAX_STRING_BYTES + 1), "expected a string of at most 16384 bytes"),
        ("bytes", " ".repeat(MAX_BYTES + 1), "expected at most 8388608 bytes, found 8388609"),
    ] {
        assert_eq!(parse(&text).unwrap_err().message, want, "{name}");
    }
    let (open, close) = ("[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    assert!(parse(&format!("{open}{close}")).is_ok());
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,300}") {
        drop(parse(&text));
    }

    #[test]
    fn no_sequence_of_yaml_tokens_panics(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "a", ": ", "- ", "\n", "  ", "[", "]", "{", "}", ",", "&x ", "*x", "<<: ", "? ", "|\n", ">-\n", "'", "\"",
                "---\n", "...\n", "%", "!!", "#", "\t", "\u{feff}", "0x", "1", ".nan", "~",
            ]),
            0..60,
        ),
    ) {
        drop(parse(&tokens.concat()));
    }

    #[test]
    fn json_is_read_as_json(value in json_value()) {
        prop_assert_eq!(as_json(&parse(&value.to_string()).unwrap()), Some(value));
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<u64>().prop_map(|value| json!(value)),
        "[^<\\pC]{0,12}".prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| json!(items)),
            prop::collection::btree_map("[^<\\pC]{0,8}", inner, 0..5).prop_map(|map| json!(map)),
        ]
    })
}

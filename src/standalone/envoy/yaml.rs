//! Structures → YAML. Entry point: [`text`].
//!
//! Texts are quoted unless no reader of YAML, old or new, can take them for anything else: Envoy reads `yes` as a truth
//! value and `017` as a number. Keys are sorted, but for those that say what something is.

use serde::Serialize;
use serde_json::{Map, Value};

/// Keys that come first.
const FIRST: [&str; 3] = ["@type", "name", "version_info"];

/// Words that readers take for something else than texts.
const WORDS: [&str; 11] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "inf", "nan"];

/// What a file holds; ends with a line break.
pub(crate) fn text(of: &impl Serialize) -> String {
    let value = serde_json::to_value(of).expect("keys are texts");
    let mut text = String::new();
    write(&value, 0, &mut text);
    text
}

fn write(value: &Value, depth: usize, into: &mut String) {
    match value {
        Value::Object(map) => {
            for (n, (key, value)) in entries(map).into_iter().enumerate() {
                if n > 0 {
                    indent(depth, into);
                }
                into.push_str(&scalar(key));
                into.push(':');
                member(value, depth + 1, into);
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    indent(depth, into);
                }
                into.push('-');
                into.push(' ');
                if is_flat(item) {
                    into.push_str(&flat(item));
                    into.push('\n');
                } else {
                    write(item, depth + 1, into);
                }
            }
        }
        _ => {
            into.push_str(&flat(value));
            into.push('\n');
        }
    }
}

fn member(value: &Value, depth: usize, into: &mut String) {
    if is_flat(value) {
        into.push(' ');
        into.push_str(&flat(value));
        into.push('\n');
        return;
    }
    into.push('\n');
    indent(depth, into);
    write(value, depth, into);
}

fn indent(depth: usize, into: &mut String) {
    for _ in 0..depth {
        into.push_str("  ");
    }
}

fn is_flat(value: &Value) -> bool {
    match value {
        Value::Object(map) => entries(map).is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

fn flat(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Object(_) => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// What is set, in the order in which it is written.
fn entries(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let is_set = |value: &Value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty());
    let mut entries: Vec<_> = map.iter().filter(|(_, value)| is_set(value)).collect();
    let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    entries.sort_by_key(|(key, _)| (rank(key), *key));
    entries
}

fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-./".contains(&c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_stay_texts_for_every_reader() {
        for word in [
            "",
            "y",
            "yes",
            "No",
            "on",
            "OFF",
            "true",
            "False",
            "null",
            "Null",
            "~",
            "017",
            "0x1f",
            "1e3",
            "1_000",
            ".inf",
            "+1",
            "-",
            "?",
            "=",
            "<<",
            "12:30",
            "2001-01-01",
            "60s",
            "a: b",
            "a #b",
            "{",
            "@x",
            "*",
            "&a",
            "!b",
            "%",
        ] {
            assert_eq!(text(&json!({"name": word})), format!("name: {}\n", json!(word)), "{word}");
        }
        for word in ["/v1/chat", "default", "envoy.lb", "x-ai-eg-model"] {
            assert_eq!(text(&json!({ "name": word })), format!("name: {word}\n"));
        }
    }

    #[test]
    fn what_is_not_set_is_not_written_and_kinds_come_first() {
        let value = json!({
            "a": null, "b": [], "c": {}, "name": "what", "@type": "it.is",
            "list": [{"two": 2, "one": [1, "x\ny"]}, [true], {}],
            "map": {"deep": {"er": "down"}, "gone": null},
        });
        let want = "\"@type\": it.is\nname: what\nc: {}\nlist:\n  - one:\n      - 1\n      - \"x\\ny\"\n    two: 2\n  \
                    - - true\n  - {}\nmap:\n  deep:\n    er: down\n";
        assert_eq!(text(&value), want);
        let read: Value = serde_yaml::from_str(&text(&value)).unwrap();
        assert_eq!(read["list"], json!([{"two": 2, "one": [1, "x\ny"]}, [true], {}]));
    }
}

//! What the references ask of a JSON text besides its value.

use serde_json::Value;

/// Reads `text`; `None` also for what readers that skip may take: deep nesting, numbers out of range, halves of
/// surrogate pairs, and keys given twice in one object.
pub(crate) fn unambiguous(text: &[u8]) -> Option<Value> {
    let value = serde_json::from_slice(text).ok()?;
    (n_members(&value) == n_colons(text)).then_some(value)
}

/// Members of all objects in `value`.
fn n_members(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(n_members).sum(),
        Value::Object(members) => members.values().map(|value| 1 + n_members(value)).sum(),
        _ => 0,
    }
}

/// Colons outside of strings: members as they are written.
fn n_colons(text: &[u8]) -> usize {
    let (mut n, mut in_string, mut escaped) = (0, false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b':' if !in_string => n += 1,
            _ => {}
        }
    }
    n
}

//! What a definition's schema does to an object: unknown fields leave, defaults come, the rest is checked.

use serde_json::{Map, Value};

/// Brings the object into the schema's shape, or tells what is wrong. Knows the rules that our definitions use.
pub(super) fn apply(schema: &Value, object: &mut Value) -> Result<(), String> {
    let kept = ["apiVersion", "kind", "metadata"];
    let Some(fields) = object.as_object_mut() else { return Err("an object is expected".to_owned()) };
    let set_aside: Vec<_> = kept.iter().filter_map(|key| fields.remove_entry(*key)).collect();
    let problems = node(schema, object, "");
    object.as_object_mut().expect("it was one above").extend(set_aside);
    problems
}

fn node(schema: &Value, value: &mut Value, path: &str) -> Result<(), String> {
    check(schema, value, path)?;
    match value {
        Value::Object(fields) => object(schema, fields, path),
        Value::Array(items) => items
            .iter_mut()
            .enumerate()
            .try_for_each(|(at, item)| node(&schema["items"], item, &format!("{path}[{at}]"))),
        _ => Ok(()),
    }
}

fn object(schema: &Value, fields: &mut Map<String, Value>, path: &str) -> Result<(), String> {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    if schema["additionalProperties"].is_object() {
        let further = &schema["additionalProperties"];
        return fields.iter_mut().try_for_each(|(key, value)| node(further, value, &below(key)));
    }
    let Some(properties) = schema["properties"].as_object() else { return Ok(()) };
    fields.retain(|key, value| properties.contains_key(key) && !value.is_null());
    for (key, property) in properties {
        if let Some(default) = property.get("default") {
            fields.entry(key).or_insert_with(|| default.clone());
        }
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !["apiVersion", "kind", "metadata"].contains(&required) && !fields.contains_key(required) {
            return Err(format!("{}: Required value", below(required)));
        }
    }
    fields.iter_mut().try_for_each(|(key, value)| node(&properties[key], value, &below(key)))
}

fn check(schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    if !fits {
        return Err(format!("{path}: Invalid value: {value}: must be of type {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        return Err(format!("{path}: Unsupported value: {value}"));
    }
    let size = match value {
        Value::Number(number) => number.as_i64().map(|number| (number, "minimum", "maximum")),
        Value::String(text) => Some(sized((text.chars().count(), "minLength", "maxLength"))),
        Value::Array(items) => Some(sized((items.len(), "minItems", "maxItems"))),
        Value::Object(fields) => Some(sized((fields.len(), "minProperties", "maxProperties"))),
        _ => None,
    };
    let Some((size, least, most)) = size else { return Ok(()) };
    if schema[least].as_i64().is_some_and(|least| size < least)
        || schema[most].as_i64().is_some_and(|most| size > most)
    {
        return Err(format!("{path}: Invalid value: {value}: out of bounds"));
    }
    Ok(())
}

fn sized((size, least, most): (usize, &'static str, &'static str)) -> (i64, &'static str, &'static str) {
    (i64::try_from(size).expect("it is in memory"), least, most)
}

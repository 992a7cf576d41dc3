//! The schema of `epp config schema` against files that are right and files that are wrong.
//!
//! Judged by the few keywords that the schema uses, written out here; one that is not known fails. `make test-extra`
//! asks a real validator the same.

use std::path::PathBuf;

use serde::Deserialize as _;
use serde_json::{Value, json};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Broken files in which nothing is wrong that a schema can see: names, circles, what is there twice or in another place.
const BEYOND_A_SCHEMA: [&str; 11] = [
    "one-type-twice",
    "misspelled-reference",
    "reference-to-a-renamed-type",
    "reference-to-nothing-declared",
    "two-pickers",
    "two-handlers",
    "duplicate-keys",
    "misspelled-parser",
    "discovery-by-a-scorer",
    "second-document",
    // By a pattern, which is not judged here.
    "unknown-feature-gate",
];

fn schema() -> Value {
    epp::config::schema::schema(epp_plugins::BUILT_IN)
}

/// The first thing that is wrong, by the path where it is.
#[expect(clippy::too_many_lines, reason = "one keyword after the other")]
fn judge(root: &Value, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{path}: {what}"));
    for (keyword, says) in schema.as_object().expect("a schema is a map") {
        let fits = match keyword.as_str() {
            "$ref" => {
                let pointer = says.as_str().unwrap().trim_start_matches('#');
                let target = root.pointer(pointer).unwrap_or_else(|| panic!("{pointer} leads nowhere"));
                return judge(root, target, value, path);
            }
            "type" => match says {
                Value::Array(types) => types.iter().any(|one| is_of(one.as_str().unwrap(), value)),
                one => is_of(one.as_str().unwrap(), value),
            },
            "enum" => says.as_array().unwrap().contains(value),
            "const" => says == value,
            "minimum" => value.as_f64().is_none_or(|number| number >= says.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= says.as_f64().unwrap()),
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= says.as_u64().unwrap()),
            "minItems" => value.as_array().is_none_or(|list| list.len() as u64 >= says.as_u64().unwrap()),
            "minProperties" => value.as_object().is_none_or(|map| map.len() as u64 >= says.as_u64().unwrap()),
            "maxProperties" => value.as_object().is_none_or(|map| map.len() as u64 <= says.as_u64().unwrap()),
            "required" => value.as_object().is_none_or(|map| {
                says.as_array().unwrap().iter().all(|key| map.contains_key(key.as_str().unwrap()))
            }),
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    judge(root, says, item, &format!("{path}[{n}]"))?;
                }
                true
            }
            "properties" | "additionalProperties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    let declared = schema["properties"].get(key);
                    let inner_schema = match (keyword.as_str(), declared) {
                        ("properties", declared) => declared,
                        (_, Some(_)) => None,
                        (_, None) if *says == Value::Bool(false) => {
                            return wrong(&format!("{key} is unknown"));
                        }
                        (_, None) => Some(says),
                    };
                    if let Some(inner_schema) = inner_schema {
                        judge(root, inner_schema, inner, &format!("{path}.{key}"))?;
                    }
                }
                true
            }
            "allOf" => {
                for one in says.as_array().unwrap() {
                    judge(root, one, value, path)?;
                }
                true
            }
            "if" => {
                if judge(root, says, value, path).is_ok() {
                    judge(root, &schema["then"], value, path)?;
                }
                true
            }
            "then" | "$schema" | "title" | "description" | "default" | "definitions" | "enumDescriptions"
            | "deprecationMessage" | "pattern" => true,
            other => panic!("the keyword {other} is not known here"),
        };
        if !fits {
            return wrong(&format!("{value} does not fit {keyword} {says}"));
        }
    }
    Ok(())
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the type {other} is not known here"),
    }
}

fn files(folder: &str) -> Vec<(String, String)> {
    let files = std::fs::read_dir(format!("{ROOT}/{folder}")).unwrap().map(|entry| entry.unwrap().path());
    let ends = |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml" || end == "json");
    let files = files.filter(ends).map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(&path).unwrap())
    });
    files.collect()
}

/// The first document: `serde_yaml` takes a closing marker for a second one.
fn value_of(text: &str) -> Option<Value> {
    let first = serde_yaml::Deserializer::from_str(text).next()?;
    serde_json::to_value(serde_yaml::Value::deserialize(first).ok()?).ok()
}

#[test]
fn what_loads_without_a_warning_fits() {
    let schema = schema();
    let mut n_judged = 0;
    for (name, text) in files("tests/it/fixtures/config").into_iter().chain(files("config")) {
        let (composition, problems) = epp::config::build::load(&text, epp_plugins::BUILT_IN);
        // Parameters in another case are read, with a warning.
        if composition.is_none() || problems.iter().any(|it| it.message.contains("is read as")) {
            continue;
        }
        assert_eq!(judge(&schema, &schema, &value_of(&text).unwrap(), ""), Ok(()), "{name}");
        n_judged += 1;
    }
    assert!(n_judged >= 6, "only {n_judged}");
}

/// What `show` prints uses every type that is there, and every parameter that has a value.
#[test]
fn everything_that_is_shown_fits() {
    let schema = schema();
    for built_in in epp_plugins::BUILT_IN {
        let text = format!("kind: EndpointPickerConfig\nplugins: [{{type: {}}}]", built_in.name);
        let (composition, _) = epp::config::build::load(&text, epp_plugins::BUILT_IN);
        let Some(composition) = composition else { continue };
        let config = epp::config::read(&text).0.unwrap();
        let shown = epp::config::effective::show(&config, &composition);
        assert_eq!(judge(&schema, &schema, &value_of(&shown).unwrap(), ""), Ok(()), "{shown}");
    }
}

#[test]
fn what_is_broken_does_not_fit() {
    let schema = schema();
    let mut n_judged = 0;
    for (name, text) in files("tests/it/fixtures/config/broken") {
        let beyond = BEYOND_A_SCHEMA.iter().any(|beyond| name.ends_with(beyond));
        // Manifests are not what the schema is for.
        let Some(value) = value_of(&text).filter(|value| !beyond && value.get("data").is_none()) else {
            continue;
        };
        assert!(judge(&schema, &schema, &value, "").is_err(), "{name}");
        n_judged += 1;
    }
    assert!(n_judged >= 15, "only {n_judged}");
}

#[test]
fn a_tree_in_a_tree_is_judged_at_any_depth() {
    let schema = schema();
    let mut level = json!({"current": {"pluginRef": "f"}});
    for _ in 0..10 {
        level = json!({"current": {"decisionTree": level}});
    }
    let config = |level: &Value| json!({"plugins": [{"type": "decision-tree-filter", "parameters": level}]});
    assert_eq!(judge(&schema, &schema, &config(&level), ""), Ok(()));
    let wrong: Value = serde_json::from_str(&level.to_string().replace("pluginRef", "pluginref")).unwrap();
    assert!(judge(&schema, &schema, &config(&wrong), "").unwrap_err().contains("pluginref is unknown"));
}

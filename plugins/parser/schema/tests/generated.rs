//! What holds for whatever the tables say: requests written by them, and such with one member broken.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// Free texts are Greek, so that a message with a byte of them is not ASCII.
fn free_text() -> BoxedStrategy<Value> {
    "[α-ω\"\\\\\n]{0,9}".prop_map(Value::String).boxed()
}

/// Values that `schema` is for.
fn valid(schema: &'static Schema) -> BoxedStrategy<Value> {
    match schema {
        Schema::Any => prop_oneof![Just(Value::Null), Just(json!({"ω": [1]})), free_text()].boxed(),
        Schema::Null => Just(Value::Null).boxed(),
        Schema::Bool => {
            prop_oneof![any::<bool>().prop_map(Value::Bool), Just(json!(1)), Just(json!("No"))].boxed()
        }
        Schema::Integer { min, max } => {
            let written = |(n, text): (i64, bool)| if text { json!(n.to_string()) } else { json!(n) };
            ((*min..=*max), any::<bool>()).prop_map(written).boxed()
        }
        Schema::Number { min, max } => (min.max(-1e6)..=max.min(1e6)).prop_map(Value::from).boxed(),
        Schema::String([]) => free_text(),
        Schema::String(words) => prop::sample::select(*words).prop_map(Value::from).boxed(),
        Schema::List(of, min) => {
            prop::collection::vec(valid(of), *min..min + 3).prop_map(Value::Array).boxed()
        }
        Schema::Object(Members { required, optional }) => {
            let named = |(name, schema): &'static Member| valid(schema).prop_map(move |value| (name, value));
            let required = required.iter().map(|member| named(member).prop_map(Some).boxed());
            let optional = optional.iter().copied().flatten();
            let optional = optional.map(|member| prop::option::weighted(0.3, named(member)).boxed());
            let unknown = free_text().prop_map(|value| Some((&"ω/~ω", value))).boxed();
            let members: Vec<_> = required.chain(optional).chain([unknown]).collect();
            let object = |members: Vec<Option<(&&str, Value)>>| -> Value {
                let named = members.into_iter().flatten().map(|(name, value)| ((*name).to_owned(), value));
                named.collect::<Map<_, _>>().into()
            };
            members.prop_map(object).boxed()
        }
        Schema::Either(choices) => prop::strategy::Union::new(choices.iter().map(valid)).boxed(),
    }
}

/// The ways to break what is in `value`: where, and what to put there; `None` takes it away.
fn ways(schema: &'static Schema, value: &Value, pointer: &str, found: &mut Vec<(String, Option<Value>)>) {
    let wrong = [(Kind::Object, json!({"ω": "ω"})), (Kind::List, json!(["ω"])), (Kind::Null, Value::Null)];
    let wrong = wrong.into_iter().find(|(kind, _)| !schema.is_for(*kind)).map(|(_, wrong)| wrong);
    found.extend(wrong.map(|wrong| (pointer.to_owned(), Some(wrong))));
    for choice in schema.choices() {
        match (choice, value) {
            (Schema::List(of, _), Value::Array(elements)) => {
                for (at, element) in elements.iter().enumerate() {
                    ways(of, element, &format!("{pointer}/{at}"), found);
                }
            }
            (Schema::Object(Members { required, optional }), Value::Object(members)) => {
                let is_there = |member: &&Member| members.contains_key(member.0);
                found.extend(required.iter().map(|(name, _)| (format!("{pointer}/{name}"), None)));
                for (name, schema) in optional.iter().copied().chain([*required]).flatten().filter(is_there) {
                    ways(schema, &members[*name], &format!("{pointer}/{name}"), found);
                }
            }
            _ => {}
        }
    }
}

fn break_at(value: &mut Value, pointer: &str, wrong: Option<Value>) {
    let Some(wrong) = wrong else {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        return;
    };
    *value.pointer_mut(pointer).unwrap() = wrong;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// What is valid is taken; of what is broken in one place that place is told, and nothing that the request says.
    #[test]
    fn one_broken_member_is_told_by_its_pointer(
        (schema, mut value) in prop::sample::select(&ALL[..]).prop_flat_map(|schema| (Just(schema), valid(schema))),
        which in any::<prop::sample::Index>(),
        pretty in any::<bool>(),
    ) {
        let write = |value: &Value| if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
        let judge = |value: &Value| schema.violation(&write(value).unwrap()).map(|found| found.to_string());
        prop_assert_eq!(judge(&value), None, "{}", value);
        let mut found = Vec::new();
        ways(schema, &value, "", &mut found);
        let (pointer, wrong) = which.get(&found).clone();
        break_at(&mut value, &pointer, wrong);
        let told = judge(&value);
        let begins = told.as_ref().is_some_and(|told| told.starts_with(&format!("{pointer}: expected ")));
        prop_assert!(begins, "broken at {}: {:?} of {}", pointer, told, value);
        prop_assert!(told.unwrap().is_ascii());
    }
}

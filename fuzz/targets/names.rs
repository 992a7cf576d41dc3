//! The model's name in answers, mapped back: the same however the bytes are cut, and, where the answer is plain enough to
//! leave no doubt, what a walk over `serde_json::Value` says.

use epp::model_names::ModelNames;
use serde_json::Value;

use crate::cuts::Choices;
use crate::json;

/// Targets and what clients call them; one pair is chosen by the input.
const NAMES: [(&str, &str); 4] =
    [("m", "n"), ("a/b", "\"quoted\""), ("\u{e9}", ""), ("model", "a longer name")];

/// Reads `input` as an answer.
pub fn run(input: &[u8]) {
    let mut choices = Choices::of(input);
    let (target, client) = NAMES[choices.below(NAMES.len())];
    let Some(whole) = map(target, client, std::iter::once(input)) else {
        assert!(client.is_empty(), "there is something to do");
        return;
    };
    let longest = 1 + choices.below(40);
    let cut = map(target, client, choices.cut(input, longest)).expect("as before");
    assert_eq!(cut, whole, "chunks of 1 to {longest} bytes");
    // A key that is written with escapes is not found.
    if let Some(mut value) = json::unambiguous(input).filter(|_| !input.windows(2).any(|pair| pair == b"\\u"))
    {
        replace(&mut value, target, client);
        assert_eq!(serde_json::from_slice::<Value>(&whole).ok(), Some(value));
    }
}

fn map<'a>(target: &str, client: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut names = ModelNames::new(target, client)?;
    let mut out = Vec::new();
    for chunk in chunks {
        out.append(&mut names.feed(chunk.to_vec()));
    }
    out.append(&mut names.finish());
    Some(out)
}

fn replace(value: &mut Value, target: &str, client: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, target, client)),
        Value::Object(members) => {
            for (key, value) in members {
                if key == "model" && value == target {
                    *value = client.into();
                } else {
                    replace(value, target, client);
                }
            }
        }
        _ => {}
    }
}

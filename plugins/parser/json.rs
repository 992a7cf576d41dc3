//! Walks JSON lists and objects without decoding what nobody wants: what the body readers stand on.
//!
//! Entry points: [`each_element`], [`each_member`], [`Text`]. Values are given as they stand in the text; skipping over
//! one takes no recursion, however deep it nests.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A string that borrows where it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Calls `on` with the raw elements of the JSON list `raw`, until it returns false. `None` when `raw` is no list.
pub(super) fn each_element<'a>(raw: &'a str, on: impl FnMut(&'a str) -> bool) -> Option<()> {
    struct Elements<F>(F);
    impl<'de, F: FnMut(&'de str) -> bool> Visitor<'de> for Elements<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON list")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
            while let Some(element) = seq.next_element::<&'de RawValue>()? {
                if !(self.0)(element.get()) {
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                }
            }
            Ok(())
        }
    }
    serde_json::Deserializer::from_str(raw).deserialize_seq(Elements(on)).ok()
}

/// Calls `on` with each key and raw value of the JSON object that `text` begins with; what follows it is not looked at.
/// `None` when no whole object is there; `on` may have been called before that showed.
pub(super) fn each_member<'a>(text: &'a [u8], on: impl FnMut(&str, &'a str)) -> Option<()> {
    struct Members<F>(F);
    impl<'de, F: FnMut(&str, &'de str)> Visitor<'de> for Members<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(Text(key)) = map.next_key()? {
                (self.0)(&key, map.next_value::<&'de RawValue>()?.get());
            }
            Ok(())
        }
    }
    serde_json::Deserializer::from_slice(text).deserialize_map(Members(on)).ok()
}

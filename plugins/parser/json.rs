//! Walks JSON lists and objects without decoding what nobody wants: what the body readers stand on.
//!
//! Entry points: [`each_element`], [`each_member`], [`text`], [`Key`]. Values are given as they stand in the text; skipping over
//! one takes no recursion, however deep it nests.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The string that `raw`, a JSON value, is; `None` when it is no string.
///
/// Half a surrogate pair can be escaped, and no text can hold it: it becomes U+FFFD. Clients that cut text by UTF-16
/// send such halves; what the model server makes of them is its business.
pub(super) fn text(raw: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Strict<'a>(#[serde(borrow)] Cow<'a, str>);
    if !raw.starts_with('"') {
        return None;
    }
    match serde_json::from_str(raw) {
        Ok(Strict(text)) => Some(text),
        Err(_) => serde_json::from_str(raw).ok().map(|Key(text)| text),
    }
}

/// A string read as [`text`] reads it, in one pass, at the cost of checking its bytes.
pub(super) struct Key<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lossy;
        impl<'de> Visitor<'de> for Lossy {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Key<'de>, E> {
                Ok(Key(String::from_utf8_lossy(bytes)))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Key<'de>, E> {
                Ok(Key(String::from_utf8_lossy(bytes).into_owned().into()))
            }
        }
        // serde_json gives such halves to those who ask for bytes.
        deserializer.deserialize_bytes(Lossy)
    }
}

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
            while let Some(Key(key)) = map.next_key()? {
                (self.0)(&key, map.next_value::<&'de RawValue>()?.get());
            }
            Ok(())
        }
    }
    serde_json::Deserializer::from_slice(text).deserialize_map(Members(on)).ok()
}

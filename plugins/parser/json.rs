//! Walks JSON lists and objects without decoding what nobody wants: what the body readers stand on.
//!
//! Entry points: [`each_element`], [`each_member`], [`each_leading_member`], [`text`]. Values are given as they stand in
//! the text; skipping over one takes no recursion, however deep it nests.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The string that `raw`, a JSON value as it stands in the text, is; `None` when it is no string.
///
/// Half a surrogate pair can be escaped, and no text can hold it: it becomes U+FFFD. Clients that cut text by UTF-16
/// send such halves; what the model server makes of them is its business.
pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inside = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inside));
    }
    let text =
        serde_json::from_str(raw.get()).or_else(|_| serde_json::from_str(raw.get()).map(|Lossy(text)| text));
    text.ok().map(Cow::Owned)
}

/// Text whose halves of surrogate pairs were replaced. Takes control characters as well, so it is for JSON that was
/// found sound before.
struct Lossy(String);

impl<'de> Deserialize<'de> for Lossy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Lossy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Lossy, E> {
                Ok(Lossy(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        // serde_json gives such halves to those who ask for bytes.
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Calls `on` with the raw elements of the JSON list `raw`, until it returns false. `None` when `raw` is no list.
pub(super) fn each_element<'a>(raw: &'a str, on: impl FnMut(&'a RawValue) -> bool) -> Option<()> {
    struct Elements<F>(F);
    impl<'de, F: FnMut(&'de RawValue) -> bool> Visitor<'de> for Elements<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON list")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
            while let Some(element) = seq.next_element::<&'de RawValue>()? {
                if !(self.0)(element) {
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                }
            }
            Ok(())
        }
    }
    serde_json::Deserializer::from_str(raw).deserialize_seq(Elements(on)).ok()
}

/// Calls `on` with each key and raw value of `json`, which is one JSON object. `None` when it is not; `on` may have been
/// called before that showed.
pub(super) fn each_member<'a>(json: &'a str, on: impl FnMut(&str, &'a RawValue)) -> Option<()> {
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(Members(on)).ok()?;
    reader.end().ok()
}

/// The same of the object that `json` begins with; what follows it is not looked at.
pub(super) fn each_leading_member<'a>(json: &'a [u8], on: impl FnMut(&str, &'a RawValue)) -> Option<()> {
    serde_json::Deserializer::from_slice(json).deserialize_map(Members(on)).ok()
}

struct Members<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&RawValue>()? {
            (self.0)(&text(key).unwrap_or_default(), map.next_value()?);
        }
        Ok(())
    }
}

//! Typed values that one plugin leaves on a request for another, and the names that they are left under.
//!
//! A slot is interned by producer name and type in the pool's [`SlotNames`], so it keeps its identity across
//! configuration reloads. So is the key of an endpoint's [attribute](crate::attribute), by producer and name.

use std::any::{Any, TypeId};
use std::marker::PhantomData;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::attribute::AttributeKey;
use crate::request::InferenceRequest;

/// A place on every request for one value of type `T`.
pub struct RequestSlot<T> {
    key: u32,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for RequestSlot<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for RequestSlot<T> {}

impl<T: Any + Send + Sync> RequestSlot<T> {
    /// The value, if its producer ran.
    pub fn get<'a>(&self, request: &'a InferenceRequest) -> Option<&'a T> {
        let (_, value) = request.slots.0.iter().find(|(key, _)| *key == self.key)?;
        value.downcast_ref()
    }

    /// Leaves `value`, replacing an earlier one.
    pub fn put(&self, request: &mut InferenceRequest, value: T) {
        let values = &mut request.slots.0;
        values.retain(|(key, _)| *key != self.key);
        values.push((self.key, Box::new(value)));
    }
}

/// The slot values of one request.
#[derive(Default)]
pub struct SlotValues(SmallVec<[(u32, Box<dyn Any + Send + Sync>); 4]>);

impl std::fmt::Debug for SlotValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}

/// The slots of one pool, by producer name and type, and the attributes of its endpoints, by producer and name; lives as
/// long as the pool.
#[derive(Default)]
pub struct SlotNames {
    requests: Mutex<Vec<(String, TypeId)>>,
    attributes: Mutex<Vec<(String, String)>>,
}

impl SlotNames {
    /// The slot that `producer` fills with a `T`: the same one for the same name and type.
    pub fn request_slot<T: Any>(&self, producer: &str) -> RequestSlot<T> {
        let key = intern(&mut self.requests.lock(), (producer.to_owned(), TypeId::of::<T>()));
        RequestSlot { key, value: PhantomData }
    }

    /// The key of the attribute that `producer` leaves on endpoints as `name`: the same one for the same two.
    pub fn attribute(&self, producer: &str, name: &str) -> AttributeKey {
        AttributeKey(intern(&mut self.attributes.lock(), (producer.to_owned(), name.to_owned())))
    }

    /// Producer and name of an attribute.
    pub fn attribute_name(&self, key: AttributeKey) -> Option<(String, String)> {
        self.attributes.lock().get(key.0 as usize).cloned()
    }
}

fn intern<T: PartialEq>(names: &mut Vec<T>, name: T) -> u32 {
    let position = names.iter().position(|known| *known == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    });
    u32::try_from(position).expect("fewer than 2^32 names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_interned_by_name_and_type() {
        let names = SlotNames::default();
        let (a, b, c) =
            (names.request_slot::<u8>("p"), names.request_slot::<u8>("p"), names.request_slot::<u16>("p"));
        let mut request = InferenceRequest::default();
        a.put(&mut request, 1);
        a.put(&mut request, 2);
        assert_eq!(b.get(&request), Some(&2));
        assert_eq!(c.get(&request), None);
    }

    #[test]
    fn attributes_are_interned_by_producer_and_name() {
        let names = SlotNames::default();
        let [a, b, c] =
            [("p", "x"), ("p", "y"), ("q", "x")].map(|(producer, name)| names.attribute(producer, name));
        assert!(a != b && b != c && a != c);
        assert_eq!(names.attribute("p", "x"), a);
        assert_eq!(names.attribute_name(c), Some(("q".to_owned(), "x".to_owned())));
    }
}

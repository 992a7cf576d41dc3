//! Typed values that one plugin leaves on a request for another.
//!
//! A slot is interned by producer name and type in the pool's [`SlotNames`], so it keeps its identity across
//! configuration reloads.

use std::any::{Any, TypeId};
use std::marker::PhantomData;

use parking_lot::Mutex;
use smallvec::SmallVec;

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

/// The slots of one pool, by producer name and type; lives as long as the pool.
#[derive(Default)]
pub struct SlotNames(Mutex<Vec<(String, TypeId)>>);

impl SlotNames {
    /// The slot that `producer` fills with a `T`: the same one for the same name and type.
    pub fn request_slot<T: Any>(&self, producer: &str) -> RequestSlot<T> {
        let name = (producer.to_owned(), TypeId::of::<T>());
        let mut names = self.0.lock();
        let position = names.iter().position(|known| *known == name).unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        });
        RequestSlot { key: u32::try_from(position).expect("fewer than 2^32 plugins"), value: PhantomData }
    }
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
}

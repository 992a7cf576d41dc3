//! Questions that are being asked: [`Flights::join`]. Who asks the same one gets the same answer.
//!
//! A question is asked by whoever waits for its answer; when nobody does any more, it is dropped.

use std::collections::HashMap;
use std::future::Future;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

use crate::admin::digest::Digest;
use crate::admin::reviews::Trouble;

type Asking<T> = BoxFuture<'static, Result<T, Trouble>>;

/// One question on its way; clones share the answer.
pub(super) type Flight<T> = Shared<Asking<T>>;

/// All of one kind.
pub(super) struct Flights<T>(Mutex<HashMap<Digest, WeakShared<Asking<T>>>>);

impl<T: Clone> Flights<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// The question with this digest, which `ask` asks unless somebody does already.
    pub(super) fn join<F>(&self, question: Digest, ask: impl FnOnce() -> F) -> Flight<T>
    where
        F: Future<Output = Result<T, Trouble>> + Send + 'static,
    {
        let mut flights = self.0.lock();
        // An answer that has come is another matter: it is cached, or it was none.
        let flying =
            flights.get(&question).and_then(WeakShared::upgrade).filter(|flight| flight.peek().is_none());
        if let Some(flight) = flying {
            return flight;
        }
        flights.retain(|_, flight| flight.upgrade().is_some());
        let flight = ask().boxed().shared();
        flights.extend(flight.downgrade().map(|weak| (question, weak)));
        flight
    }
}

//! What can be made to go wrong: entry point [`Faults`]. A test sets it through [`Double`](super::Double).

use parking_lot::Mutex;
use tokio::sync::watch::{Receiver, Sender};

/// In which order a watch tells what happened at about the same time. An order other than the true one is kept for each
/// object, but versions do not rise, so it does not go together with watches that are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Order {
    /// As a real server does.
    #[default]
    AsItHappened,
    /// Deletions before what happened to other objects.
    DeletionsFirst,
    /// Deletions after what happened to other objects.
    DeletionsLast,
}

/// How watches tell what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivery {
    /// Each event twice in a row.
    pub(crate) twice: bool,
    /// In which order.
    pub(crate) order: Order,
}

/// What goes wrong at present.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// The status code of every answer.
    pub(super) answer: Mutex<Option<u16>>,
    pub(super) delivery: Mutex<Delivery>,
    pub(super) hung: Sender<bool>,
    /// How often all watches were cut.
    pub(super) cuts: Sender<u64>,
}

/// The same, as one watch sees it.
pub(super) struct FaultsSeen {
    faults: std::sync::Arc<Faults>,
    hung: Receiver<bool>,
    cuts: Receiver<u64>,
}

impl FaultsSeen {
    pub(super) fn new(faults: &std::sync::Arc<Faults>) -> Self {
        Self { faults: faults.clone(), hung: faults.hung.subscribe(), cuts: faults.cuts.subscribe() }
    }

    /// Returns at once unless the server hangs.
    pub(super) async fn while_hung(&mut self) {
        // It fails only when the server has gone, and then this ends too.
        self.hung.wait_for(|hung| !hung).await.ok();
    }

    /// Returns when all watches are cut.
    pub(super) async fn cut(&mut self) {
        if self.cuts.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn delivery(&self) -> Delivery {
        *self.faults.delivery.lock()
    }
}

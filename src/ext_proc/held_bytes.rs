//! How many bytes of request bodies the process holds: [`HeldBytes`], one stream's share. Refuses nothing by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bodies up to this size may use all of the limit, in bytes: however many clients send long ones, and
/// however slowly, short ones pass.
const SHORT_BODY_BYTES: usize = 256 << 10;

/// One stream's share of the request bodies that the process holds.
pub(super) struct HeldBytes {
    total: Arc<AtomicUsize>,
    mine: usize,
}

impl HeldBytes {
    /// A share of `total` that is nothing yet.
    pub(super) fn of(total: Arc<AtomicUsize>) -> Self {
        Self { total, mine: 0 }
    }

    /// Sets the share. False if it grew and there is no room for it; then it counts all the same.
    pub(super) fn set(&mut self, bytes: usize, limit: usize) -> bool {
        if bytes <= self.mine {
            self.shrink_to(bytes);
            return true;
        }
        let more = bytes - self.mine;
        self.mine = bytes;
        let total = self.total.fetch_add(more, Relaxed).saturating_add(more);
        let limit = if bytes <= SHORT_BODY_BYTES { limit } else { limit - limit / 4 };
        total <= limit
    }

    /// Lowers the share to `bytes`, if it is more.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if bytes < self.mine {
            self.total.fetch_sub(self.mine - bytes, Relaxed);
            self.mine = bytes;
        }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.total.fetch_sub(self.mine, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_share_that_grows_finds_no_room_and_short_ones_have_the_last_quarter() {
        const LIMIT: usize = 4 << 20;
        let total = Arc::new(AtomicUsize::new(0));
        let share = || HeldBytes::of(total.clone());
        let (mut long, mut short, mut idle) = (share(), share(), share());
        assert!(long.set(3 << 20, LIMIT), "three quarters");
        assert!(!long.set((3 << 20) + 1, LIMIT));
        assert!(short.set(SHORT_BODY_BYTES, LIMIT), "a short one has room left");
        let mut greedy = share();
        assert!(!greedy.set(2 << 20, LIMIT));
        assert!(!short.set(SHORT_BODY_BYTES + 1, LIMIT), "it is no longer short");
        for (share, bytes) in [(&mut idle, 0), (&mut long, 3 << 20), (&mut short, 1)] {
            assert!(share.set(bytes, LIMIT), "nothing is refused that does not grow");
        }
        long.shrink_to(1 << 20);
        long.shrink_to(2 << 20);
        assert_eq!((long.mine, total.load(Relaxed)), (1 << 20, (1 << 20) + 1 + (2 << 20)));
        drop((long, short, idle, greedy));
        assert_eq!(total.load(Relaxed), 0);
    }
}

//! Which endpoints changed since somebody last looked: [`ChangeBits`], one bit each.
//!
//! A decision looks at every endpoint of its pool, of which few changed since the one before. It reads a word for 64 of
//! them, and then those whose bit is set.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The bits of 64 endpoints, in a cache line of their own. Everybody may set them; one reader takes them.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ChangeBits(AtomicU64);

impl ChangeBits {
    /// How many endpoints share one.
    pub const MEMBERS: u32 = u64::BITS;

    /// Says that a member changed: whoever takes the bit sees the change.
    #[inline]
    pub(crate) fn set(&self, member: u32) {
        // Also where it is set already: it may be taken meanwhile, by a reader that does not see this change.
        self.0.fetch_or(1 << (member % Self::MEMBERS), Release);
    }

    /// Who changed since this was last asked, one bit each. What they hold is to be read after that.
    #[inline]
    pub fn take(&self) -> u64 {
        // Reading alone leaves the line with all who share it.
        if self.0.load(Relaxed) == 0 { 0 } else { self.0.swap(0, Acquire) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_taken_once() {
        let bits = ChangeBits::default();
        assert_eq!(bits.take(), 0);
        for member in [0, 63, 3, 3] {
            bits.set(member);
        }
        assert_eq!(bits.take(), 1 << 63 | 1 << 3 | 1);
        assert_eq!(bits.take(), 0);
    }
}

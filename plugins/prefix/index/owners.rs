//! Who holds one block, packed into one word so that a reader gets it in a single load.
//!
//! Up to four endpoints lie in the word itself, as sorted lanes of slot + 1; more of them are a *wide* set, a bitmap
//! elsewhere in the same table, of which the word holds the number. Equal words of these kinds therefore mean equal
//! owners, and the blocks of one chain mostly have equal words. An endpoint that never shared the block is its *sole*
//! owner: there the word also tells where that endpoint remembers the block. This file knows nothing of tables.

/// Endpoints that fit into the word itself.
const LANES: usize = 4;

/// In the highest lane: the lower half of the word is a number. No lane holds it, because slots end below. The lane
/// between is that of the sole owner whose node it is, or 0 for a wide set.
const NUMBER: u64 = 0xffff << 48;

/// Slots from here on cannot own blocks: a lane has 16 bits.
pub(super) const SLOT_LIMIT: u32 = 0xfffe;

/// The owners of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owners(pub(super) u64);

impl Owners {
    /// Nobody.
    pub(super) const NONE: Self = Self(0);

    /// The endpoint at `slot`, which must be below [`SLOT_LIMIT`] and has the block in its node number `node`.
    pub(super) fn sole(slot: u32, node: u32) -> Self {
        Self(NUMBER | u64::from(lane_of(slot)) << 32 | u64::from(node))
    }

    /// The wide set number `id`.
    pub(super) fn wide(id: u32) -> Self {
        Self(NUMBER | u64::from(id))
    }

    /// Number of the wide set, if it is one.
    #[inline]
    pub(super) fn wide_id(self) -> Option<u32> {
        (self.0 >> 32 == NUMBER >> 32).then(|| self.number())
    }

    /// Slot and node of the sole owner, if it is one.
    #[inline]
    pub(super) fn sole_node(self) -> Option<(u32, u32)> {
        (self.0 > NUMBER | 0xffff_ffff).then(|| (u32::from(self.lanes()[0]) - 1, self.number()))
    }

    /// The same owners, without the node of a sole one.
    #[inline]
    pub(super) fn without_node(self) -> Self {
        if self.0 > NUMBER | 0xffff_ffff { Self(self.0 >> 32 & 0xffff) } else { self }
    }

    /// The slots in the word, ascending. Not for wide sets.
    #[inline]
    pub(super) fn slots(self) -> impl Iterator<Item = u32> {
        self.lanes().into_iter().filter(|&lane| lane > 0).map(|lane| u32::from(lane) - 1)
    }

    /// These owners and `slot`; `None` when that is more than fit. Not for wide sets.
    #[inline]
    pub(super) fn with(self, slot: u32) -> Option<Self> {
        let mut lanes = self.lanes();
        let lane = lane_of(slot);
        if !lanes.contains(&lane) {
            *lanes.iter_mut().find(|lane| **lane == 0)? = lane;
        }
        Some(Self::from_lanes(lanes))
    }

    /// These owners but `slot`. Not for wide sets.
    #[inline]
    pub(super) fn without(self, slot: u32) -> Self {
        let lane = lane_of(slot);
        Self::from_lanes(self.lanes().map(|known| if known == lane { 0 } else { known }))
    }

    fn number(self) -> u32 {
        u32::try_from(self.0 & 0xffff_ffff).expect("32 bits are kept")
    }

    fn lanes(self) -> [u16; LANES] {
        let bytes = self.without_node().0.to_le_bytes();
        std::array::from_fn(|lane| u16::from_le_bytes([bytes[2 * lane], bytes[2 * lane + 1]]))
    }

    fn from_lanes(mut lanes: [u16; LANES]) -> Self {
        // Empty lanes go last, so that equal sets are equal words.
        lanes.sort_unstable_by_key(|lane| lane.wrapping_sub(1));
        Self(lanes.iter().rev().fold(0, |word, &lane| word << 16 | u64::from(lane)))
    }
}

fn lane_of(slot: u32) -> u16 {
    u16::try_from(slot + 1).expect("the index refuses slots from SLOT_LIMIT on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_are_equal_words_in_whatever_order_they_were_made() {
        let word = |slots: &[u32]| slots.iter().fold(Owners::NONE, |word, &slot| word.with(slot).unwrap());
        assert_eq!(word(&[7, 0, 65533]), word(&[65533, 7, 0, 7]));
        assert_eq!(word(&[3, 9]).without(9), word(&[3]));
        assert_eq!(word(&[3]).without(3), Owners::NONE);
        assert_eq!(word(&[4, 2, 8, 6]).slots().collect::<Vec<_>>(), [2, 4, 6, 8]);
        assert_eq!(word(&[4, 2, 8, 6]).with(1), None);
    }

    #[test]
    fn wide_sets_are_told_from_full_words() {
        let full =
            [65533, 65532, 65531, 65530].iter().fold(Owners::NONE, |word, &slot| word.with(slot).unwrap());
        assert_eq!(full.wide_id(), None);
        assert_eq!(Owners::wide(u32::MAX).wide_id(), Some(u32::MAX));
        assert_eq!(Owners::wide(0).wide_id(), Some(0));
        assert_eq!([full, Owners::wide(0), Owners::wide(u32::MAX)].map(Owners::sole_node), [None; 3]);
    }

    #[test]
    fn a_sole_owner_is_one_like_any_other_but_for_its_node() {
        for (slot, node) in [(0, 0), (65533, u32::MAX), (7, 1)] {
            let sole = Owners::sole(slot, node);
            assert_eq!((sole.sole_node(), sole.wide_id()), (Some((slot, node)), None));
            assert_eq!(sole.slots().collect::<Vec<_>>(), [slot]);
            assert_eq!(Owners::NONE.with(slot), Some(sole.without_node()));
            assert_eq!((sole.with(9), sole.without(slot)), (sole.without_node().with(9), Owners::NONE));
        }
    }
}

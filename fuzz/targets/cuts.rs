//! Choices that an input makes for itself, so that the input can stay plain text: [`Choices`] are drawn from its hash.

/// Draws numbers that depend on the input alone.
pub(crate) struct Choices(u64);

impl Choices {
    /// Begins with the hash of `input` (FNV-1a).
    pub(crate) fn of(input: &[u8]) -> Self {
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(input.iter().fold(0xcbf2_9ce4_8422_2325, hash))
    }

    /// The next number, below `end`, which is at least 1 (`SplitMix64`).
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let wide = u128::from(mixed ^ (mixed >> 31)) * end as u128;
        usize::try_from(wide >> 64).expect("below `end`")
    }

    /// Cuts `bytes` into chunks of 1 to `longest` bytes.
    pub(crate) fn cut<'a>(&mut self, mut bytes: &'a [u8], longest: usize) -> Vec<&'a [u8]> {
        let mut chunks = Vec::new();
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at((1 + self.below(longest)).min(bytes.len()));
            chunks.push(chunk);
            bytes = rest;
        }
        chunks
    }
}

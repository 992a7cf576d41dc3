//! A small 64-bit mixing function and the map hasher for keys that are already mixed. Not cryptographic.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Folds `value` into `state` (the finaliser of `SplitMix64` over a multiplied sum).
pub fn mix(state: u64, value: u64) -> u64 {
    let mut x =
        state.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(value).wrapping_add(0x632b_e59b_d9b4_e019);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Folds a text into one number, for salts and names.
pub fn of_text(text: &str) -> u64 {
    text.bytes().fold(mix(0, text.len() as u64), |state, byte| mix(state, u64::from(byte)))
}

/// A map whose keys came out of [`mix`].
pub(super) type MixedKeyMap<V> = HashMap<u64, V, BuildHasherDefault<Identity>>;

/// Passes a mixed key through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |state, &byte| mix(state, u64::from(byte)));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

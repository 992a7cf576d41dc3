//! Fingerprints of secrets, so that the secrets themselves need not be kept: [`Digester`].
//!
//! They are keyed by chance, anew in each process: nobody can choose a secret with another one's fingerprint, or find a
//! secret by trying.

use anyhow::anyhow;
use ring::hmac::{HMAC_SHA256, Key, sign, verify};
use ring::rand::SystemRandom;

/// The fingerprint of some bytes; means something to one [`Digester`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// Makes fingerprints.
pub struct Digester(Key);

impl Digester {
    /// Fails where the system has no randomness to give.
    pub fn new() -> anyhow::Result<Self> {
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new());
        key.map(Self).map_err(|_| anyhow!("the system gives no randomness"))
    }

    /// The fingerprint of `bytes`.
    pub fn digest(&self, bytes: &[u8]) -> Digest {
        let mut digest = Digest([0; 32]);
        digest.0.copy_from_slice(sign(&self.0, bytes).as_ref());
        digest
    }

    /// Whether `bytes` have this fingerprint; takes as long either way.
    pub fn fits(&self, bytes: &[u8], digest: &Digest) -> bool {
        verify(&self.0, bytes, &digest.0).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_fits_its_bytes_and_its_digester_only() {
        let (digester, other) = (Digester::new().unwrap(), Digester::new().unwrap());
        let digest = digester.digest(b"a secret");
        assert_eq!(digest, digester.digest(b"a secret"));
        for (bytes, fits) in
            [(&b"a secret"[..], true), (b"a secreT", false), (b"a secret ", false), (b"", false)]
        {
            assert_eq!(digester.fits(bytes, &digest), fits, "{bytes:?}");
            assert!(!other.fits(bytes, &digest), "{bytes:?}");
        }
    }
}

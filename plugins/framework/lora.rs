//! The LoRA adapters of an endpoint, as its last scrape said.
//!
//! Adapters are told apart by 64 bits of a hash whose key is drawn when the process starts, so that nobody outside can
//! find two names that are taken for one.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use smallvec::SmallVec;

static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The name of an adapter, as a plugin asks many endpoints for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adapter(u64);

impl Adapter {
    /// Of this name.
    pub fn named(name: &str) -> Self {
        Self(KEY.hash_one(name))
    }
}

/// LoRA adapters of an endpoint (`vllm:lora_requests_info`, newest series).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoraAdapters {
    running: Vec<String>,
    waiting: Vec<String>,
    max: u32,
    /// Those that run, then those that wait.
    adapters: SmallVec<[Adapter; 4]>,
}

impl LoraAdapters {
    /// Makes them of what a page says.
    ///
    /// Newer vLLM repeats the running adapters among the waiting ones. Whoever counts both must count them once, or a
    /// server looks full when it is half full.
    pub fn new(mut running: Vec<String>, mut waiting: Vec<String>, max: u32) -> Self {
        for names in [&mut running, &mut waiting] {
            names.sort_unstable();
            names.dedup();
        }
        waiting.retain(|name| running.binary_search(name).is_err());
        let adapters = running.iter().chain(&waiting).map(|name| Adapter::named(name)).collect();
        Self { running, waiting, max, adapters }
    }

    /// Adapters with running requests; each once, sorted.
    pub fn running(&self) -> &[String] {
        &self.running
    }

    /// Adapters with waiting requests and no running ones; each once, sorted.
    pub fn waiting(&self) -> &[String] {
        &self.waiting
    }

    /// Adapters that fit in one batch (`max_lora`); 0 when unknown.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// Whether `adapter` has running requests.
    #[inline]
    pub fn runs(&self, adapter: Adapter) -> bool {
        self.adapters[..self.running.len()].contains(&adapter)
    }

    /// Whether `adapter` has waiting requests, and no running ones.
    #[inline]
    pub fn waits(&self, adapter: Adapter) -> bool {
        self.adapters[self.running.len()..].contains(&adapter)
    }

    /// Whether another adapter fits beside those that run or wait.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.adapters.len() < self.max as usize
    }
}

//! The LoRA adapters of an endpoint, as its last scrape said.

/// LoRA adapters of an endpoint (`vllm:lora_requests_info`, newest series).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoraAdapters {
    /// Adapters with running requests.
    pub running: Vec<String>,
    /// Adapters with waiting requests.
    pub waiting: Vec<String>,
    /// Adapters that fit in one batch (`max_lora`); 0 when unknown.
    pub max: u32,
}

impl LoraAdapters {
    /// The same with each adapter once, and sorted.
    ///
    /// Newer vLLM repeats the running adapters among the waiting ones. Whoever counts both must count them once, or a
    /// server looks full when it is half full.
    pub(crate) fn normalized(mut self) -> Self {
        for names in [&mut self.running, &mut self.waiting] {
            names.sort_unstable();
            names.dedup();
        }
        let running = &self.running;
        self.waiting.retain(|name| running.binary_search(name).is_err());
        self
    }

    /// Whether `adapter` has running requests.
    pub fn runs(&self, adapter: &str) -> bool {
        contains(&self.running, adapter)
    }

    /// Whether `adapter` has waiting requests, and no running ones.
    pub fn waits(&self, adapter: &str) -> bool {
        contains(&self.waiting, adapter)
    }

    /// Whether another adapter fits beside those that run or wait.
    pub fn has_room(&self) -> bool {
        self.running.len() + self.waiting.len() < self.max as usize
    }
}

fn contains(sorted: &[String], name: &str) -> bool {
    sorted.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
}

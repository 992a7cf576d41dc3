//! What the families of a metrics page mean, per engine: from a page to the fields of an endpoint.
//!
//! Entry point: [`EngineMapping::read`]. An engine is a table of family names and their meanings; where a meaning has
//! several names (engines rename), the first in the table that has a value wins. "The page does not say" stays apart
//! from zero. Fetching the page and storing the findings happen elsewhere.

use std::collections::BTreeMap;

use epp_framework::endpoint::{LoraAdapters, ScrapedLoad};

use super::exposition::{LabelValue, Sample, WantedNames, scan};

/// What a family tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// Requests waiting; summed over ranks.
    Waiting,
    /// Requests running; summed over ranks.
    Running,
    /// Fraction of KV blocks in use; the mean over ranks.
    KvUsed,
    /// Cache settings as labels: tokens per block, and number of blocks, which is summed over ranks.
    CacheConfig { block_size: &'static str, blocks: &'static str },
    /// Adapters as labels; the value is the time they were true, so the largest is the truth and the rest history.
    Lora { running: &'static str, waiting: &'static str, max: &'static str },
}

/// How to read the metrics page of one engine.
#[derive(Clone, Debug)]
pub struct EngineMapping {
    meanings: Vec<Meaning>,
    wanted: WantedNames,
    /// The labels that tell one data-parallel rank from another. Series that differ in other labels only (`pid`) tell
    /// of the same rank, and the largest counts.
    rank_labels: [&'static str; 2],
}

/// The wanted families that a page has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilySet(u16);

impl FamilySet {
    /// Whether the page has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are in here.
    pub fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    fn insert(&mut self, family: usize) {
        self.0 |= 1 << family;
    }
}

/// What a page tells of its endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageFindings {
    /// The gauges.
    pub load: ScrapedLoad,
    /// The adapters; `None` when the page does not say.
    pub lora: Option<LoraAdapters>,
    /// Which wanted families have a sample.
    pub families: FamilySet,
    /// Broken lines that were skipped.
    pub skipped_lines: u32,
}

impl EngineMapping {
    /// vLLM: V1, and the spellings of V0 and of releases before 0.9.
    pub fn vllm() -> Self {
        let cache_config = Meaning::CacheConfig { block_size: "block_size", blocks: "num_gpu_blocks" };
        let lora = Meaning::Lora {
            running: "running_lora_adapters",
            waiting: "waiting_lora_adapters",
            max: "max_lora",
        };
        Self::new(
            ["model_name", "engine"],
            &[
                ("vllm:num_requests_waiting", Meaning::Waiting),
                ("vllm:num_requests_running", Meaning::Running),
                ("vllm:kv_cache_usage_perc", Meaning::KvUsed),
                ("vllm:gpu_cache_usage_perc", Meaning::KvUsed),
                ("vllm:cache_config_info", cache_config),
                ("vllm:lora_requests_info", lora),
            ],
        )
    }

    fn new(rank_labels: [&'static str; 2], families: &[(&'static str, Meaning)]) -> Self {
        debug_assert!(families.len() <= 16, "a family set has 16 bits");
        let (names, meanings) = families.iter().copied().unzip();
        Self { meanings, wanted: WantedNames::new(names), rank_labels }
    }

    /// The query string that asks a server for the wanted samples only: `name[]=…&name[]=…`.
    pub fn wanted_query(&self) -> String {
        let terms: Vec<_> = self.wanted.names().iter().map(|name| format!("name[]={name}")).collect();
        terms.join("&")
    }

    /// Reads `page` in one pass.
    pub fn read(&self, page: &[u8]) -> PageFindings {
        let mut samples = scan(page, &self.wanted);
        let mut tally = Tally::default();
        for sample in &mut samples {
            tally.families.insert(sample.name);
            match self.meanings[sample.name] {
                Meaning::Waiting | Meaning::Running | Meaning::KvUsed => {
                    let rank = sample.labels.pick(self.rank_labels);
                    tally.gauge(sample.name, rank, sample.value);
                }
                Meaning::CacheConfig { block_size, blocks } => {
                    let [size, blocks, rank, other] =
                        sample.labels.pick([block_size, blocks, self.rank_labels[0], self.rank_labels[1]]);
                    let size = size.and_then(whole_number).filter(|&size| size > 0);
                    tally.block_size = tally.block_size.or(size);
                    if let Some(blocks) = blocks.and_then(whole_number) {
                        tally.gauge(sample.name, [rank, other], f64::from(blocks));
                    }
                }
                Meaning::Lora { running, waiting, max } => tally.lora(&sample, [running, waiting, max]),
            }
        }
        self.findings(&tally, samples.skipped())
    }

    fn findings(&self, tally: &Tally<'_>, skipped_lines: u32) -> PageFindings {
        let mut load = ScrapedLoad { block_size: tally.block_size, ..ScrapedLoad::default() };
        for (family, meaning) in self.meanings.iter().enumerate() {
            let Some((sum, ranks)) = tally.over_ranks(family) else { continue };
            match meaning {
                Meaning::Waiting => load.waiting = load.waiting.or(Some(saturated(sum))),
                Meaning::Running => load.running = load.running.or(Some(saturated(sum))),
                Meaning::KvUsed => load.kv_used = load.kv_used.or(Some(sum / ranks)),
                Meaning::CacheConfig { .. } => {
                    load.num_gpu_blocks = load.num_gpu_blocks.or(Some(saturated(sum)));
                }
                Meaning::Lora { .. } => {}
            }
        }
        let lora = tally.newest_lora.map(|(_, [running, waiting, max])| LoraAdapters {
            running: comma_list(running),
            waiting: comma_list(waiting),
            max: max.and_then(whole_number).unwrap_or(0),
        });
        PageFindings { load, lora, families: tally.families, skipped_lines }
    }
}

/// What one pass gathered.
#[derive(Default)]
struct Tally<'p> {
    families: FamilySet,
    /// Largest value by family and rank labels; an absent label counts as an empty one, as Prometheus has it.
    by_rank: BTreeMap<(usize, [&'p str; 2]), f64>,
    block_size: Option<u32>,
    /// Value and the labels running, waiting, max of the newest LoRA series.
    newest_lora: Option<(f64, [Option<LabelValue<'p>>; 3])>,
}

impl<'p> Tally<'p> {
    fn gauge(&mut self, family: usize, rank: [Option<LabelValue<'p>>; 2], value: f64) {
        if !value.is_finite() || value < 0.0 {
            return;
        }
        let rank = rank.map(|label| label.map_or("", LabelValue::raw));
        let largest = self.by_rank.entry((family, rank)).or_insert(value);
        *largest = largest.max(value);
    }

    fn lora(&mut self, sample: &Sample<'p>, names: [&str; 3]) {
        let [running, waiting, max] = sample.labels.pick(names);
        let newer = self.newest_lora.is_none_or(|(newest, _)| sample.value > newest);
        let says_something = running.is_some() || waiting.is_some();
        if sample.value.is_finite() && says_something && newer {
            self.newest_lora = Some((sample.value, [running, waiting, max]));
        }
    }

    /// Sum over the ranks of a family, and their number; `None` when it has no value.
    fn over_ranks(&self, family: usize) -> Option<(f64, f64)> {
        let ranks = self.by_rank.range((family, [""; 2])..(family + 1, [""; 2]));
        let (sum, count) = ranks.fold((0.0, 0.0), |(sum, count), (_, value)| (sum + value, count + 1.0));
        (count > 0.0).then_some((sum, count))
    }
}

/// Cuts off the fraction of a value that is not negative; too large ones become the largest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
fn saturated(value: f64) -> u32 {
    value as u32
}

/// A decimal number without sign or fraction, saturated; `None` for anything else, as Python's `None`.
fn whole_number(value: LabelValue<'_>) -> Option<u32> {
    let text = value.raw().trim_ascii();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// Most adapters of one list that are kept, far above what fits a server.
const MAX_ADAPTERS: usize = 1024;

/// Longest adapter name that is kept, in bytes.
const MAX_NAME_BYTES: usize = 256;

fn comma_list(value: Option<LabelValue<'_>>) -> Vec<String> {
    let Some(value) = value else { return Vec::new() };
    let text = value.text();
    let names =
        text.split(',').map(str::trim).filter(|name| !name.is_empty() && name.len() <= MAX_NAME_BYTES);
    names.take(MAX_ADAPTERS).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;

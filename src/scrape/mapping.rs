//! What the samples of a metrics page mean: from a page to the fields of an endpoint.
//!
//! Entry point: [`EngineMapping::read`]. A mapping is made of [`MetricSpecs`] and custom metrics; where a field has several
//! sources (vLLM renamed one), the first that has a value wins. "The page does not say" stays apart from zero. Fetching
//! the page and storing the findings happen elsewhere.

use std::collections::BTreeMap;

use epp_framework::data::CustomMetric;
use epp_framework::endpoint::ScrapedLoad;
use epp_framework::lora::LoraAdapters;
use epp_framework::metric_spec::{MetricSpec, MetricSpecs};
use smallvec::SmallVec;

use super::engine;
use super::exposition::{LabelValue, Labels, Sample, WantedNames, scan};

/// Both spellings of vLLM's KV use, the newer first: either stands in for the other.
const VLLM_KV_USED: [&str; 2] = ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"];

/// What a sample tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// Requests waiting; summed over ranks.
    Waiting,
    /// Requests running; summed over ranks.
    Running,
    /// Fraction of KV blocks in use; the mean over ranks.
    KvUsed,
    /// Cache settings as labels: tokens per block, and number of blocks, which is summed over ranks.
    CacheConfig,
    /// Tokens per block; the mean over ranks, which have the same.
    BlockSize,
    /// Number of blocks; summed over ranks.
    NumBlocks,
    /// Adapters as labels; the value is the time they were true, so the largest is the truth and the rest history.
    Lora,
    /// A custom metric, by its position: one series, which may be negative.
    Custom(usize),
}

/// One spec, and what it tells.
#[derive(Clone, Debug)]
struct Source {
    meaning: Meaning,
    labels: Vec<(String, String)>,
}

impl Source {
    fn matches(&self, labels: &Labels<'_>) -> bool {
        self.labels.iter().all(|(name, want)| {
            let value = labels.iter().find(|(label, _)| label == name);
            value.is_some_and(|(_, value)| value.text() == *want)
        })
    }
}

/// How to read the metrics pages of a pool's servers.
#[derive(Clone, Debug)]
pub struct EngineMapping {
    sources: Vec<Source>,
    wanted: WantedNames,
    /// By wanted name, the sources that its samples may be of.
    by_name: Vec<SmallVec<[usize; 3]>>,
    /// Labels of the cache settings: two names of tokens per block, then two of the number of blocks.
    cache_labels: [String; 4],
    custom: Vec<CustomMetric>,
}

/// The labels that tell one data-parallel rank or model from another, whose loads add up: vLLM's two, `SGLang`'s rank,
/// Triton's model. Series that differ in other labels only (`pid`, `tp_rank`, `priority`) tell of the same rank.
const RANK_LABELS: [&str; N_RANK_LABELS] = ["model_name", "engine", "dp_rank", "model"];
const N_RANK_LABELS: usize = 4;

/// Labels of the cache settings: vLLM's and `SGLang`'s name of tokens per block, then of the number of blocks.
const CACHE_LABELS: [&str; 4] = ["block_size", "page_size", "num_gpu_blocks", "num_pages"];

/// Labels of the adapters: running, waiting, and how many fit.
const LORA_LABELS: [&str; 3] = ["running_lora_adapters", "waiting_lora_adapters", "max_lora"];

/// Most custom metrics that are read.
const MAX_CUSTOM: usize = 240;

/// The wanted samples of load that a page has, by spec. Custom metrics are none: their series may come and go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilySet(u8);

impl FamilySet {
    /// Whether the page has none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether all of `other` are in here.
    pub fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    fn insert(&mut self, source: usize) {
        self.0 |= 1 << source;
    }
}

/// What a page tells of its endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageFindings {
    /// The gauges.
    pub load: ScrapedLoad,
    /// The adapters; `None` when the page does not say.
    pub lora: Option<LoraAdapters>,
    /// Which specs of load have a sample.
    pub families: FamilySet,
    /// The values of the custom metrics that it has, by position.
    pub custom: Vec<(usize, f64)>,
    /// Broken lines that were skipped.
    pub skipped_lines: u32,
}

impl EngineMapping {
    /// vLLM: V1, and the spellings of V0 and of releases before 0.9.
    pub fn vllm() -> Self {
        Self::new(&engine::vllm())
    }

    /// Reads what `specs` name.
    pub fn new(specs: &MetricSpecs) -> Self {
        Self::with_custom(specs, Vec::new())
    }

    /// Reads what `specs` name, and custom metrics, of which 240 count.
    pub fn with_custom(specs: &MetricSpecs, mut custom: Vec<CustomMetric>) -> Self {
        let other_kv_used = specs.kv_used.as_ref().and_then(other_spelling);
        let load = [
            (Meaning::Waiting, &specs.waiting),
            (Meaning::Running, &specs.running),
            (Meaning::KvUsed, &specs.kv_used),
            (Meaning::KvUsed, &other_kv_used),
            (Meaning::CacheConfig, &specs.cache_config),
            (Meaning::BlockSize, &specs.block_size),
            (Meaning::NumBlocks, &specs.num_blocks),
            (Meaning::Lora, &specs.lora),
        ];
        custom.truncate(MAX_CUSTOM);
        let load = load.into_iter().filter_map(|(meaning, spec)| Some((meaning, spec.as_ref()?)));
        let also = custom.iter().enumerate().map(|(at, metric)| (Meaning::Custom(at), &metric.spec));
        let (mut sources, mut names, mut by_name) = (Vec::new(), Vec::new(), Vec::<SmallVec<_>>::new());
        for (meaning, MetricSpec { name, labels }) in load.chain(also) {
            let at = names.iter().position(|other| other == name).unwrap_or_else(|| {
                names.push(name.clone());
                by_name.push(SmallVec::new());
                names.len() - 1
            });
            by_name[at].push(sources.len());
            sources.push(Source { meaning, labels: labels.clone() });
        }
        let [size, page_size, blocks, pages] = CACHE_LABELS;
        let chosen =
            |chosen: &String, usual: &str| if chosen.is_empty() { usual.to_owned() } else { chosen.clone() };
        let cache_labels = [
            chosen(&specs.block_size_label, size),
            chosen(&specs.block_size_label, page_size),
            chosen(&specs.num_blocks_label, blocks),
            chosen(&specs.num_blocks_label, pages),
        ];
        Self { sources, wanted: WantedNames::new(names), by_name, cache_labels, custom }
    }

    /// The custom metrics, by position.
    pub fn custom(&self) -> &[CustomMetric] {
        &self.custom
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
            for &at in &self.by_name[sample.name] {
                let source = &self.sources[at];
                if source.matches(&sample.labels) {
                    if !matches!(source.meaning, Meaning::Custom(_)) {
                        tally.families.insert(at);
                    }
                    tally.take(at, source, &sample, &self.cache_labels);
                }
            }
        }
        self.findings(&tally, samples.skipped())
    }

    fn findings(&self, tally: &Tally<'_>, skipped_lines: u32) -> PageFindings {
        let mut load = ScrapedLoad { block_size: tally.block_size, ..ScrapedLoad::default() };
        let mut custom = Vec::new();
        for (at, source) in self.sources.iter().enumerate() {
            let Some((sum, ranks)) = tally.over_ranks(at) else { continue };
            match source.meaning {
                Meaning::Waiting => load.waiting = load.waiting.or(Some(saturated(sum))),
                Meaning::Running => load.running = load.running.or(Some(saturated(sum))),
                Meaning::KvUsed => {
                    // Finite values may add up to none.
                    load.kv_used = load.kv_used.or(Some(sum / ranks).filter(|used| used.is_finite()));
                }
                Meaning::CacheConfig | Meaning::NumBlocks => {
                    load.num_gpu_blocks = load.num_gpu_blocks.or(Some(saturated(sum)));
                }
                Meaning::BlockSize => {
                    let size = Some(saturated(sum / ranks)).filter(|&size| size > 0);
                    load.block_size = load.block_size.or(size);
                }
                Meaning::Custom(position) => custom.push((position, sum)),
                Meaning::Lora => {}
            }
        }
        let lora = tally.newest_lora.map(|(_, [running, waiting, max])| {
            let max = max.and_then(whole_number).unwrap_or(0);
            LoraAdapters::new(comma_list(running), comma_list(waiting), max)
        });
        PageFindings { load, lora, families: tally.families, custom, skipped_lines }
    }
}

/// The same spec with vLLM's other spelling of KV use, if it has one of the two.
fn other_spelling(spec: &MetricSpec) -> Option<MetricSpec> {
    let at = VLLM_KV_USED.iter().position(|name| *name == spec.name)?;
    Some(MetricSpec { name: VLLM_KV_USED[1 - at].to_owned(), labels: spec.labels.clone() })
}

/// What one pass gathered.
#[derive(Default)]
struct Tally<'p> {
    families: FamilySet,
    /// Value by source and rank labels; an absent label counts as an empty one, as Prometheus has it.
    by_rank: BTreeMap<(usize, [&'p str; N_RANK_LABELS]), Gauge>,
    block_size: Option<u32>,
    /// Value and the labels running, waiting, max of the newest LoRA series.
    newest_lora: Option<(f64, [Option<LabelValue<'p>>; 3])>,
}

#[derive(Clone, Copy)]
struct Gauge {
    value: f64,
    timestamp: Option<f64>,
}

impl<'p> Tally<'p> {
    fn take(&mut self, at: usize, source: &Source, sample: &Sample<'p>, cache_labels: &[String; 4]) {
        match source.meaning {
            Meaning::Waiting
            | Meaning::Running
            | Meaning::KvUsed
            | Meaning::BlockSize
            | Meaning::NumBlocks
            | Meaning::Custom(_) => {
                self.gauge(at, source, sample, sample.value);
            }
            Meaning::CacheConfig => {
                let [size, page_size, blocks, pages] =
                    sample.labels.pick(cache_labels.each_ref().map(String::as_str));
                let size = size.or(page_size).and_then(whole_number).filter(|&size| size > 0);
                self.block_size = self.block_size.or(size);
                if let Some(blocks) = blocks.or(pages).and_then(whole_number) {
                    self.gauge(at, source, sample, f64::from(blocks));
                }
            }
            Meaning::Lora => self.lora(sample),
        }
    }

    /// Notes a value of the sample. Of one rank the newest counts; of those equally new the largest or, where the spec
    /// names labels and thus one series, the first.
    fn gauge(&mut self, at: usize, source: &Source, sample: &Sample<'p>, value: f64) {
        let custom = matches!(source.meaning, Meaning::Custom(_));
        if !value.is_finite() || (value < 0.0 && !custom) {
            return;
        }
        let one_series = custom || !source.labels.is_empty();
        let rank = if one_series { [None; N_RANK_LABELS] } else { sample.labels.pick(RANK_LABELS) };
        let rank = rank.map(|label| label.map_or("", LabelValue::raw));
        let timestamp = sample.timestamp.filter(|timestamp| timestamp.is_finite());
        let best = self.by_rank.entry((at, rank)).or_insert(Gauge { value, timestamp });
        let larger = timestamp == best.timestamp && !one_series && value > best.value;
        if timestamp > best.timestamp || larger {
            *best = Gauge { value, timestamp };
        }
    }

    fn lora(&mut self, sample: &Sample<'p>) {
        let [running, waiting, max] = sample.labels.pick(LORA_LABELS);
        let newer = self.newest_lora.is_none_or(|(newest, _)| sample.value > newest);
        let says_something = running.is_some() || waiting.is_some();
        if sample.value.is_finite() && says_something && newer {
            self.newest_lora = Some((sample.value, [running, waiting, max]));
        }
    }

    /// Sum over the ranks of a source, and their number; `None` when it has no value.
    fn over_ranks(&self, source: usize) -> Option<(f64, f64)> {
        let ranks = self.by_rank.range((source, [""; N_RANK_LABELS])..(source + 1, [""; N_RANK_LABELS]));
        let (sum, count) =
            ranks.fold((0.0, 0.0), |(sum, count), (_, gauge)| (sum + gauge.value, count + 1.0));
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

//! Metrics pages: the scanner and vLLM's mapping against a reader that goes character by character.

use std::collections::BTreeMap;

use epp::scrape::exposition::{WantedNames, scan};
use epp::scrape::mapping::{EngineMapping, PageFindings};
use epp_framework::endpoint::ScrapedLoad;
use epp_framework::lora::LoraAdapters;

/// vLLM's families, in the mapping's order.
const VLLM: [&str; 6] = [
    "vllm:num_requests_waiting",
    "vllm:num_requests_running",
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "vllm:cache_config_info",
    "vllm:lora_requests_info",
];

/// Names that share beginnings, one of them being another's.
const SHORT: [&str; 4] = ["a", "a:b", "ab", "odd_values"];

/// Reads `input` as a page.
pub fn run(input: &[u8]) {
    for names in [&VLLM[..], &SHORT] {
        compare(input, names);
    }
    let (samples, skipped) = read_page(input, &VLLM);
    let found = EngineMapping::vllm().read(input);
    assert_eq!(found.families.is_empty(), samples.is_empty());
    assert_eq!(found, PageFindings { families: found.families, skipped_lines: skipped, ..meaning(&samples) });
}

/// Holds the scanner against [`read_page`].
fn compare(page: &[u8], names: &[&str]) {
    let wanted = WantedNames::new(names.iter().map(|&name| name.to_owned()).collect());
    let (expected, skipped) = read_page(page, names);
    let mut samples = scan(page, &wanted);
    for expected in expected {
        let found = samples.next().expect("the scanner ended early");
        assert_eq!(found.name, expected.name);
        let same = found.value.to_bits() == expected.value.to_bits()
            || found.value.is_nan() && expected.value.is_nan();
        assert!(same, "{} instead of {}", found.value, expected.value);
        let bits = |timestamp: Option<f64>| timestamp.filter(|time| !time.is_nan()).map(f64::to_bits);
        assert_eq!(bits(found.timestamp), bits(expected.timestamp));
        let labels: Vec<_> =
            found.labels.iter().map(|(name, value)| (name, value.raw(), value.text())).collect();
        let expected: Vec<_> =
            expected.labels.iter().map(|(name, raw)| (&**name, &**raw, text(raw).into())).collect();
        assert_eq!(labels, expected);
    }
    assert!(samples.next().is_none(), "the scanner found more");
    assert_eq!(samples.skipped(), skipped);
}

struct Sample {
    name: usize,
    /// Names and values as written.
    labels: Vec<(String, String)>,
    value: f64,
    timestamp: Option<f64>,
}

/// What follows a name: labels, value, timestamp.
type Rest = (Vec<(String, String)>, f64, Option<f64>);

/// The samples of a page, and the number of broken lines with a wanted name.
fn read_page(page: &[u8], names: &[&str]) -> (Vec<Sample>, u32) {
    let (mut samples, mut skipped) = (Vec::new(), 0);
    for line in page.split(|&byte| byte == b'\n') {
        let line =
            if line.starts_with(b" ") || line.starts_with(b"\t") { line.trim_ascii_start() } else { line };
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_:".contains(byte);
        let (name, rest) = line.split_at(line.iter().take_while(|byte| is_name(byte)).count());
        let Some(name) = names.iter().position(|wanted| wanted.as_bytes() == name) else { continue };
        let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
        match std::str::from_utf8(rest).ok().and_then(read_rest) {
            Some((labels, value, timestamp)) => samples.push(Sample { name, labels, value, timestamp }),
            None => skipped += 1,
        }
    }
    (samples, skipped)
}

/// Reads what follows a name. An exemplar is checked and dropped.
fn read_rest(rest: &str) -> Option<Rest> {
    let mut chars = Chars(rest.chars().rev().collect());
    let parted = chars.skip_blanks();
    let mut labels = Vec::new();
    if chars.take('{') {
        loop {
            chars.skip_blanks();
            if chars.take('}') {
                break;
            }
            labels.push(chars.label()?);
            chars.skip_blanks();
            if !chars.take(',') && chars.0.last() != Some(&'}') {
                return None;
            }
        }
    } else if !parted {
        return None;
    }
    let rest: String = chars.0.iter().rev().collect();
    let words: Vec<&str> = rest.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    let numbers: Vec<&str> = words.iter().copied().take_while(|word| !word.starts_with('#')).collect();
    let timestamp = match &numbers[..] {
        [_] => None,
        [_, timestamp] => Some(timestamp.parse().ok()?),
        _ => return None,
    };
    Some((labels, numbers[0].parse().ok()?, timestamp))
}

/// The characters to come, the next one last.
struct Chars(Vec<char>);

impl Chars {
    fn take(&mut self, wanted: char) -> bool {
        self.0.pop_if(|next| *next == wanted).is_some()
    }

    fn skip_blanks(&mut self) -> bool {
        let before = self.0.len();
        while self.take(' ') || self.take('\t') {}
        self.0.len() < before
    }

    /// `name="value"`, with blanks between.
    fn label(&mut self) -> Option<(String, String)> {
        let mut name = String::new();
        while let Some(char) = self.0.pop_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
            name.push(char);
        }
        if name.is_empty() || name.starts_with(|char: char| char.is_ascii_digit()) {
            return None;
        }
        self.skip_blanks();
        let equals = self.take('=');
        self.skip_blanks();
        if !equals || !self.take('"') {
            return None;
        }
        let mut value = String::new();
        loop {
            match self.0.pop()? {
                '"' => return Some((name, value)),
                '\\' => value.extend(['\\', self.0.pop()?]),
                char => value.push(char),
            }
        }
    }
}

/// A label's value without its escapes.
fn text(raw: &str) -> String {
    let (mut text, mut escaped) = (String::new(), false);
    for char in raw.chars() {
        match char {
            'n' if escaped => text.push('\n'),
            '\\' | '"' if escaped => text.push(char),
            '\\' => {}
            _ if escaped => text.extend(['\\', char]),
            _ => text.push(char),
        }
        escaped = !escaped && char == '\\';
    }
    text
}

/// What the samples of vLLM's families mean.
fn meaning(samples: &[Sample]) -> PageFindings {
    let sums: Vec<Option<(f64, f64)>> = (0..5).map(|family| over_ranks(samples, family)).collect();
    let count = |family: usize| sums[family].map(|(sum, _)| whole(sum));
    let mean = |family: usize| sums[family].map(|(sum, ranks)| sum / ranks).filter(|mean| mean.is_finite());
    let block_sizes = samples.iter().filter(|sample| sample.name == 4);
    let block_size = block_sizes
        .filter_map(|sample| number(either(sample, "block_size", "page_size")?))
        .find(|size| *size > 0);
    let load = ScrapedLoad {
        waiting: count(0),
        running: count(1),
        kv_used: mean(2).or(mean(3)),
        block_size,
        num_gpu_blocks: count(4),
    };
    let mut newest: Option<&Sample> = None;
    for sample in samples.iter().filter(|sample| sample.name == 5 && sample.value.is_finite()) {
        let tells = ["running_lora_adapters", "waiting_lora_adapters"]
            .iter()
            .any(|name| label(sample, name).is_some());
        if tells && newest.is_none_or(|newest| sample.value > newest.value) {
            newest = Some(sample);
        }
    }
    let lora = newest.map(|sample| {
        let [running, waiting] = ["running_lora_adapters", "waiting_lora_adapters"];
        let max = label(sample, "max_lora").and_then(number).unwrap_or(0);
        LoraAdapters::new(adapters(label(sample, running)), adapters(label(sample, waiting)), max)
    });
    PageFindings { load, lora, ..PageFindings::default() }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the largest `u32`")]
fn whole(sum: f64) -> u32 {
    sum.clamp(0.0, f64::from(u32::MAX)) as u32
}

/// Sum over the ranks of the newest value of each, of equally new ones the largest; and their number.
fn over_ranks(samples: &[Sample], family: usize) -> Option<(f64, f64)> {
    let mut by_rank: BTreeMap<[&str; 4], (Option<f64>, f64)> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.name == family) {
        let value = if family == 4 {
            either(sample, "num_gpu_blocks", "num_pages").and_then(number).map(f64::from)
        } else {
            Some(sample.value).filter(|value| value.is_finite() && *value >= 0.0)
        };
        let rank = ["model_name", "engine", "dp_rank", "model"].map(|name| label(sample, name).unwrap_or(""));
        if let Some(value) = value {
            let one = (sample.timestamp.filter(|time| time.is_finite()), value);
            let best = by_rank.entry(rank).or_insert(one);
            *best = if one > *best { one } else { *best };
        }
    }
    let sum = by_rank.values().fold(0.0, |sum, (_, value)| sum + value);
    (!by_rank.is_empty()).then_some((sum, by_rank.len() as f64))
}

fn label<'s>(sample: &'s Sample, name: &str) -> Option<&'s str> {
    sample.labels.iter().find(|(known, _)| known == name).map(|(_, raw)| raw.as_str())
}

/// The label of vLLM, or that of `SGLang`.
fn either<'s>(sample: &'s Sample, name: &str, other: &str) -> Option<&'s str> {
    label(sample, name).or_else(|| label(sample, other))
}

fn number(raw: &str) -> Option<u32> {
    let digits = raw.trim_ascii();
    let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| digits.parse().unwrap_or(u32::MAX))
}

fn adapters(raw: Option<&str>) -> Vec<String> {
    let all = text(raw.unwrap_or(""));
    let names = all.split(',').map(str::trim).filter(|name| (1..=256).contains(&name.len()));
    names.take(1024).map(str::to_owned).collect()
}

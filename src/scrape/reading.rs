//! How the page of each endpoint is asked for and read: by the default engine, or by its own.
//!
//! Entry point: [`Readings::of`]. Built once per source; fetching is done elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use epp_framework::attribute::{AttributeKey, AttributeValue, Told};
use epp_framework::data::{CustomMetric, EngineExtractor};
use epp_framework::metric_spec::MetricSpecs;

use super::ScrapeError;
use super::engine::{ENGINES, named_by};
use super::fetch::PagePath;
use super::mapping::{EngineMapping, PageFindings};

/// The engine of endpoints without a label, where neither flags nor a parameter say another.
const USUAL: &str = "vllm";

/// Where a page is, and what its samples mean.
pub(super) struct Reading {
    pub(super) path: PagePath,
    pub(super) mapping: EngineMapping,
}

/// The readings of a pool.
pub(super) struct Readings {
    label: Option<String>,
    default: Arc<Reading>,
    by_engine: Vec<(String, Arc<Reading>)>,
    /// All attributes that some engine's page may have.
    keys: Vec<AttributeKey>,
}

impl Readings {
    /// Takes the path of the pages, what is read unless an engine is named, and what the configuration says of engines.
    pub(super) fn build(
        path: &str,
        specs: &MetricSpecs,
        said: &EngineExtractor,
    ) -> Result<Self, ScrapeError> {
        let reading = |specs: &MetricSpecs, custom: &[CustomMetric]| {
            let custom = custom.iter().chain(&said.custom).cloned().collect();
            let mapping = EngineMapping::with_custom(specs, custom);
            let path = PagePath::build(path, &mapping.wanted_query())?;
            Ok::<_, ScrapeError>(Arc::new(Reading { path, mapping }))
        };
        let mut by_engine = Vec::new();
        for engine in &said.engines {
            by_engine.push((engine.name.clone(), reading(&engine.specs, &engine.custom)?));
        }
        for engine in ENGINES {
            if said.engines.iter().all(|other| other.name != engine.name) {
                by_engine.push((engine.name.to_owned(), reading(&engine.specs(), &[])?));
            }
        }
        let default = default_engine(said).and_then(|name| by_engine.iter().find(|(other, _)| other == name));
        let default = match default {
            Some((_, reading)) => Arc::clone(reading),
            None => reading(specs, &[])?,
        };
        let custom = said.engines.iter().flat_map(|engine| &engine.custom).chain(&said.custom);
        let mut keys: Vec<_> = custom.flat_map(|metric| metric.keys.iter().copied()).collect();
        keys.sort_unstable();
        keys.dedup();
        Ok(Self { label: said.label.clone(), default, by_engine, keys })
    }

    /// The reading of an endpoint with these labels, and the engine that they name if it is not known.
    pub(super) fn of<'l>(&self, labels: &'l BTreeMap<String, String>) -> (&Arc<Reading>, Option<&'l str>) {
        let Some(named) = named_by(labels, self.label.as_deref()) else { return (&self.default, None) };
        match self.by_engine.iter().find(|(name, _)| *name == named) {
            Some((_, reading)) => (reading, None),
            None => (&self.default, Some(named)),
        }
    }

    /// What a page says of every attribute: `None` of those that it lacks, or whose engine is another one.
    pub(super) fn told(&self, reading: &Reading, found: &PageFindings) -> Vec<Told> {
        let mut told = self.untold();
        for &(at, value) in &found.custom {
            for key in &reading.mapping.custom()[at].keys {
                if let Ok(at) = self.keys.binary_search(key) {
                    told[at].1 = Some(AttributeValue::Number(value));
                }
            }
        }
        told
    }

    /// What no page says.
    pub(super) fn untold(&self) -> Vec<Told> {
        self.keys.iter().map(|&key| (key, None)).collect()
    }
}

/// The engine that takes the place of what flags describe. An entry for the usual engine does so, too.
pub(super) fn default_engine(said: &EngineExtractor) -> Option<&str> {
    let usual = || said.engines.iter().any(|engine| engine.name == USUAL).then_some(USUAL);
    said.default.as_deref().or_else(usual)
}

//! How the page of each endpoint is asked for and read: the default of the flags, or its engine's by name.
//!
//! Entry point: [`Readings::of`]. Built once per scraper; fetching is done elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::engine::{ENGINES, Engine, MetricSpecs, named_by};
use super::fetch::PagePath;
use super::mapping::EngineMapping;
use super::{ScrapeError, ScrapeSettings};

/// Where a page is, and what its samples mean.
pub(super) struct Reading {
    pub(super) path: PagePath,
    pub(super) mapping: EngineMapping,
}

impl Reading {
    fn build(path: &str, specs: &MetricSpecs) -> Result<Arc<Self>, ScrapeError> {
        let mapping = EngineMapping::new(specs);
        let path = PagePath::build(path, &mapping.wanted_query())?;
        Ok(Arc::new(Self { path, mapping }))
    }
}

/// The readings of a pool.
pub(super) struct Readings {
    default: Arc<Reading>,
    by_engine: Vec<(&'static str, Arc<Reading>)>,
}

impl Readings {
    pub(super) fn build(settings: &ScrapeSettings) -> Result<Self, ScrapeError> {
        let default = Reading::build(&settings.path, &settings.specs)?;
        let of = |engine: &Engine| Ok((engine.name, Reading::build(&settings.path, &engine.specs())?));
        let by_engine = ENGINES.into_iter().map(of).collect::<Result<_, _>>()?;
        Ok(Self { default, by_engine })
    }

    /// The reading of an endpoint with these labels, and the engine that they name if it is not known.
    pub(super) fn of<'l>(&self, labels: &'l BTreeMap<String, String>) -> (&Arc<Reading>, Option<&'l str>) {
        let Some(named) = named_by(labels) else { return (&self.default, None) };
        match self.by_engine.iter().find(|(name, _)| *name == named) {
            Some((_, reading)) => (reading, None),
            None => (&self.default, Some(named)),
        }
    }
}

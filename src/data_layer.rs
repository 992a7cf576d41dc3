//! Where data on endpoints comes from, as a configuration says: [`DataLayer`]. The scraper executes it.

use epp_framework::data::{DataSource, EngineExtractor, Extractor, PageSource, PlaceExtractor};

/// Every source that a configuration polls, and what is read off endpoints without one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataLayer {
    /// The sources, in file order.
    pub sources: Vec<Source>,
    /// Where endpoints are.
    pub places: Vec<PlaceExtractor>,
}

/// A page that is polled, and what is taken out of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Name of the plugin.
    pub name: String,
    /// Its type.
    pub type_name: &'static str,
    /// The page.
    pub page: PageSource,
    /// What is taken out of it, never empty.
    pub extractors: Vec<Extractor>,
}

impl Source {
    /// Makes a source; `None` if there is nothing to poll or nothing to be taken out.
    pub fn new(
        name: &str,
        type_name: &'static str,
        source: &DataSource,
        extractors: Vec<Extractor>,
    ) -> Option<Self> {
        let DataSource::Page(page) = source else { return None };
        let (name, page) = (name.to_owned(), page.clone());
        (!extractors.is_empty()).then_some(Self { name, type_name, page, extractors })
    }

    /// What makes it the source of endpoints' loads, if it is.
    pub fn engine(&self) -> Option<&EngineExtractor> {
        self.extractors.iter().find_map(|extractor| match extractor {
            Extractor::Engine(engine) => Some(engine),
            _ => None,
        })
    }
}

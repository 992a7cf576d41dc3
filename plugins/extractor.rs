//! Declarations of what is taken out of sources of data, one file per type; the server executes them.

pub(crate) mod core_metrics;
pub(crate) mod dcgm;
pub(crate) mod models;
pub(crate) mod topology;

use epp_framework::data::Extractor;
use epp_framework::plugin::Plugin;

fn of(extractor: Extractor) -> Plugin {
    Plugin { extractor: Some(extractor), ..Plugin::default() }
}

//! A metric spec as a flag's value: [`SpecFlag`].

use std::str::FromStr;

use epp_framework::metric_spec::{MetricSpec, SpecError};

/// A spec, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecFlag(pub Option<MetricSpec>);

impl FromStr for SpecFlag {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        MetricSpec::parse(text).map(Self)
    }
}

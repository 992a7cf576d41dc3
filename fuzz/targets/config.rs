//! Configuration files: whatever the text, it is either refused with a reason or can be built.

use epp::config::{self, build};
use epp::pipeline::Pipeline;
use epp_framework::slot::SlotNames;
use epp_plugins::BUILT_IN;

use crate::problems;

/// Loads `input` if it is text, and builds what was accepted, also as a reload of itself.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (composition, told) = build::load(text, BUILT_IN);
    problems::check(text, &told);
    let refused = told.iter().any(config::problem::Problem::is_error);
    assert_eq!(composition.is_none(), refused, "accepted if and only if no problem is an error: {told:?}");
    let (read, _) = config::read(text);
    assert!(read.is_some() || refused, "nothing was read, and nobody said why");
    let Some(composition) = composition else { return };
    let slots = SlotNames::default();
    let first = Pipeline::build(&composition, &slots, None);
    Pipeline::build(&composition, &slots, Some(&first));
}

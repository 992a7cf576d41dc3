//! Reporters: tell the gateway numbers of an answer, for rate limits and cost.

mod expression;
pub(crate) mod llm_request_costs;
pub(crate) mod request_attribute;

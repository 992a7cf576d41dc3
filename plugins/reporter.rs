//! Reporters: tell the gateway numbers of an answer, for rate limits and cost.

pub(crate) mod llm_request_costs;

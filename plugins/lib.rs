//! The built-in plugins, and the one table that lists them.
//!
//! One file per plugin type, in a folder per family. Pure: no clock, no randomness but the cycle's, no I/O. Public are
//! the table and those parts that benches and the server's edges drive.

mod admission;
mod attribute;
mod data_source;
mod decider;
mod discovery;
mod extractor;
mod filter;
mod flow;
pub mod identity;
mod labels;
pub mod latency;
pub mod media;
pub mod parser;
mod picker;
pub mod prefix;
mod producer;
mod profile;
mod recent;
mod reporter;
mod responder;
mod scorer;
mod session;
mod sources;

#[cfg(test)]
mod testing;

use epp_framework::plugin::PluginType;

pub use reporter::llm_request_costs::{COST_TYPES, check_cost_expression};

/// Every type of plugin that a configuration may name.
pub const BUILT_IN: &[PluginType] = &[
    scorer::queue::TYPE,
    scorer::kv_cache_utilization::TYPE,
    scorer::prefix_cache::TYPE,
    prefix::approximate::TYPE,
    prefix::later::PRECISE,
    prefix::later::BURST,
    prefix::later::PEER_SOURCE,
    prefix::later::TOKENS,
    scorer::prefix_cache::PRECISE,
    scorer::running_requests_size::TYPE,
    scorer::token_load::TYPE,
    scorer::load_aware::TYPE,
    scorer::active_request::TYPE,
    scorer::no_hit_lru::TYPE,
    scorer::context_length_aware::TYPE,
    scorer::session_affinity::TYPE,
    scorer::header_label_affinity::TYPE,
    scorer::mm_embeddings_cache::TYPE,
    scorer::latency::TYPE,
    scorer::predicted_latency::TYPE,
    producer::predicted_latency::TYPE,
    producer::mm_embeddings_cache::TYPE,
    producer::session_id::TYPE,
    producer::agent_identity::TYPE,
    scorer::lora_affinity::TYPE,
    picker::max_score::TYPE,
    picker::random::TYPE,
    picker::weighted_random::TYPE,
    profile::single::TYPE,
    profile::disagg::TYPE,
    profile::pd::TYPE,
    profile::data_parallel::TYPE,
    profile::header::TYPE,
    profile::headers::DISAGG,
    profile::headers::PREFILL_ONLY,
    decider::prefix_based_pd::TYPE,
    decider::always_disagg_pd::TYPE,
    decider::always_disagg_multimodal::TYPE,
    filter::decision_tree::TYPE,
    filter::low_queue::TYPE,
    filter::least_queue::TYPE,
    filter::least_kv_cache::TYPE,
    filter::lora_affinity::TYPE,
    filter::header_based_testing::TYPE,
    filter::prefix_cache_affinity::TYPE,
    filter::session_affinity::TYPE,
    filter::label_selector::TYPE,
    filter::by_label::TYPE,
    filter::role::DECODE,
    filter::role::PREFILL,
    filter::role::ENCODE,
    filter::utilization::TYPE,
    filter::slo_headroom_tier::TYPE,
    admission::latency_slo::TYPE,
    parser::openai::TYPE,
    parser::anthropic::TYPE,
    parser::token_ids::VLLM,
    parser::token_ids::SGLANG,
    parser::vllm_grpc::TYPE,
    parser::vertex_ai::TYPE,
    parser::generic::TYPE,
    parser::passthrough::TYPE,
    discovery::file::TYPE,
    admission::utilization::TYPE,
    admission::concurrency::TYPE,
    admission::probabilistic::TYPE,
    producer::inflight_load::TYPE,
    flow::policies::GLOBAL_STRICT,
    flow::policies::ROUND_ROBIN,
    flow::policies::PROGRAM_AWARE,
    flow::policies::FCFS,
    flow::policies::EDF,
    flow::policies::SLO_DEADLINE,
    flow::policies::STATIC_USAGE,
    flow::policies::PRIORITY_HOLDBACK,
    flow::policies::SOFT_REFLECTIVE,
    flow::policies::SHEDDABLE_EVICTION,
    flow::policies::EVICTION_ORDER,
    responder::served_verifier::TYPE,
    reporter::llm_request_costs::TYPE,
    reporter::request_attribute::TYPE,
    data_source::metrics::TYPE,
    data_source::models::TYPE,
    data_source::dcgm::TYPE,
    data_source::events::OBJECTS,
    data_source::events::ENDPOINTS,
    extractor::core_metrics::TYPE,
    extractor::models::TYPE,
    extractor::dcgm::TYPE,
    extractor::topology::TYPE,
    filter::endpoint_attribute::TYPE,
    filter::topology_affinity::TYPE,
    scorer::endpoint_attribute::TYPE,
    scorer::topology_affinity::TYPE,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use epp_framework::parameters::ParameterKind;
    use epp_framework::plugin::{Data, Kind};

    use super::*;
    use crate::testing::{built, built_with};

    #[test]
    fn every_type_builds_into_the_kinds_it_declares() {
        let references = [
            ("f", built(&filter::least_queue::TYPE, "{}")),
            ("prefix-based-pd-decider", built(&decider::always_disagg_pd::TYPE, "{}")),
        ];
        for built_in in BUILT_IN {
            let required = match built_in.name {
                "decision-tree-filter" => r#"{"current": {"pluginRef": "f"}}"#,
                "priority-holdback-policy" => r#"{"minCeiling": 0.5}"#,
                "endpoint-attribute-filter" => {
                    r#"{"attribute": "a", "algorithm": {"type": "threshold", "threshold": {"operator": "Equal"}}}"#
                }
                "endpoint-attribute-scorer" => {
                    r#"{"attributeKey": "a", "algorithm": {"type": "linear_lower_is_better"}}"#
                }
                "file-discovery" => r#"{"path": "endpoints.yaml"}"#,
                "request-attribute-reporter" => {
                    r#"{"attributes": [{"key": {"name": "n"}, "expression": "1"}]}"#
                }
                _ => "{}",
            };
            let plugin = built_with(built_in, required, &references);
            let declares = |of: fn(&Kind) -> bool| built_in.kinds.iter().any(of);
            let sources = declares(|kind| matches!(kind, Kind::DataSource(_)));
            assert_eq!(plugin.data_source.is_some(), sources, "{}", built_in.name);
            let extractors = declares(|kind| matches!(kind, Kind::Extractor(_)));
            assert_eq!(plugin.extractor.is_some(), extractors, "{}", built_in.name);
            // Load is counted by the core, tokens by whoever reads requests, and nothing is predicted yet.
            let leaves =
                |data: &Data| !matches!(data, Data::InFlightLoad | Data::Tokens | Data::LatencyPrediction);
            let produces = declares(|kind| matches!(kind, Kind::Produces(_)));
            let leaving =
                built_in.kinds.iter().any(|kind| matches!(kind, Kind::Produces(data) if leaves(data)));
            let own = |kind| matches!(kind, ParameterKind::Producer { of, own: true } if leaves(&of));
            let for_itself = built_in.parameters.iter().any(|parameter| own(parameter.kind));
            let has = plugin.producer.is_some();
            assert!(has || !leaving, "{} leaves nothing", built_in.name);
            assert!(!has || produces || for_itself, "{} does not say what it leaves", built_in.name);
            for (kind, has) in [
                (Kind::Filter, plugin.filter.is_some()),
                (Kind::Scorer, plugin.scorer.is_some()),
                (Kind::Picker, plugin.picker.is_some()),
                (Kind::ProfileHandler, plugin.profile_handler.is_some()),
                (Kind::Parser, plugin.parser.is_some()),
                (Kind::Discovery, plugin.discovery.is_some()),
                (Kind::Reporter, plugin.reporter.is_some()),
                (Kind::Decider, plugin.decider.is_some()),
                (Kind::Admitter, plugin.admitter.is_some()),
                (Kind::SaturationDetector, plugin.saturation.is_some()),
            ] {
                assert_eq!(has, built_in.kinds.contains(&kind), "{} {kind:?}", built_in.name);
            }
        }
        let names = || BUILT_IN.iter().flat_map(|built_in| built_in.aliases.iter().chain([&built_in.name]));
        assert_eq!(names().collect::<BTreeSet<_>>().len(), names().count(), "no name is taken twice");
    }
}

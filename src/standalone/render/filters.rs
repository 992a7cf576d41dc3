//! Filters of HTTP in their order, what clients may not say, and what is told of requests.

use std::collections::BTreeMap;

use super::Settings;
use crate::control_headers;
use crate::ext_proc::destination::{DESTINATION, NAMESPACE};
use crate::standalone::envoy::filter::{
    EarlyHeaderMutation, EnvoyGrpc, ExtProcPerRoute, ExternalProcessor, FilterConfig, GrpcService,
    HeaderMutation, HttpFilter, MetadataOptions, Namespaces, PerFilter, ProcessingMode,
};
use crate::standalone::envoy::listener::{FileAccessLog, LogFormat};
use crate::standalone::envoy::{Empty, Extension, Span, StringMatch, Typed};
use crate::standalone::rates;
use crate::standalone::topology::{BodyMode, PoolPlan};

/// The filter that reads models.
const MODEL_EXTRACTOR: &str = "envoy.filters.http.ext_proc/aigateway";
/// The cluster of what it asks.
pub(super) const MODEL_EXTRACTOR_CLUSTER: &str = "ai-gateway-extproc-uds";
/// The cluster of the rate limit service.
pub(super) const RATE_LIMIT_CLUSTER: &str = "rate-limit-service";
/// Namespace of what is told of answers.
const COSTS: &str = "io.envoy.ai_gateway";
/// Key under which it is told which endpoint served, beside the destination.
pub(super) const SERVED: &str = "x-gateway-destination-endpoint-served";

/// The filter of a pool's picker.
pub(super) fn picker(pool: &PoolPlan) -> String {
    format!("envoy.filters.http.ext_proc/endpointpicker/{}_{}_ext_proc", pool.name, pool.namespace)
}

/// The cluster of a pool's picker.
pub(super) fn picker_cluster(pool: &PoolPlan) -> String {
    format!("envoy.clusters.endpointpicker_{}_{}_ext_proc", pool.name, pool.namespace)
}

/// All filters: who is asked for what, one after the other.
///
/// Rates are limited once the model is known, and before a picker is asked; `limits` is the domain of that, if there are
/// limits.
pub(super) fn http_filters(pools: &[&PoolPlan], has_ai: bool, limits: Option<&str>) -> Vec<HttpFilter> {
    let mut filters = Vec::new();
    if has_ai {
        filters.push(model_extractor());
    }
    let limits = limits.into_iter().flat_map(|domain| rates::http_filters(domain, RATE_LIMIT_CLUSTER));
    filters.extend(limits.map(|filter| HttpFilter {
        name: filter.name.to_owned(),
        disabled: None,
        typed_config: filter.typed_config.into(),
    }));
    filters.extend(pools.iter().map(|pool| picker_filter(pool)));
    filters.push(HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        disabled: None,
        typed_config: Typed::Router(Empty {}),
    });
    filters
}

/// Off, unless the route that a request has before its model is known switches it on: so requests of other routes go
/// by without their bodies being held.
fn model_extractor() -> HttpFilter {
    let processor = ExternalProcessor {
        grpc_service: GrpcService {
            envoy_grpc: EnvoyGrpc { cluster_name: MODEL_EXTRACTOR_CLUSTER.to_owned(), authority: None },
        },
        stat_prefix: "model_extractor".to_owned(),
        failure_mode_allow: None,
        allow_mode_override: None,
        message_timeout: Span::seconds(10),
        processing_mode: ProcessingMode {
            request_header_mode: "SEND",
            request_body_mode: "BUFFERED",
            request_trailer_mode: "SEND",
            response_header_mode: "SKIP",
            response_body_mode: "NONE",
            response_trailer_mode: "SKIP",
        },
        metadata_options: None,
    };
    HttpFilter {
        name: MODEL_EXTRACTOR.to_owned(),
        disabled: Some(true),
        typed_config: Typed::ExternalProcessor(Box::new(processor)),
    }
}

/// On, and switched off by routes of others: a filter that is off for a request's first route stays off.
fn picker_filter(pool: &PoolPlan) -> HttpFilter {
    let body = match pool.body_mode {
        BodyMode::Duplex => "FULL_DUPLEX_STREAMED",
        BodyMode::Buffered => "BUFFERED",
    };
    let namespaces =
        |names: &[&str]| Namespaces { untyped: names.iter().map(|&name| name.to_owned()).collect() };
    let processor = ExternalProcessor {
        grpc_service: GrpcService {
            envoy_grpc: EnvoyGrpc {
                cluster_name: picker_cluster(pool),
                authority: Some(pool.authority.clone()).filter(|authority| !authority.is_empty()),
            },
        },
        stat_prefix: format!("{}_{}", pool.name, pool.namespace),
        failure_mode_allow: pool.fail_open.then_some(true),
        allow_mode_override: pool.allow_mode_override.then_some(true),
        message_timeout: Span::seconds(300),
        processing_mode: ProcessingMode {
            request_header_mode: "SEND",
            request_body_mode: body,
            request_trailer_mode: "SEND",
            response_header_mode: "SEND",
            response_body_mode: body,
            response_trailer_mode: "SEND",
        },
        metadata_options: Some(MetadataOptions {
            forwarding_namespaces: namespaces(&[NAMESPACE, "envoy.lb.subset_hint"]),
            receiving_namespaces: namespaces(&[NAMESPACE, COSTS]),
        }),
    };
    HttpFilter {
        name: picker(pool),
        disabled: None,
        typed_config: Typed::ExternalProcessor(Box::new(processor)),
    }
}

/// Switches the pickers of all pools but `own` off.
pub(super) fn no_picker_but(own: Option<&PoolPlan>, pools: &[&PoolPlan]) -> PerFilter {
    let others = pools.iter().filter(|pool| own.is_none_or(|own| !std::ptr::eq(own, **pool)));
    others.map(|pool| (picker(pool), Typed::ExtProcPerRoute(ExtProcPerRoute { disabled: true }))).collect()
}

/// Switches the model extractor on.
pub(super) fn with_model(mut per_filter: PerFilter) -> PerFilter {
    per_filter.insert(MODEL_EXTRACTOR.to_owned(), Typed::FilterConfig(FilterConfig { config: Empty {} }));
    per_filter
}

/// Takes from requests what only the gateway says, before the first look at the routes.
pub(super) fn control_headers(trusts_clients: bool) -> Extension {
    let beginning =
        |prefix: &str| HeaderMutation::RemoveOnMatch { key_matcher: StringMatch::Prefix(prefix.to_owned()) };
    let mut mutations = vec![beginning("x-ai-eg-"), beginning(DESTINATION)];
    let names = control_headers::names(trusts_clients);
    mutations.extend(names.map(|name| HeaderMutation::Remove(name.to_owned())));
    Extension::new(
        "envoy.http.early_header_mutation.header_mutation",
        Typed::EarlyHeaderMutation(EarlyHeaderMutation { mutations }),
    )
}

const LOG: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("x-envoy-origin-path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("x-envoy-upstream-service-time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x-forwarded-for", "%REQ(X-FORWARDED-FOR)%"),
    ("user-agent", "%REQ(USER-AGENT)%"),
    ("x-request-id", "%REQ(X-REQUEST-ID)%"),
    (":authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_request_attempt_count", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("gen_ai.request.model", "%REQ(X-AI-EG-MODEL)%"),
];

/// A line of JSON for each request.
pub(super) fn access_log(settings: &Settings, pools: &[&PoolPlan]) -> Extension {
    let mut format: BTreeMap<String, String> =
        LOG.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let metadata = |namespace: &str, key: &str| format!("%DYNAMIC_METADATA({namespace}:{key})%");
    if !pools.is_empty() {
        for (key, told) in [("endpoint.picked", DESTINATION), ("endpoint.served", SERVED)] {
            format.insert(key.to_owned(), metadata(NAMESPACE, told));
        }
        for (kind, named) in [("InputToken", "input"), ("OutputToken", "output"), ("TotalToken", "total")] {
            let mut costs = pools.iter().flat_map(|pool| &pool.costs);
            let key = costs.find(|cost| cost.kind == kind).map_or_else(
                // What is told where nothing was asked for.
                || format!("llm_{named}_token"),
                |cost| cost.key.clone(),
            );
            format.insert(format!("gen_ai.usage.{named}_tokens"), metadata(COSTS, &key));
        }
    }
    let log =
        FileAccessLog { path: settings.access_log.clone(), log_format: LogFormat { json_format: format } };
    Extension::new("envoy.access_loggers.file", Typed::FileAccessLog(log))
}

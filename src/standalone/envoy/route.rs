//! Routes: which requests, and what becomes of them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::filter::PerFilter;
use super::{DataSource, Extension, Private, Regex, Span, StringMatch};

/// The routes of a listener.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RouteConfiguration {
    pub(crate) name: String,
    pub(crate) ignore_port_in_host_matching: bool,
    /// Whether clusters must be there.
    pub(crate) validate_clusters: bool,
    pub(crate) most_specific_header_mutations_wins: bool,
    pub(crate) max_direct_response_body_size_bytes: Option<usize>,
    pub(crate) virtual_hosts: Vec<VirtualHost>,
}

/// Those of a host.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct VirtualHost {
    pub(crate) name: String,
    pub(crate) domains: Vec<String>,
    pub(crate) routes: Vec<Route>,
}

/// One route.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Route {
    pub(crate) name: String,
    pub(crate) r#match: RouteMatch,
    #[serde(flatten)]
    pub(crate) action: Action,
    #[serde(flatten)]
    pub(crate) headers: HeaderEdits,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) typed_per_filter_config: PerFilter,
}

/// Which requests.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RouteMatch {
    #[serde(flatten)]
    pub(crate) path: PathMatch,
    pub(crate) headers: Vec<ValueMatcher>,
    pub(crate) query_parameters: Vec<ValueMatcher>,
}

/// How the path is compared.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PathMatch {
    Path(String),
    Prefix(String),
    PathSeparatedPrefix(String),
    SafeRegex(Regex),
}

/// A header, or a parameter of the query.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ValueMatcher {
    pub(crate) name: String,
    pub(crate) string_match: StringMatch,
}

/// What becomes of a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    Route(Box<RouteAction>),
    Redirect(RedirectAction),
    DirectResponse(DirectResponse),
}

/// It goes to clusters.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RouteAction {
    #[serde(flatten)]
    pub(crate) to: Destination,
    pub(crate) cluster_not_found_response_code: Option<&'static str>,
    pub(crate) timeout: Option<Span>,
    pub(crate) idle_timeout: Option<Span>,
    pub(crate) retry_policy: Option<RetryPolicy>,
    pub(crate) prefix_rewrite: Option<String>,
    pub(crate) regex_rewrite: Option<RegexRewrite>,
    pub(crate) host_rewrite_literal: Option<String>,
    pub(crate) auto_host_rewrite: Option<bool>,
}

/// One cluster, or several.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Destination {
    Cluster(String),
    WeightedClusters(WeightedClusters),
}

/// Several.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WeightedClusters {
    pub(crate) clusters: Vec<ClusterWeight>,
}

/// One of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClusterWeight {
    pub(crate) name: String,
    pub(crate) weight: u32,
    pub(crate) host_rewrite_literal: Option<String>,
    #[serde(flatten)]
    pub(crate) headers: HeaderEdits,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) typed_per_filter_config: PerFilter,
}

/// What is tried again.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RetryPolicy {
    pub(crate) retry_on: Option<String>,
    pub(crate) num_retries: Option<u32>,
    pub(crate) retriable_status_codes: Vec<u16>,
    pub(crate) per_try_timeout: Option<Span>,
    pub(crate) per_try_idle_timeout: Option<Span>,
    pub(crate) retry_back_off: Option<RetryBackOff>,
    pub(crate) retry_host_predicate: Vec<Extension>,
    pub(crate) host_selection_retry_max_attempts: Option<u32>,
    pub(crate) retry_priority: Option<Extension>,
}

/// Waits between tries.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RetryBackOff {
    pub(crate) base_interval: Span,
    pub(crate) max_interval: Span,
}

/// Goes on to the next priority after so many tries.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct PreviousPriorities {
    pub(crate) update_frequency: u32,
}

/// A path that an expression changes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RegexRewrite {
    pub(crate) pattern: Regex,
    pub(crate) substitution: String,
}

/// It is redirected.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct RedirectAction {
    pub(crate) response_code: Option<&'static str>,
    pub(crate) scheme_redirect: Option<&'static str>,
    pub(crate) host_redirect: Option<String>,
    pub(crate) port_redirect: Option<u16>,
    pub(crate) path_redirect: Option<String>,
    pub(crate) prefix_rewrite: Option<String>,
    pub(crate) regex_rewrite: Option<RegexRewrite>,
}

/// It is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DirectResponse {
    pub(crate) status: u16,
    pub(crate) body: Option<DataSource>,
    pub(crate) body_format: Option<BodyFormat>,
}

/// A text with what Envoy knows of the request.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BodyFormat {
    pub(crate) text_format_source: DataSource,
}

/// What is changed in headers.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct HeaderEdits {
    pub(crate) request_headers_to_add: Vec<HeaderValueOption>,
    pub(crate) request_headers_to_remove: Vec<String>,
    pub(crate) response_headers_to_add: Vec<HeaderValueOption>,
    pub(crate) response_headers_to_remove: Vec<String>,
}

/// A header, and what becomes of one that is there.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HeaderValueOption {
    pub(crate) header: HeaderValue,
    pub(crate) append_action: &'static str,
}

/// The header.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HeaderValue {
    pub(crate) key: String,
    /// It may be the key of a provider.
    pub(crate) value: Private,
}

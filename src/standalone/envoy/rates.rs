//! Envoy's two filters that limit rates: `ratelimit`, which asks a service, and `local_ratelimit`, which counts itself.
//!
//! What is not here has Envoy's default. `standalone::rates` says what goes in.

use serde::Serialize;

/// Name of the filter that asks a service, also in configurations of routes.
pub const GLOBAL: &str = "envoy.filters.http.ratelimit";

/// Name of the filter that counts itself.
pub const LOCAL: &str = "envoy.filters.http.local_ratelimit";

/// A filter of HTTP requests.
#[derive(Clone, Debug, Serialize)]
pub struct RateFilter {
    /// Its name.
    pub name: &'static str,
    /// What it does, with its `@type`.
    pub typed_config: RateFilterConfig,
}

/// What a filter does.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "@type")]
pub enum RateFilterConfig {
    /// It asks a service.
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit")]
    Global(RateLimitFilter),
    /// It counts itself.
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit")]
    Local(LocalRateLimit),
}

/// What a filter does at a route.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "@type")]
pub enum RouteRates {
    /// It asks a service.
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute")]
    Global(RateLimitPerRoute),
    /// It counts itself.
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit")]
    Local(LocalRateLimit),
}

/// The filter that asks a service.
#[derive(Clone, Debug, Serialize)]
pub struct RateLimitFilter {
    /// What calls say where they come from.
    pub domain: String,
    /// How long an answer may take, such as `0.5s`.
    pub timeout: &'static str,
    /// Whether requests are refused without an answer.
    pub failure_mode_deny: bool,
    /// Whether `x-ratelimit-limit`, `-remaining` and `-reset` are told.
    pub enable_x_ratelimit_headers: &'static str,
    /// The service.
    pub rate_limit_service: RateLimitService,
}

/// Where the service is.
#[derive(Clone, Debug, Serialize)]
pub struct RateLimitService {
    /// The version of its protocol.
    pub transport_api_version: &'static str,
    /// How it is called.
    pub grpc_service: GrpcService,
}

/// How a service of gRPC is called.
#[derive(Clone, Debug, Serialize)]
pub struct GrpcService {
    /// By Envoy's own client.
    pub envoy_grpc: EnvoyGrpc,
}

/// Envoy's own client of gRPC.
#[derive(Clone, Debug, Serialize)]
pub struct EnvoyGrpc {
    /// The cluster.
    pub cluster_name: String,
}

/// What the service is asked at a route.
#[derive(Clone, Debug, Serialize)]
pub struct RateLimitPerRoute {
    /// What calls say where they come from, in the filter's place.
    pub domain: String,
    /// What is asked.
    pub rate_limits: Vec<RateLimit>,
}

/// What the filter that counts itself does, at a route or not.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LocalRateLimit {
    /// Beginning of its statistics' names.
    pub stat_prefix: &'static str,
    /// For how many requests it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_enabled: Option<RuntimeFraction>,
    /// How many of those over the limit are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_enforced: Option<RuntimeFraction>,
    /// What requests take from that have no bucket; a route cannot be without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_bucket: Option<TokenBucket>,
    /// Whether those that have one take from it as well, which is Envoy's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_consume_default_token_bucket: Option<bool>,
    /// Which buckets a request takes from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
    /// The buckets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub descriptors: Vec<LocalDescriptor>,
    /// How many buckets of a descriptor with any value are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_dynamic_descriptors: Option<u32>,
}

/// A fraction that could be changed while Envoy runs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RuntimeFraction {
    /// What it is unless changed.
    pub default_value: Fraction,
}

/// A fraction.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Fraction {
    /// How many.
    pub numerator: u32,
    /// Of how many, such as `HUNDRED`.
    pub denominator: &'static str,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LocalDescriptor {
    /// Who takes from it.
    pub entries: Vec<DescriptorEntry>,
    /// What is in it.
    pub token_bucket: TokenBucket,
    /// Whether it only counts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shadow_mode: bool,
}

/// A key and its value; an empty one is any, each with a bucket of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DescriptorEntry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// What is in a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenBucket {
    /// How much it holds, not 0.
    pub max_tokens: u32,
    /// How much comes in each time.
    pub tokens_per_fill: u32,
    /// How often something comes, such as `60s`.
    pub fill_interval: String,
}

/// One descriptor, if a request has all of it, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    /// Its entries; without one of them there is no descriptor.
    pub actions: Vec<Action>,
    /// What is taken; without it 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits_addend: Option<HitsAddend>,
    /// Whether it is taken once the request has ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub apply_on_stream_done: bool,
    /// Whether `x-ratelimit-limit`, `-remaining` and `-reset` are told, if not as the filter says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x_ratelimit_option: Option<&'static str>,
}

/// One entry of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Always there.
    GenericKey {
        /// Its key.
        descriptor_key: &'static str,
        /// Its value.
        descriptor_value: String,
    },
    /// There if the request has the header.
    RequestHeaders {
        /// The header, whose value is the entry's.
        header_name: String,
        /// Its key.
        descriptor_key: String,
    },
    /// There if the request's headers match, or do not.
    HeaderValueMatch {
        /// Its key.
        descriptor_key: String,
        /// Its value.
        descriptor_value: String,
        /// Whether they have to match.
        expect_match: bool,
        /// The headers.
        headers: Vec<HeaderMatcher>,
    },
}

/// What a header must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeaderMatcher {
    /// Its name.
    pub name: String,
    /// Its value.
    pub string_match: StringMatcher,
}

/// What a text must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StringMatcher {
    /// This.
    Exact(String),
    /// Of this form, all of it.
    SafeRegex {
        /// The expression.
        regex: String,
    },
}

/// What is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HitsAddend {
    /// This much, at most 1,000,000,000.
    Number(u32),
    /// What this says, in the language of access logs: one command.
    Format(String),
}

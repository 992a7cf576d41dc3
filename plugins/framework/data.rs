//! Sources of data and what is extracted from them, as plugins declare them: [`DataSource`] and [`Extractor`].
//!
//! The server executes the declarations: it polls the pages of a source, one task per endpoint, and leaves what an
//! extractor finds on the endpoint. Nothing here does I/O.

use std::time::Duration;

use smallvec::SmallVec;

use crate::attribute::AttributeKey;
use crate::metric_spec::{MetricSpec, MetricSpecs};

/// What a source yields, and an extractor takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Metrics in Prometheus' text format.
    Metrics,
    /// The list of models of the `OpenAI` API.
    Models,
    /// What becomes of endpoints and of objects in the cluster.
    Events,
}

/// Where data comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum DataSource {
    /// A page of each endpoint, polled.
    Page(PageSource),
    /// Events; discovery follows those anyway.
    Events,
}

/// Label that says which IP address the host of an endpoint has. Discovery gives it to endpoints of pods.
pub const HOST_ADDRESS: &str = "epp/host-address";

/// A page that is polled, of each endpoint. What is `None` is as the server's flags say, or as is usual.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageSource {
    /// Whether it is served over TLS.
    pub tls: Option<bool>,
    /// Whether any certificate is taken.
    pub skip_verify: Option<bool>,
    /// Its path; begins with `/`.
    pub path: Option<String>,
    /// Whether it is at the address of the endpoint's host, if its label [`HOST_ADDRESS`] says that.
    pub on_host: bool,
    /// Its port; 0 is the one that requests go to.
    pub port: Option<u16>,
    /// From the beginning of one poll of an endpoint to the beginning of the next.
    pub interval: Option<Duration>,
}

/// The keys that one attribute is left under: producers are known by their name, and by their type.
pub type AttributeKeys = SmallVec<[AttributeKey; 2]>;

/// What is taken out of data, and left on endpoints.
#[derive(Clone, Debug, PartialEq)]
pub enum Extractor {
    /// The load that model servers tell of on their metrics page.
    Engine(EngineExtractor),
    /// Of the GPUs of an endpoint, off a page of NVIDIA's DCGM exporter.
    Gpu(GpuExtractor),
    /// The names of the models that it serves, as words.
    Models(AttributeKeys),
    /// Where it is, from its labels.
    Place(PlaceExtractor),
    /// Nothing that the server would have to do.
    Other,
}

/// How metrics pages of model servers are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineExtractor {
    /// Label that names an endpoint's engine, before the usual ones.
    pub label: Option<String>,
    /// Engine of endpoints whose labels name none that is known; `None` is the one that flags describe.
    pub default: Option<String>,
    /// Engines beside those that the server knows, or in the place of such.
    pub engines: Vec<EngineMetrics>,
    /// Attributes that are read of every engine.
    pub custom: Vec<CustomMetric>,
}

/// What an engine calls its metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineMetrics {
    /// What labels call the engine.
    pub name: String,
    /// Its metrics.
    pub specs: MetricSpecs,
    /// Attributes that are read of this engine.
    pub custom: Vec<CustomMetric>,
}

/// A sample whose value becomes an attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomMetric {
    /// The attribute.
    pub keys: AttributeKeys,
    /// The sample.
    pub spec: MetricSpec,
}

/// The attributes of an endpoint's GPUs.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuExtractor {
    /// Utilisation of the busiest one, 0–1.
    pub utilization: AttributeKeys,
    /// Fraction of their memory that is used, 0–1.
    pub memory_used: AttributeKeys,
}

/// Labels that tell where an endpoint is, and the attribute that says it.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaceExtractor {
    /// Labels of host, rack, zone and region.
    pub labels: [String; 4],
    /// The attribute: a [`Place`](crate::attribute::Place).
    pub keys: AttributeKeys,
}

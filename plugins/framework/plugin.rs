//! How a plugin is declared and built: a named set of capabilities, no downcasts, no global registry.
//!
//! A type declares its parameters once, see [`parameters`](crate::parameters).

use std::path::PathBuf;
use std::sync::Arc;

use crate::attribute::AttributeKey;
use crate::data::{AttributeKeys, DataSource, Extractor, Payload};
use crate::lifecycle::{Admitter, Estimator, Observer, PrefixReport, Producer, Reporter, Responder};
use crate::parameters::{Parameter, Parameters};
use crate::parsing::Parser;
use crate::saturation::SaturationDetector;
use crate::scheduling::{Commit, Decider, Filter, Picker, ProfileHandler, Scorer};
use crate::slot::{RequestSlot, SlotNames};

/// A built plugin: the capabilities it has.
#[derive(Clone, Default)]
pub struct Plugin {
    /// Removes candidates of the profiles that reference it.
    pub filter: Option<Arc<dyn Filter>>,
    /// Rates candidates of the profiles that reference it.
    pub scorer: Option<Arc<dyn Scorer>>,
    /// Picks for the profiles that reference it.
    pub picker: Option<Arc<dyn Picker>>,
    /// Handles profiles; at most one per configuration.
    pub profile_handler: Option<Arc<dyn ProfileHandler>>,
    /// Runs for every request, referenced or not.
    pub producer: Option<Arc<dyn Producer>>,
    /// Learns from every decision, referenced or not.
    pub commit: Option<Arc<dyn Commit>>,
    /// Is told of every endpoint that leaves.
    pub observer: Option<Arc<dyn Observer>>,
    /// Reports numbers of every answer to the gateway; a default one does where none is declared.
    pub reporter: Option<Arc<dyn Reporter>>,
    /// Tells of its prefix index.
    pub prefix_report: Option<Arc<dyn PrefixReport>>,
    /// Reads the requests of some paths; used if the configuration's request handler lists it.
    pub parser: Option<Arc<dyn Parser>>,
    /// Says where the pool's endpoints are listed; used if the configuration refers to it.
    pub discovery: Option<Discovery>,
    /// Says whether a further profile is to run; used by the profile handlers that refer to it.
    pub decider: Option<Arc<dyn Decider>>,
    /// May deny requests before they are decided, referenced or not.
    pub admitter: Option<Arc<dyn Admitter>>,
    /// Says how full the pool is; used if the configuration refers to it.
    pub saturation: Option<Arc<dyn SaturationDetector>>,
    /// Sets headers of answers, referenced or not.
    pub responder: Option<Arc<dyn Responder>>,
    /// Says what a request costs; the first one of a configuration counts.
    pub estimator: Option<Arc<dyn Estimator>>,
    /// Says where data on endpoints comes from; used if the configuration's data layer lists it.
    pub data_source: Option<DataSource>,
    /// Says what is taken out of such data; used if the data layer lists it, or if it needs no source.
    pub extractor: Option<Extractor>,
    /// Headers, in lower case, that it reads from [`InferenceRequest`](crate::request::InferenceRequest); others are
    /// not there.
    pub request_headers: Vec<String>,
}

impl Plugin {
    /// A plugin that is a parser and nothing else.
    pub fn of_parser(parser: impl Parser + 'static) -> Self {
        Self { parser: Some(Arc::new(parser)), ..Self::default() }
    }
}

/// Where the endpoints of the pool are listed: a declaration, which the server executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The endpoints file.
    pub path: PathBuf,
    /// Whether it is read again when it changes.
    pub follow: bool,
}

/// A type of plugin, as the table of built-ins lists it.
#[derive(Clone, Copy)]
pub struct PluginType {
    /// `type` in the configuration.
    pub name: &'static str,
    /// Other spellings of `type`, from older versions.
    pub aliases: &'static [&'static str],
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// What else its users should know, in a paragraph; may be empty.
    pub about: &'static str,
    /// The metrics of model servers, or other data, that it needs to be of use.
    pub needs: &'static [&'static str],
    /// How settled the type is in the newest release of the Go EPP.
    pub stability: Stability,
    /// Releases of the Go EPP that know the type, under this name or an alias; none for a type of our own.
    pub releases: &'static [Release],
    /// Every parameter it takes.
    pub parameters: &'static [Parameter],
    /// Keys of `parameters` by which a parameter is known as well: the old one, the declared one.
    pub renamed: &'static [(&'static str, &'static str)],
    /// Kinds it will have once built; known before building so that defaults can be injected.
    pub kinds: &'static [Kind],
    /// Attributes of endpoints that an instance reads: who leaves it, by its name or type, and its name.
    pub reads: fn(&Parameters) -> Vec<(&str, &str)>,
    /// Attributes of endpoints that an instance leaves.
    pub leaves: fn(&Parameters) -> Vec<&str>,
    /// Says what is wrong with parameters that are each right by themselves; one sentence each.
    pub check: fn(&Parameters) -> Vec<String>,
    /// Says what is wrong with the names of the profiles that it is to handle; one sentence each, to stand behind the
    /// type's name.
    pub judge_profiles: fn(&Parameters, &[&str]) -> Vec<String>,
    /// Builds an instance; the parameters are validated and complete.
    pub build: fn(&Parameters, &BuildContext<'_>) -> Plugin,
    /// When, as a filter, it may remove everybody; empty if it never does, if `review` tells, or if it goes by labels or
    /// roles alone, which whoever deployed the endpoints knows.
    pub drains: &'static str,
    /// Tells what is valid in a configuration, but may surprise.
    pub review: fn(&Review<'_>) -> Vec<String>,
}

impl PluginType {
    /// What is the same for most types, for `..PluginType::PLAIN`.
    pub const PLAIN: Self = Self {
        name: "",
        aliases: &[],
        summary: "",
        about: "",
        needs: &[],
        stability: Stability::Beta,
        releases: &[],
        parameters: &[],
        renamed: &[],
        kinds: &[],
        reads: |_| Vec::new(),
        leaves: |_| Vec::new(),
        check: |_| Vec::new(),
        judge_profiles: |_, _| Vec::new(),
        build: |_, _| Plugin::default(),
        drains: "",
        review: |_| Vec::new(),
    };
}

/// How settled a type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// In use; its parameters stay.
    Beta,
    /// An experiment: the newest Go EPP takes it with `--allow-experimental-plugins` only, `epp` always.
    Alpha,
    /// Still taken, with a warning.
    Deprecated {
        /// What to use instead; a clause such as ``use `label-selector-filter` ``.
        instead: &'static str,
    },
}

/// A release of the Go EPP whose configurations are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Release {
    /// Gateway API Inference Extension v0.5.1.
    V0_5_1,
    /// Gateway API Inference Extension v1.0.1.
    V1_0_1,
    /// Gateway API Inference Extension v1.5.0.
    V1_5,
    /// llm-d-router.
    LlmD,
}

/// Releases that know a type, as most types have them.
pub mod releases {
    use super::Release::{self, LlmD, V0_5_1, V1_0_1, V1_5};

    /// Every release.
    pub const ALL: &[Release] = &[V0_5_1, V1_0_1, V1_5, LlmD];
    /// Those before v1.
    pub const OLD: &[Release] = &[V0_5_1];
    /// Those from v1.0.1 on.
    pub const SINCE_V1_0_1: &[Release] = &[V1_0_1, V1_5, LlmD];
    /// Those from v1.5 on.
    pub const SINCE_V1_5: &[Release] = &[V1_5, LlmD];
    /// v1.5 alone.
    pub const V1_5_ONLY: &[Release] = &[V1_5];
    /// llm-d alone.
    pub const LLM_D: &[Release] = &[LlmD];
}

/// Values that one plugin leaves on requests for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Data {
    /// How much of the prompt each endpoint holds.
    PrefixMatches,
    /// What requests cost, by which load in flight is counted.
    InFlightLoad,
    /// Latencies predicted per endpoint.
    LatencyPrediction,
    /// How much of the media each endpoint holds.
    MediaMatches,
    /// Which session the request belongs to.
    SessionId,
    /// Who asks, as an agent.
    AgentId,
    /// The prompt as tokens.
    Tokens,
}

impl Data {
    /// The type that produces it where a configuration names nobody.
    pub fn default_producer(self) -> &'static str {
        match self {
            Self::PrefixMatches => "approx-prefix-cache-producer",
            Self::InFlightLoad => "inflight-load-producer",
            Self::LatencyPrediction => "predicted-latency-producer",
            Self::MediaMatches => "mm-embeddings-cache-producer",
            Self::SessionId => "session-id-producer",
            Self::AgentId => "agent-identity",
            Self::Tokens => "token-producer",
        }
    }
}

/// What a type sees when it reviews one of its instances.
pub struct Review<'a> {
    /// Parameters of the instance.
    pub parameters: &'a Parameters,
    /// Names of the scheduling profiles, in order.
    pub profiles: &'a [&'a str],
    /// Type and parameters of another instance, by its name.
    pub find: &'a dyn Fn(&str) -> Option<(&'static PluginType, &'a Parameters)>,
}

/// Capabilities that the loader reasons about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`Plugin::filter`].
    Filter,
    /// See [`Plugin::scorer`].
    Scorer,
    /// See [`Plugin::picker`].
    Picker,
    /// See [`Plugin::profile_handler`].
    ProfileHandler,
    /// See [`Plugin::parser`].
    Parser,
    /// See [`Plugin::discovery`].
    Discovery,
    /// See [`Plugin::reporter`].
    Reporter,
    /// See [`Plugin::decider`].
    Decider,
    /// See [`Plugin::admitter`].
    Admitter,
    /// See [`Plugin::saturation`].
    SaturationDetector,
    /// Chooses among the flows of a priority band.
    FairnessPolicy,
    /// Orders the requests of a flow.
    OrderingPolicy,
    /// Says how full the pool may be for a priority.
    UsageLimitPolicy,
    /// Leaves values of this kind on requests.
    Produces(Data),
    /// See [`Plugin::data_source`].
    DataSource(Payload),
    /// See [`Plugin::extractor`].
    Extractor(Payload),
}

impl Kind {
    /// What messages call a plugin of this kind, without article.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Scorer => "scorer",
            Self::Picker => "picker",
            Self::ProfileHandler => "profile handler",
            Self::Parser => "parser",
            Self::Discovery => "list of endpoints",
            Self::Reporter => "reporter",
            Self::Decider => "decider",
            Self::Admitter => "admitter",
            Self::SaturationDetector => "saturation detector",
            Self::FairnessPolicy => "fairness policy",
            Self::OrderingPolicy => "ordering policy",
            Self::UsageLimitPolicy => "usage limit policy",
            Self::Produces(Data::PrefixMatches) => "producer of prefix matches",
            Self::Produces(Data::InFlightLoad) => "producer of load in flight",
            Self::Produces(Data::LatencyPrediction) => "producer of latency predictions",
            Self::Produces(Data::MediaMatches) => "producer of media matches",
            Self::Produces(Data::SessionId) => "producer of session ids",
            Self::Produces(Data::AgentId) => "producer of agent identities",
            Self::Produces(Data::Tokens) => "producer of tokens",
            Self::DataSource(Payload::Metrics) => "source of metrics",
            Self::DataSource(Payload::Models) => "source of models",
            Self::DataSource(Payload::Events) => "source of events",
            Self::Extractor(Payload::Metrics) => "extractor of metrics",
            Self::Extractor(Payload::Models) => "extractor of models",
            Self::Extractor(Payload::Events) => "extractor of events",
        }
    }
}

/// What a plugin may ask for while it is built.
pub struct BuildContext<'a> {
    /// `name` of the instance.
    pub name: &'a str,
    slots: &'a SlotNames,
    references: &'a [(&'a str, Plugin)],
}

impl<'a> BuildContext<'a> {
    /// Makes the context of the instance `name` in the pool that owns `slots`.
    pub fn new(name: &'a str, slots: &'a SlotNames) -> Self {
        Self { name, slots, references: &[] }
    }

    /// The same with the plugins that the parameters refer to, by name; they are built already.
    #[must_use]
    pub fn with_references(self, references: &'a [(&'a str, Plugin)]) -> Self {
        Self { references, ..self }
    }

    /// The slot that this instance fills with a `T`.
    pub fn own_slot<T: std::any::Any>(&self) -> RequestSlot<T> {
        self.slots.request_slot(self.name)
    }

    /// The slot that `producer`, the name of an instance, fills with a `T`.
    pub fn slot_of<T: std::any::Any>(&self, producer: &str) -> RequestSlot<T> {
        self.slots.request_slot(producer)
    }

    /// The attribute that `producer` leaves on endpoints as `name`.
    pub fn attribute(&self, producer: &str, name: &str) -> AttributeKey {
        self.slots.attribute(producer, name)
    }

    /// The attribute that this instance, which is of type `type_name`, leaves on endpoints as `name`. It is found under
    /// the instance's name and under its type.
    pub fn own_attribute(&self, type_name: &str, name: &str) -> AttributeKeys {
        let mut keys = AttributeKeys::new();
        keys.push(self.attribute(self.name, name));
        if self.name != type_name {
            keys.push(self.attribute(type_name, name));
        }
        keys
    }

    /// The filter that a parameter refers to by `name`.
    pub fn filter(&self, name: &str) -> Arc<dyn Filter> {
        self.referred(name).filter.clone().expect("references are checked before building")
    }

    /// The decider that a parameter refers to by `name`.
    pub fn decider(&self, name: &str) -> Arc<dyn Decider> {
        self.referred(name).decider.clone().expect("references are checked before building")
    }

    fn referred(&self, name: &str) -> &Plugin {
        let referred = self.references.iter().find(|(known, _)| *known == name);
        &referred.expect("references are checked before building").1
    }
}

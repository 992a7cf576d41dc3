//! How a plugin is declared and built: a named set of capabilities, no downcasts, no global registry.
//!
//! A type declares its parameters once, see [`parameters`](crate::parameters).

use std::path::PathBuf;
use std::sync::Arc;

use crate::lifecycle::{Observer, PrefixReport, Producer, Reporter};
use crate::parameters::{Parameter, Parameters};
use crate::parsing::Parser;
use crate::scheduling::{Commit, Filter, Picker, ProfileHandler, Scorer};
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
    /// Headers, in lower case, that it reads from [`InferenceRequest`](crate::request::InferenceRequest); others are
    /// not there.
    pub request_headers: &'static [&'static str],
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
pub struct PluginType {
    /// `type` in the configuration.
    pub name: &'static str,
    /// Other spellings of `type`, from older versions.
    pub aliases: &'static [&'static str],
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// Every parameter it takes.
    pub parameters: &'static [Parameter],
    /// Kinds it will have once built; known before building so that defaults can be injected.
    pub kinds: &'static [Kind],
    /// Builds an instance; the parameters are validated and complete.
    pub build: fn(&Parameters, &BuildContext<'_>) -> Plugin,
    /// When, as a filter, it may remove everybody; empty if it never does, or if `review` tells.
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
        parameters: &[],
        kinds: &[],
        build: |_, _| Plugin::default(),
        drains: "",
        review: |_| Vec::new(),
    };
}

/// What a type sees when it reviews one of its instances.
pub struct Review<'a> {
    /// Parameters of the instance.
    pub parameters: &'a Parameters,
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

    /// The filter that a parameter refers to by `name`.
    pub fn filter(&self, name: &str) -> Arc<dyn Filter> {
        let referred = self.references.iter().find(|(known, _)| *known == name);
        referred
            .and_then(|(_, plugin)| plugin.filter.clone())
            .expect("references are checked before building")
    }
}

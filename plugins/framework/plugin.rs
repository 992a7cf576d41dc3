//! How a plugin is declared and built: a named set of capabilities, no downcasts, no global registry.

use std::sync::Arc;

use crate::lifecycle::{Observer, Producer};
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
}

/// A type of plugin, as the table of built-ins lists it.
pub struct PluginType {
    /// `type` in the configuration.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// Every parameter it takes.
    pub parameters: &'static [Parameter],
    /// Kinds it will have once built; known before building so that defaults can be injected.
    pub kinds: &'static [Kind],
    /// Builds an instance; the parameters are validated and complete.
    pub build: fn(&Parameters, &BuildContext<'_>) -> Plugin,
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
}

/// One parameter, declared once: it validates, documents and yields the schema.
#[derive(Debug)]
pub struct Parameter {
    /// Key in `parameters`.
    pub name: &'static str,
    /// Type, default and range.
    pub kind: ParameterKind,
    /// Unit of the value, empty when it has none.
    pub unit: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
}

/// Type, default and range of a parameter.
#[derive(Clone, Copy, Debug)]
pub enum ParameterKind {
    /// `true` or `false`.
    Boolean {
        /// Value when absent.
        default: bool,
    },
    /// A whole number.
    Integer {
        /// Value when absent.
        default: i64,
        /// Smallest value accepted.
        min: i64,
        /// Largest value accepted.
        max: i64,
    },
}

/// A parameter's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ParameterValue {
    /// See [`ParameterKind::Boolean`].
    Boolean(bool),
    /// See [`ParameterKind::Integer`].
    Integer(i64),
}

/// The validated parameters of one instance: a value for each that its type declares.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters(Vec<(&'static str, ParameterValue)>);

impl Parameters {
    /// The defaults of everything declared.
    pub fn defaults(declared: &'static [Parameter]) -> Self {
        let default = |parameter: &'static Parameter| {
            let value = match parameter.kind {
                ParameterKind::Boolean { default } => ParameterValue::Boolean(default),
                ParameterKind::Integer { default, .. } => ParameterValue::Integer(default),
            };
            (parameter.name, value)
        };
        Self(declared.iter().map(default).collect())
    }

    /// Sets a declared parameter to a validated value.
    pub fn set(&mut self, name: &str, value: ParameterValue) {
        let entry = self.0.iter_mut().find(|(known, _)| *known == name);
        entry.expect("only declared parameters are set").1 = value;
    }

    fn get(&self, name: &str) -> ParameterValue {
        self.0.iter().find(|(known, _)| *known == name).expect("plugins read only what they declare").1
    }

    /// The value of a parameter that is declared as boolean.
    pub fn boolean(&self, name: &str) -> bool {
        matches!(self.get(name), ParameterValue::Boolean(true))
    }

    /// The value of a parameter that is declared as integer.
    pub fn integer(&self, name: &str) -> i64 {
        match self.get(name) {
            ParameterValue::Integer(value) => value,
            ParameterValue::Boolean(value) => i64::from(value),
        }
    }
}

/// What a plugin may ask for while it is built.
pub struct BuildContext<'a> {
    /// `name` of the instance.
    pub name: &'a str,
    slots: &'a SlotNames,
}

impl<'a> BuildContext<'a> {
    /// Makes the context of the instance `name` in the pool that owns `slots`.
    pub fn new(name: &'a str, slots: &'a SlotNames) -> Self {
        Self { name, slots }
    }

    /// The slot that this instance fills with a `T`.
    pub fn own_slot<T: std::any::Any>(&self) -> RequestSlot<T> {
        self.slots.request_slot(self.name)
    }
}

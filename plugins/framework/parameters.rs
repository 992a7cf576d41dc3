//! What a plugin can be told: each [`Parameter`] is declared once, and the declaration validates and documents it.

use std::time::Duration;

use crate::plugin::{Data, Kind};

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
    /// A finite number.
    Float {
        /// Value when absent.
        default: f64,
        /// Smallest value accepted.
        min: f64,
        /// Largest value accepted.
        max: f64,
    },
    /// A string that is not empty.
    Text {
        /// Value when absent or empty; without one it cannot be left out.
        default: Option<&'static str>,
        /// Says what is wrong with one, if anything is.
        check: fn(&str) -> Option<String>,
    },
    /// A whole number that has no default.
    OptionalInteger {
        /// Smallest value accepted.
        min: i64,
        /// Largest value accepted.
        max: i64,
    },
    /// A finite number that has no default.
    OptionalFloat {
        /// Smallest value accepted.
        min: f64,
        /// Largest value accepted.
        max: f64,
        /// Whether it cannot be left out.
        required: bool,
    },
    /// A span of time: Go's notation (`1m30s`), or a whole number of nanoseconds as Go's decoder reads it.
    Span {
        /// Value when absent.
        default: Duration,
        /// Smallest value accepted.
        min: Duration,
    },
    /// One of a few words.
    Word {
        /// The words.
        of: &'static [&'static str],
        /// Value when absent; without one it cannot be left out.
        default: Option<&'static str>,
    },
    /// A list of strings that are not empty.
    Texts {
        /// Whether it cannot be left out, nor be empty.
        required: bool,
    },
    /// A map of strings.
    TextMap,
    /// The name of another plugin of the configuration.
    Reference {
        /// What that plugin must be.
        to: Kind,
        /// The name when absent; without one nothing is referred to.
        default: Option<&'static str>,
    },
    /// The name of the plugin that leaves the values which this one reads. Where it is absent the loader puts the
    /// default one in, and declares that if nobody did.
    Producer {
        /// What is read.
        of: Data,
        /// Whether the plugin produces for itself where nobody else is declared to; absent then.
        own: bool,
    },
    /// Accepted for the sake of older files, whatever it is.
    Ignored {
        /// What to write instead, or why it is not needed; a clause. Empty if the plugin's own review tells.
        because: &'static str,
    },
    /// A map with parameters of its own.
    Map {
        /// Declares what is in it; a function, so that a map may contain maps like itself.
        fields: fn() -> &'static [Parameter],
        /// Whether it cannot be left out.
        required: bool,
        /// Whether exactly one of its fields must be given.
        one_of: bool,
    },
    /// A list of maps.
    List {
        /// Declares what is in each; a function as for a map.
        fields: fn() -> &'static [Parameter],
        /// Whether it cannot be left out, nor be empty.
        required: bool,
        /// Says what is wrong with one of the maps, if anything is beyond its fields.
        check: fn(&Parameters) -> Option<String>,
    },
}

impl ParameterKind {
    /// Whether the parameter cannot be left out.
    pub fn is_required(&self) -> bool {
        matches!(
            self,
            Self::Text { default: None, .. }
                | Self::Word { default: None, .. }
                | Self::OptionalFloat { required: true, .. }
                | Self::Texts { required: true }
                | Self::Map { required: true, .. }
                | Self::List { required: true, .. }
        )
    }
}

/// A parameter's value.
#[derive(Clone, Debug, PartialEq)]
pub enum ParameterValue {
    /// Nothing was given, and there is no default.
    Absent,
    /// See [`ParameterKind::Boolean`].
    Boolean(bool),
    /// See [`ParameterKind::Integer`] and [`ParameterKind::OptionalInteger`].
    Integer(i64),
    /// See [`ParameterKind::Float`] and [`ParameterKind::OptionalFloat`].
    Float(f64),
    /// See [`ParameterKind::Span`].
    Span(Duration),
    /// See [`ParameterKind::Text`] and [`ParameterKind::Word`].
    Text(String),
    /// See [`ParameterKind::Texts`].
    Texts(Vec<String>),
    /// See [`ParameterKind::TextMap`]; in file order.
    TextMap(Vec<(String, String)>),
    /// See [`ParameterKind::Reference`] and [`ParameterKind::Producer`].
    Reference(String),
    /// See [`ParameterKind::Map`].
    Map(Parameters),
    /// See [`ParameterKind::List`].
    List(Vec<Parameters>),
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
                ParameterKind::Float { default, .. } => ParameterValue::Float(default),
                ParameterKind::Span { default, .. } => ParameterValue::Span(default),
                ParameterKind::Text { default: Some(default), .. }
                | ParameterKind::Word { default: Some(default), .. } => {
                    ParameterValue::Text(default.to_owned())
                }
                ParameterKind::Reference { default: Some(default), .. } => {
                    ParameterValue::Reference(default.to_owned())
                }
                ParameterKind::OptionalInteger { .. }
                | ParameterKind::OptionalFloat { .. }
                | ParameterKind::Text { default: None, .. }
                | ParameterKind::Word { default: None, .. }
                | ParameterKind::Texts { .. }
                | ParameterKind::TextMap
                | ParameterKind::Reference { default: None, .. }
                | ParameterKind::Producer { .. }
                | ParameterKind::Ignored { .. }
                | ParameterKind::Map { .. }
                | ParameterKind::List { .. } => ParameterValue::Absent,
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

    /// Whether a declared parameter has a value.
    pub fn has(&self, name: &str) -> bool {
        *self.get(name) != ParameterValue::Absent
    }

    /// Every declared parameter and its value, in the order of the declarations.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &ParameterValue)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    fn get(&self, name: &str) -> &ParameterValue {
        &self.0.iter().find(|(known, _)| *known == name).expect("plugins read only what they declare").1
    }

    /// The value of a parameter that is declared as boolean.
    pub fn boolean(&self, name: &str) -> bool {
        matches!(self.get(name), ParameterValue::Boolean(true))
    }

    /// The value of a parameter that is declared as integer.
    pub fn integer(&self, name: &str) -> i64 {
        match self.get(name) {
            ParameterValue::Integer(value) => *value,
            other => unreachable!("declared as integer, found {other:?}"),
        }
    }

    /// The value of a parameter that is declared as float.
    pub fn float(&self, name: &str) -> f64 {
        match self.get(name) {
            ParameterValue::Float(value) => *value,
            other => unreachable!("declared as float, found {other:?}"),
        }
    }

    /// The value of a parameter that is declared as text or word; empty if the defaults were never completed.
    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            ParameterValue::Text(value) => value,
            _ => "",
        }
    }

    /// The value of a parameter that is declared as optional integer, if it was given.
    pub fn optional_integer(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            ParameterValue::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a parameter that is declared as optional float, if it was given.
    pub fn optional_float(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            ParameterValue::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a parameter that is declared as a span of time.
    pub fn span(&self, name: &str) -> Duration {
        match self.get(name) {
            ParameterValue::Span(value) => *value,
            other => unreachable!("declared as span, found {other:?}"),
        }
    }

    /// The values of a parameter that is declared as texts; none if it was not given.
    pub fn texts(&self, name: &str) -> &[String] {
        match self.get(name) {
            ParameterValue::Texts(values) => values,
            _ => &[],
        }
    }

    /// The entries of a parameter that is declared as a map of texts; none if it was not given.
    pub fn text_map(&self, name: &str) -> &[(String, String)] {
        match self.get(name) {
            ParameterValue::TextMap(entries) => entries,
            _ => &[],
        }
    }

    /// The name that a parameter declared as reference or producer has, if it has one.
    pub fn reference(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            ParameterValue::Reference(value) => Some(value),
            _ => None,
        }
    }

    /// What is in a parameter that is declared as map, if it was given.
    pub fn map(&self, name: &str) -> Option<&Self> {
        match self.get(name) {
            ParameterValue::Map(value) => Some(value),
            _ => None,
        }
    }

    /// What is in a parameter that is declared as list, if it was given.
    pub fn list(&self, name: &str) -> Option<&[Self]> {
        match self.get(name) {
            ParameterValue::List(value) => Some(value),
            _ => None,
        }
    }
}

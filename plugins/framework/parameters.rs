//! What a plugin can be told: each [`Parameter`] is declared once, and the declaration validates and documents it.

use crate::plugin::Kind;

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
    /// One of a few words; cannot be left out.
    Word {
        /// The words.
        of: &'static [&'static str],
    },
    /// The name of another plugin of the configuration.
    Reference {
        /// What that plugin must be.
        to: Kind,
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
                | Self::Word { .. }
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
    /// See [`ParameterKind::Integer`].
    Integer(i64),
    /// See [`ParameterKind::Float`].
    Float(f64),
    /// See [`ParameterKind::Text`] and [`ParameterKind::Word`].
    Text(String),
    /// See [`ParameterKind::Reference`].
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
                ParameterKind::Text { default: Some(default), .. } => {
                    ParameterValue::Text(default.to_owned())
                }
                ParameterKind::Text { default: None, .. }
                | ParameterKind::Word { .. }
                | ParameterKind::Reference { .. }
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

    /// The name that a parameter declared as reference was given, if it was.
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

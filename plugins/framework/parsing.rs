//! How bodies are read: a [`Parser`] knows the requests of some APIs, and how their answers tell of themselves.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::answer::Usage;
use crate::prompt::Prompt;

/// Reads the requests of one family of APIs, and their answers.
pub trait Parser: Send + Sync {
    /// The paths it is for, as their last segments, without a slash at either end; a last `*` is any segment. One that begins
    /// with a slash is the whole path. With none it is for every path that
    /// no other parser claims.
    fn paths(&self) -> &[&'static str];

    /// Reads a request. A body of which only the beginning was seen yields what that says.
    fn parse(&self, request: &RequestBody<'_>) -> Result<ParsedRequest, ParseError>;

    /// Makes a reader of the answer to a request on `path`; `None` if it says nothing that could be read.
    fn answer(&self, path: &str, head: &AnswerHead<'_>) -> Option<Box<dyn AnswerReader>>;
}

/// A request as a parser gets it.
#[derive(Clone, Copy)]
pub struct RequestBody<'a> {
    /// Path without query; empty if it is not known.
    pub path: &'a str,
    /// What came of the body.
    pub bytes: &'a Bytes,
    /// Whether that is all of it.
    pub whole: bool,
}

/// What a request says.
#[derive(Clone, Default)]
pub struct ParsedRequest {
    /// The model that is asked for, if one is.
    pub model: Option<String>,
    /// Where the model's name goes.
    pub model_place: ModelPlace,
    /// Whether the API has no request without a model.
    pub needs_model: bool,
    /// Why the request must be refused, if its model is in order.
    pub fault: Option<Fault>,
    /// Whether the answer is asked for piece by piece.
    pub stream: bool,
    /// The prompt; the beginning of it when it is very long.
    pub prompt: Prompt,
    /// What keeps the caches of clients apart: equal prompts with other salts share no cache.
    pub cache_salt: Option<String>,
    /// Upper bound of output tokens.
    pub max_tokens: Option<u64>,
}

impl fmt::Debug for ParsedRequest {
    /// What it is about, never what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, model_place, fault, prompt, .. } = self;
        write!(f, "ParsedRequest of {model:?} at {model_place:?}, {prompt:?}, {fault:?}")
    }
}

/// Where in the body a model's name can be put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ModelPlace {
    /// There is no place for one.
    #[default]
    Nowhere,
    /// In place of this JSON value.
    Value(Range<usize>),
    /// As a member of its own, here.
    Member {
        /// Right behind the brace that opens the object.
        at: usize,
        /// Whether the object is empty otherwise.
        alone: bool,
    },
}

impl ModelPlace {
    /// Which bytes of the body become which others if the model is to be `name`, if it has a place.
    pub fn splice(&self, name: &str) -> Option<(Range<usize>, Bytes)> {
        let json = serde_json::to_string(name).expect("strings can be written as JSON");
        match self {
            Self::Nowhere => None,
            Self::Value(range) => Some((range.clone(), json.into())),
            Self::Member { at, alone } => {
                let comma = if *alone { "" } else { "," };
                Some((*at..*at, format!("\"model\":{json}{comma}").into()))
            }
        }
    }
}

/// What is wrong with a request that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, as later versions of the Go EPP word it.
    pub message: Cow<'static, str>,
    /// The words of v1.0.1, if that knew the fault.
    pub legacy: Option<&'static str>,
}

impl Fault {
    /// A fault that v1.0.1 did not know.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), legacy: None }
    }
}

/// Why a request cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Its body is no JSON object; says why.
    NotAnObject(String),
    /// It is not what the path promises.
    Invalid(Cow<'static, str>),
}

/// How an answer begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerHead<'a> {
    /// Its media type, as it was sent; empty without one.
    pub content_type: &'a str,
}

/// Reads one answer while its bytes pass.
pub trait AnswerReader: Send + Sync {
    /// Takes the next bytes, however they are cut; says whether output of the model was in what they completed.
    fn feed(&mut self, bytes: &[u8]) -> bool;

    /// Whether [`feed`](Self::feed) may ever say that; asked before the first bytes.
    fn tells_output(&self) -> bool {
        true
    }

    /// Ends the answer.
    fn finish(&mut self) -> Answer;
}

/// What an answer told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The tokens that the model server counted, if it said.
    pub usage: Option<Usage>,
    /// How it ended.
    pub end: AnswerEnd,
}

/// How an answer ended, by what it says itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerEnd {
    /// As it should, or nothing says otherwise.
    #[default]
    Complete,
    /// Before the model had finished.
    Truncated,
    /// With an error of the model server.
    Failed,
    /// It is not what its head promised, or nothing that could be read.
    Unreadable,
}

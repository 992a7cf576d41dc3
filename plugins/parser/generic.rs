//! `generic-parser`: reads the model and the prompt of any JSON request, whatever its path.
//!
//! Where no parsers are configured it takes the paths that the others leave: `/rerank`, `/tokenize`, `/api/chat` and
//! those to come. v1.0.1 reads every request by its members, and so does this, but it refuses none.

use epp_framework::parsing::{AnswerHead, AnswerReader, ParseError, ParsedRequest, Parser, RequestBody};
use epp_framework::plugin::{Kind, Plugin, PluginType};

use super::answer::JsonAnswer;
use super::openai::{self, Api};

/// `generic-parser`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "generic-parser",
    summary: "Takes every path that no other parser claims; reads model and prompt if the body is JSON that has them.",
    kinds: &[Kind::Parser],
    build: |_, _| Plugin::of_parser(GenericParser),
    ..PluginType::PLAIN
};

/// See the module.
struct GenericParser;

impl Parser for GenericParser {
    fn paths(&self) -> &[&'static str] {
        &[]
    }

    fn parse(&self, request: &RequestBody<'_>) -> Result<ParsedRequest, ParseError> {
        Ok(openai::parse(request, Api::Any, false).unwrap_or_default())
    }

    fn answer(&self, _path: &str, head: &AnswerHead<'_>) -> Option<Box<dyn AnswerReader>> {
        Some(Box::new(JsonAnswer::new(head)))
    }
}

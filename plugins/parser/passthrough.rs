//! `passthrough-parser`: takes every path and knows nothing of what passes.

use epp_framework::parsing::{AnswerHead, AnswerReader, ParseError, ParsedRequest, Parser, RequestBody};
use epp_framework::plugin::{Kind, Plugin, PluginType, releases};

/// `passthrough-parser`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "passthrough-parser",
    summary: "Takes every path that no other parser claims, and reads nothing: bodies pass as they are.",
    kinds: &[Kind::Parser],
    build: |_, _| Plugin::of_parser(PassthroughParser),
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

/// See the module.
struct PassthroughParser;

impl Parser for PassthroughParser {
    fn paths(&self) -> &[&'static str] {
        &[]
    }

    fn parse(&self, _request: &RequestBody<'_>) -> Result<ParsedRequest, ParseError> {
        Ok(ParsedRequest::default())
    }

    fn answer(&self, _path: &str, _head: &AnswerHead<'_>) -> Option<Box<dyn AnswerReader>> {
        None
    }
}

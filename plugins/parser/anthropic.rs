//! `anthropic-parser`: the messages API, as Anthropic words it and vLLM and `SGLang` serve it.

use epp_framework::parsing::{
    AnswerHead, AnswerReader, Fault, ParseError, ParsedRequest, Parser, RequestBody,
};
use epp_framework::plugin::{Kind, Plugin, PluginType, releases};

use super::answer::JsonAnswer;
use super::contents::{Contents, Found, Section};
use super::envelope::{self, Members, count};
use super::json::{Scanner, SyntaxError};

/// `anthropic-parser`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "anthropic-parser",
    summary: "Reads requests of the Anthropic messages API.",
    kinds: &[Kind::Parser],
    build: |_, _| Plugin::of_parser(AnthropicParser),
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

/// Counts tokens and generates nothing; its requests pass unread, as with the Go EPP.
const COUNT_TOKENS: &str = "messages/count_tokens";

/// See the module.
struct AnthropicParser;

impl Parser for AnthropicParser {
    fn paths(&self) -> &[&'static str] {
        &["messages", COUNT_TOKENS]
    }

    fn parse(&self, request: &RequestBody<'_>) -> Result<ParsedRequest, ParseError> {
        if super::claims(COUNT_TOKENS, request.path) {
            return Ok(ParsedRequest::default());
        }
        let mut body = Body::default();
        let parsed = envelope::read(request, &mut body)?;
        let no_message = request.whole && body.messages.found != Found::Good;
        let fault =
            no_message.then(|| Fault::new("invalid messages request: must have at least one message"));
        let Body { tools, system, messages, max_tokens } = body;
        let prompt = Contents::prompt(request.bytes, [tools, system.contents, messages.contents]);
        Ok(ParsedRequest { needs_model: true, fault, prompt, max_tokens, ..parsed })
    }

    fn answer(&self, path: &str, head: &AnswerHead<'_>) -> Option<Box<dyn AnswerReader>> {
        if super::claims(COUNT_TOKENS, path) { None } else { Some(Box::new(JsonAnswer::new(head))) }
    }
}

#[derive(Default)]
struct Body {
    tools: Contents,
    system: Section,
    messages: Section,
    max_tokens: Option<u64>,
}

impl Members for Body {
    fn member(&mut self, scanner: &mut Scanner<'_>, key: &str) -> Result<bool, SyntaxError> {
        match key {
            "tools" => self.tools.read_raw(scanner)?,
            "system" => self.system.read_content(scanner)?,
            "messages" => self.messages.read_messages(scanner, true)?,
            "max_tokens" => self.max_tokens = count(scanner)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

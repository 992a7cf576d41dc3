//! `vllmgrpc-parser`: vLLM's engine over gRPC, `vllm.grpc.engine.VllmEngine`.
//!
//! Its messages name no model. Other methods than `Generate` and `Embed` pass unread, as with llm-d's router; v1.5
//! refuses them.

use std::borrow::Cow;

use epp_framework::answer::Usage;
use epp_framework::parsing::{
    Answer, AnswerEnd, AnswerHead, AnswerReader, ParseError, ParsedRequest, Parser, RequestBody,
};
use epp_framework::plugin::{Kind, Plugin, PluginType, releases};
use epp_framework::prompt::{Piece, Prompt};
use prost::Message as _;

use super::grpc::{self, MessageReader};
use super::wire::vllm::generate_request::Input;
use super::wire::vllm::generate_response::Response;
use super::wire::vllm::{EmbedRequest, EmbedResponse, GenerateRequest, GenerateResponse, TokenizedInput};

/// `vllmgrpc-parser`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "vllmgrpc-parser",
    summary: "Reads requests of vLLM's gRPC engine API.",
    kinds: &[Kind::Parser],
    build: |_, _| Plugin::of_parser(VllmGrpcParser),
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

struct VllmGrpcParser;

#[derive(Clone, Copy, Debug)]
enum Method {
    Generate,
    Embed,
}

fn method(path: &str) -> Option<Method> {
    match path.trim_matches('/').rsplit('/').next() {
        Some("Generate") => Some(Method::Generate),
        Some("Embed") => Some(Method::Embed),
        _ => None,
    }
}

impl Parser for VllmGrpcParser {
    fn paths(&self) -> &[&'static str] {
        &["vllm.grpc.engine.VllmEngine/*"]
    }

    fn parse(&self, request: &RequestBody<'_>) -> Result<ParsedRequest, ParseError> {
        let Some(method) = method(request.path) else { return Ok(ParsedRequest::default()) };
        let invalid = |why: Cow<'static, str>| ParseError::Invalid(why);
        let message = grpc::first_message(request)?;
        let unreadable = |_| invalid("invalid gRPC request: it is not the message of its method".into());
        let (prompt, stream) = match method {
            Method::Generate => {
                let message = GenerateRequest::decode(message).map_err(unreadable)?;
                let prompt = match message.input {
                    Some(Input::Text(text)) => Prompt::text(text),
                    Some(Input::Tokenized(input)) => prompt_of(input),
                    None => return Err(invalid("not supported request inputType".into())),
                };
                (prompt, message.stream)
            }
            Method::Embed => {
                let message = EmbedRequest::decode(message).map_err(unreadable)?;
                let input = message.tokenized.ok_or(invalid("not supported request inputType".into()))?;
                (prompt_of(input), false)
            }
        };
        Ok(ParsedRequest { prompt, stream, ..ParsedRequest::default() })
    }

    fn answer(&self, path: &str, _head: &AnswerHead<'_>) -> Option<Box<dyn AnswerReader>> {
        let method = method(path)?;
        let (messages, answer) =
            (MessageReader::default(), Answer { usage: None, end: AnswerEnd::Truncated });
        Some(Box::new(GrpcAnswer { method, messages, answer }))
    }
}

fn prompt_of(input: TokenizedInput) -> Prompt {
    let mut prompt = Prompt::default();
    let n_tokens = input.input_ids.len() as u64;
    prompt.push_tokens(Piece::Tokens(input.input_ids), n_tokens);
    prompt
}

/// Reads the messages of an answer.
struct GrpcAnswer {
    method: Method,
    messages: MessageReader,
    answer: Answer,
}

impl AnswerReader for GrpcAnswer {
    fn feed(&mut self, bytes: &[u8]) -> bool {
        let Self { method, messages, answer } = self;
        let mut output = false;
        messages.feed(bytes, |message| output |= read(*method, message, answer));
        output
    }

    fn finish(&mut self) -> Answer {
        if self.messages.is_unfinished() {
            self.answer.end = AnswerEnd::Truncated;
        }
        self.answer
    }
}

/// Reads one message; says whether output was in it.
fn read(method: Method, message: &[u8], answer: &mut Answer) -> bool {
    let count = |tokens: u32| Some(u64::from(tokens));
    let (usage, end, output) = match method {
        Method::Generate => match GenerateResponse::decode(message).ok().and_then(|message| message.response)
        {
            Some(Response::Chunk(chunk)) => {
                let usage = Usage {
                    prompt_tokens: count(chunk.prompt_tokens),
                    completion_tokens: count(chunk.completion_tokens),
                    cached_tokens: count(chunk.cached_tokens),
                    ..Usage::default()
                };
                (usage, AnswerEnd::Truncated, true)
            }
            Some(Response::Complete(complete)) => {
                let usage = Usage {
                    prompt_tokens: count(complete.prompt_tokens),
                    completion_tokens: count(complete.completion_tokens),
                    cached_tokens: count(complete.cached_tokens),
                    ..Usage::default()
                };
                (usage, AnswerEnd::Complete, true)
            }
            None => return unreadable(answer),
        },
        Method::Embed => {
            let Ok(message) = EmbedResponse::decode(message) else { return unreadable(answer) };
            let usage = Usage { prompt_tokens: count(message.prompt_tokens), ..Usage::default() };
            (usage, AnswerEnd::Complete, false)
        }
    };
    *answer = Answer { usage: Some(usage), end };
    output
}

fn unreadable(answer: &mut Answer) -> bool {
    answer.end = AnswerEnd::Unreadable;
    false
}

#[cfg(test)]
mod tests;

//! `vertexai-parser`: Vertex AI's `PredictionService` over gRPC, whose messages carry the JSON of `OpenAI`'s APIs.
//!
//! The model is read, and not rewritten: its length is part of the lengths around it. Other methods than
//! `ChatCompletions`, `RawPredict` and `StreamRawPredict` pass unread.

use bytes::Bytes;
use epp_framework::parsing::{
    Answer, AnswerEnd, AnswerHead, AnswerReader, ModelPlace, ParseError, ParsedRequest, Parser, RequestBody,
};
use epp_framework::plugin::{Kind, Plugin, PluginType, releases};
use prost::Message as _;

use super::answer::JsonAnswer;
use super::grpc::{self, MessageReader};
use super::openai::{self, Api};
use super::wire::vertex::{HttpBody, RawPredictRequest};

/// `vertexai-parser`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "vertexai-parser",
    summary: "Reads requests of Vertex AI's PredictionService, which carry OpenAI's JSON.",
    kinds: &[Kind::Parser],
    build: |_, _| Plugin::of_parser(VertexAiParser),
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

struct VertexAiParser;

/// Whether the method's messages carry JSON.
fn carries_json(path: &str) -> bool {
    let method = path.trim_matches('/').rsplit('/').next();
    matches!(method, Some("ChatCompletions" | "RawPredict" | "StreamRawPredict"))
}

impl Parser for VertexAiParser {
    fn paths(&self) -> &[&'static str] {
        &[
            "google.cloud.aiplatform.v1.PredictionService/*",
            "google.cloud.aiplatform.v1beta1.PredictionService/*",
        ]
    }

    fn parse(&self, request: &RequestBody<'_>) -> Result<ParsedRequest, ParseError> {
        if !carries_json(request.path) {
            return Ok(ParsedRequest::default());
        }
        let message = RawPredictRequest::decode(grpc::first_message(request)?).map_err(|_| {
            ParseError::Invalid("invalid gRPC request: it is not the message of its method".into())
        })?;
        let data: Bytes = message.http_body.unwrap_or_default().data;
        let body = RequestBody { path: "", bytes: &data, whole: request.whole };
        let parsed = openai::parse(&body, Api::Any, false)?;
        Ok(ParsedRequest { model_place: ModelPlace::Nowhere, ..parsed })
    }

    fn answer(&self, path: &str, _head: &AnswerHead<'_>) -> Option<Box<dyn AnswerReader>> {
        // What the messages carry tells itself what it is.
        let json = JsonAnswer::new(&AnswerHead::default());
        carries_json(path).then(|| {
            Box::new(VertexAnswer { messages: MessageReader::default(), json, begun: false })
                as Box<dyn AnswerReader>
        })
    }
}

/// Reads the JSON or the events in the messages of an answer.
struct VertexAnswer {
    messages: MessageReader,
    json: JsonAnswer,
    begun: bool,
}

impl AnswerReader for VertexAnswer {
    fn feed(&mut self, bytes: &[u8]) -> bool {
        let Self { messages, json, begun } = self;
        let mut output = false;
        messages.feed(bytes, |message| {
            *begun = true;
            if let Ok(body) = HttpBody::decode(message) {
                output |= json.feed(&body.data);
            }
        });
        output
    }

    fn finish(&mut self) -> Answer {
        let answer = self.json.finish();
        // A gRPC error comes in trailers, with no message or behind half of one.
        let is_whole = self.begun && !self.messages.is_unfinished();
        if is_whole { answer } else { Answer { end: AnswerEnd::Truncated, ..answer } }
    }
}

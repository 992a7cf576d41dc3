//! `openai-parser`: requests as `OpenAI` words them, which most model servers take.
//!
//! Only what routing needs is read, and nothing is re-encoded: the model's place in the bytes is known, so that a rewrite
//! can splice it. What the model server would refuse is the model server's to refuse, unless without it nothing could be
//! routed: then the request is refused here, in the words of the Go EPP. With `validate` it is also held against the
//! schema of its API.

use epp_framework::parameters::{Parameter, ParameterKind};
use epp_framework::parsing::{
    AnswerHead, AnswerReader, Fault, ParseError, ParsedRequest, Parser, RequestBody,
};
use epp_framework::plugin::{Kind, Plugin, PluginType, releases};

use super::answer::JsonAnswer;
use super::contents::{Contents, Found, Section};
use super::envelope::{self, Members, count};
use super::json::{Scanner, SyntaxError};
use super::schema::{Schema, openai as schemas};

/// `openai-parser`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "openai-parser",
    summary: "Reads requests of the OpenAI APIs: completions, chat, responses, conversations, embeddings, images.",
    parameters: &[Parameter {
        name: "validate",
        kind: ParameterKind::Boolean { default: false },
        unit: "",
        summary: "Whether requests that break the schema of their API are refused.",
    }],
    kinds: &[Kind::Parser],
    build: |parameters, _| Plugin::of_parser(OpenAiParser { validate: parameters.boolean("validate") }),
    releases: releases::SINCE_V1_5,
    ..PluginType::PLAIN
};

/// See the module.
struct OpenAiParser {
    validate: bool,
}

/// The APIs that differ in where their prompt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// The path is not known: `messages` or `prompt`, as v1.0.1 reads every request.
    Unknown,
    Completions,
    Chat,
    Responses,
    Conversations,
    Embeddings,
    Images,
    /// Whatever it is, nothing in it is required.
    Any,
}

const PATHS: &[(&str, Api)] = &[
    ("chat/completions", Api::Chat),
    ("chat/completions/render", Api::Chat),
    ("completions", Api::Completions),
    ("completions/render", Api::Completions),
    ("responses", Api::Responses),
    ("conversations", Api::Conversations),
    ("embeddings", Api::Embeddings),
    ("images/generations", Api::Images),
];

const COMPLETIONS: &str = "invalid completions request: must have prompt field";

const CLAIMS: [&str; PATHS.len()] = {
    let mut claims = [""; PATHS.len()];
    let mut at = 0;
    while at < claims.len() {
        claims[at] = PATHS[at].0;
        at += 1;
    }
    claims
};

impl Parser for OpenAiParser {
    fn paths(&self) -> &[&'static str] {
        &CLAIMS
    }

    fn parse(&self, request: &RequestBody<'_>) -> Result<ParsedRequest, ParseError> {
        let claimed = PATHS.iter().filter(|(claim, _)| super::claims(claim, request.path));
        let longest = claimed.max_by_key(|(claim, _)| claim.len());
        let api = longest.map_or(Api::Unknown, |&(_, api)| api);
        Ok(ParsedRequest { needs_model: true, ..parse(request, api, self.validate)? })
    }

    fn answer(&self, _path: &str, head: &AnswerHead<'_>) -> Option<Box<dyn AnswerReader>> {
        Some(Box::new(JsonAnswer::new(head)))
    }
}

/// Reads a request of `api`; with `validate` it must be as the schema says.
pub(super) fn parse(
    request: &RequestBody<'_>,
    api: Api,
    validate: bool,
) -> Result<ParsedRequest, ParseError> {
    let mut body = Body::new(api);
    let parsed = envelope::read(request, &mut body)?;
    let invalid = || if validate { body.invalid(request.bytes) } else { None };
    let fault = if request.whole { body.fault().or_else(invalid) } else { None };
    let max_tokens = body.max_tokens();
    let Body { around, messages, prompt, input, instructions, .. } = body;
    let main = match api {
        Api::Unknown | Api::Embeddings | Api::Any if messages.found != Found::Nothing => messages,
        Api::Chat => messages,
        Api::Any if prompt.found == Found::Nothing => input,
        Api::Responses | Api::Conversations | Api::Embeddings => input,
        Api::Unknown | Api::Any | Api::Completions | Api::Images => prompt,
    };
    let [tools, documents, template, settings] = around;
    let parts = [template, settings, tools, documents, instructions.contents, main.contents];
    let prompt = Contents::prompt(request.bytes, parts);
    Ok(ParsedRequest { fault, prompt, max_tokens, ..parsed })
}

/// Members of a chat that its prompt depends on, beside the messages.
const AROUND: [&str; 4] = ["tools", "documents", "chat_template", "chat_template_kwargs"];

/// The members that matter.
struct Body {
    api: Api,
    /// What most templates put before the messages, or depend on.
    around: [Contents; AROUND.len()],
    messages: Section,
    prompt: Section,
    /// `input`, or the `items` of a conversation.
    input: Section,
    instructions: Section,
    /// Whether there are embeddings in place of a prompt.
    has_embeddings: bool,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
}

impl Body {
    fn new(api: Api) -> Self {
        Self {
            api,
            around: Default::default(),
            messages: Section::default(),
            prompt: Section::default(),
            input: Section::default(),
            instructions: Section::default(),
            has_embeddings: false,
            max_tokens: None,
            max_completion_tokens: None,
            max_output_tokens: None,
        }
    }

    fn max_tokens(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_output_tokens).or(self.max_tokens)
    }

    /// What in `bytes`, the whole request, is not as its API has it.
    fn invalid(&self, bytes: &[u8]) -> Option<Fault> {
        let (name, schema): (_, &'static Schema) = match self.api {
            Api::Chat => ("chat completions", &schemas::CHAT),
            Api::Unknown if self.messages.found != Found::Nothing => ("chat completions", &schemas::CHAT),
            // Without `validate` an empty text is the model server's to refuse, as in v1.0.1.
            Api::Completions | Api::Unknown if self.prompt.found == Found::Empty && !self.has_embeddings => {
                return Some(Fault::new(COMPLETIONS));
            }
            // What stands for the prompt is not described.
            Api::Completions | Api::Unknown if self.prompt.found != Found::Good => return None,
            Api::Completions | Api::Unknown => ("completions", &schemas::COMPLETIONS),
            Api::Responses => ("responses", &schemas::RESPONSES),
            Api::Conversations => ("conversations", &schemas::CONVERSATIONS),
            Api::Embeddings if self.messages.found != Found::Nothing => return None,
            Api::Embeddings => ("embeddings", &schemas::EMBEDDINGS),
            Api::Images => ("images generations", &schemas::IMAGES),
            Api::Any => return None,
        };
        let violation = schema.violation(bytes)?;
        Some(Fault::new(format!("invalid {name} request: {violation}")))
    }

    /// What the API cannot be without.
    fn fault(&self) -> Option<Fault> {
        const CHAT: &str = "invalid chat completions request: must have valid messages field";
        let known =
            |message: &'static str, legacy| Some(Fault { message: message.into(), legacy: Some(legacy) });
        let new = |message: &'static str| Some(Fault::new(message));
        match self.api {
            Api::Chat | Api::Unknown if self.messages.found != Found::Nothing => match self.messages.found {
                Found::Good => None,
                Found::Empty => known(CHAT, "messages is empty"),
                _ => known(CHAT, "messages is not a list"),
            },
            Api::Chat => known(CHAT, "prompt not found in request"),
            // vLLM takes embeddings in place of a prompt.
            Api::Completions | Api::Unknown if self.has_embeddings => None,
            Api::Completions | Api::Unknown => match self.prompt.found {
                Found::Good => None,
                // An empty text, see above.
                Found::Empty if !self.prompt.contents.is_empty() => None,
                Found::Nothing => known(COMPLETIONS, "prompt not found in request"),
                _ => known(COMPLETIONS, "prompt is not a string"),
            },
            Api::Responses if matches!(self.input.found, Found::Nothing | Found::Null) => {
                new("invalid responses request: must have input field")
            }
            Api::Conversations if self.input.found != Found::Good => {
                new("invalid conversations request: must have items field")
            }
            // And a chat in place of an input.
            Api::Embeddings if self.messages.found == Found::Good => None,
            Api::Embeddings if self.input.found != Found::Good => {
                new("invalid embeddings request: must have input field")
            }
            Api::Images if self.prompt.found != Found::Good => {
                new("invalid images generations request: must have prompt field")
            }
            _ => None,
        }
    }

    /// A member that holds a prompt in some API; says whether it was read.
    fn read_prompt(&mut self, scanner: &mut Scanner<'_>, key: &str) -> Result<bool, SyntaxError> {
        match (key, self.api) {
            ("messages", Api::Chat | Api::Unknown | Api::Embeddings | Api::Any) => {
                self.messages.read_messages(scanner, false)?;
            }
            ("prompt", Api::Images) => self.prompt.read_string(scanner)?,
            ("prompt", Api::Completions | Api::Unknown | Api::Any) => self.prompt.read_texts(scanner)?,
            ("input", Api::Responses) => match scanner.kind()? {
                super::json::Kind::List => self.input.read_messages(scanner, true)?,
                _ => self.input.read_string(scanner)?,
            },
            ("items", Api::Conversations) => self.input.read_messages(scanner, true)?,
            ("input", Api::Embeddings | Api::Any) => self.input.read_texts(scanner)?,
            ("instructions", Api::Responses) => self.instructions.read_string(scanner)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Members for Body {
    fn member(&mut self, scanner: &mut Scanner<'_>, key: &str) -> Result<bool, SyntaxError> {
        match key {
            "max_tokens" => self.max_tokens = count(scanner)?,
            "max_completion_tokens" => self.max_completion_tokens = count(scanner)?,
            "max_output_tokens" => self.max_output_tokens = count(scanner)?,
            "prompt_embeds" => {
                let value = scanner.skip()?;
                self.has_embeddings = !matches!(&scanner.text()[value], b"null" | b"[]" | b"\"\"");
            }
            _ => {
                let around = AROUND.iter().position(|known| *known == key);
                match around.filter(|_| matches!(self.api, Api::Chat | Api::Responses)) {
                    Some(at) => self.around[at].read_raw(scanner)?,
                    None => return self.read_prompt(scanner, key),
                }
            }
        }
        Ok(true)
    }
}

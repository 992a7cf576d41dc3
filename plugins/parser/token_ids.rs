//! `vllmhttp-parser` and `sglanghttp-parser`: the servers' own APIs over HTTP, where prompts are lists of token ids.

use epp_framework::parsing::{
    AnswerHead, AnswerReader, Fault, ParseError, ParsedRequest, Parser, RequestBody,
};
use epp_framework::plugin::{Kind, Plugin, PluginType, releases};

use super::answer::JsonAnswer;
use super::contents::{Contents, Found, Section};
use super::envelope::{self, Members, count, string};
use super::json::{self, Scanner, SyntaxError};

/// `vllmhttp-parser`.
pub(crate) const VLLM: PluginType = PluginType {
    name: "vllmhttp-parser",
    summary: "Reads requests of vLLM's `/inference/v1/generate`, whose prompt is a list of token ids.",
    kinds: &[Kind::Parser],
    build: |_, _| Plugin::of_parser(TokenIdsParser(&VLLM_WORDS)),
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

/// `sglanghttp-parser`.
pub(crate) const SGLANG: PluginType = PluginType {
    name: "sglanghttp-parser",
    summary: "Reads requests of SGLang's `/generate`, whose prompt is a list of token ids.",
    kinds: &[Kind::Parser],
    build: |_, _| Plugin::of_parser(TokenIdsParser(&SGLANG_WORDS)),
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

/// What a server calls things.
struct Words {
    paths: &'static [&'static str],
    ids: &'static str,
    max_tokens: &'static str,
    /// A salt beside `cache_salt`.
    salt: Option<&'static str>,
    /// Digests of media.
    features: Option<&'static str>,
}

const VLLM_WORDS: Words = Words {
    paths: &["inference/v1/generate"],
    ids: "token_ids",
    max_tokens: "max_tokens",
    salt: None,
    features: Some("features"),
};

const SGLANG_WORDS: Words = Words {
    paths: &["/generate"],
    ids: "input_ids",
    max_tokens: "max_new_tokens",
    salt: Some("extra_key"),
    features: None,
};

struct TokenIdsParser(&'static Words);

impl Parser for TokenIdsParser {
    fn paths(&self) -> &[&'static str] {
        self.0.paths
    }

    fn parse(&self, request: &RequestBody<'_>) -> Result<ParsedRequest, ParseError> {
        let mut body = Body::new(self.0);
        let parsed = envelope::read(request, &mut body)?;
        let fault = body.fault().filter(|_| request.whole);
        let Body { features, ids, max_tokens, salt, .. } = body;
        let prompt = Contents::prompt(request.bytes, [features, ids.contents]);
        let cache_salt = parsed.cache_salt.or(salt);
        Ok(ParsedRequest { fault, prompt, max_tokens, cache_salt, ..parsed })
    }

    fn answer(&self, _path: &str, head: &AnswerHead<'_>) -> Option<Box<dyn AnswerReader>> {
        Some(Box::new(JsonAnswer::new(head)))
    }
}

struct Body {
    words: &'static Words,
    /// Which media stand where: two prompts with other media share no cache.
    features: Contents,
    ids: Section,
    max_tokens: Option<u64>,
    salt: Option<String>,
    salt_is_wrong: bool,
}

impl Body {
    fn new(words: &'static Words) -> Self {
        Self {
            words,
            features: Contents::default(),
            ids: Section::default(),
            max_tokens: None,
            salt: None,
            salt_is_wrong: false,
        }
    }

    fn fault(&self) -> Option<Fault> {
        let Words { ids, salt, .. } = self.words;
        let why = match self.ids.found {
            Found::Good if self.salt_is_wrong => {
                format!("{} must be a string", salt.unwrap_or("cache_salt"))
            }
            Found::Good => return None,
            Found::Wrong => format!("{ids} must be a list of integers from 0 to 4294967295"),
            _ => format!("{ids} must be a non-empty list"),
        };
        Some(Fault::new(format!("invalid generate request: {why}")))
    }

    fn read_sampling(&mut self, scanner: &mut Scanner<'_>) -> Result<(), SyntaxError> {
        if scanner.kind()? != json::Kind::Object {
            return scanner.skip().map(|_| ());
        }
        scanner.object(|scanner, key| {
            if key == self.words.max_tokens {
                self.max_tokens = count(scanner)?;
                return Ok(());
            }
            scanner.skip().map(|_| ())
        })
    }
}

impl Members for Body {
    fn member(&mut self, scanner: &mut Scanner<'_>, key: &str) -> Result<bool, SyntaxError> {
        match key {
            _ if key == self.words.ids => self.ids.read_tokens(scanner)?,
            _ if Some(key) == self.words.salt => {
                self.salt_is_wrong = !matches!(scanner.kind()?, json::Kind::String | json::Kind::Null);
                self.salt = string(scanner)?;
            }
            _ if Some(key) == self.words.features => self.features.read_raw(scanner)?,
            "sampling_params" => self.read_sampling(scanner)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

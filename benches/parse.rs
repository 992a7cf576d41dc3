//! What it costs to read request bodies: our parser beside `serde_json` by the fastest ways it has to do the same.
//!
//! Chat bodies of 4 KB, 100 KB and 1 MB whose model comes last, as plain text and full of escapes. `floor_utf8` is the
//! check that every validating reader must make. The prompt is read as far as the prefix hash of the default
//! configuration looks, which is part of `ours_and_hashes` only.

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;
use epp_framework::parameters::{ParameterValue, Parameters};
use epp_framework::parsing::{Parser, RequestBody};
use epp_framework::plugin::BuildContext;
use epp_framework::slot::SlotNames;
use epp_plugins::BUILT_IN;
use epp_plugins::prefix::block_hash;
use serde::Deserialize;
use serde_json::value::RawValue;

fn main() {
    divan::main();
}

const BODIES: [(usize, bool); 6] =
    [(4_000, false), (100_000, false), (1_000_000, false), (4_000, true), (100_000, true), (1_000_000, true)];

/// A chat of about `n_bytes`; with `escapes` every line ends with one, and not all of it is ASCII.
fn chat(n_bytes: usize, escapes: bool) -> Bytes {
    let line = if escapes {
        "Zeile f\u{fc}r Zeile \u{4e2d}\u{6587}, he said \"so\".\n"
    } else {
        "a line of words, and then some more "
    };
    let content = line.repeat(n_bytes / 4 / line.len());
    let message = |role: &str| serde_json::json!({ "role": role, "content": content });
    let messages = ["system", "user", "assistant", "user"].map(message);
    let messages = serde_json::to_string(&messages).expect("it is JSON");
    format!(r#"{{"messages":{messages},"stream":true,"max_tokens":100,"model":"llama-3"}}"#).into()
}

fn openai(validate: bool) -> Arc<dyn Parser> {
    let built_in = BUILT_IN.iter().find(|built_in| built_in.name == "openai-parser").expect("it is built in");
    let slots = SlotNames::default();
    let mut parameters = Parameters::defaults(built_in.parameters);
    parameters.set("validate", ParameterValue::Boolean(validate));
    let plugin = (built_in.build)(&parameters, &BuildContext::new("p", &slots));
    plugin.parser.expect("it is a parser")
}

fn bench<T>(bencher: Bencher<'_, '_>, (n_bytes, escapes): (usize, bool), read: impl Fn(&Bytes) -> T + Sync) {
    let body = chat(n_bytes, escapes);
    bencher.counter(BytesCount::new(body.len())).bench(|| read(black_box(&body)));
}

#[divan::bench(args = BODIES)]
fn ours(bencher: Bencher<'_, '_>, body: (usize, bool)) {
    let parser = openai(false);
    bench(bencher, body, |bytes| {
        parser.parse(&RequestBody { path: "/v1/chat/completions", bytes, whole: true }).expect("it is a chat")
    });
}

#[divan::bench(args = BODIES)]
fn ours_validated(bencher: Bencher<'_, '_>, body: (usize, bool)) {
    let parser = openai(true);
    bench(bencher, body, |bytes| {
        parser.parse(&RequestBody { path: "/v1/chat/completions", bytes, whole: true }).expect("it is a chat")
    });
}

#[divan::bench(args = BODIES)]
fn ours_and_hashes(bencher: Bencher<'_, '_>, body: (usize, bool)) {
    let parser = openai(false);
    bench(bencher, body, |bytes| {
        let request = RequestBody { path: "/v1/chat/completions", bytes, whole: true };
        let parsed = parser.parse(&request).expect("it is a chat");
        block_hash::chain("llama-3", None, &parsed.prompt, 64, 256)
    });
}

/// The model's place only: the messages are skipped, and no prompt is known.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    model: &'a RawValue,
    #[serde(borrow)]
    messages: &'a RawValue,
}

#[divan::bench(args = BODIES)]
fn serde_raw_model_only(bencher: Bencher<'_, '_>, body: (usize, bool)) {
    bench(bencher, body, |bytes| {
        let raw: Raw<'_> = serde_json::from_slice(bytes).expect("it is JSON");
        raw.model.get().len() + raw.messages.get().len()
    });
}

/// Model and prompt, borrowed where there are no escapes.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Cow<'a, str>,
}

#[divan::bench(args = BODIES)]
fn serde_typed(bencher: Bencher<'_, '_>, body: (usize, bool)) {
    bench(bencher, body, |bytes| {
        let typed: Typed<'_> = serde_json::from_slice(bytes).expect("it is JSON");
        let n_bytes = typed.messages.iter().map(|message| message.role.len() + message.content.len());
        typed.model.len() + n_bytes.sum::<usize>()
    });
}

#[divan::bench(args = BODIES)]
fn serde_value(bencher: Bencher<'_, '_>, body: (usize, bool)) {
    bench(bencher, body, |bytes| serde_json::from_slice::<serde_json::Value>(bytes).expect("it is JSON"));
}

#[divan::bench(args = BODIES)]
fn floor_utf8(bencher: Bencher<'_, '_>, body: (usize, bool)) {
    bench(bencher, body, |bytes| std::str::from_utf8(bytes).is_ok());
}

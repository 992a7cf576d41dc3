//! The parsers on what real and modelled servers were asked and answered: the files of `tests/it/fixtures`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use epp_framework::parsing::{AnswerHead, AnswerReader, ParsedRequest, Parser, RequestBody};
use epp_framework::prompt::MediaKind;

use crate::parser::answer::JsonAnswer;
use crate::parser::{anthropic, claims, generic, openai, token_ids};
use crate::testing::built;

/// Answers that are not read, and why.
const NOT_READ: [(&str, &str); 1] =
    [("sse-chat-usage.txt.gz", "compressed: answers pass as they are, and nothing is decompressed")];

/// The files of a folder of fixtures, by name.
fn files(folder: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = format!("{}/../tests/it/fixtures/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    files
}

/// Prompt, completion, all and cached tokens of an answer, however it is cut.
#[track_caller]
fn usage(name: &str, content_type: &str, answer: &[u8]) -> Option<[Option<u64>; 4]> {
    let read = |size: usize| {
        let mut reader = JsonAnswer::new(&AnswerHead { content_type });
        answer.chunks(size).for_each(|chunk| {
            reader.feed(chunk);
        });
        let usage = reader.finish().usage?;
        let total = Some(usage.total());
        Some([usage.prompt_tokens, usage.completion_tokens, total, usage.cached_tokens])
    };
    let whole = read(usize::MAX);
    for size in [1, 2, 7, 64] {
        assert_eq!(read(size), whole, "{name} in chunks of {size}");
    }
    whole
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// Of the columns of `EXPECT.tsv`, the counts are read; the end of an answer is told by the gateway.
#[test]
fn the_usage_of_each_sampled_answer_is_as_expected() {
    let files = files("model_servers/samples");
    let table = std::str::from_utf8(&files["EXPECT.tsv"]).unwrap();
    let mut named = BTreeSet::new();
    for row in table.lines().skip(1) {
        let columns: Vec<_> = row.split('\t').collect();
        let [name, framing, prompt, completion, total, cached] = columns[..6] else {
            panic!("too few columns: {row}");
        };
        named.insert(name);
        let answer = &files[name];
        let content_type = match framing {
            "json" => "application/json",
            "ndjson" => "application/x-ndjson",
            _ => "text/event-stream",
        };
        let found = usage(name, content_type, answer);
        if NOT_READ.iter().any(|(not_read, _)| *not_read == name) {
            assert_eq!(found, None, "{name}");
            continue;
        }
        let counts = [prompt, completion, total, cached];
        let number = |count: &str| (count != "-").then(|| count.parse().unwrap());
        let want = counts.iter().any(|count| *count != "-").then(|| counts.map(number));
        assert_eq!(found, want, "{name}");
    }
    assert!(NOT_READ.iter().all(|(name, _)| named.contains(name)));
    for (name, answer) in &files {
        let of_usage = name.starts_with("resp-") || name.starts_with("sse-");
        if of_usage && name != "resp-models.json" {
            assert!(named.contains(name.as_str()), "no expectation for {name}");
        } else if name.starts_with("err-") || name == "resp-models.json" {
            assert_eq!(usage(name, "application/json", answer), None, "{name}");
        }
    }
}

#[test]
fn the_usage_of_real_answers_is_read() {
    let files = files("real_vllm");
    let cases = [
        ("chat.json", Some([Some(15), Some(4), Some(19), None])),
        ("chat-stream.sse", Some([Some(15), Some(4), Some(19), None])),
        ("anthropic-stream.sse", Some([Some(14), Some(3), Some(17), Some(0)])),
        ("responses-stream.sse", Some([Some(14), Some(3), Some(17), Some(0)])),
        ("render-chat.json", None),
        ("render-completion.json", None),
        ("unknown-model.txt", None),
    ];
    for (name, want) in cases {
        let content_type = if has_extension(name, "sse") { "text/event-stream" } else { "application/json" };
        assert_eq!(usage(name, content_type, &files[name]), want, "{name}");
    }
    let pages = files.keys().filter(|name| has_extension(name, "prom")).count();
    assert_eq!(files.len(), cases.len() + pages, "a file without an expectation");
}

#[test]
fn sampled_requests_are_read() {
    let mut files = files("model_servers/samples");
    files.retain(|name, _| name.starts_with("req-"));
    let mut read = |path: &str, name: &str| {
        let bytes = files.remove(name).expect(name).into();
        let parsed = parser_of(path).parse(&RequestBody { path, bytes: &bytes, whole: true }).expect(name);
        assert_eq!(parsed.fault, None, "{name}");
        let text = String::from_utf8_lossy(&parsed.prompt.to_vec()).into_owned();
        (parsed, text)
    };
    let model = |parsed: &ParsedRequest| parsed.model.clone().unwrap();

    let (chat, text) = read("/v1/chat/completions", "req-chat-basic.json");
    assert_eq!((model(&chat).as_str(), chat.max_tokens), ("qwen-demo", Some(16)));
    let (system, user) =
        ("<|im_start|>system\nBe brief.<|im_end|>\n", "<|im_start|>user\nName a river.<|im_end|>\n");
    assert_eq!(text, format!("{system}{user}"));

    let (media, text) = read("/v1/chat/completions", "req-chat-multimodal-tools.json");
    assert!(text.starts_with(r#"[{"type":"function""#), "tools stand before all messages: {text}");
    assert!(text.contains("<|im_start|>user\nWhat is in this picture?"), "{text}");
    assert!(
        text.contains(
            r#"<|im_start|>assistant
[{"id":"call_1""#
        ),
        "{text}"
    );
    assert!(text.ends_with("<|im_end|>\n<|im_start|>tool\ndone<|im_end|>\n"), "{text}");
    assert_eq!(media.prompt.media().map(|item| item.kind).collect::<Vec<_>>(), [MediaKind::Image]);
    assert_eq!((media.cache_salt.as_deref(), media.max_tokens), (Some("tenant-9"), None));

    let (prefill, text) = read("/v1/chat/completions", "req-chat-pd-prefill.json");
    assert_eq!((prefill.max_tokens, prefill.stream), (Some(1), false));
    assert_eq!(text, "<|im_start|>user\nHello<|im_end|>\n");

    let (tokens, _) = read("/v1/completions", "req-completions-token-ids.json");
    let ids = [101u32, 7592, 2088, 101, 102].map(u32::to_le_bytes).concat();
    assert_eq!((tokens.prompt.to_vec(), tokens.prompt.n_tokens()), (ids, 5));
    assert_eq!(tokens.max_tokens, Some(0));

    let (messages, text) = read("/v1/messages", "req-messages.json");
    assert_eq!((messages.max_tokens, messages.stream), (Some(64), true));
    assert_eq!(text, "Be kind.<|im_start|>user\nHi<|im_end|>\n");

    let (responses, text) = read("/v1/responses", "req-responses.json");
    assert_eq!((responses.max_tokens, responses.stream), (Some(32), true));
    assert_eq!(text, "Write one line.");
    assert_eq!(read("/v1/embeddings", "req-embeddings.json").1, "a b c d");
    let (rerank, text) = read("/v1/rerank", "req-rerank.json");
    assert_eq!((model(&rerank).as_str(), text.as_str()), ("rank-demo", ""));
    assert!(files.is_empty(), "no expectation for {:?}", files.keys());
}

/// The parser that reads `path` where none are configured.
fn parser_of(path: &str) -> Arc<dyn Parser> {
    let types = [openai::TYPE, anthropic::TYPE, token_ids::VLLM, generic::TYPE];
    let parsers = types.iter().map(|built_in| built(built_in, "{}").parser.unwrap());
    let longest = parsers.max_by_key(|parser| {
        let claims = parser.paths().iter().filter(|claim| claims(claim, path));
        claims.map(|claim| claim.len()).max().or(parser.paths().is_empty().then_some(0))
    });
    longest.unwrap()
}

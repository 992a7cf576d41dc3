//! The parsers on what real and modelled servers were asked and answered: the files of `tests/it/fixtures`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use epp_framework::request::Prompt;

use super::openai::{ParseError, ParsedBody, parse};
use super::usage::UsageReader;

/// Answers that are not read, and why.
const NOT_READ: [(&str, &str); 2] = [
    (
        "resp-ollama-chat.ndjson",
        "a JSON object per line, with counts of its own: no engine that epp knows answers so",
    ),
    ("sse-chat-usage.txt.gz", "compressed: answers pass as they are, and nothing is decompressed"),
];

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
fn usage(name: &str, streaming: bool, answer: &[u8]) -> Option<[Option<u64>; 4]> {
    let read = |size: usize| {
        let mut reader = UsageReader::new(streaming);
        answer.chunks(size).for_each(|chunk| reader.feed(chunk));
        let usage = reader.finish()?;
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
        let found = usage(name, framing.starts_with("sse"), answer);
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
            assert_eq!(usage(name, false, answer), None, "{name}");
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
        assert_eq!(usage(name, has_extension(name, "sse"), &files[name]), want, "{name}");
    }
    let pages = files.keys().filter(|name| has_extension(name, "prom")).count();
    assert_eq!(files.len(), cases.len() + pages, "a file without an expectation");
}

#[test]
fn sampled_requests_are_read() {
    let mut files = files("model_servers/samples");
    files.retain(|name, _| name.starts_with("req-"));
    let mut body = |name: &str| parse(&files.remove(name).expect(name));
    let text = |parsed: &ParsedBody| match &parsed.prompt {
        Prompt::Text(text) => text.clone(),
        other => panic!("no text: {other:?}"),
    };

    let chat = body("req-chat-basic.json").unwrap();
    assert_eq!((chat.model.as_str(), chat.max_tokens), ("qwen-demo", Some(16)));
    let (system, user) =
        ("<|im_start|>system\nBe brief.<|im_end|>\n", "<|im_start|>user\nName a river.<|im_end|>\n");
    assert_eq!(text(&chat), format!("{system}{user}"));

    let media = body("req-chat-multimodal-tools.json").unwrap();
    let prompt = text(&media);
    assert!(prompt.starts_with("<|im_start|>user\nWhat is in this picture?<|"), "{prompt}");
    // The assistant's message between has a tool call and no content.
    assert!(prompt.ends_with("|><|im_end|>\n<|im_start|>tool\ndone<|im_end|>\n"), "{prompt}");
    assert_eq!((media.model.as_str(), media.max_tokens), ("vl-demo", None));

    let prefill = body("req-chat-pd-prefill.json").unwrap();
    assert_eq!(prefill.max_tokens, Some(1));
    assert_eq!(text(&prefill), "<|im_start|>user\nHello<|im_end|>\n");

    let tokens = body("req-completions-token-ids.json").unwrap();
    assert_eq!(tokens.prompt, Prompt::Tokens(vec![101, 7592, 2088, 101, 102]));
    assert_eq!((tokens.prompt_tokens, tokens.max_tokens), (5, Some(0)));

    // The system text of the messages API stands beside its messages, and is not part of the prompt.
    let messages = body("req-messages.json").unwrap();
    assert_eq!(messages.max_tokens, Some(64));
    assert_eq!(text(&messages), "<|im_start|>user\nHi<|im_end|>\n");

    // As v1.0.1, which reads completions and chat only.
    for name in ["req-embeddings.json", "req-rerank.json", "req-responses.json"] {
        assert_eq!(body(name), Err(ParseError::PromptMissing), "{name}");
    }
    assert!(files.is_empty(), "no expectation for {:?}", files.keys());
}

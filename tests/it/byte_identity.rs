//! Bodies pass byte for byte: of a request the model's name changes if it is rewritten, of its answer the model's name is
//! mapped back, and nothing else changes, however odd the JSON and however it is cut.
//!
//! For each API 10,000 requests and answers are made at random from a fixed seed, beside what they should become.

use envoy_types::pb::envoy::service::ext_proc::v3::body_mutation::Mutation;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::envoy::service::ext_proc::v3::{ProcessingRequest, ProcessingResponse};
use epp::director::Rules;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::support::hermetic::{Hermetic, request_body, request_headers, response_body, response_headers};

/// Requests and answers per API.
const N: usize = 10_000;

const CLIENT: &str = "the client's / model \u{e9}";
const TARGET: &str = "target/model";

/// Text as it is sent, and as it should go on.
#[derive(Default)]
struct Pair {
    sent: String,
    want: String,
}

impl Pair {
    fn both(&mut self, text: &str) {
        self.sent += text;
        self.want += text;
    }

    /// A member whose value changes.
    fn changes(&mut self, sent: &str, want: &str) {
        self.sent += sent;
        self.want += want;
    }
}

/// Writes JSON as nobody would.
struct Writer(SmallRng);

impl Writer {
    fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn blanks(&mut self) -> &'static str {
        self.one_of(&["", "", "", " ", "\n", "\t ", "\r\n", "   "])
    }

    /// A string, quotes included, that means `text`, with escapes where none are needed.
    fn string(&mut self, text: &str) -> String {
        let mut json = String::from("\"");
        for c in text.chars() {
            match (c, self.below(6)) {
                ('"' | '\\', _) => json.extend(['\\', c]),
                ('/', 0) => json += "\\/",
                (c, 1) => {
                    json.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
                }
                (c, _) => json.push(c),
            }
        }
        json + "\""
    }

    /// Any value; nothing in it is a model.
    fn value(&mut self, depth: usize) -> String {
        let kinds = if depth == 0 { 5 } else { 7 };
        match self.below(kinds) {
            0 => self.one_of(&["true", "false", "null"]).to_owned(),
            1 => self
                .one_of(&[
                    "0",
                    "-0",
                    "1.0",
                    "1.50",
                    "1e400",
                    "9007199254740993",
                    "123456789012345678901234567890",
                    "-1E-7",
                ])
                .to_owned(),
            2 => {
                let text = self.one_of(&[
                    "",
                    "plain",
                    "\u{4e2d}\u{6587} \u{1f600}",
                    "say \"model\": \"x\"",
                    "a/b\\c",
                ]);
                self.string(text)
            }
            // What a JSON value cannot hold, and JSON text can.
            3 => self
                .one_of(&[r#""\ud800""#, r#""\udfff\ud800x""#, r#""\u0000\u001f""#, r#""data: [DONE]\n\n""#])
                .to_owned(),
            4 => {
                self.one_of(&["<&>\u{2028}", "\u{7f}"])
                    .chars()
                    .fold("\"".to_owned(), |text, c| text + &c.to_string())
                    + "\""
            }
            5 => {
                let n = self.below(4);
                let items: Vec<_> = (0..n)
                    .map(|_| self.blanks().to_owned() + &self.value(depth - 1) + self.blanks())
                    .collect();
                format!("[{}]", items.join(","))
            }
            _ => {
                let n = self.below(4);
                let members: Vec<_> = (0..n).map(|_| self.member(depth - 1)).collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }

    fn member(&mut self, depth: usize) -> String {
        // Some keys come twice.
        let key = self.one_of(&["a", "a", "temperature", "\u{fc}", "models", "mode", ""]);
        let (key, value) = (self.string(key), self.value(depth));
        [self.blanks(), &key, self.blanks(), ":", self.blanks(), &value, self.blanks()].concat()
    }

    /// A member with a value that is written already.
    fn written(&mut self, key: &str, value: &str) -> String {
        [self.blanks(), "\"", key, "\"", self.blanks(), ":", self.blanks(), value, self.blanks()].concat()
    }

    /// A request: what the API wants, a model, sometimes one before it that does not count, and other members.
    fn request(&mut self, required: &str) -> Pair {
        let mut members: Vec<(String, String)> = Vec::new();
        for _ in 0..self.below(4) {
            let member = self.member(2);
            members.push((member.clone(), member));
        }
        let at = self.below(members.len() + 1);
        members.insert(at, (required.to_owned(), required.to_owned()));
        if self.below(4) == 0 {
            let first = self.written("model", "\"overruled\"");
            members.insert(0, (first.clone(), first));
        }
        let at = 1 + self.below(members.len());
        let model = self.string(CLIENT);
        let blanks = [self.blanks(), self.blanks(), self.blanks(), self.blanks()];
        let around =
            |model: &str| format!("{}\"model\"{}:{}{model}{}", blanks[0], blanks[1], blanks[2], blanks[3]);
        members.insert(at, (around(&model), around(&format!("\"{TARGET}\""))));
        let mut pair = Pair::default();
        pair.both(self.blanks());
        pair.both("{");
        for (n, (sent, want)) in members.iter().enumerate() {
            pair.both(if n == 0 { "" } else { "," });
            pair.changes(sent, want);
        }
        pair.both("}");
        pair.both(self.blanks());
        pair
    }

    /// An object of an answer that names the target here and there.
    fn answer(&mut self, depth: usize) -> Pair {
        let mut pair = Pair::default();
        pair.both("{");
        for n in 0..=self.below(4) {
            pair.both(if n == 0 { "" } else { "," });
            match self.below(4) {
                0 => {
                    let (name, before, behind) = (self.string(TARGET), self.blanks(), self.blanks());
                    let around = |name: &str| format!("\"model\"{before}:{behind}{name}");
                    let client = serde_json::to_string(CLIENT).expect("it is a string");
                    pair.changes(&around(&name), &around(&client));
                }
                1 => {
                    let other = self.one_of(&["target/mode", "target/model2", "TARGET/model", ""]);
                    let other = self.string(other);
                    let member = self.written("model", &other);
                    pair.both(&member);
                }
                2 if depth > 0 => {
                    let inner = self.answer(depth - 1);
                    pair.both("\"response\":");
                    pair.changes(&inner.sent, &inner.want);
                }
                _ => {
                    let member = self.member(1);
                    pair.both(&member);
                }
            }
        }
        pair.both("}");
        pair
    }

    /// An answer as one body, or as events.
    fn whole_answer(&mut self, events: bool) -> Pair {
        let mut pair = self.answer(2);
        if !events {
            return pair;
        }
        for _ in 0..self.below(3) {
            let next = self.answer(1);
            pair.both("\n\ndata:");
            pair.changes(&next.sent, &next.want);
        }
        let mut whole = Pair::default();
        whole.both("data: ");
        whole.changes(&pair.sent, &pair.want);
        whole.both("\n\ndata: [DONE]\n\n");
        // An object of an event is on one line.
        whole
    }

    /// The bytes in chunks of any length, the last of which may be empty.
    fn cut<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let longest = [1, 7, 100, 10_000][self.below(4)];
        let mut chunks = Vec::new();
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(bytes.len().min(1 + self.below(longest)));
            chunks.push(chunk);
            bytes = rest;
        }
        if chunks.is_empty() || self.below(2) == 0 {
            chunks.push(&[]);
        }
        chunks
    }
}

fn messages(chunks: &[&[u8]], make: impl Fn(&[u8], bool) -> ProcessingRequest) -> Vec<ProcessingRequest> {
    chunks.iter().enumerate().map(|(n, chunk)| make(chunk, n + 1 == chunks.len())).collect()
}

/// The bytes that go on, of the request and of the answer.
fn passed(answers: &[ProcessingResponse]) -> [Vec<u8>; 2] {
    let mut bodies = [Vec::new(), Vec::new()];
    let mut ended = [false, false];
    for answer in answers {
        let (body, which) = match &answer.response {
            Some(Response::RequestBody(body)) => (body, 0),
            Some(Response::ResponseBody(body)) => (body, 1),
            Some(Response::RequestHeaders(_) | Response::ResponseHeaders(_)) => continue,
            other => panic!("{other:?}"),
        };
        let mutation =
            body.response.as_ref().and_then(|common| common.body_mutation.as_ref()?.mutation.as_ref());
        let Some(Mutation::StreamedResponse(piece)) = mutation else { panic!("{mutation:?}") };
        assert!(!ended[which], "nothing comes behind the end");
        bodies[which].extend_from_slice(&piece.body);
        ended[which] = piece.end_of_stream;
    }
    assert_eq!(ended, [true, true]);
    bodies
}

async fn check(path: &str, required: &str, seed: u64) {
    let rules = Rules { rewrite_response_model: true, ..Rules::default() };
    let epp = Hermetic::with_rules(&[(0, 0.1, "")], rules).await;
    let headers = [(":path", path), ("x-gateway-model-name-rewrite", TARGET)];
    let mut writer = Writer(SmallRng::seed_from_u64(seed));
    for n in 0..N {
        let request = writer.request(required);
        let events = writer.below(2) == 0;
        let answer = writer.whole_answer(events);
        let chunks = writer.cut(request.sent.as_bytes());
        let mut all = vec![request_headers(&headers, false)];
        all.extend(messages(&chunks, |chunk, end| request_body(chunk, end)));
        let content_type = if events { "text/event-stream" } else { "application/json" };
        all.push(response_headers(&[(":status", "200"), ("content-type", content_type)]));
        let chunks = writer.cut(answer.sent.as_bytes());
        all.extend(messages(&chunks, |chunk, end| response_body(chunk, end)));
        let (answers, end) = epp.exchange(all).await;
        assert!(end.is_ok(), "{path}, {n}: {end:?}");
        let [to_server, to_client] = passed(&answers);
        assert_eq!(
            String::from_utf8_lossy(&to_server),
            request.want,
            "{path}, request {n}: {}",
            request.sent
        );
        assert_eq!(String::from_utf8_lossy(&to_client), answer.want, "{path}, answer {n}: {}", answer.sent);
    }
    assert_eq!(epp.held(), (0, 0, 0));
}

const MESSAGES: &str = r#""messages" : [ {"content" : "a\u00e9\ud83d\ude00", "role":"user"} ]"#;

#[tokio::test]
async fn chats_pass_but_for_the_model() {
    check("/v1/chat/completions", MESSAGES, 1).await;
}

#[tokio::test]
async fn completions_pass_but_for_the_model() {
    check("/v1/completions", r#""prompt":["a" , "\u0062"]"#, 2).await;
}

#[tokio::test]
async fn responses_pass_but_for_the_model() {
    check("/v1/responses", r#""input":"a\\""#, 3).await;
}

#[tokio::test]
async fn embeddings_pass_but_for_the_model() {
    check("/v1/embeddings", r#""input":[1,2,  3]"#, 4).await;
}

#[tokio::test]
async fn messages_pass_but_for_the_model() {
    check("/v1/messages", MESSAGES, 5).await;
}

#[tokio::test]
async fn token_ids_pass_but_for_the_model() {
    check("/inference/v1/generate", r#""token_ids":[ 4294967295 ]"#, 6).await;
}

#[tokio::test]
async fn whatever_else_passes_but_for_the_model() {
    check("/v1/rerank?x=1", r#""query":"a""#, 7).await;
}

#[tokio::test]
async fn conversations_pass_but_for_the_model() {
    check(
        "/v1/conversations",
        r#""items":[{"role":"user","content":[{"type":"input_text","text":"\/"}]}]"#,
        8,
    )
    .await;
}

#[tokio::test]
async fn images_pass_but_for_the_model() {
    check("/v1/images/generations", r#""prompt" :"a \ud83d\ude00""#, 9).await;
}

//! Rows 29 to 40 of the functional specification, as far as a parser has a part in them; and the same of Vertex AI.

use super::*;
use crate::parser::vertex_ai;
use crate::parser::wire::vertex::{HttpBody, RawPredictRequest};
use crate::parser::wire::vllm::{GenerateComplete, GenerateStreamChunk};
use crate::testing::built;

const GENERATE: &str = "/vllm.grpc.engine.VllmEngine/Generate";
const EMBED: &str = "/vllm.grpc.engine.VllmEngine/Embed";

fn frame(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat()
}

fn parse_with(plugin: &PluginType, path: &str, body: Vec<u8>) -> Result<ParsedRequest, ParseError> {
    let bytes = body.into();
    built(plugin, "{}").parser.unwrap().parse(&RequestBody { path, bytes: &bytes, whole: true })
}

fn generate(input: Option<Input>, stream: bool) -> Vec<u8> {
    frame(&GenerateRequest { request_id: "r".into(), input, stream })
}

#[test]
fn rows_29_to_31_and_39_requests_are_read() {
    let ids = TokenizedInput { original_text: String::new(), input_ids: vec![1, 70_000] };
    let ids_read = [1u32, 70_000].map(u32::to_le_bytes).concat();
    let embed = frame(&EmbedRequest { request_id: String::new(), tokenized: Some(ids.clone()) });
    for (row, path, body, prompt, n_tokens, stream) in [
        ("29", GENERATE, generate(Some(Input::Text("test1".into())), false), b"test1".to_vec(), 2, false),
        ("29, ids", GENERATE, generate(Some(Input::Tokenized(ids)), false), ids_read.clone(), 2, false),
        ("30", EMBED, embed, ids_read, 2, false),
        ("31", GENERATE, generate(Some(Input::Text("test1".into())), true), b"test1".to_vec(), 2, true),
        (
            "39: as llm-d, others pass",
            "/vllm.grpc.engine.VllmEngine/HealthCheck",
            vec![1],
            Vec::new(),
            0,
            false,
        ),
    ] {
        let parsed = parse_with(&TYPE, path, body).expect(row);
        assert_eq!((parsed.prompt.to_vec(), parsed.prompt.n_tokens()), (prompt, n_tokens), "row {row}");
        assert_eq!((parsed.stream, parsed.needs_model, parsed.model), (stream, false, None), "row {row}");
    }
}

#[test]
fn row_40_what_is_no_message_is_refused() {
    let whole = generate(Some(Input::Text("a".into())), false);
    let flagged = [&[1][..], &whole[1..]].concat();
    for (name, body) in [
        ("shorter than a head", vec![0; 4]),
        ("compressed", flagged),
        ("longer than it is", whole[..whole.len() - 1].to_vec()),
        ("no input", generate(None, false)),
        ("no message", vec![0, 0, 0, 0, 2, 0xFF, 0xFF]),
    ] {
        let read = parse_with(&TYPE, GENERATE, body);
        assert!(matches!(read, Err(ParseError::Invalid(_))), "{name}: {read:?}");
    }
}

fn response(response: Response) -> Vec<u8> {
    frame(&GenerateResponse { response: Some(response) })
}

fn read_answer(plugin: &PluginType, path: &str, answer: &[u8], size: usize) -> (Vec<bool>, Answer) {
    let mut reader = built(plugin, "{}").parser.unwrap().answer(path, &AnswerHead::default()).unwrap();
    let output = answer.chunks(size).map(|chunk| reader.feed(chunk)).collect();
    (output, reader.finish())
}

#[test]
fn rows_35_to_38_answers_are_read() {
    let chunk = response(Response::Chunk(GenerateStreamChunk {
        prompt_tokens: 7,
        completion_tokens: 4,
        cached_tokens: 0,
    }));
    let complete = response(Response::Complete(GenerateComplete {
        finish_reason: "stop".into(),
        prompt_tokens: 7,
        completion_tokens: 10,
        cached_tokens: 3,
    }));
    let counts = |answer: Answer| {
        let usage = answer.usage?;
        Some((usage.prompt_tokens?, usage.completion_tokens, usage.cached_tokens))
    };
    let done = Some((7, Some(10), Some(3)));
    for (row, path, answer, want, end) in [
        ("37", GENERATE, complete.clone(), done, AnswerEnd::Complete),
        ("38", GENERATE, [chunk.clone(), complete].concat(), done, AnswerEnd::Complete),
        ("no end", GENERATE, chunk.clone(), Some((7, Some(4), Some(0))), AnswerEnd::Truncated),
        ("36", GENERATE, b"no healthy upstream".to_vec(), None, AnswerEnd::Truncated),
        ("nothing", GENERATE, Vec::new(), None, AnswerEnd::Truncated),
        ("no message", GENERATE, vec![0, 0, 0, 0, 2, 0xFF, 0xFF], None, AnswerEnd::Unreadable),
        (
            "embed",
            EMBED,
            frame(&EmbedResponse { prompt_tokens: 7 }),
            Some((7, None, None)),
            AnswerEnd::Complete,
        ),
    ] {
        for size in [1, 2, 1000] {
            let (_, answer) = read_answer(&TYPE, path, &answer, size);
            assert_eq!((counts(answer), answer.end), (want, end), "row {row}, chunks of {size}");
        }
    }
    let (output, _) = read_answer(&TYPE, GENERATE, &[chunk.clone(), chunk.clone()].concat(), chunk.len());
    assert_eq!(output, [true, true], "row 38: each message is output as it comes");
}

#[test]
fn vertex_messages_carry_json() {
    let body = |data: &str| HttpBody { content_type: String::new(), data: data.to_owned().into() };
    let request =
        |data: &str| frame(&RawPredictRequest { endpoint: "e".into(), http_body: Some(body(data)) });
    let path = "/google.cloud.aiplatform.v1.PredictionService/ChatCompletions";
    let chat =
        request(r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"a"}],"max_tokens":5}"#);
    let parsed = parse_with(&vertex_ai::TYPE, path, chat).unwrap();
    assert_eq!((parsed.model.as_deref(), parsed.stream, parsed.max_tokens), (Some("m"), true, Some(5)));
    assert_eq!(parsed.prompt.to_vec(), b"<|im_start|>user\na<|im_end|>\n");
    assert_eq!(parsed.model_place.splice("n"), None, "it would change the lengths around it");
    for (name, body) in [("no JSON", request("oops")), ("no frame", b"{}".to_vec())] {
        assert!(parse_with(&vertex_ai::TYPE, path, body).is_err(), "{name}");
    }
    let other = "/google.cloud.aiplatform.v1beta1.PredictionService/Predict";
    assert!(parse_with(&vertex_ai::TYPE, other, vec![1]).unwrap().prompt.is_empty());

    let usage = r#"{"usage":{"prompt_tokens":7,"completion_tokens":10}}"#;
    for (name, answer) in [
        ("one body", frame(&body(usage))),
        (
            "events",
            [frame(&body(&format!("data: {}", &usage[..9]))), frame(&body(&format!("{}\n\n", &usage[9..])))]
                .concat(),
        ),
    ] {
        for size in [1, 7, 1000] {
            let (_, answer) = read_answer(&vertex_ai::TYPE, path, &answer, size);
            let usage = answer.usage.expect(name);
            assert_eq!((usage.prompt_tokens, usage.completion_tokens), (Some(7), Some(10)), "{name}");
        }
    }
}

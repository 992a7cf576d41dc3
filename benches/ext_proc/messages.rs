//! What Envoy would send, as gRPC frames ready for the wire.

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, ProcessingRequest, ProtocolConfiguration, processing_request::Request,
};
use prost::Message;

/// Longest body message, in bytes.
const PIECE_BYTES: usize = 16 << 10;

/// Request headers as a client behind Envoy sends them.
const REQUEST_HEADERS: &[(&str, &str)] = &[
    (":authority", "gateway.example.com"),
    (":path", "/v1/chat/completions"),
    (":method", "POST"),
    (":scheme", "http"),
    ("content-type", "application/json"),
    ("accept", "*/*"),
    ("accept-encoding", "gzip, deflate"),
    ("user-agent", "OpenAI/Python 1.99.0"),
    ("authorization", "Bearer sk-0123456789abcdef0123456789abcdef"),
    ("x-forwarded-for", "10.1.2.3"),
    ("x-forwarded-proto", "http"),
    ("x-envoy-external-address", "10.1.2.3"),
    ("x-request-id", "6f3c2c52-5f3e-4a7a-9a53-0d4f5b1a7e11"),
];

const RESPONSE_HEADERS: &[(&str, &str)] = &[
    (":status", "200"),
    ("date", "Mon, 01 Jan 2024 00:00:00 GMT"),
    ("server", "uvicorn"),
    ("x-request-id", "6f3c2c52-5f3e-4a7a-9a53-0d4f5b1a7e11"),
    ("x-envoy-upstream-service-time", "120"),
    ("vary", "accept-encoding"),
    ("x-process-time", "0.12"),
];

fn headers(pairs: &[(&str, &str)]) -> HttpHeaders {
    let header = |&(key, value): &(&str, &str)| HeaderValue {
        key: key.to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let map = HeaderMap { headers: pairs.iter().map(header).collect() };
    HttpHeaders { headers: Some(map), ..HttpHeaders::default() }
}

fn frame(message: &ProcessingRequest) -> Bytes {
    let len = message.encoded_len();
    let mut frame = BytesMut::with_capacity(len + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(len).expect("messages are small"));
    message.encode(&mut frame).expect("the frame is large enough");
    frame.freeze()
}

fn of(request: Request) -> ProcessingRequest {
    ProcessingRequest { request: Some(request), ..ProcessingRequest::default() }
}

/// The first message of a stream.
pub(crate) fn request_headers() -> Bytes {
    let duplex = BodySendMode::FullDuplexStreamed.into();
    let config = ProtocolConfiguration {
        request_body_mode: duplex,
        response_body_mode: duplex,
        ..ProtocolConfiguration::default()
    };
    let message = of(Request::RequestHeaders(headers(REQUEST_HEADERS)));
    frame(&ProcessingRequest { protocol_config: Some(config), ..message })
}

/// The response's headers.
pub(crate) fn response_headers(event_stream: bool) -> Bytes {
    let content_type = if event_stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    let pairs = [RESPONSE_HEADERS, &[("content-type", content_type)]].concat();
    frame(&of(Request::ResponseHeaders(headers(&pairs))))
}

/// A whole request body, cut as Envoy cuts it.
pub(crate) fn request_body(body: &[u8]) -> impl Iterator<Item = Bytes> {
    let last = body.len().saturating_sub(1) / PIECE_BYTES;
    body.chunks(PIECE_BYTES).enumerate().map(move |(n, piece)| {
        let body = HttpBody { body: piece.to_vec(), end_of_stream: n == last, ..HttpBody::default() };
        frame(&of(Request::RequestBody(body)))
    })
}

/// One chunk of the response.
pub(crate) fn response_chunk(chunk: &[u8], end_of_stream: bool) -> Bytes {
    let body = HttpBody { body: chunk.to_vec(), end_of_stream, ..HttpBody::default() };
    frame(&of(Request::ResponseBody(body)))
}

/// A chat of `len` bytes. Its first half is one of eight, its second half is new with each `number`.
pub(crate) fn chat(len: usize, number: u64, stream: bool) -> Vec<u8> {
    let group = number % 8;
    let head = format!(
        r#"{{"model":"sim-model","stream":{stream},"max_tokens":64,"messages":[{{"role":"system","content":"system {group}"#
    );
    let middle = format!(r#""}},{{"role":"user","content":"question {number}"#);
    let tail = r#""}]}"#;
    let words = b" the quick brown fox jumps over the lazy dog and runs away,";
    let mut chat = head.into_bytes();
    let fill = |chat: &mut Vec<u8>, upto: usize| {
        while chat.len() < upto {
            let n = words.len().min(upto - chat.len());
            chat.extend_from_slice(&words[..n]);
        }
    };
    fill(&mut chat, len / 2);
    chat.extend_from_slice(middle.as_bytes());
    fill(&mut chat, len - tail.len());
    chat.extend_from_slice(tail.as_bytes());
    chat
}

/// A whole answer to a chat, 600 bytes.
pub(crate) fn answer() -> Vec<u8> {
    let usage = r#""usage":{"prompt_tokens":120,"total_tokens":184,"completion_tokens":64}}"#;
    let head = r#"{"id":"chatcmpl-0123456789","object":"chat.completion","model":"sim-model","choices":[{"index":0,"message":{"role":"assistant","content":""#;
    let foot = r#""},"finish_reason":"stop"}],"#;
    let text = "x".repeat(600 - head.len() - foot.len() - usage.len());
    [head, &text, foot, usage].concat().into_bytes()
}

/// Event `n` of a streamed answer, about 200 bytes; the last of `of` tells the usage and the end.
pub(crate) fn event(n: usize, of: usize) -> Vec<u8> {
    if n + 1 == of {
        let usage = r#""usage":{"prompt_tokens":120,"total_tokens":320,"completion_tokens":200}}"#;
        let event = format!(r#"data: {{"id":"chatcmpl-0123456789","choices":[],{usage}"#);
        return format!("{event}\n\ndata: [DONE]\n\n").into_bytes();
    }
    let head = format!(
        r#"data: {{"id":"chatcmpl-0123456789","object":"chat.completion.chunk","created":1700000000,"model":"sim-model","choices":[{{"index":0,"delta":{{"content":" {n:08}"}},"logprobs":null,"finish_reason":null}}]"#
    );
    format!("{head}}}\n\n").into_bytes()
}

//! Answers of `/v1/messages`. Entry points: [`whole`] and [`step`].

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{Answer, Null, push_event};
use crate::sim::server::live::Progress;
use crate::sim::server::record::Finish;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    MessageStart { message: Start<'a> },
    ContentBlockStart { content_block: Block<'a>, index: u32 },
    ContentBlockDelta { delta: Block<'a>, index: u32 },
    ContentBlockStop { index: u32 },
    MessageDelta { delta: Stop, usage: Usage },
    MessageStop {},
}

#[derive(Serialize)]
struct Start<'a> {
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    content: [Null; 0],
    model: &'a str,
    stop_reason: Null,
    stop_sequence: Null,
    usage: StartUsage,
}

#[derive(Serialize)]
struct Whole<'a> {
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    content: [Block<'a>; 1],
    model: &'a str,
    stop_reason: &'static str,
    usage: Usage,
}

#[derive(Serialize)]
struct Block<'a> {
    r#type: &'static str,
    text: &'a str,
}

#[derive(Serialize)]
struct Stop {
    stop_reason: &'static str,
    stop_sequence: Null,
}

/// What is known at the start: the prompt, cached or not.
#[derive(Serialize)]
struct StartUsage {
    input_tokens: usize,
    output_tokens: u32,
}

/// The final count, where cached tokens are told apart.
#[derive(Serialize)]
struct Usage {
    #[serde(rename = "input_tokens")]
    input: usize,
    #[serde(rename = "output_tokens")]
    output: u32,
    #[serde(rename = "cache_creation_input_tokens")]
    cache_creation: u32,
    #[serde(rename = "cache_read_input_tokens")]
    cache_read: u32,
}

/// The answer as one body.
pub(super) fn whole(answer: &Answer, progress: Progress) -> Response {
    let text = answer.text(0, progress.n_output);
    let whole = Whole {
        id: &answer.id,
        r#type: "message",
        role: "assistant",
        content: [Block { r#type: "text", text: &text }],
        model: &answer.model,
        stop_reason: stop_reason(answer),
        usage: usage(answer, progress),
    };
    Json(whole).into_response()
}

/// The events for the tokens after `n_sent`.
pub(super) fn step(answer: &Answer, n_sent: u32, progress: Progress) -> String {
    let mut out = String::new();
    if n_sent == 0 {
        push_event(&mut out, "message_start", &Event::MessageStart { message: start(answer) });
        let content_block = Block { r#type: "text", text: "" };
        push_event(&mut out, "content_block_start", &Event::ContentBlockStart { content_block, index: 0 });
    }
    let news = answer.text(n_sent, progress.n_output);
    if !news.is_empty() {
        let delta = Block { r#type: "text_delta", text: &news };
        push_event(&mut out, "content_block_delta", &Event::ContentBlockDelta { delta, index: 0 });
    }
    if progress.is_finished {
        push_event(&mut out, "content_block_stop", &Event::ContentBlockStop { index: 0 });
        let delta = Stop { stop_reason: stop_reason(answer), stop_sequence: () };
        let usage = usage(answer, progress);
        push_event(&mut out, "message_delta", &Event::MessageDelta { delta, usage });
        push_event(&mut out, "message_stop", &Event::MessageStop {});
    }
    out
}

fn start(answer: &Answer) -> Start<'_> {
    Start {
        id: &answer.id,
        r#type: "message",
        role: "assistant",
        content: [],
        model: &answer.model,
        stop_reason: (),
        stop_sequence: (),
        usage: StartUsage { input_tokens: answer.n_prompt, output_tokens: 0 },
    }
}

fn stop_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
    }
}

fn usage(answer: &Answer, progress: Progress) -> Usage {
    Usage {
        input: answer.n_prompt.saturating_sub(progress.n_cached as usize),
        output: progress.n_output,
        cache_creation: 0,
        cache_read: progress.n_cached,
    }
}

//! Answers of `/v1/responses`. Entry points: [`whole`], [`opening`] and [`step`]. The last event is named
//! `response.incomplete` where the token limit cut the answer, as of vLLM 0.33; 0.32 named it `response.completed`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{Answer, Null, push_event};
use crate::sim::server::live::Progress;
use crate::sim::server::record::Finish;

/// A list that is always empty.
type Nothing = [Null; 0];

#[derive(Serialize)]
struct Whole<'a> {
    id: &'a str,
    created_at: u64,
    incomplete_details: Option<Incomplete>,
    instructions: Null,
    metadata: Null,
    model: &'a str,
    object: &'static str,
    output: &'a [Item<'a>],
    parallel_tool_calls: bool,
    temperature: f32,
    tool_choice: &'static str,
    tools: Nothing,
    top_p: f32,
    background: bool,
    max_output_tokens: Option<u32>,
    max_tool_calls: Null,
    previous_response_id: Null,
    prompt: Null,
    reasoning: Null,
    service_tier: &'static str,
    status: &'static str,
    text: Null,
    top_logprobs: Null,
    truncation: &'static str,
    usage: Option<Usage>,
    user: Null,
    presence_penalty: f32,
    frequency_penalty: f32,
    kv_transfer_params: Null,
    ec_transfer_params: Null,
    input_messages: Null,
    output_messages: Null,
}

#[derive(Serialize)]
struct Incomplete {
    reason: &'static str,
}

#[derive(Serialize)]
struct Item<'a> {
    id: &'a str,
    content: &'a [Part<'a>],
    role: &'static str,
    status: &'static str,
    r#type: &'static str,
    phase: Null,
}

#[derive(Serialize)]
struct Part<'a> {
    annotations: Nothing,
    text: &'a str,
    r#type: &'static str,
    logprobs: Option<Nothing>,
}

#[derive(Serialize)]
struct Usage {
    input_tokens: usize,
    input_tokens_details: InputDetails,
    output_tokens: u32,
    output_tokens_details: OutputDetails,
    total_tokens: usize,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u32,
    cache_write_tokens: u32,
    input_tokens_per_turn: Nothing,
    cached_tokens_per_turn: Nothing,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u32,
    tool_output_tokens: u32,
    output_tokens_per_turn: Nothing,
    tool_output_tokens_per_turn: Nothing,
}

/// An event of any name: each has some of the keys, always in this order.
#[derive(Default, Serialize)]
#[serde(default)]
struct Event<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Nothing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<Part<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Whole<'a>>,
    sequence_number: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    r#type: &'static str,
}

/// The answer as one body.
pub(super) fn whole(answer: &Answer, max_output_tokens: Option<u32>, progress: Progress) -> Response {
    let (item_id, text) = (item_id(answer), answer.text(0, progress.n_output));
    let content = [part(&text, None)];
    Json(ended(answer, max_output_tokens, progress, &[item(&item_id, &content, "completed")])).into_response()
}

/// The two events that come before there is a token.
pub(super) fn opening(answer: &mut Answer, max_output_tokens: Option<u32>) -> String {
    let mut events = Events { out: String::new(), n_events: answer.n_events };
    for name in ["response.created", "response.in_progress"] {
        let response = Some(response(answer, max_output_tokens, "in_progress", &[]));
        events.push(name, Event { response, ..Event::default() });
    }
    answer.n_events = events.n_events;
    events.out
}

/// The events for the tokens after `n_sent`.
pub(super) fn step(
    answer: &mut Answer,
    max_output_tokens: Option<u32>,
    n_sent: u32,
    progress: Progress,
) -> String {
    let mut events = Events { out: String::new(), n_events: answer.n_events };
    let item_id = item_id(answer);
    if n_sent == 0 {
        let item = Some(item(&item_id, &[], "in_progress"));
        events.push("response.output_item.added", Event { item, output_index: Some(0), ..Event::default() });
        let part = Some(part("", Some([])));
        events.push("response.content_part.added", Event { part, ..in_part(&item_id) });
    }
    let news = answer.text(n_sent, progress.n_output);
    if !news.is_empty() {
        let delta = Event { delta: Some(&news), logprobs: Some([]), ..in_part(&item_id) };
        events.push("response.output_text.delta", delta);
    }
    if progress.is_finished {
        let text = answer.text(0, progress.n_output);
        let content = [part(&text, None)];
        let all_text = Event { text: Some(&text), logprobs: Some([]), ..in_part(&item_id) };
        events.push("response.output_text.done", all_text);
        let all_part = Event { part: Some(part(&text, None)), ..in_part(&item_id) };
        events.push("response.content_part.done", all_part);
        let all_item = Some(item(&item_id, &content, "completed"));
        let done = Event { item: all_item, output_index: Some(0), ..Event::default() };
        events.push("response.output_item.done", done);
        let output = [item(&item_id, &content, "completed")];
        let response = Some(ended(answer, max_output_tokens, progress, &output));
        let name = match answer.finish {
            Finish::Stop => "response.completed",
            Finish::Length => "response.incomplete",
        };
        events.push(name, Event { response, ..Event::default() });
    }
    answer.n_events = events.n_events;
    events.out
}

/// Numbers events and writes them.
struct Events {
    out: String,
    n_events: u32,
}

impl Events {
    fn push(&mut self, name: &'static str, event: Event<'_>) {
        let event = Event { sequence_number: self.n_events, r#type: name, ..event };
        push_event(&mut self.out, name, &event);
        self.n_events += 1;
    }
}

fn item_id(answer: &Answer) -> String {
    answer.id.replacen("resp", "msg", 1)
}

fn in_part(item_id: &str) -> Event<'_> {
    Event { content_index: Some(0), item_id: Some(item_id), output_index: Some(0), ..Event::default() }
}

fn item<'a>(id: &'a str, content: &'a [Part<'a>], status: &'static str) -> Item<'a> {
    Item { id, content, role: "assistant", status, r#type: "message", phase: () }
}

fn part(text: &str, logprobs: Option<Nothing>) -> Part<'_> {
    Part { annotations: [], text, r#type: "output_text", logprobs }
}

fn ended<'a>(
    answer: &'a Answer,
    max_output_tokens: Option<u32>,
    progress: Progress,
    output: &'a [Item<'a>],
) -> Whole<'a> {
    let status = match answer.finish {
        Finish::Stop => "completed",
        Finish::Length => "incomplete",
    };
    let incomplete_details =
        (answer.finish == Finish::Length).then_some(Incomplete { reason: "max_output_tokens" });
    let usage = Usage {
        input_tokens: answer.n_prompt,
        input_tokens_details: InputDetails {
            cached_tokens: progress.n_cached,
            cache_write_tokens: 0,
            input_tokens_per_turn: [],
            cached_tokens_per_turn: [],
        },
        output_tokens: progress.n_output,
        output_tokens_details: OutputDetails {
            reasoning_tokens: 0,
            tool_output_tokens: 0,
            output_tokens_per_turn: [],
            tool_output_tokens_per_turn: [],
        },
        total_tokens: answer.n_prompt + progress.n_output as usize,
    };
    let response = response(answer, max_output_tokens, status, output);
    Whole { incomplete_details, usage: Some(usage), ..response }
}

fn response<'a>(
    answer: &'a Answer,
    max_output_tokens: Option<u32>,
    status: &'static str,
    output: &'a [Item<'a>],
) -> Whole<'a> {
    Whole {
        id: &answer.id,
        created_at: answer.created.as_secs(),
        incomplete_details: None,
        instructions: (),
        metadata: (),
        model: &answer.model,
        object: "response",
        output,
        parallel_tool_calls: true,
        temperature: 1.0,
        tool_choice: "none",
        tools: [],
        top_p: 1.0,
        background: false,
        max_output_tokens,
        max_tool_calls: (),
        previous_response_id: (),
        prompt: (),
        reasoning: (),
        service_tier: "auto",
        status,
        text: (),
        top_logprobs: (),
        truncation: "disabled",
        usage: None,
        user: (),
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        kv_transfer_params: (),
        ec_transfer_params: (),
        input_messages: (),
        output_messages: (),
    }
}

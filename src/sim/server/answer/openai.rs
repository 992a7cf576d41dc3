//! Answers of `/v1/chat/completions` and `/v1/completions`. Entry points: [`whole`] and [`step`].

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{Answer, Null, push_data, push_end};
use crate::sim::server::call::StreamUsage;
use crate::sim::server::live::Progress;

const FINGERPRINT: &str = "vllm-0.32.0-sim";

#[derive(Serialize)]
pub(super) struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
    completion_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<Null>,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u32,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Role {
        index: u32,
        delta: Delta<'a>,
        logprobs: Null,
        finish_reason: Null,
    },
    Delta {
        index: u32,
        delta: Delta<'a>,
        logprobs: Null,
        finish_reason: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stop_reason: Option<Null>,
        token_ids: Null,
    },
    Text {
        index: u32,
        text: &'a str,
        logprobs: Null,
        finish_reason: Option<&'static str>,
        stop_reason: Null,
        prompt_token_ids: Null,
        token_ids: Null,
    },
    WholeText {
        index: u32,
        text: &'a str,
        logprobs: Null,
        finish_reason: &'static str,
        stop_reason: Null,
        token_ids: Null,
        prompt_logprobs: Null,
        prompt_token_ids: Null,
    },
    WholeMessage {
        index: u32,
        message: Message<'a>,
        logprobs: Null,
        finish_reason: &'static str,
        stop_reason: Null,
        token_ids: Null,
        routed_experts: Null,
    },
}

#[derive(Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    content: &'a str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Null,
    annotations: Null,
    audio: Null,
    function_call: Null,
    reasoning: Null,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<&'static str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    prompt: Option<PromptEcho>,
}

/// Keys of a chat stream's first chunk only.
#[derive(Default, Serialize)]
struct PromptEcho {
    prompt_token_ids: Null,
    prompt_text: Null,
}

#[derive(Serialize)]
struct Whole<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    service_tier: Null,
    system_fingerprint: &'static str,
    usage: Usage,
    prompt_logprobs: Null,
    prompt_token_ids: Null,
    prompt_text: Null,
    kv_transfer_params: Null,
    ec_transfer_params: Null,
    metrics: Null,
}

/// The answer as one body.
pub(super) fn whole(answer: &Answer, is_chat: bool, progress: Progress) -> Response {
    let text = answer.text(0, progress.n_output);
    let finish_reason = answer.finish.as_str();
    let (object, choice) = if is_chat {
        ("chat.completion", whole_message(&text, finish_reason))
    } else {
        ("text_completion", whole_text(&text, finish_reason))
    };
    let usage = Usage { completion_tokens_details: Some(()), ..Usage::new(answer, progress, true) };
    let whole = Whole {
        id: &answer.id,
        object,
        created: answer.created.as_secs(),
        model: &answer.model,
        choices: [choice],
        service_tier: (),
        system_fingerprint: FINGERPRINT,
        usage,
        prompt_logprobs: (),
        prompt_token_ids: (),
        prompt_text: (),
        kv_transfer_params: (),
        ec_transfer_params: (),
        metrics: (),
    };
    Json(whole).into_response()
}

fn whole_message<'a>(text: &'a str, finish_reason: &'static str) -> Choice<'a> {
    let message = Message {
        role: "assistant",
        content: text,
        refusal: (),
        annotations: (),
        audio: (),
        function_call: (),
        reasoning: (),
    };
    Choice::WholeMessage {
        index: 0,
        message,
        logprobs: (),
        finish_reason,
        stop_reason: (),
        token_ids: (),
        routed_experts: (),
    }
}

fn whole_text<'a>(text: &'a str, finish_reason: &'static str) -> Choice<'a> {
    Choice::WholeText {
        index: 0,
        text,
        logprobs: (),
        finish_reason,
        stop_reason: (),
        token_ids: (),
        prompt_logprobs: (),
        prompt_token_ids: (),
    }
}

/// The events for the tokens after `n_sent`.
pub(super) fn step(
    answer: &Answer,
    is_chat: bool,
    usage: StreamUsage,
    n_sent: u32,
    progress: Progress,
) -> String {
    let mut out = String::new();
    let running = |progress| usage.continuous_usage_stats.then(|| Usage::new(answer, progress, false));
    let mut push =
        |choices: &[Choice<'_>], usage| push_data(&mut out, &chunk(answer, is_chat, choices, usage));
    if n_sent == 0 && is_chat {
        let delta = Delta { role: Some("assistant"), content: "" };
        let role = Choice::Role { index: 0, delta, logprobs: (), finish_reason: () };
        push(&[role], running(Progress { n_output: 0, ..progress }));
    }
    let text = answer.text(n_sent, progress.n_output);
    let finish_reason = progress.is_finished.then(|| answer.finish.as_str());
    push(&[choice(is_chat, &text, finish_reason)], running(progress));
    if progress.is_finished {
        if usage.include_usage {
            push(&[], Some(Usage::new(answer, progress, true)));
        }
        push_end(&mut out);
    }
    out
}

fn choice<'a>(is_chat: bool, text: &'a str, finish_reason: Option<&'static str>) -> Choice<'a> {
    if is_chat {
        let delta = Delta { role: None, content: text };
        let stop_reason = finish_reason.map(|_| ());
        Choice::Delta { index: 0, delta, logprobs: (), finish_reason, stop_reason, token_ids: () }
    } else {
        Choice::Text {
            index: 0,
            text,
            logprobs: (),
            finish_reason,
            stop_reason: (),
            prompt_token_ids: (),
            token_ids: (),
        }
    }
}

fn chunk<'a>(
    answer: &'a Answer,
    is_chat: bool,
    choices: &'a [Choice<'a>],
    usage: Option<Usage>,
) -> Chunk<'a> {
    Chunk {
        id: &answer.id,
        object: if is_chat { "chat.completion.chunk" } else { "text_completion" },
        created: answer.created.as_secs(),
        model: &answer.model,
        choices,
        usage,
        system_fingerprint: choices.is_empty().then_some(FINGERPRINT),
        prompt: matches!(choices, [Choice::Role { .. }]).then(PromptEcho::default),
    }
}

impl Usage {
    /// What was used up to `progress`.
    pub(super) fn new(answer: &Answer, progress: Progress, has_details: bool) -> Self {
        Self {
            prompt_tokens: answer.n_prompt,
            total_tokens: answer.n_prompt + progress.n_output as usize,
            completion_tokens: progress.n_output,
            prompt_tokens_details: has_details.then_some(PromptDetails { cached_tokens: progress.n_cached }),
            completion_tokens_details: None,
        }
    }
}

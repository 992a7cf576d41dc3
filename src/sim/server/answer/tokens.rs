//! Answers of `/inference/v1/generate`: token ids. Entry points: [`whole`] and [`step`].

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::openai::Usage;
use super::{Answer, Null, push_data, push_end};
use crate::sim::server::call::StreamUsage;
use crate::sim::server::live::Progress;

#[derive(Serialize)]
struct Choice {
    index: u32,
    logprobs: Null,
    finish_reason: Option<&'static str>,
    token_ids: Vec<u32>,
    routed_experts: Null,
}

#[derive(Serialize)]
struct Chunk<'a> {
    request_id: &'a str,
    choices: &'a [Choice],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Whole<'a> {
    request_id: &'a str,
    model: &'a str,
    created: u64,
    choices: [Choice; 1],
    usage: Usage,
    prompt_logprobs: Null,
    kv_transfer_params: Null,
    ec_transfer_params: Null,
}

/// The answer as one body.
pub(super) fn whole(answer: &Answer, progress: Progress) -> Response {
    let whole = Whole {
        request_id: &answer.id,
        model: &answer.model,
        created: answer.created.as_secs(),
        choices: [choice(answer, 0, progress)],
        usage: Usage::new(answer, progress, true),
        prompt_logprobs: (),
        kv_transfer_params: (),
        ec_transfer_params: (),
    };
    Json(whole).into_response()
}

/// The events for the tokens after `n_sent`.
pub(super) fn step(answer: &Answer, usage: StreamUsage, n_sent: u32, progress: Progress) -> String {
    let mut out = String::new();
    let mut push = |choices: &[Choice], usage| {
        push_data(&mut out, &Chunk { request_id: &answer.id, choices, usage });
    };
    let running = usage.continuous_usage_stats.then(|| Usage::new(answer, progress, false));
    push(&[choice(answer, n_sent, progress)], running);
    if progress.is_finished {
        if usage.include_usage {
            push(&[], Some(Usage::new(answer, progress, true)));
        }
        push_end(&mut out);
    }
    out
}

fn choice(answer: &Answer, n_sent: u32, progress: Progress) -> Choice {
    Choice {
        index: 0,
        logprobs: (),
        finish_reason: progress.is_finished.then(|| answer.finish.as_str()),
        token_ids: answer.tokens(n_sent, progress.n_output).collect(),
        routed_experts: (),
    }
}

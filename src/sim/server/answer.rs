//! The bodies and stream chunks of answers, key by key as vLLM 0.32 writes them. Entry points: [`Answer::body`] and
//! [`stream`].

use std::convert::Infallible;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header;
use serde::Serialize;

use super::call::StreamUsage;
use super::error::ApiError;
use super::live::{Progress, Ticket};
use super::record::Finish;
use crate::sim::text;

const FINGERPRINT: &str = "vllm-0.32.0-sim";

/// A key that is always null.
type Null = ();

/// What stays the same over one answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ticket: Ticket,
    pub(super) id: String,
    /// Unix time in seconds.
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) is_chat: bool,
    pub(super) n_prompt: usize,
    pub(super) finish: Finish,
}

#[derive(Serialize)]
struct Usage {
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

impl Answer {
    /// Waits for the whole answer and gives it as one body.
    pub(super) async fn body(mut self) -> Result<Response, ApiError> {
        let progress = self.ticket.finished().await?;
        let text = self.text(0, progress.n_output);
        let finish_reason = self.finish.as_str();
        let (object, choice) = if self.is_chat {
            let message = Message {
                role: "assistant",
                content: &text,
                refusal: (),
                annotations: (),
                audio: (),
                function_call: (),
                reasoning: (),
            };
            let choice = Choice::WholeMessage {
                index: 0,
                message,
                logprobs: (),
                finish_reason,
                stop_reason: (),
                token_ids: (),
                routed_experts: (),
            };
            ("chat.completion", choice)
        } else {
            let choice = Choice::WholeText {
                index: 0,
                text: &text,
                logprobs: (),
                finish_reason,
                stop_reason: (),
                token_ids: (),
                prompt_logprobs: (),
                prompt_token_ids: (),
            };
            ("text_completion", choice)
        };
        let usage = Usage { completion_tokens_details: Some(()), ..self.usage(progress, true) };
        let whole = Whole {
            id: &self.id,
            object,
            created: self.created,
            model: &self.model,
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
        Ok(Json(whole).into_response())
    }

    /// Gives the answer as server-sent events, one chunk per step (or more, for a slow reader).
    pub(super) fn stream(self, usage: StreamUsage) -> Response {
        let steps = stream::unfold(Some((self, 0)), move |state| async move {
            let (mut answer, n_sent) = state?;
            // A dead engine just ends the stream: no finish reason, no end marker.
            let progress = answer.ticket.more_than(n_sent).await.ok()?;
            let events = answer.events(n_sent, progress, usage);
            let next = (!progress.is_finished).then_some((answer, progress.n_output));
            Some((Ok::<_, Infallible>(Bytes::from(events)), next))
        });
        ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], Body::from_stream(steps))
            .into_response()
    }

    /// The events for the tokens after `n_sent`.
    fn events(&self, n_sent: u32, progress: Progress, usage: StreamUsage) -> String {
        let mut out = String::new();
        let running = |progress| usage.continuous_usage_stats.then(|| self.usage(progress, false));
        if n_sent == 0 && self.is_chat {
            let delta = Delta { role: Some("assistant"), content: "" };
            let role = Choice::Role { index: 0, delta, logprobs: (), finish_reason: () };
            self.push(&mut out, &[role], running(Progress { n_output: 0, ..progress }));
        }
        let text = self.text(n_sent, progress.n_output);
        let finish_reason = progress.is_finished.then(|| self.finish.as_str());
        self.push(&mut out, &[self.choice(&text, finish_reason)], running(progress));
        if progress.is_finished {
            if usage.include_usage {
                self.push(&mut out, &[], Some(self.usage(progress, true)));
            }
            out.push_str("data: [DONE]\n\n");
        }
        out
    }

    fn choice<'a>(&self, text: &'a str, finish_reason: Option<&'static str>) -> Choice<'a> {
        if self.is_chat {
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

    fn push(&self, out: &mut String, choices: &[Choice<'_>], usage: Option<Usage>) {
        let chunk = Chunk {
            id: &self.id,
            object: if self.is_chat { "chat.completion.chunk" } else { "text_completion" },
            created: self.created,
            model: &self.model,
            choices,
            usage,
            system_fingerprint: choices.is_empty().then_some(FINGERPRINT),
            prompt: matches!(choices, [Choice::Role { .. }]).then(PromptEcho::default),
        };
        out.push_str("data: ");
        out.push_str(&serde_json::to_string(&chunk).expect("plain structs always serialise"));
        out.push_str("\n\n");
    }

    fn text(&self, from: u32, to: u32) -> String {
        text::output_text((from..to).map(|index| self.ticket.output().token(index)))
    }

    fn usage(&self, progress: Progress, has_details: bool) -> Usage {
        Usage {
            prompt_tokens: self.n_prompt,
            total_tokens: self.n_prompt + progress.n_output as usize,
            completion_tokens: progress.n_output,
            prompt_tokens_details: has_details.then_some(PromptDetails { cached_tokens: progress.n_cached }),
            completion_tokens_details: None,
        }
    }
}

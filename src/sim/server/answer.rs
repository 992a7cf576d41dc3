//! Answers that are generated, key by key as the real servers write them. Entry points: [`Answer::body`] and
//! [`Answer::stream`]. This file waits for tokens; how each API words them is in the files beneath.

mod messages;
mod ollama;
mod openai;
mod responses;
mod tokens;

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use http::header;
use serde::Serialize;
use tokio::time::Instant;

use super::call::Form;
use super::error::ApiError;
use super::live::{Progress, Ticket};
use super::record::Finish;
use crate::sim::text;

/// A key that is always null.
type Null = ();

/// What stays the same over one answer, and how many numbered events of it are written.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ticket: Ticket,
    pub(super) id: String,
    pub(super) asked: Instant,
    /// Since 1970.
    pub(super) created: Duration,
    pub(super) model: String,
    pub(super) form: Form,
    pub(super) n_prompt: usize,
    pub(super) finish: Finish,
    pub(super) n_events: u32,
}

impl Answer {
    /// Waits for the whole answer and gives it as one body.
    pub(super) async fn body(mut self) -> Result<Response, ApiError> {
        let progress = self.ticket.finished().await?;
        Ok(match self.form {
            Form::Chat(_) => openai::whole(&self, true, progress),
            Form::Completion(_) => openai::whole(&self, false, progress),
            Form::Response { max_output_tokens } => responses::whole(&self, max_output_tokens, progress),
            Form::Message => messages::whole(&self, progress),
            Form::Ollama => ollama::whole(&self, progress),
            Form::Tokens(_) => tokens::whole(&self, progress),
        })
    }

    /// Gives the answer as it comes, one chunk per step (or more, for a slow reader).
    pub(super) fn stream(mut self) -> Response {
        let media_type = match self.form {
            Form::Ollama => "application/x-ndjson",
            _ => "text/event-stream; charset=utf-8",
        };
        let opening = self.opening().map(|events| Ok::<_, Infallible>(Bytes::from(events)));
        let steps = stream::unfold(Some((self, 0)), move |state| async move {
            let (mut answer, n_sent) = state?;
            // A dead engine just ends the stream: no finish reason, no end marker.
            let progress = answer.ticket.more_than(n_sent).await.ok()?;
            let events = answer.step(n_sent, progress);
            let next = (!progress.is_finished).then_some((answer, progress.n_output));
            Some((Ok(Bytes::from(events)), next))
        });
        let body = Body::from_stream(stream::iter(opening).chain(steps));
        ([(header::CONTENT_TYPE, media_type)], body).into_response()
    }

    /// What is said before the first token is there.
    fn opening(&mut self) -> Option<String> {
        match self.form {
            Form::Response { max_output_tokens } => Some(responses::opening(self, max_output_tokens)),
            _ => None,
        }
    }

    /// What is said of the tokens after `n_sent`.
    fn step(&mut self, n_sent: u32, progress: Progress) -> String {
        match self.form {
            Form::Chat(usage) => openai::step(self, true, usage, n_sent, progress),
            Form::Completion(usage) => openai::step(self, false, usage, n_sent, progress),
            Form::Response { max_output_tokens } => {
                responses::step(self, max_output_tokens, n_sent, progress)
            }
            Form::Message => messages::step(self, n_sent, progress),
            Form::Ollama => ollama::step(self, n_sent, progress),
            Form::Tokens(usage) => tokens::step(self, usage, n_sent, progress),
        }
    }

    fn tokens(&self, from: u32, to: u32) -> impl Iterator<Item = u32> {
        let output = self.ticket.output();
        (from..to).map(move |index| output.token(index))
    }

    fn text(&self, from: u32, to: u32) -> String {
        text::output_text(self.tokens(from, to))
    }
}

/// Writes an event without a name.
fn push_data(out: &mut String, data: &impl Serialize) {
    out.push_str("data: ");
    out.push_str(&json(data));
    out.push_str("\n\n");
}

/// Writes the end marker of OpenAI's older streams.
fn push_end(out: &mut String) {
    out.push_str("data: [DONE]\n\n");
}

/// Writes an event with its name.
fn push_event(out: &mut String, name: &str, data: &impl Serialize) {
    out.push_str("event: ");
    out.push_str(name);
    out.push('\n');
    push_data(out, data);
}

fn json(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("plain structs always serialise")
}

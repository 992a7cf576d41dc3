//! Answers of Ollama's `/api/chat`: one JSON object, or one per line. Entry points: [`whole`] and [`step`].

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{Answer, json};
use crate::sim::server::live::Progress;
use crate::telemetry::time::TimeEncoding;

#[derive(Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: String,
    message: Message<'a>,
    done: bool,
    #[serde(flatten)]
    end: Option<End>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct End {
    done_reason: &'static str,
    /// Nanoseconds.
    total_duration: u64,
    prompt_eval_count: usize,
    eval_count: u32,
}

/// The answer as one body.
pub(super) fn whole(answer: &Answer, progress: Progress) -> Response {
    let text = answer.text(0, progress.n_output);
    Json(line(answer, &text, Some(end(answer, progress)))).into_response()
}

/// The lines for the tokens after `n_sent`.
pub(super) fn step(answer: &Answer, n_sent: u32, progress: Progress) -> String {
    let mut out = String::new();
    let mut push = |text: &str, end| {
        out.push_str(&json(&line(answer, text, end)));
        out.push('\n');
    };
    let news = answer.text(n_sent, progress.n_output);
    if !news.is_empty() {
        push(&news, None);
    }
    if progress.is_finished {
        push("", Some(end(answer, progress)));
    }
    out
}

fn line<'a>(answer: &'a Answer, content: &'a str, end: Option<End>) -> Line<'a> {
    Line {
        model: &answer.model,
        created_at: TimeEncoding::Rfc3339Nano.write(answer.created + answer.asked.elapsed()),
        message: Message { role: "assistant", content },
        done: end.is_some(),
        end,
    }
}

fn end(answer: &Answer, progress: Progress) -> End {
    End {
        done_reason: answer.finish.as_str(),
        total_duration: u64::try_from(answer.asked.elapsed().as_nanos()).unwrap_or(u64::MAX),
        prompt_eval_count: answer.n_prompt,
        eval_count: progress.n_output,
    }
}

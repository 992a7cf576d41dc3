//! A request under way: what it holds, and what its answer shows. Entry point: [`Ticket`].
//!
//! Whatever a request holds is in its ticket, and dropping the ticket gives it back, so a disconnect needs no path of
//! its own.

use std::sync::Arc;

use epp_framework::answer::Usage;
use epp_framework::endpoint::Reservation;
use epp_framework::lifecycle::{AnswerFacts, Answered, Attribute, Placement};
use epp_framework::parsing::{Answer, AnswerEnd, AnswerHead, AnswerReader, Parser};
use epp_framework::time::Timestamp;
use epp_plugins::parser::answer::JsonAnswer;

use crate::metrics::{ModelMetrics, Outcome};
use crate::model_names::ModelNames;
use crate::pipeline::Pipeline;
use crate::pool::PoolState;
use crate::raw_request::ResponseHead;
use crate::scheduling::Reservations;

/// What was asked, as far as its answer depends on it.
pub struct Asked {
    /// When.
    pub received: Timestamp,
    /// What decided it.
    pub pipeline: Arc<Pipeline>,
    /// Who read it, and reads the answer.
    pub parser: Arc<dyn Parser>,
    /// Path without query.
    pub path: String,
    /// Model that the client asked for.
    pub model: String,
    /// Model that the server was asked for.
    pub target_model: String,
    /// Who was picked by which profile, if somebody wants to know.
    pub placement: Option<Placement>,
}

/// A request under way.
pub struct Ticket {
    pool: Arc<PoolState>,
    model: Arc<ModelMetrics>,
    /// What a routed request asked for.
    asked: Option<Asked>,
    /// What a routed request holds, for as long as it counts as running.
    running: Option<Reservations>,
    begun: bool,
    status: Option<u16>,
    reader: Option<Box<dyn AnswerReader>>,
    /// Maps the model's name back, if that is asked for.
    names: Option<ModelNames>,
    /// When output of the model was last seen.
    output_at: Option<Timestamp>,
    response_bytes: usize,
    ending: Ending,
}

/// How the answer ends, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Its end is to come; a ticket dropped before is of an answer that broke off.
    Awaited,
    /// Its end will not be seen: it is taken for complete when the ticket is dropped.
    Unseen,
    /// It was complete.
    Complete,
}

impl Ticket {
    /// Of a request that was routed; holds what it reserved.
    pub fn routed(
        pool: Arc<PoolState>,
        model: Arc<ModelMetrics>,
        asked: Asked,
        reservations: Reservations,
    ) -> Self {
        Self::new(pool, model, Some(asked), Some(reservations))
    }

    /// Of a request without a body, or of an answer whose request was never seen; holds nothing.
    pub fn unrouted(pool: Arc<PoolState>) -> Self {
        let model = pool.metrics.model("", "");
        Self::new(pool, model, None, None)
    }

    fn new(
        pool: Arc<PoolState>,
        model: Arc<ModelMetrics>,
        asked: Option<Asked>,
        running: Option<Reservations>,
    ) -> Self {
        Self {
            pool,
            model,
            asked,
            running,
            begun: false,
            status: None,
            reader: None,
            names: None,
            output_at: None,
            response_bytes: 0,
            ending: Ending::Awaited,
        }
    }

    /// Has the model's name in the answer mapped back to the one that the client asked for.
    #[must_use]
    pub fn mapping_names(mut self) -> Self {
        self.names = self.asked.as_ref().and_then(|asked| ModelNames::new(&asked.target_model, &asked.model));
        self
    }

    /// What maps the model's name in the answer, if anything does.
    pub fn names(&mut self) -> Option<&mut ModelNames> {
        self.names.as_mut()
    }

    /// The answer begins.
    pub fn on_response_headers(&mut self, head: &ResponseHead) {
        self.begun = true;
        self.status = head.status;
        if head.compressed {
            self.pool.metrics.count_unread("response", "compressed");
            self.names = None;
            self.prompt_is_computed();
            return;
        }
        let answer = AnswerHead { content_type: &head.content_type };
        self.reader = match &self.asked {
            Some(asked) => asked.parser.answer(&asked.path, &answer),
            None => Some(Box::new(JsonAnswer::new(&answer))),
        };
        if !self.reader.as_ref().is_some_and(|reader| reader.tells_output()) {
            self.prompt_is_computed();
        }
    }

    /// Headers to set on the answer, which `served` sent, if the gateway says so.
    pub fn response_headers(&self, served: Option<&str>) -> Vec<(String, String)> {
        let Some(asked) = &self.asked else { return Vec::new() };
        let respond = |placement| asked.pipeline.respond(&Answered { placement, served });
        asked.placement.as_ref().map(respond).unwrap_or_default()
    }

    /// A chunk of the answer passes.
    pub fn on_response_chunk(&mut self, chunk: &[u8]) {
        if chunk.is_empty() {
            return;
        }
        if !self.begun {
            // A gateway that does not send response headers.
            self.on_response_headers(&ResponseHead::default());
        }
        self.response_bytes += chunk.len();
        if self.reader.as_mut().is_some_and(|reader| reader.feed(chunk)) {
            self.on_output();
        }
    }

    /// Output of the model was in what came.
    fn on_output(&mut self) {
        let now = self.pool.clock.now();
        match (self.output_at.replace(now), &self.asked) {
            (Some(before), _) => self.model.observe_inter_token(now.since(before)),
            (None, Some(asked)) => {
                self.model.observe_first_token(now.since(asked.received));
                self.prompt_is_computed();
            }
            (None, None) => {}
        }
    }

    /// Gives back what is held until the first token. Where no token will be seen, the answer's head is the best sign
    /// of it.
    fn prompt_is_computed(&mut self) {
        self.running.iter_mut().flatten().for_each(Reservation::first_token);
    }

    /// The answer is complete. Everything held is given back now, not when the stream closes.
    ///
    /// Returns what the gateway is told of it: nothing unless a routed request's answer reported usage, and only once.
    pub fn complete(&mut self) -> Vec<Attribute> {
        if std::mem::replace(&mut self.ending, Ending::Complete) == Ending::Complete {
            return Vec::new();
        }
        self.release();
        let Answer { usage, end } =
            self.reader.take().map_or_else(Answer::default, |mut reader| reader.finish());
        let counts = usage.unwrap_or_default();
        self.model.observe_usage(&counts);
        let Some(asked) = &self.asked else { return Vec::new() };
        let took = self.pool.clock.now().since(asked.received);
        self.model.observe_response(took, self.response_bytes, counts.completion_tokens.unwrap_or(0));
        let outcome = self.outcome(end);
        self.model.count_answer(outcome);
        usage
            .filter(|_| outcome != Outcome::Failed)
            .map(|usage| self.report(asked, &usage))
            .unwrap_or_default()
    }

    fn outcome(&self, end: AnswerEnd) -> Outcome {
        match end {
            _ if self.status.is_some_and(|status| status >= 400) => Outcome::Failed,
            AnswerEnd::Complete => Outcome::Complete,
            AnswerEnd::Truncated => Outcome::Truncated,
            AnswerEnd::Failed => Outcome::Failed,
            AnswerEnd::Unreadable => {
                self.pool.metrics.count_unread("response", "unreadable");
                Outcome::Complete
            }
        }
    }

    fn report(&self, asked: &Asked, usage: &Usage) -> Vec<Attribute> {
        let facts = AnswerFacts {
            usage,
            model: &asked.model,
            target_model: &asked.target_model,
            pool: &self.pool.name,
            namespace: &self.pool.namespace,
        };
        let report = asked.pipeline.report(&facts);
        self.pool.metrics.cost_errors.inc_by(report.n_errors);
        report.attributes
    }

    /// The rest of the answer will not be seen: it counts as complete when the ticket is dropped.
    pub fn complete_when_dropped(&mut self) {
        self.ending = Ending::Unseen;
        self.prompt_is_computed();
    }

    /// Gives back what a request that runs holds.
    fn release(&mut self) {
        if self.running.take().is_some() {
            self.model.end_request();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        match self.ending {
            Ending::Unseen => {
                self.complete();
            }
            Ending::Awaited if self.asked.is_some() => self.model.count_answer(Outcome::Aborted),
            Ending::Awaited | Ending::Complete => {}
        }
        self.release();
    }
}

#[cfg(test)]
mod tests;

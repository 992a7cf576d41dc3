//! The exchange with Envoy: any messages in any order, verdicts at any time, and the answers as Envoy counts them.
//!
//! An input that begins with `R` goes on with length-delimited messages in protobuf; any other is taken apart into
//! events (`exchange/events.rs`), which get further.

mod envoy;
mod events;

use arbitrary::Unstructured;
use bytes::{Buf as _, Bytes};
use envoy_types::pb::envoy::service::ext_proc::v3::ProcessingRequest;
use epp::compat::Compat;
use epp::ext_proc::destination::DestinationHint;
use epp::ext_proc::exchange::{Awaits, Exchange, Passed, Step, Verdict};
use epp::ext_proc::reply::{OutgoingBody, Pick, Replies};
use epp::raw_request::RawRequest;
use epp::rejection::Rejection;
use prost::Message as _;

use crate::cuts::Choices;
use envoy::Envoy;
use events::{Event, Script, Splice};

/// Plays `input`.
pub fn run(input: &[u8]) {
    match input.split_first() {
        Some((b'R', messages)) => play_messages(messages),
        _ => play_script(input),
    }
}

fn play_messages(mut messages: &[u8]) {
    let mut choices = Choices::of(messages);
    let mut play = Play::new(choices.below(100_000));
    while messages.has_remaining() && !play.ended {
        let Ok(message) = ProcessingRequest::decode_length_delimited(&mut messages) else { return };
        play.message(message);
        if !play.ended && choices.below(8) > 0 {
            let refuse = choices.below(8) == 0;
            let splice =
                (choices.below(4) == 0).then(|| Splice::anywhere(choices.below(1000), choices.below(9)));
            if refuse { play.refuse() } else { play.decide(splice) }
        }
    }
}

fn play_script(input: &[u8]) {
    let Ok(mut script) = Script::begin(Unstructured::new(input)) else { return };
    let mut play = Play::new(script.max_body_bytes);
    while let Some(event) = script.next_event() {
        match event {
            Event::Message(message) => play.message(*message),
            Event::Decide(splice) => play.decide(splice),
            Event::Pause => play.pause(),
            Event::Refuse => play.refuse(),
        }
        if play.ended {
            return;
        }
    }
}

/// One stream: the exchange, and Envoy's view of it.
struct Play {
    exchange: Exchange,
    envoy: Envoy,
    max_body_bytes: usize,
    /// What is to be decided.
    asked: Option<RawRequest>,
    /// Whether the stream ended, by a refusal or a message that Envoy never sends.
    ended: bool,
}

impl Play {
    fn new(max_body_bytes: usize) -> Self {
        let exchange = Exchange::new(max_body_bytes, DestinationHint::default());
        Self { exchange, envoy: Envoy::default(), max_body_bytes, asked: None, ended: false }
    }

    fn message(&mut self, message: ProcessingRequest) {
        self.envoy.sends(&message);
        match self.exchange.on_message(message) {
            Ok(Step::Wait) => {}
            Ok(Step::Reply(replies)) => self.envoy.takes(replies),
            Ok(Step::Decide(undecided)) => self.ask(undecided.finish()),
            Ok(Step::Reject(rejection)) => self.reject(&rejection),
            Ok(Step::Observe(part, chunk)) => {
                let passed = Passed { bytes: chunk, ..Passed::default() };
                self.envoy.takes(self.exchange.answer_response(&part, passed));
                self.envoy.is_answered_in_full();
            }
            Err(_) => self.ended = true,
        }
        let held = self.exchange.held_bytes();
        assert!(held <= self.max_body_bytes && held <= self.envoy.request_bytes().len(), "{held} bytes held");
    }

    fn ask(&mut self, raw: RawRequest) {
        assert!(self.asked.is_none(), "asked to decide twice");
        let body = raw.body.as_deref().unwrap_or_default();
        assert_eq!(body, self.envoy.request_bytes(), "the body to decide by");
        self.asked = Some(raw);
    }

    /// Nothing comes for a while.
    fn pause(&mut self) {
        if self.exchange.awaits() == Awaits::UploadBriefly {
            let step = self.exchange.out_of_patience();
            let Step::Decide(undecided) = step else { panic!("{step:?} instead of a decision") };
            assert!(undecided.request.more, "the request is not whole");
            self.ask(undecided.finish());
        }
    }

    /// Answers with a pick; when nothing was asked, nothing may come of it.
    fn decide(&mut self, splice: Option<Splice>) {
        let asked = self.asked.take();
        if asked.as_ref().is_some_and(|raw| raw.body.is_some()) && !self.envoy.sent_a_body() {
            // In buffered mode trailers may come instead; the director refuses such an empty body.
            return self.refuse();
        }
        let came = asked.is_some();
        let body_changed = splice.is_some();
        let body = asked.and_then(|raw| raw.body).map(|body| {
            let Some(splice) = splice else { return OutgoingBody::unchanged(body) };
            let (range, replacement) = splice.within(body.len());
            self.envoy.expects(range.clone(), &replacement);
            OutgoingBody::spliced(&body, range, Bytes::from(replacement))
        });
        let pick = Pick { destination: Some(envoy::PICKED.to_owned()), ..Pick::default() };
        let replies = self.exchange.decided(Verdict { pick, body, body_changed });
        if came {
            self.envoy.takes(replies);
            self.envoy.has_its_request();
        } else {
            nothing(replies);
        }
    }

    /// Refuses the request, as the server does for reasons of its own too.
    fn refuse(&mut self) {
        self.reject(&Rejection::Overloaded);
    }

    /// Sends the error page; whatever happens afterwards, nothing more is sent.
    fn reject(&mut self, rejection: &Rejection) {
        self.envoy.takes_error_page(self.exchange.rejected(rejection.page(Compat::V1_0_1)));
        self.ended = true;
        assert!(self.exchange.is_over());
        for message in events::one_of_each() {
            let step = self.exchange.on_message(message);
            assert!(matches!(step, Ok(Step::Wait)), "{step:?} after the error page");
        }
        self.asked = None;
        self.decide(None);
    }
}

fn nothing(mut replies: Replies) {
    let answer = replies.next();
    assert!(answer.is_none(), "nobody waits for {answer:?}");
}

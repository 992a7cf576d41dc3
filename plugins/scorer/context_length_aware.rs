//! `context-length-aware`: prefers, or keeps, endpoints whose label names a range that the prompt's length is in.
//!
//! A label is `min-max` in tokens, both included. One that cannot be read counts as an endpoint that fits nothing.

use std::sync::Arc;

use epp_framework::parameters::{Parameter, ParameterKind, Parameters};
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, Review, releases};
use epp_framework::scheduling::{Cycle, Filter, Scorer};
use epp_framework::snapshot::Candidates;
use rand::rngs::SmallRng;

use crate::labels::{Labels, OfLabels};

const LABEL: &str = "label";
const FILTERING: &str = "enableFiltering";

/// What an endpoint without the label scores.
const UNLABELLED: f64 = 0.5;

/// Below this score a range does not fit.
const FITS: f64 = 0.3;

/// `context-length-aware`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "context-length-aware",
    summary: "Prefers endpoints whose label names a narrow range of prompt lengths that the prompt is in.",
    about: "The label is `min-max` in tokens. A prompt of n tokens that is in the range, of width w, makes \
            0.3 + 0.7 * (0.7 / (1 + w / 10000) + 0.3 * (max - n) / w), and 1 if w is 0: narrow ranges come before wide \
            ones, and those with room above the prompt before those without. Outside it is 0.3 / (1 + d / 1000), d \
            tokens away; without the label 0.5, with one that cannot be read 0. With `enableFiltering` only endpoints \
            in range or without the label are kept. It keeps long prompts away from servers that are set up for short \
            ones. Lengths are estimates where no tokenizer ran: a token is taken for four bytes.",
    parameters: &[
        Parameter {
            name: LABEL,
            kind: ParameterKind::Text { default: Some("llm-d.ai/context-length-range"), check: |_| None },
            unit: "",
            summary: "The label; an empty text is not refused, it means the default.",
        },
        Parameter {
            name: FILTERING,
            kind: ParameterKind::Boolean { default: false },
            unit: "",
            summary: "Also remove endpoints whose range the prompt is not in.",
        },
    ],
    kinds: &[Kind::Filter, Kind::Scorer],
    build,
    review,
    releases: releases::LLM_D,
    ..PluginType::PLAIN
};

fn review(cx: &Review<'_>) -> Vec<String> {
    let told = "with `enableFiltering` it leaves nobody for a prompt that no range covers, and requests are then refused";
    if cx.parameters.boolean(FILTERING) { vec![told.to_owned()] } else { Vec::new() }
}

fn build(parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    let label = parameters.text(LABEL).to_owned();
    let plugin = Arc::new(ContextLengthAware {
        ranges: OfLabels::new(move |labels: &Labels| labels.get(&label).map(|label| Range::parse(label))),
        filtering: parameters.boolean(FILTERING),
    });
    Plugin { filter: Some(plugin.clone()), scorer: Some(plugin), ..Plugin::default() }
}

/// The range of an endpoint; `None` without the label, an error if it cannot be read.
type Ranged = Option<Result<Range, Unreadable>>;

struct ContextLengthAware<F> {
    ranges: OfLabels<Ranged, F>,
    filtering: bool,
}

/// A range of lengths in tokens, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    min: u64,
    max: u64,
}

/// A label that is no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unreadable;

impl Range {
    fn parse(label: &str) -> Result<Self, Unreadable> {
        let (min, max) = label.split_once('-').ok_or(Unreadable)?;
        let number = |text: &str| text.trim().parse().map_err(|_| Unreadable);
        let (min, max) = (number(min)?, number(max)?);
        if min <= max { Ok(Self { min, max }) } else { Err(Unreadable) }
    }

    fn contains(self, n: u64) -> bool {
        (self.min..=self.max).contains(&n)
    }

    fn rate(self, n: u64) -> f64 {
        if !self.contains(n) {
            let distance = if n < self.min { self.min - n } else { n - self.max };
            return FITS / (1.0 + distance as f64 / 1000.0);
        }
        let width = (self.max - self.min) as f64;
        if width == 0.0 {
            return 1.0;
        }
        let room = (self.max - n) as f64 / width;
        FITS + 0.7 * (0.7 / (1.0 + width / 10_000.0) + 0.3 * room)
    }
}

impl<F: Fn(&Labels) -> Ranged + Send + Sync> Scorer for ContextLengthAware<F> {
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let n = cycle.request.prompt_tokens;
        let mut scores = scores.iter_mut();
        self.ranges.each(candidates, |_, range| {
            let Some(score) = scores.next() else { return };
            *score = match range {
                None => UNLABELLED,
                Some(Ok(range)) => range.rate(n),
                Some(Err(Unreadable)) => 0.0,
            };
        });
    }
}

impl<F: Fn(&Labels) -> Ranged + Send + Sync> Filter for ContextLengthAware<F> {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        if self.filtering {
            let n = cycle.request.prompt_tokens;
            let fits = |range: Result<Range, Unreadable>| range.is_ok_and(|range| range.contains(n));
            self.ranges.retain(candidates, |range| range.is_none_or(fits));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pool, assert_close, built, reviewed};

    fn pool(labels: &[Option<&str>], prompt_tokens: u64) -> Pool {
        let labels = labels.iter().map(|label| label.map(|label| ("llm-d.ai/context-length-range", label)));
        let mut pool = Pool::with_labels(labels);
        pool.request.prompt_tokens = prompt_tokens;
        pool
    }

    fn scores(labels: &[&str], prompt_tokens: u64) -> Vec<f64> {
        let labels: Vec<_> = labels.iter().copied().map(Some).collect();
        pool(&labels, prompt_tokens).score(&*built(&TYPE, "{}").scorer.unwrap())
    }

    #[test]
    fn narrow_ranges_that_fit_score_best() {
        let [fits, not] = scores(&["0-100", "500-1000"], 0)[..] else { panic!("two") };
        assert!(fits > 0.3 && not < 0.3 && not > 0.0, "C1: {fits} {not}");
        let [fits, not] = scores(&["0-100", "500-1000"], 20)[..] else { panic!("two") };
        assert!(fits > 0.3 && not < 0.3 && not > 0.0, "C1: {fits} {not}");
        let [tight, wide] = scores(&["0-20", "0-10000"], 5)[..] else { panic!("two") };
        assert!(tight > wide && wide > 0.3, "C2: {tight} {wide}");
        for (name, label, prompt_tokens, want) in [
            ("C6", "0-2048", 1000, 0.81417),
            ("C7", "0-2048", 9000, 0.03773),
            ("no width", "7-7", 7, 1.0),
            ("the ends are in", "10-20", 20, 0.3 + 0.7 * (0.7 / 1.001)),
            ("below", "1000-2000", 0, 0.15),
            ("blanks", " 7 - 7 ", 7, 1.0),
            ("the largest", "0-18446744073709551615", u64::MAX, 0.3),
            ("C3: empty", "", 0, 0.0),
            ("C3: three", "0-100-200", 0, 0.0),
            ("C3: backwards", "100-50", 0, 0.0),
            ("C3: words", "abc-100", 0, 0.0),
        ] {
            assert_close(&scores(&[label], prompt_tokens), &[want], name);
        }
        assert_close(&pool(&[None], 9).score(&*built(&TYPE, "{}").scorer.unwrap()), &[0.5], "no label");
    }

    #[test]
    fn ranges_that_do_not_fit_are_removed_if_asked_for() {
        let labels = [Some("0-100"), Some("500-1000"), Some("0-2000"), None, Some("abc-100")];
        for (name, parameters, want) in [
            ("C5", r#"{"enableFiltering": true}"#, &[0, 2, 3][..]),
            ("C5: not asked for", "{}", &[0, 1, 2, 3, 4]),
            ("another label", r#"{"enableFiltering": true, "label": "range"}"#, &[0, 1, 2, 3, 4]),
        ] {
            let filter = built(&TYPE, parameters).filter.unwrap();
            assert_eq!(pool(&labels, 0).filter(&*filter, 1), want, "{name}");
        }
        assert!(reviewed(&TYPE, r#"{"enableFiltering": true}"#).contains("leaves nobody"));
        assert_eq!(reviewed(&TYPE, "{}"), "");
    }
}

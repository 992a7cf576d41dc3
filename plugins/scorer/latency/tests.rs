//! Scores by predictions, group by group, and without any.

use epp_framework::endpoint::Load;
use epp_framework::plugin::Data;
use epp_framework::slot::SlotNames;

use super::*;
use crate::testing::{Pool, Predicted, assert_close, built_in, matches, predictions};

fn scores(parameters: &str, predicted: &[Predicted]) -> Vec<f64> {
    let slots = SlotNames::default();
    let mut pool = Pool::new(predicted.iter().map(|_| Load::default()));
    slots
        .request_slot(Data::LatencyPrediction.default_producer())
        .put(&mut pool.request, predictions(predicted));
    pool.score(&*built_in(&slots, &TYPE, parameters).scorer.unwrap())
}

#[test]
fn the_best_group_scores_by_its_headrooms() {
    let most = r#"{"headroomSelectionStrategy": "most"}"#;
    let cases: &[(&str, &str, &[Predicted], &[f64])] = &[
        (
            "positive ones alone",
            "{}",
            &[Some((10.0, 1.0, 1)), Some((110.0, 2.0, 1)), Some((-1.0, 5.0, 0))],
            &[1.01, 0.01, 0.0],
        ),
        (
            "weighed",
            r#"{"ttftWeight": 3, "tpotWeight": 1}"#,
            &[Some((0.0, 10.0, 1)), Some((10.0, 0.0, 1))],
            &[0.76, 0.26],
        ),
        (
            "weighed by default",
            "{}",
            &[Some((0.0, 10.0, 1)), Some((10.0, 0.0, 1)), Some((5.0, 5.0, 1))],
            &[0.81, 0.2, 0.51],
        ),
        (
            "the most",
            most,
            &[Some((10.0, 1.0, 1)), Some((110.0, 2.0, 1)), Some((60.0, 1.5, 1))],
            &[0.01, 1.01, 0.51],
        ),
        (
            "idle ones before those that miss less",
            "{}",
            &[Some((-50.0, -5.0, 0)), Some((1.0, -1.0, 3)), Some((-10.0, 1.0, 0))],
            &[0.01, 0.0, 1.01],
        ),
        (
            "the time per token alone is missed",
            "{}",
            &[Some((5.0, -1.0, 1)), Some((-1.0, 5.0, 1)), Some((-1.0, -1.0, 1))],
            &[0.51, 0.0, 0.0],
        ),
        (
            "the first token alone is missed",
            "{}",
            &[Some((-1.0, 5.0, 1)), Some((-1.0, -1.0, 1))],
            &[0.51, 0.0],
        ),
    ];
    for (name, parameters, predicted, want) in cases {
        assert_close(&scores(parameters, predicted), want, name);
    }
}

#[test]
fn few_values_are_rated_as_well() {
    let most = r#"{"headroomSelectionStrategy": "most"}"#;
    let cases: &[(&str, &str, &[Predicted], &[f64])] = &[
        ("both are missed", "{}", &[Some((-9.0, -9.0, 1)), Some((-1.0, -1.0, 1))], &[0.01, 1.01]),
        (
            "a miss is never better for being large",
            most,
            &[Some((-9.0, -9.0, 1)), Some((-1.0, -1.0, 1))],
            &[0.01, 1.01],
        ),
        ("one", "{}", &[Some((5.0, 5.0, 1))], &[0.51]),
        ("only one has a range", "{}", &[Some((5.0, 1.0, 1)), Some((5.0, 3.0, 1))], &[1.01, 0.01]),
        ("without a prediction", "{}", &[Some((5.0, 5.0, 1)), None], &[0.51, 0.0]),
        (
            "no weights: the first token",
            r#"{"ttftWeight": 0, "tpotWeight": 0}"#,
            &[Some((0.0, 10.0, 1)), Some((10.0, 0.0, 1))],
            &[1.01, 0.01],
        ),
        ("nobody", "{}", &[], &[]),
    ];
    for (name, parameters, predicted, want) in cases {
        assert_close(&scores(parameters, predicted), want, name);
    }
}

#[test]
fn without_predictions_load_and_prefix_are_rated() {
    let loads =
        [(0.5, 0), (0.0, 4), (1.0, 2)].map(|(kv_used, waiting)| Load { kv_used, waiting, ..Load::default() });
    let third = |sum: f64| sum / 3.0;
    let weights = |kv, queue, prefix| {
        format!(
            r#"{{"compositeKVWeight": {kv}, "compositeQueueWeight": {queue}, "compositePrefixWeight": {prefix}}}"#
        )
    };
    for (name, parameters, want) in [
        ("equal weights", "{}".to_owned(), [third(0.5 + 1.0), third(1.0), third(0.5 + 0.5)]),
        ("the queue", weights(0, 5, 0), [1.0, 0.0, 0.5]),
        ("the prefix", weights(0, 0, 1), [0.0, 0.0, 0.5]),
        ("no weights: the cache", weights(0, 0, 0), [0.5, 1.0, 0.0]),
    ] {
        let slots = SlotNames::default();
        let mut pool = Pool::new(loads);
        let slot = slots.request_slot(Data::PrefixMatches.default_producer());
        slot.put(&mut pool.request, matches(16, 4, &[0, 0, 2]));
        let scorer = built_in(&slots, &TYPE, &parameters).scorer.unwrap();
        assert_close(&pool.score(&*scorer), &want, name);
    }
    let slots = SlotNames::default();
    let scorer = built_in(&slots, &TYPE, r#"{"compositePrefixWeight": 0}"#).scorer.unwrap();
    assert_close(&Pool::new([Load::default(); 2]).score(&*scorer), &[1.0, 1.0], "no queue anywhere");
}

//! Flags of the `ext_proc` service that are off unless asked for: scores for the gateway, its hint ignored, streams
//! measured.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::service::ext_proc::v3::{ProcessingRequest, ProcessingResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use epp::ext_proc::Options;
use epp::ext_proc::stream_metrics::StreamMetrics;

use crate::support::eventually;
use crate::support::hermetic::{Hermetic, Pod, request_body, request_headers, with_subset};

const TWO: &[Pod] = &[(0, 0.1, ""), (5, 0.5, "")];

fn hello() -> Vec<ProcessingRequest> {
    let body = request_body(r#"{"model":"my-model","prompt":"hello"}"#, true);
    vec![request_headers(&[("x-gateway-inference-objective", "my-model")], false), body]
}

/// The `envoy.lb` metadata of an answer: the destination, and the scores if there are any.
fn metadata(answer: &ProcessingResponse) -> (String, Option<BTreeMap<String, f64>>) {
    let lb = answer.dynamic_metadata.as_ref().and_then(|all| all.fields["envoy.lb"].kind.clone());
    let Some(Kind::StructValue(mut lb)) = lb else { panic!("{lb:?}") };
    let mut take = |key: &str| lb.fields.remove(key).and_then(|value| value.kind);
    let destination = take("x-gateway-destination-endpoint");
    let Some(Kind::StringValue(destination)) = destination else { panic!("{destination:?}") };
    let scores = take("x-gateway-destination-endpoint-scores").map(|scores| match scores {
        Kind::StructValue(scores) => scores
            .fields
            .into_iter()
            .map(|(at, score)| match score.kind {
                Some(Kind::NumberValue(score)) => (at, score),
                other => panic!("{other:?}"),
            })
            .collect(),
        other => panic!("{other:?}"),
    });
    assert!(lb.fields.is_empty(), "{lb:?}");
    (destination, scores)
}

#[tokio::test]
async fn rows_26_27_scores_of_every_candidate_are_told_if_asked_for() {
    let many: Vec<Pod> = (0..40).map(|n| (n, 0.5, "")).collect();
    for (row, pods, emit_scores, want) in [
        ("26", TWO, true, Some(2)),
        ("26, more candidates than the record keeps", &many, true, Some(40)),
        ("27", TWO, false, None),
    ] {
        let epp = Hermetic::with_options(pods, emit_scores, |_| Options::default()).await;
        let (answers, end) = epp.exchange(hello()).await;
        assert!(end.is_ok(), "row {row}: {end:?}");
        let (destination, scores) = metadata(&answers[0]);
        assert_eq!(scores.as_ref().map(BTreeMap::len), want, "row {row}");
        let Some(scores) = scores else { continue };
        assert!(scores.values().all(|score| *score >= 0.0), "row {row}: {scores:?}");
        let best = scores.values().copied().fold(f64::MIN, f64::max);
        assert_eq!(scores.get(&destination), Some(&best), "row {row}: {destination} in {scores:?}");
        let recorded = &epp.pool.last_decisions(1, None)[0];
        for candidate in &recorded.profiles[0].candidates {
            let told = scores.get(&candidate.endpoint.destination);
            assert_eq!(told, Some(&candidate.total), "row {row}");
        }
    }
}

#[tokio::test]
async fn scores_are_of_one_decision_and_of_requests_with_a_body() {
    let epp = Hermetic::with_options(TWO, true, |_| Options::default()).await;
    assert!(epp.exchange(hello()).await.1.is_ok());
    let first = with_subset(hello().remove(0), &["192.168.1.2:8000"]);
    let (answers, _) = epp.exchange(vec![first, hello().remove(1)]).await;
    let (destination, scores) = metadata(&answers[0]);
    assert_eq!(scores.map(|scores| scores.into_keys().collect()), Some(vec![destination]));
    let (answers, _) = epp.exchange(vec![request_headers(&[], true)]).await;
    assert_eq!(metadata(&answers[0]).1, None, "nothing is scored without a body");
}

#[tokio::test]
async fn row_103_the_hint_can_be_ignored() {
    let best = "192.168.1.1:8000";
    for (hint, heeded) in
        [(&["192.168.1.2:8000"][..], Some("192.168.1.2:8000")), (&[], None), (&["10.9.9.9:8000"], None)]
    {
        for (ignore_subset, want) in [(true, Some(best)), (false, heeded)] {
            let options = |_: &prometheus::Registry| Options { ignore_subset, ..Options::default() };
            let epp = Hermetic::with_options(TWO, false, options).await;
            let messages = hello().into_iter().map(|message| with_subset(message, hint)).collect();
            let (answers, _) = epp.exchange(messages).await;
            let routed = answers[0].dynamic_metadata.is_some().then(|| metadata(&answers[0]).0);
            assert_eq!(routed.as_deref(), want, "{hint:?}, ignored: {ignore_subset}");
        }
    }
}

#[tokio::test]
async fn streams_are_measured_by_how_they_end() {
    let observed = |registry: &prometheus::Registry| Options {
        stream_metrics: Some(StreamMetrics::register(registry).expect("once")),
        ..Options::default()
    };
    let epp = Hermetic::with_options(TWO, false, observed).await;
    let ended = async |code: &str| {
        let line = format!("llm_d_epp_extproc_streams_total{{code=\"{code}\"}} 1\n");
        eventually(&line, async || epp.metrics().contains(&line).then_some(())).await;
    };
    assert!(epp.exchange(hello()).await.1.is_ok());
    ended("OK").await;
    assert!(epp.exchange(vec![ProcessingRequest::default()]).await.1.is_err());
    ended("InvalidArgument").await;
    assert!(epp.exchange(vec![hello().remove(0)]).await.1.is_ok());
    ended("Canceled").await;
    let page = epp.metrics();
    assert!(page.contains("llm_d_epp_extproc_streams_inflight 0\n"), "{page}");
    assert!(page.contains("llm_d_epp_extproc_stream_duration_seconds_count 3\n"), "{page}");
    let plain = Hermetic::start(TWO).await;
    assert!(plain.exchange(hello()).await.1.is_ok());
    assert!(!plain.metrics().contains("llm_d_epp"), "{}", plain.metrics());
}

//! Rows 6, 13 to 17, 23 to 25 and 80 to 96 of the functional specification: where versions of the Go EPP differ, and what the
//! director says.
//!
//! Not applicable yet, because the thing does not exist here: 89 beyond drained endpoints and 90 (plugins that run before
//! a request and refuse it), 91 (screeners), 92 (admission plugins), 94 (`prefer: if-available`), 95 (fairness: its header is
//! read and removed, row 42, and nothing is queued). Row 88 cannot be: a scheduler yields endpoints or says why not.

use std::collections::BTreeSet;
use std::time::Duration;

use epp::admission::Thresholds;
use epp::compat::Compat;
use epp::datastore::RequestRules;
use epp::director::Rules;
use epp::discovery::index::rewrites::{ModelRewrite, RewriteRule, RewriteTarget, Rewrites};

use super::{THREE, body, headers, rejected, req, routed};
use crate::support::hermetic::{
    FOUR_SCORERS, Hermetic, Pod, PoolSetup, request_body, request_headers, with_subset,
};

/// Rules whose staleness does not depend on how fast the test runs.
fn rules(compat: Compat) -> Rules {
    let room = Thresholds { age: Duration::from_secs(3600), ..Thresholds::default() };
    Rules { compat, room, ..Rules::default() }
}

const FULL: &[Pod] = &[(10, 0.9, ""), (20, 0.95, ""), (30, 0.99, "")];

/// Rows 6, 15, 17, 83, 84 and 87: texts of v1.0.1 are the default, those of later versions come with `--compat`.
#[tokio::test]
async fn rows_6_15_17_83_84_87_refusals_of_later_versions() {
    let sheddable = || vec![headers("batch", ""), request_body(body("m", "p"), true)];
    let shed = "system saturated, sheddable request dropped";
    for (row, pods, messages, code, old, new) in [
        (
            "6",
            &[(0, 0.2, "")][..],
            vec![request_headers(&[("hi", "mom")], false), request_body("no healthy upstream", true)],
            400,
            "BadRequest - Error unmarshaling request body".to_owned(),
            "BadRequest - error unmarshaling request bodyMap: invalid character 'o' in literal null (expecting 'u')"
                .to_owned(),
        ),
        (
            "15",
            &[],
            vec![request_headers(&[], true)],
            500,
            "Internal - no pods available in datastore".to_owned(),
            "Internal - no pods available in datastore".to_owned(),
        ),
        (
            "17",
            &[],
            vec![
                request_headers(&[("content-type", "application/json")], false),
                request_body(r#"{"prompt":"hello world"}"#, true),
            ],
            400,
            "BadRequest - model not found in request body".to_owned(),
            "BadRequest - model not found in request body".to_owned(),
        ),
        (
            "83",
            FULL,
            sheddable(),
            429,
            format!("InferencePoolResourceExhausted - {shed}"),
            format!("ResourceExhausted - {shed}"),
        ),
        (
            "84",
            &[],
            sheddable(),
            429,
            format!("InferencePoolResourceExhausted - {shed}"),
            format!("ResourceExhausted - {shed}"),
        ),
    ] {
        for (compat, prefix, text) in [
            (Compat::V1_0_1, "inference gateway: ", &old),
            (Compat::V1_5, "inference error: ", &new),
            (Compat::LlmD, "inference error: ", &new),
        ] {
            let epp = Hermetic::with_rules(pods, rules(compat)).await;
            let (answers, end) = epp.exchange(messages.clone()).await;
            assert!(end.is_ok(), "row {row}: {end:?}");
            assert_eq!(rejected(&answers), (code, format!("{prefix}{text}")), "row {row}, {compat:?}");
            assert_eq!(epp.held(), (0, 0, 0), "row {row}");
        }
    }
}

/// A filter that leaves nobody is the scheduler's error.
#[tokio::test]
async fn row_87_an_error_of_the_scheduler_is_429() {
    let pool = || PoolSetup::new("plugins: [{type: header-based-testing-filter}]");
    for (compat, code) in [
        (Compat::V1_0_1, "InferencePoolResourceExhausted"),
        (Compat::V1_5, "ResourceExhausted"),
        (Compat::LlmD, "ResourceExhausted"),
    ] {
        let epp = Hermetic::with_pool(THREE, pool(), rules(compat)).await;
        let headers = request_headers(&[("test-epp-endpoint-selection", "")], false);
        let (answers, end) = epp.exchange(vec![headers, request_body(body("m", "p"), true)]).await;
        assert!(end.is_ok(), "{end:?}");
        let (status, page) = rejected(&answers);
        assert_eq!(status, 429, "{compat:?}: {page}");
        assert!(page.contains(&format!(": {code} - failed to find target ")), "{compat:?}: {page}");
    }
}

/// Of rows 81 and 82, and of 86: an objective that nobody knows has priority 0, and 0 is not sheddable in v1.0.1, as in
/// all later versions.
#[tokio::test]
async fn rows_81_82_85_86_requests_that_are_admitted() {
    let room: &[Pod] = &[(0, 0.2, "")];
    for (row, pods, headers, priority, target) in [
        ("81", FULL, vec![], 0, "m"),
        ("82", room, vec![("x-gateway-inference-objective", "batch")], -1, "m"),
        (
            "85",
            room,
            vec![("x-gateway-model-name-rewrite", "resolved-target-model-A")],
            0,
            "resolved-target-model-A",
        ),
        ("86", FULL, vec![("x-gateway-inference-objective", "nobody-knows-it")], 0, "m"),
    ] {
        let epp = Hermetic::with_rules(pods, rules(Compat::V1_0_1)).await;
        let messages = vec![request_headers(&headers, false), request_body(body("m", "p"), true)];
        let (answers, end) = epp.exchange(messages).await;
        assert!(end.is_ok(), "row {row}: {end:?}");
        assert_eq!(routed(answers).body, body(target, "p"), "row {row}");
        assert_eq!(epp.pool.last_decisions(1, None)[0].priority, priority, "row {row}");
    }
}

#[tokio::test]
async fn row_80_several_endpoints_are_told_best_first() {
    let config = "
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: max-score-picker
  parameters: {maxNumOfEndpoints: 3}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: queue-scorer}, {pluginRef: max-score-picker}]
";
    let epp = Hermetic::with_pool(FULL, PoolSetup::new(config), rules(Compat::V1_0_1)).await;
    let (answers, end) = epp.exchange(req("p", "my-model", "")).await;
    assert!(end.is_ok(), "{end:?}");
    let routed = routed(answers);
    assert_eq!(routed.destination, "192.168.1.1:8000,192.168.1.2:8000,192.168.1.3:8000");
    assert_eq!(routed.set["x-gateway-destination-endpoint"], routed.destination);
}

/// What a passthrough parser leaves unread has no model; its objective counts nevertheless.
#[tokio::test]
async fn row_23_an_unread_body_is_routed_as_it_is() {
    let parser = "- type: passthrough-parser\n";
    let config = FOUR_SCORERS.replacen("plugins:\n", &format!("plugins:\n{parser}"), 1);
    let config = format!("{config}parser: {{pluginRef: passthrough-parser}}\n");
    let epp = Hermetic::with_pool(THREE, PoolSetup::new(&config), Rules::default()).await;
    let headers =
        [("hi", "mom"), ("x-request-id", "test-request-id"), ("x-gateway-inference-objective", "my-model")];
    let messages = vec![request_headers(&headers, false), request_body("passthrough-parser", true)];
    let (answers, end) = epp.exchange(messages).await;
    assert!(end.is_ok(), "{end:?}");
    let routed = routed(answers);
    assert_eq!((&*routed.destination, &*routed.body), ("192.168.1.2:8000", "passthrough-parser"));
    assert_eq!(routed.set["content-length"], "18");
    let page = epp.metrics();
    let total = "inference_model_request_total{model_name=\"\",target_model_name=\"\"} 1\n";
    assert!(
        page.contains(total) && page.contains("inference_pool_ready_pods{name=\"vllm-pool\"} 3\n"),
        "{page}"
    );
    assert_eq!(epp.pool.last_decisions(1, None)[0].priority, 2);
}

/// One rule, for these models or for all.
fn rewrites(matches: &[&str], target: &str) -> RequestRules {
    let rule = RewriteRule {
        matches: matches.iter().map(|&model| model.into()).collect(),
        targets: vec![RewriteTarget { model: target.into(), weight: None }],
    };
    let rewrite = ModelRewrite { rules: vec![rule], ..ModelRewrite::default() };
    RequestRules { rewrites: Rewrites::new(&[rewrite], []), ..RequestRules::default() }
}

/// Row 93 is llm-d's; the versions before it refuse a body without a model first. A drop-in for all of them admits it:
/// whoever wrote the rule has said what to do with it.
#[tokio::test]
async fn rows_24_93_rules_say_the_model_before_headers_do() {
    let (asked, rewritten) = ("model-to-be-rewritten", "rewritten-model");
    for (row, matches, sent, model, want) in [
        ("24", &[asked][..], body(asked, "test-rewrite"), asked, body(rewritten, "test-rewrite")),
        ("93", &[], r#"{"prompt":"p"}"#.to_owned(), "", format!(r#"{{"model":"{rewritten}","prompt":"p"}}"#)),
    ] {
        let said = rewrites(matches, rewritten);
        let pool = PoolSetup { said, ..PoolSetup::new(FOUR_SCORERS) };
        let pods = &[(0, 0.1, "foo,rewritten-model")];
        let epp = Hermetic::with_pool(pods, pool, Rules::default()).await;
        let header = if model.is_empty() { "" } else { asked };
        let (answers, end) = epp.exchange(vec![headers(asked, header), request_body(sent, true)]).await;
        assert!(end.is_ok(), "row {row}: {end:?}");
        let routed = routed(answers);
        assert_eq!((routed.destination, routed.body), ("192.168.1.1:8000".to_owned(), want), "row {row}");
        let total = format!(
            "inference_model_request_total{{model_name=\"{model}\",target_model_name=\"{rewritten}\"}} 1\n"
        );
        assert!(epp.metrics().contains(&total), "row {row}: {}", epp.metrics());
        assert_eq!(epp.pool.last_decisions(1, None)[0].priority, 0, "row {row}");
    }
}

#[tokio::test]
async fn row_96_a_request_without_a_body_goes_to_any_pod() {
    let all = ["192.168.1.1:8000", "192.168.1.2:8000", "192.168.1.3:8000"];
    let best_alone: &[&str] = &["192.168.1.3:8000"];
    for (pods, hint, want) in
        [(&THREE[..1], None, &all[..1]), (THREE, None, &all[..]), (THREE, Some(best_alone), best_alone)]
    {
        let epp = Hermetic::start(pods).await;
        let mut found = BTreeSet::new();
        for _ in 0..60 {
            let message = request_headers(&[], true);
            let message = if let Some(hint) = hint { with_subset(message, hint) } else { message };
            let (answers, end) = epp.exchange(vec![message]).await;
            assert!(end.is_ok(), "{end:?}");
            found.insert(routed(answers).destination);
        }
        assert!(found.iter().eq(want), "{found:?}");
    }
    let epp = Hermetic::start(&[]).await;
    let (answers, _) = epp.exchange(vec![request_headers(&[], true)]).await;
    assert_eq!(rejected(&answers).0, 500, "nobody is there");
}

//! Invariants of ARCHITECTURE.md that need the whole program: 1 (nothing of a request leaks) and 4 (never a false OK).

use std::sync::Arc;

use epp_framework::plugin::{Kind, Plugin, PluginType};
use epp_framework::scheduling::{Cycle, Scorer};
use epp_framework::snapshot::Candidates;

use crate::support::envoy::Envoy;
use crate::support::envoy_config::EnvoySetup;
use crate::support::epp::{Epp, EppSetup};
use crate::support::hermetic::{Hermetic, request_body, request_headers, response_headers};
use crate::support::upstream::{Answer, Upstream};
use crate::support::{Protocol, client};

/// Invariant 1: no byte of a prompt, completion, token or Authorization header appears anywhere, at any verbosity.
#[tokio::test]
async fn nothing_of_a_request_appears_in_logs_metrics_or_debug_pages() {
    const CANARY: &str = "c4n4ry";
    let upstream = Upstream::start(Answer::Echo);
    let epp = Epp::with(EppSetup { secure: true, ..EppSetup::new(&[upstream.addr()]) }).await;
    let envoy = Envoy::start(EnvoySetup { epp_tls: true, ..EnvoySetup::new(epp.ext_proc) }).await;
    let bodies = [
        format!(r#"{{"model":"m","prompt":"{CANARY}","max_tokens":3}}"#),
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{CANARY}"}}]}}"#),
        format!(r#"{{"model":"m","prompt":["{CANARY}"]"#),
        format!("{CANARY} is no JSON"),
        format!(r#"{{"prompt":"{CANARY}"}}"#),
    ];
    for body in bodies {
        let post =
            client(Protocol::Http1).post(envoy.http()).header("authorization", format!("Bearer {CANARY}"));
        post.header("cookie", CANARY).body(body).send().await.unwrap().text().await.unwrap();
    }
    // The server dies in the middle: error paths log, too.
    upstream.answer(Answer::Close);
    let body = format!(r#"{{"model":"m","prompt":"{CANARY}"}}"#);
    client(Protocol::Http2).post(envoy.http()).body(body).send().await.unwrap();
    epp.wait_until_idle().await;
    let decisions = epp.get("/debug/decisions?limit=256").await;
    assert_eq!(decisions.matches("\"sequence\"").count(), 3, "three requests were decided");
    assert!(epp.log().contains("request refused"), "the log is at its most verbose");
    for (place, text) in
        [("log", epp.log()), ("metrics", epp.get("/metrics").await), ("decisions", decisions)]
    {
        assert!(!text.contains(CANARY), "the canary is in the {place}");
    }
}

struct Panicking;

impl Scorer for Panicking {
    fn score(&self, _: &Cycle<'_>, _: &Candidates<'_>, _: &mut [f64]) {
        panic!("a plugin with a bug");
    }
}

/// The built-ins, with a scorer that panics.
static TYPES: std::sync::LazyLock<Vec<PluginType>> = std::sync::LazyLock::new(|| {
    let panicking = PluginType {
        name: "panicking-scorer",
        summary: "Panics.",
        parameters: &[],
        kinds: &[Kind::Scorer],
        build: |_, _| Plugin { scorer: Some(Arc::new(Panicking)), ..Plugin::default() },
        ..PluginType::PLAIN
    };
    let built_in = epp_plugins::BUILT_IN.iter().map(|plugin| PluginType { ..*plugin });
    built_in.chain([panicking]).collect()
});

/// Invariant 4: a stream that fails inside ends with a status other than OK; other streams do not notice.
#[tokio::test]
async fn a_stream_that_fails_inside_never_ends_with_ok() {
    let config = "plugins: [{type: panicking-scorer}]\n";
    let epp = Hermetic::with_config(&[(0, 0.0, "")], config, &TYPES).await;
    let request = || vec![request_headers(&[], false), request_body(r#"{"model":"m","prompt":"a"}"#, true)];
    for _ in 0..2 {
        let (answers, end) = epp.exchange(request()).await;
        assert!(answers.is_empty());
        assert_eq!(end.unwrap_err().code(), tonic::Code::Internal);
    }
    let (answers, end) = epp.exchange(vec![request_headers(&[], true)]).await;
    assert!(end.is_ok() && answers.len() == 1, "a request that needs no scorer is served");
    let twice = vec![response_headers(&[]), response_headers(&[])];
    assert_eq!(epp.exchange(twice).await.1.unwrap_err().code(), tonic::Code::InvalidArgument);
    assert_eq!(epp.held(), (0, 0, 0));
}

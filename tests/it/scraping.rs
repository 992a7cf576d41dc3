//! `epp` told by flags and labels where and how model servers show their metrics: Triton's page on a port of its own,
//! engines that a label names, TLS.

use serde_json::Value;

use crate::support::epp::{Epp, EppSetup};
use crate::support::eventually;
use crate::support::metrics_server::{LocalCertificate, MetricsServer, Pages};

const TRITON: Pages = &[("/stats", include_str!("fixtures/model_servers/triton.prom"))];

const SGLANG: Pages = &[("/metrics", include_str!("fixtures/model_servers/sglang.prom"))];

const VLLM: Pages = &[("/metrics", "vllm:num_requests_waiting 4\nvllm:num_requests_running 1\n")];

const READY: &str = "inference_pool_ready_pods{name=\"it\"}";

fn flags(flags: &[&str]) -> Vec<String> {
    flags.iter().map(ToString::to_string).collect()
}

async fn scraped(epp: &Epp, result: &str) {
    let series = format!("epp_scrape_total{{result=\"{result}\"}}");
    eventually(result, async || epp.metric(&series).await.filter(|&n| n >= 3.0)).await;
}

#[tokio::test]
async fn tritons_page_is_read_as_its_chart_asks_for_it() {
    let server = MetricsServer::start(TRITON, None).await;
    let port = server.addr.port().to_string();
    let args = flags(&[
        "--total-queued-requests-metric",
        "nv_trt_llm_request_metrics{request_type=waiting}",
        "--total-running-requests-metric=nv_trt_llm_request_metrics{request_type=scheduled}",
        "--kv-cache-usage-percentage-metric",
        "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}",
        "--lora-info-metric",
        "",
        "--cache-info-metric=",
        "--model-server-metrics-port",
        &port,
        "--model-server-metrics-path",
        "/stats",
    ]);
    // Requests would go to another port: nobody answers there, and nobody is asked.
    let epp = Epp::with(EppSetup { args, ..EppSetup::new(&[([127, 0, 0, 1], 1).into()]) }).await;
    eventually("the server is scraped", async || (epp.metric(READY).await == Some(1.0)).then_some(())).await;
    let queue = "inference_pool_per_pod_queue_size{model_server_pod=\"server-0\",name=\"it\"}";
    assert_eq!(epp.metric(queue).await, Some(3.0));
    assert_eq!(epp.metric("inference_pool_average_kv_cache_utilization{name=\"it\"}").await, Some(0.4125));
    let asked = eventually("it is asked twice", async || {
        let asked = server.asked.lock().clone();
        (asked.len() >= 2).then_some(asked)
    })
    .await;
    assert_eq!(asked[0], "/stats");
    assert_eq!(
        asked[1], "/stats/?name[]=nv_trt_llm_request_metrics&name[]=nv_trt_llm_kv_cache_block_metrics",
        "the filter asks for the configured names"
    );
}

#[tokio::test]
async fn a_label_says_by_which_names_a_page_is_read() {
    let (sglang, vllm) = (MetricsServer::start(SGLANG, None).await, MetricsServer::start(VLLM, None).await);
    let epp = Epp::with(EppSetup::new(&[])).await;
    let file = |label: &str| {
        let entry = |name: &str, port: u16, label: &str| {
            format!("- {{name: {name}, address: 127.0.0.1, port: {port}, labels: {{{label}}}}}\n")
        };
        let entries = entry("b", vllm.addr.port(), "zone: z") + &entry("a", sglang.addr.port(), label);
        std::fs::write(epp.endpoints_file(), format!("endpoints:\n{entries}")).expect("the folder is ours");
    };
    let queues = async |sglang: Option<f64>| {
        eventually("the queues", async || {
            let page = epp.get("/metrics").await;
            let queue = |pod: &str| {
                let series =
                    format!("inference_pool_per_pod_queue_size{{model_server_pod=\"{pod}\",name=\"it\"}}");
                page.lines().find_map(|line| line.strip_prefix(&series)?.trim().parse::<f64>().ok())
            };
            (queue("a") == sglang && queue("b") == Some(4.0)).then_some(())
        })
        .await;
    };
    let unknown = || {
        let lines = epp.log_lines().into_iter();
        lines.filter(|line| line["msg"] == "unknown engine; its page is read as the flags say").count()
    };
    file("llm-d.ai/engine-type: sglang");
    queues(Some(1.0)).await;
    let asked = eventually("it is asked twice", async || {
        let asked = sglang.asked.lock().clone();
        (asked.len() >= 2).then_some(asked)
    })
    .await;
    assert_eq!(asked[0], "/metrics");
    assert_eq!(
        asked[1],
        "/metrics/?name[]=sglang:num_queue_reqs&name[]=sglang:num_running_reqs&name[]=sglang:token_usage\
         &name[]=sglang:cache_config_info&name[]=sglang:page_size&name[]=sglang:num_pages",
        "the filter asks for the engine's names"
    );
    assert_eq!(unknown(), 0);

    // By vLLM's names the page says nothing, and what it said before does not count.
    file("llm-d.ai/engine-type: sg-lang");
    scraped(&epp, "no_metrics").await;
    queues(Some(0.0)).await;
    assert_eq!(unknown(), 1, "told once, however often it is scraped");

    file("inference.networking.k8s.io/engine-type: sglang");
    queues(Some(1.0)).await;
    file("llm-d.ai/engine-type: sg-lang");
    queues(Some(0.0)).await;
    assert_eq!(unknown(), 1, "a name that was told is not told again");
    let line = epp.log_lines().into_iter().find(|line| line["engine"] == "sg-lang").expect("it is told");
    assert!(line["endpoint"].as_str().expect("a name").starts_with("default/a@"), "{line}");
}

#[tokio::test]
async fn pages_over_tls_are_read_and_verified_if_that_is_asked_for() {
    let here = LocalCertificate::of("127.0.0.1");
    let elsewhere = LocalCertificate::of("127.0.0.2");
    let https = "--model-server-metrics-scheme=https";
    let verify = "--model-server-metrics-https-insecure-skip-verify=false";
    for (name, certificate, trusted, args, result) in [
        ("any certificate by default", &elsewhere, None, &[https][..], "ok"),
        ("one that the system trusts", &here, Some(&here), &[https, verify], "ok"),
        ("one that it does not trust", &here, Some(&elsewhere), &[https, verify], "untrusted"),
        ("one for another address", &elsewhere, Some(&elsewhere), &[https, verify], "untrusted"),
        ("clear text to a TLS server", &here, None, &[], "broken"),
    ] {
        let server = MetricsServer::start(VLLM, Some(certificate)).await;
        let roots = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        let mut env = Vec::new();
        if let Some(trusted) = trusted {
            std::fs::write(roots.path(), &trusted.pem).expect("the file is ours");
            env.push(("SSL_CERT_FILE".to_owned(), roots.path().display().to_string()));
        }
        let setup = EppSetup { args: flags(args), env, ..EppSetup::new(&[server.addr]) };
        let epp = Epp::with(setup).await;
        scraped(&epp, result).await;
        let ready = if result == "ok" { 1.0 } else { 0.0 };
        assert_eq!(epp.metric(READY).await, Some(ready), "{name}");
        assert_eq!(server.asked.lock().is_empty(), result != "ok", "{name}");
        let told = |line: &Value| {
            let reason = line["reason"].as_str().unwrap_or_default();
            line["msg"] == "scrape state changed" && reason == "certificate not trusted"
        };
        assert_eq!(epp.log_lines().iter().any(told), result == "untrusted", "{name}");
    }
}

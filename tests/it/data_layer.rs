//! The data layer behind a real Envoy: what sources say of endpoints changes the pick, and reloads change the sources.

use serde_json::Value;

use crate::support::envoy::Envoy;
use crate::support::envoy_config::EnvoySetup;
use crate::support::epp::{Epp, EppSetup};
use crate::support::upstream::{Answer, Upstream};
use crate::support::{Protocol, client, eventually};

/// The load alone: the first server has the emptier cache.
const LOAD: &str = "\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: kv-cache-utilization-scorer
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: kv-cache-utilization-scorer, weight: 1}
";

/// A gauge of the servers' own counts for more.
const CUSTOM: &str = "\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: core-metrics-extractor
  parameters:
    customMetrics:
    - {attributeKey: depth, metricSpec: 'my_depth{tier=gold}'}
- type: kv-cache-utilization-scorer
- type: endpoint-attribute-scorer
  parameters:
    attributeKey: depth
    algorithm: {type: linear_lower_is_better}
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: kv-cache-utilization-scorer, weight: 1}
  - {pluginRef: endpoint-attribute-scorer, weight: 5}
";

/// As llm-d ships one: servers whose GPUs are busy are left out.
const GPU: &str = "\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: models-data-source
- type: models-data-extractor
- type: dcgm-data-source
  name: dcgm-source
  parameters: {port: 0, path: /dcgm, interval: 50ms}
- type: dcgm-extractor
  name: dcgm-extractor
- type: endpoint-attribute-filter
  name: gpu-utilization-filter
  parameters:
    attribute: GPUUtilization/dcgm-extractor
    onMissing: Pass
    fallbackOnEmpty: true
    algorithm:
      type: threshold
      threshold: {operator: LessThanOrEqual, value: 0.90}
- type: kv-cache-utilization-scorer
dataLayer:
  sources:
  - pluginRef: models-data-source
    interval: 50ms
    extractors:
    - pluginRef: models-data-extractor
  - pluginRef: dcgm-source
    extractors:
    - pluginRef: dcgm-extractor
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: gpu-utilization-filter
  - {pluginRef: kv-cache-utilization-scorer, weight: 1}
";

fn servers() -> [Upstream; 2] {
    let servers = [Upstream::start(Answer::Echo), Upstream::start(Answer::Echo)];
    for (server, kv, depth, gpu) in [(&servers[0], 0.1, 9, 95), (&servers[1], 0.6, 1, 20)] {
        server.page(
            "/metrics",
            &format!(
                "vllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc {kv}\nmy_depth{{tier=\"iron\"}} 5\n\
                 my_depth{{tier=\"gold\"}} {depth}\n"
            ),
        );
        server.page("/dcgm", &format!("DCGM_FI_DEV_GPU_UTIL{{gpu=\"0\"}} {gpu}\n"));
        server.page("/v1/models", r#"{"object":"list","data":[{"id":"m"},{"id":"lora"}]}"#);
    }
    servers
}

/// What the debug page says of the first endpoint.
async fn first(epp: &Epp) -> Value {
    let page: Value = serde_json::from_str(&epp.get("/debug/endpoints").await).expect("JSON");
    page["endpoints"][0].clone()
}

/// Waits until requests go to the server at this position.
async fn goes_to(envoy: &Envoy, servers: &[Upstream; 2], want: usize) {
    eventually("requests go elsewhere", async || {
        let before = servers[want].received().len();
        let post = client(Protocol::Http1).post(envoy.http()).body(r#"{"model":"m","prompt":"p"}"#);
        assert_eq!(post.send().await.expect("Envoy answers").status(), 200, "{}", envoy.access_log());
        (servers[want].received().len() > before).then_some(())
    })
    .await;
    for _ in 0..10 {
        let before = servers[want].received().len();
        let post = client(Protocol::Http1).post(envoy.http()).body(r#"{"model":"m","prompt":"p"}"#);
        assert_eq!(post.send().await.expect("Envoy answers").status(), 200);
        assert_eq!(servers[want].received().len(), before + 1, "every request");
    }
}

#[tokio::test]
async fn what_sources_say_changes_the_pick_and_reloads_change_the_sources() {
    let servers = servers();
    let members = [servers[0].addr(), servers[1].addr()];
    let epp = Epp::with(EppSetup { config: CUSTOM.to_owned(), ..EppSetup::new(&members) }).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    let load = |config: &str| std::fs::write(epp.config_file(), config).expect("the folder is ours");

    goes_to(&envoy, &servers, 1).await;
    assert_eq!(first(&epp).await["attributes"]["core-metrics-extractor"]["depth"], 9.0);
    load(LOAD);
    goes_to(&envoy, &servers, 0).await;
    eventually("the attribute is gone", async || {
        let attributes = first(&epp).await["attributes"].clone();
        attributes.as_object().is_some_and(serde_json::Map::is_empty).then_some(())
    })
    .await;
    assert_eq!(first(&epp).await["freshness"], "fresh", "its load is read on");

    load(GPU);
    goes_to(&envoy, &servers, 1).await;
    eventually("the models", async || {
        let models = first(&epp).await["attributes"]["models-data-extractor"]["/v1/models"].clone();
        (models == serde_json::json!(["lora", "m"])).then_some(())
    })
    .await;
    assert_eq!(first(&epp).await["attributes"]["dcgm-extractor"]["GPUUtilization"], 0.95);
    let polls = |source: &str| format!("epp_data_source_polls_total{{result=\"ok\",source=\"{source}\"}}");
    for source in ["dcgm-data-source", "models-data-source"] {
        assert!(epp.metric(&polls(source)).await.is_some_and(|polls| polls >= 2.0), "{source}");
    }
    // One that is idle again is taken again.
    servers[0].page("/dcgm", "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 10\n");
    goes_to(&envoy, &servers, 0).await;

    load(CUSTOM);
    goes_to(&envoy, &servers, 1).await;
    let refused = epp
        .log_lines()
        .into_iter()
        .any(|line| line["msg"] == "configuration refused; the one before goes on");
    assert!(!refused, "every configuration was taken");
    envoy.assert_clean().await;
}

#[tokio::test]
async fn a_parameter_outdoes_a_flag_and_says_so() {
    let [server, _] = servers();
    server.page("/elsewhere", "vllm:num_requests_waiting 7\n");
    let config = LOAD.replace(
        "plugins:\n- type: kv",
        "plugins:\n- {type: metrics-data-source, parameters: {path: /elsewhere}}\n- type: kv",
    );
    let args = vec!["--model-server-metrics-path=/flag".to_owned()];
    let epp = Epp::with(EppSetup { config, args, ..EppSetup::new(&[server.addr()]) }).await;
    eventually("the load", async || (first(&epp).await["waiting"] == 7).then_some(())).await;
    let told = |line: &Value| {
        line["msg"] == "the flag does not count, the configuration's data layer says otherwise"
            && line["flag"] == "--model-server-metrics-path"
            && line["plugin"] == "metrics-data-source"
    };
    assert_eq!(epp.log_lines().iter().filter(|line| told(line)).count(), 1);
}

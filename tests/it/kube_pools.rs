//! Several `InferencePool`s of a Kubernetes API in one process: in one namespace and in two, called by their pickers'
//! Services.

use serde_json::{Value, json};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::envoy::Envoy;
use crate::support::envoy_config::EnvoySetup;
use crate::support::epp::{Epp, EppSetup, InCluster};
use crate::support::kube_api::{ADMIN, KubeApi, pod};
use crate::support::upstream::{Answer, Upstream};
use crate::support::{Protocol, client, eventually};

fn pool(namespace: &str, name: &str, picker: &str, port: u16) -> Value {
    json!({
        "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "selector": { "matchLabels": { "app": name } }, "targetPorts": [{ "number": port }],
            "endpointPickerRef": { "name": picker, "port": { "number": 9002 } },
        },
    })
}

fn pod_in(namespace: &str, name: &str, app: &str, server: &Upstream) -> String {
    let mut pod = pod(name, app, &server.addr().ip().to_string());
    pod["metadata"]["namespace"] = json!(namespace);
    pod.to_string()
}

async fn ask(epp: &Epp, authority: &'static str) -> u16 {
    let setup = EnvoySetup { authority: Some(authority), ..EnvoySetup::new(epp.ext_proc) };
    let envoy = Envoy::start(setup).await;
    let url = format!("{}/v1/completions", envoy.http());
    let body = r#"{"model":"m","prompt":"p"}"#;
    client(Protocol::Http1).post(url).body(body).send().await.expect("Envoy answers").status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_of_one_namespace_and_of_two_are_served_by_one_process() {
    let api = KubeApi::start().await;
    api.define("inferencepools.inference.networking.k8s.io").await;
    api.apply(
        &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "else" } }).to_string(),
    )
    .await;
    let servers = Upstream::pods(3, &Answer::Echo);
    let port = servers[0].addr().port();
    for (namespace, name, server) in
        [("default", "a", &servers[0]), ("default", "b", &servers[1]), ("else", "a", &servers[2])]
    {
        api.apply(&pod_in(namespace, &format!("pod-{name}"), name, server)).await;
        if (namespace, name) != ("default", "b") {
            api.apply(&pool(namespace, name, "epp", port).to_string()).await;
        }
    }
    let flags = ["default/a", "default/b", "else/a"].map(|name| format!("--pool={name}"));
    let ports = ["--grpc-port", "9002", "--grpc-health-port", "9003"].map(str::to_owned);
    let args = flags.into_iter().chain(ports).collect();
    let cluster = Some(InCluster { kubeconfig: api.kubeconfig(ADMIN), args });
    let epp = Epp::with(EppSetup { cluster, ..EppSetup::new(&[]) }).await;
    let becomes = async |service: &'static str, want: ServingStatus| {
        eventually(service, async || (epp.health(service).await == want).then_some(())).await;
    };
    becomes("default/a", ServingStatus::Serving).await;
    becomes("else/a", ServingStatus::Serving).await;
    assert_eq!(epp.health("default/b").await, ServingStatus::NotServing, "there is no such pool yet");
    assert_eq!(epp.health("").await, ServingStatus::NotServing);
    assert_eq!(ask(&epp, "epp.default.svc:9002").await, 200);
    assert_eq!(ask(&epp, "epp.else.svc:9002").await, 200);
    assert_eq!(servers.iter().map(|server| server.received().len()).collect::<Vec<_>>(), [1, 0, 1]);

    // A picker's Service that two pools share names neither.
    api.apply(&pool("default", "b", "epp", port).to_string()).await;
    becomes("default/b", ServingStatus::Serving).await;
    becomes("inference-extension", ServingStatus::Serving).await;
    let shared = "pools share a picker's service and port";
    eventually("it is told", async || epp.log().contains(shared).then_some(())).await;
    assert_eq!(ask(&epp, "epp.default.svc:9002").await, 500);
    assert_eq!(ask(&epp, "b.default").await, 200);
    api.apply(&pool("default", "b", "epp-b", port).to_string()).await;
    let row = "a call is for the pool again";
    eventually(row, async || (ask(&epp, "epp.default.svc:9002").await == 200).then_some(())).await;
    assert_eq!(ask(&epp, "epp-b.default.svc:9002").await, 200);
    assert_eq!(servers.iter().map(|server| server.received().len()).collect::<Vec<_>>(), [2, 2, 1]);
    let up = "epp_kube_watch_up{inference_pool=\"a\",inference_pool_namespace=\"else\",resource=\"pods\"}";
    assert_eq!(epp.metric(up).await, Some(1.0));
    api.delete("inference.networking.k8s.io/v1", "InferencePool", "b").await;
    becomes("default/b", ServingStatus::NotServing).await;
    assert_eq!(epp.health("default/a").await, ServingStatus::Serving);
}

//! A pool from a Kubernetes API: the guides' manifests as they are, what is optional, pods that come and go.
//!
//! Each of these runs against the double, or against a real `kube-apiserver` where there is one. `faults.rs` has what
//! only the double can do: an API that fails.

mod faults;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::envoy::Envoy;
use crate::support::envoy_config::{BodyMode, EnvoySetup};
use crate::support::epp::{Epp, EppSetup, InCluster};
use crate::support::kube_api::{KubeApi, pod, token};
use crate::support::upstream::{Answer, Upstream};
use crate::support::{Protocol, client, eventually};

const POOLS: &str = "inferencepools.inference.networking.k8s.io";
const OLDER_POOLS: &str = "inferencepools.inference.networking.x-k8s.io";
const OBJECTIVES: &str = "inferenceobjectives.inference.networking.x-k8s.io";
const MODELS: &str = "inferencemodels.inference.networking.x-k8s.io";

/// What the guides' probes ask for.
const PROBE: &str = "inference-extension";

/// The documents of a file of `config/manifests`, with this target port.
fn manifest(file: &str, from: u16, port: u16) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/manifests").join(file);
    let text = fs::read_to_string(path).expect("the file is there");
    let (from, to) = (
        [format!("number: {from}"), format!("Number: {from}")],
        [format!("number: {port}"), format!("Number: {port}")],
    );
    let text = text.replace(&from[0], &to[0]).replace(&from[1], &to[1]);
    let documents = serde_yaml::Deserializer::from_str(&text);
    documents.map(|document| Value::deserialize(document).expect("a YAML document")).collect()
}

/// The picker that these documents deploy, as its Deployment starts it, with the configuration of its ConfigMap.
fn deployed(documents: &[Value], api: &KubeApi) -> EppSetup {
    let find = |kind: &str, named: &str| {
        let matches = |object: &&Value| {
            object["kind"] == kind && object["metadata"]["name"].as_str().unwrap_or_default().ends_with(named)
        };
        documents.iter().find(matches).unwrap_or_else(|| panic!("no {kind} {named}"))
    };
    let pod = &find("Deployment", "-epp")["spec"]["template"]["spec"];
    let args = pod["containers"][0]["args"].as_array().expect("it has arguments");
    let account = pod["serviceAccountName"].as_str().unwrap_or("default");
    let kubeconfig = api.kubeconfig(&format!("system:serviceaccount:default:{account}"));
    let args = args.iter().map(|arg| arg.as_str().expect("a string").to_owned()).collect();
    let config = &find("ConfigMap", "plugins-config")["data"]["default-plugins.yaml"];
    EppSetup {
        config: config.as_str().expect("a file").to_owned(),
        secure: true,
        cluster: Some(InCluster { kubeconfig, args }),
        ..EppSetup::new(&[])
    }
}

async fn apply(api: &KubeApi, documents: &[Value]) {
    for document in documents {
        api.apply(&document.to_string()).await;
    }
}

/// Ready pods for these servers, named `pod-0` and on.
async fn apply_pods(api: &KubeApi, app: &str, servers: &[Upstream]) {
    for (n, server) in servers.iter().enumerate() {
        api.apply(&pod(&format!("pod-{n}"), app, &server.addr().ip().to_string()).to_string()).await;
    }
}

fn unready(mut pod: Value) -> Value {
    pod["status"]["conditions"][0]["status"] = json!("False");
    pod
}

/// Waits until the pool has these endpoints, by name.
async fn endpoints(epp: &Epp, names: &[&str]) {
    let want: BTreeSet<_> = names.iter().copied().map(str::to_owned).collect();
    eventually(&format!("the endpoints are {names:?}"), async || {
        let page = epp.get("/metrics").await;
        let label = |line: &str| {
            let pod = line
                .strip_prefix("inference_pool_per_pod_queue_size{")?
                .split("model_server_pod=\"")
                .nth(1)?;
            Some(pod.split('"').next()?.to_owned())
        };
        (page.lines().filter_map(label).collect::<BTreeSet<_>>() == want).then_some(())
    })
    .await;
}

async fn healthy(epp: &Epp, want: ServingStatus) {
    eventually(&format!("health says {want:?}"), async || (epp.health(PROBE).await == want).then_some(()))
        .await;
}

/// Sends so many requests for `model`; each must be answered by a server. Returns how many came to each of them.
async fn ask(envoy: &Envoy, servers: &[Upstream], model: &str, count: usize) -> Vec<usize> {
    let before: Vec<_> = servers.iter().map(|server| server.received().len()).collect();
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": "Say this is a test" }] });
    for _ in 0..count {
        let url = format!("{}/v1/chat/completions", envoy.http());
        let answer =
            client(Protocol::Http1).post(url).body(body.to_string()).send().await.expect("Envoy answers");
        assert_eq!(answer.status(), 200);
    }
    servers.iter().zip(before).map(|(server, before)| server.received().len() - before).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_of_aigatewayroute_works_with_its_manifests() {
    let api = KubeApi::start().await;
    api.define(POOLS).await;
    api.define(OBJECTIVES).await;
    let servers = Upstream::pods(4, &Answer::Echo);
    let documents = manifest("aigatewayroute/mistral.yaml", 8080, servers[0].addr().port());
    apply(&api, &documents).await;
    apply_pods(&api, "mistral-upstream", &servers[..3]).await;
    let epp = Epp::with(deployed(&documents, &api)).await;
    healthy(&epp, ServingStatus::Serving).await;
    endpoints(&epp, &["pod-0", "pod-1", "pod-2"]).await;

    // Its servers offer no metrics: all are alike.
    for mode in [BodyMode::Duplex, BodyMode::Buffered] {
        let modes = EnvoySetup {
            epp_tls: true,
            request_body: mode,
            response_body: mode,
            ..EnvoySetup::new(epp.ext_proc)
        };
        let envoy = Envoy::start(modes).await;
        let got = ask(&envoy, &servers, "mistral:latest", 30).await;
        assert!(got[..3].iter().all(|&got| got >= 3) && got[3] == 0, "{mode:?}: {got:?}");
        envoy.assert_clean().await;
    }

    let envoy = Envoy::start(EnvoySetup { epp_tls: true, ..EnvoySetup::new(epp.ext_proc) }).await;
    let at = |n: usize| servers[n].addr().ip().to_string();
    api.apply(&unready(pod("pod-0", "mistral-upstream", &at(0))).to_string()).await;
    endpoints(&epp, &["pod-1", "pod-2"]).await;
    assert_eq!(ask(&envoy, &servers, "mistral:latest", 10).await[0], 0, "it is not ready");
    api.apply(&pod("pod-3", "mistral-upstream", &at(3)).to_string()).await;
    endpoints(&epp, &["pod-1", "pod-2", "pod-3"]).await;
    assert!(ask(&envoy, &servers, "mistral:latest", 30).await[3] >= 3, "it joined");
    api.delete("v1", "Pod", "pod-1").await;
    endpoints(&epp, &["pod-2", "pod-3"]).await;

    api.apply(&pod("other", "other", &at(0)).to_string()).await;
    let mut edited =
        documents.iter().find(|object| object["kind"] == "InferencePool").expect("it has one").clone();
    edited["spec"]["selector"]["matchLabels"] = json!({ "app": "other" });
    api.apply(&edited.to_string()).await;
    endpoints(&epp, &["other"]).await;
    assert_eq!(ask(&envoy, &servers, "mistral:latest", 5).await, [5, 0, 0, 0]);

    api.delete("inference.networking.k8s.io/v1", "InferencePool", "mistral").await;
    healthy(&epp, ServingStatus::NotServing).await;
    apply(&api, &documents).await;
    healthy(&epp, ServingStatus::Serving).await;
    endpoints(&epp, &["pod-2", "pod-3"]).await;
    // What its role does not let it read, and what is not installed, is off with one line.
    let off = "optional objects are not followed: what they ask for is off";
    let told: Vec<_> = epp.log_lines().into_iter().filter(|line| line["msg"] == off).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let resources = told[0]["resources"].as_str().unwrap();
    for (resource, followed) in [
        ("inferencemodels.inference.networking.x-k8s.io", false),
        ("inferencemodelrewrites.inference.networking.x-k8s.io", false),
        ("inferenceobjectives.llm-d.ai", false),
        (OBJECTIVES, true),
    ] {
        assert_eq!(!resources.contains(resource), followed, "{resources}");
        let up = format!("epp_kube_watch_up{{resource=\"{resource}\"}}");
        assert_eq!(epp.metric(&up).await, Some(f64::from(u8::from(followed))), "{resource}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_of_httproute_works_with_its_manifests() {
    let api = KubeApi::start().await;
    api.define(OLDER_POOLS).await;
    api.define(MODELS).await;
    let servers = Upstream::pods(2, &Answer::Echo);
    let documents = manifest("httproute/inferencepool.yaml", 8000, servers[0].addr().port());
    apply(&api, &documents).await;
    apply(&api, &manifest("httproute/inferencemodels.yaml", 0, 0)).await;
    apply_pods(&api, "vllm-llama3-8b-instruct", &servers).await;
    let epp = Epp::with(deployed(&documents, &api)).await;
    healthy(&epp, ServingStatus::Serving).await;
    endpoints(&epp, &["pod-0", "pod-1"]).await;
    let envoy = Envoy::start(EnvoySetup { epp_tls: true, ..EnvoySetup::new(epp.ext_proc) }).await;
    ask(&envoy, &servers, "meta-llama/Llama-3.1-8B-Instruct", 4).await;
    ask(&envoy, &servers, "food-review", 4).await;
    let models: BTreeSet<_> = servers
        .iter()
        .flat_map(Upstream::received)
        .map(|request| serde_json::from_slice::<Value>(&request.body.unwrap()).unwrap()["model"].clone())
        .map(|model| model.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(models, ["food-review-1", "meta-llama/Llama-3.1-8B-Instruct"].map(str::to_owned).into());
    envoy.assert_clean().await;
}

/// Metrics are for those whom the cluster allows them, with the rights of the guide and no flag.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guides_rights_suffice_to_say_who_may_read_metrics() {
    let api = KubeApi::start().await;
    api.define(POOLS).await;
    api.define(OBJECTIVES).await;
    let documents = manifest("aigatewayroute/mistral.yaml", 8080, 8080);
    apply(&api, &documents).await;
    let reader = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "metrics-reader" },
        "rules": [{ "nonResourceURLs": ["/metrics"], "verbs": ["get"] }],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "metrics-reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring" }],
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "metrics-reader" },
    });
    api.apply(&format!("{reader}\n---\n{binding}")).await;
    let args = vec!["--metrics-endpoint-auth=true".to_owned()];
    let epp = Epp::with(EppSetup { args, ..deployed(&documents, &api) }).await;
    let page = async |shown: Option<String>| {
        let request = client(Protocol::Http1).get(format!("http://{}/metrics", epp.metrics));
        let request = shown.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        request.send().await.expect("the port answers").status().as_u16()
    };
    assert_eq!(page(None).await, 401);
    assert_eq!(page(Some("nobody's".into())).await, 401);
    assert_eq!(page(Some(token("alice"))).await, 403);
    assert_eq!(page(Some(token("system:serviceaccount:monitoring:prometheus"))).await, 200);
}

/// A role that lets a picker read everything that it could, bound to its account.
fn role(resources: &[&str]) -> String {
    let rules = json!([{ "apiGroups": ["*"], "resources": resources, "verbs": ["get", "list", "watch"] }]);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": "epp", "namespace": "default" }, "rules": rules,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "epp", "namespace": "default" },
        "subjects": [{ "kind": "ServiceAccount", "name": "epp", "namespace": "default" }],
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "epp" },
    });
    format!("{role}\n---\n{binding}")
}

const ACCOUNT: &str = "system:serviceaccount:default:epp";
const EVERYTHING: [&str; 5] =
    ["pods", "inferencepools", "inferenceobjectives", "inferencemodelrewrites", "inferencemodels"];

fn pool(ports: &[u16]) -> Value {
    let ports: Vec<_> = ports.iter().map(|port| json!({ "number": port })).collect();
    json!({
        "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
        "metadata": { "name": "p", "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": { "app": "x" } }, "targetPorts": ports,
            "endpointPickerRef": { "name": "epp", "port": { "number": 9002 } },
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_and_annotations_make_endpoints() {
    let api = KubeApi::start().await;
    api.define(POOLS).await;
    api.apply(&role(&EVERYTHING)).await;
    api.apply(&pool(&[8000, 8001]).to_string()).await;
    api.apply(&pod("a", "x", "127.7.1.1").to_string()).await;
    let mut restricted = pod("b", "x", "127.7.1.2");
    restricted["metadata"]["annotations"] = json!({ "llm-d.ai/active-ports": "8001" });
    api.apply(&restricted.to_string()).await;
    let epp = Epp::with(EppSetup::of_pool("p", api.kubeconfig(ACCOUNT))).await;
    endpoints(&epp, &["a-rank-0", "a-rank-1", "b-rank-1"]).await;
    api.apply(&pool(&[8000]).to_string()).await;
    endpoints(&epp, &["a"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_may_be_selected_without_a_pool() {
    let api = KubeApi::start().await;
    api.apply(&role(&["pods"])).await;
    api.apply(&pod("a", "x", "127.7.1.1").to_string()).await;
    api.apply(&pod("b", "y", "127.7.1.2").to_string()).await;
    api.apply(&pod("c", "z", "127.7.1.3").to_string()).await;
    let args = ["--endpoint-selector", "app in (x, y)", "--endpoint-target-ports", "8000"];
    let cluster = InCluster {
        kubeconfig: api.kubeconfig(ACCOUNT),
        args: args.into_iter().chain(["--grpc-port=0", "--grpc-health-port=0"]).map(str::to_owned).collect(),
    };
    let epp = Epp::with(EppSetup { cluster: Some(cluster), ..EppSetup::new(&[]) }).await;
    endpoints(&epp, &["a", "b"]).await;
    healthy(&epp, ServingStatus::Serving).await;
    api.apply(&pod("c", "y", "127.7.1.3").to_string()).await;
    endpoints(&epp, &["a", "b", "c"]).await;
    let page = epp.get("/metrics").await;
    assert!(!page.contains("inferencepools"), "no object of the Inference Extension is asked for");
}

/// Rights and definitions that come later are found; nothing but the pool's own is needed meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_at_the_start_may_come() {
    let api = KubeApi::start().await;
    let epp = Epp::with(EppSetup::of_pool("p", api.kubeconfig(ACCOUNT))).await;
    eventually("the log says what is missing", async || {
        let missing = "what the pool is made of may not be read, or is not there";
        epp.log_lines().iter().any(|line| line["msg"] == missing).then_some(())
    })
    .await;
    assert_eq!(epp.health(PROBE).await, ServingStatus::NotServing);
    api.apply(&role(&EVERYTHING)).await;
    api.define(POOLS).await;
    api.apply(&pool(&[8000]).to_string()).await;
    healthy(&epp, ServingStatus::Serving).await;
    endpoints(&epp, &[]).await;
    api.apply(&pod("a", "x", "127.7.1.1").to_string()).await;
    endpoints(&epp, &["a"]).await;
}

/// Objects of both groups count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objectives_and_rewrites_of_both_groups_are_followed() {
    let api = KubeApi::start().await;
    api.apply(&role(&EVERYTHING)).await;
    for resource in [POOLS, OBJECTIVES, MODELS, "inferenceobjectives.llm-d.ai"] {
        api.define(resource).await;
    }
    for resource in
        ["inferencemodelrewrites.llm-d.ai", "inferencemodelrewrites.inference.networking.x-k8s.io"]
    {
        api.define(resource).await;
    }
    let servers = Upstream::pods(1, &Answer::Echo);
    api.apply(&pool(&[servers[0].addr().port()]).to_string()).await;
    apply_pods(&api, "x", &servers).await;
    for (group, name, model) in [("llm-d.ai", "one", "a"), ("inference.networking.x-k8s.io", "two", "b")] {
        let rules = json!([{ "matches": [{ "model": { "value": model } }], "targets": [{ "weight": 1, "modelRewrite": format!("{model}-new") }] }]);
        let rewrite = json!({
            "apiVersion": format!("{group}/v1alpha2"), "kind": "InferenceModelRewrite",
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "poolRef": { "name": "p" }, "rules": rules },
        });
        api.apply(&rewrite.to_string()).await;
        let objective = json!({
            "apiVersion": format!("{group}/v1alpha2"), "kind": "InferenceObjective",
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "poolRef": { "name": "p" }, "priority": -1 },
        });
        api.apply(&objective.to_string()).await;
    }
    let epp = Epp::with(EppSetup::of_pool("p", api.kubeconfig(ACCOUNT))).await;
    endpoints(&epp, &["pod-0"]).await;
    healthy(&epp, ServingStatus::Serving).await;
    eventually("every kind is watched", async || {
        let page = epp.get("/metrics").await;
        let ups: Vec<_> = page.lines().filter(|line| line.starts_with("epp_kube_watch_up{")).collect();
        (ups.len() == 7 && ups.iter().all(|line| line.ends_with(" 1"))).then_some(())
    })
    .await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    for model in ["a", "b", "c"] {
        ask(&envoy, &servers, model, 1).await;
    }
    let asked: Vec<Value> = servers[0]
        .received()
        .into_iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body.unwrap()).unwrap()["model"].clone())
        .collect();
    assert_eq!(asked, ["a-new", "b-new", "c"]);
}

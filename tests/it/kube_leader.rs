//! Several replicas of one picker, of which one is ready: the Lease, and what happens to it.

use serde_json::{Value, json};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::epp::{Epp, EppSetup};
use crate::support::eventually;
use crate::support::kube_api::{KubeApi, pod};

const ACCOUNT: &str = "system:serviceaccount:default:epp";
const LEASE: &str = "epp-default-p.gateway-api-inference-extension.sigs.k8s.io";

/// An API with a pool, and what a picker may do there beside reading it.
async fn api(leases: &[&str]) -> KubeApi {
    let api = KubeApi::start().await;
    api.define("inferencepools.inference.networking.k8s.io").await;
    let pool = json!({
        "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
        "metadata": { "name": "p", "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": { "app": "x" } }, "targetPorts": [{ "number": 8000 }],
            "endpointPickerRef": { "name": "epp", "port": { "number": 9002 } },
        },
    });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": "epp", "namespace": "default" },
        "rules": [
            { "apiGroups": ["", "inference.networking.k8s.io"], "resources": ["pods", "inferencepools"], "verbs": ["get", "list", "watch"] },
            { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": leases },
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "epp", "namespace": "default" },
        "subjects": [{ "kind": "ServiceAccount", "name": "epp", "namespace": "default" }],
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "epp" },
    });
    api.apply(&format!("{pool}\n---\n{role}\n---\n{binding}\n---\n{}", pod("a", "x", "127.7.2.1"))).await;
    api
}

async fn replica(api: &KubeApi) -> Epp {
    let setup = EppSetup::of_pool("p", api.kubeconfig(ACCOUNT));
    Epp::with(EppSetup { args: vec!["--ha-enable-leader-election".to_owned()], ..setup }).await
}

async fn says(epp: &Epp, service: &str, want: ServingStatus) {
    eventually(&format!("{service} says {want:?}"), async || {
        (epp.health(service).await == want).then_some(())
    })
    .await;
}

async fn lease(api: &KubeApi) -> Value {
    api.get("coordination.k8s.io/v1", "Lease", LEASE).await.expect("there is a lease")
}

/// Writes the lease as if `holder` had it.
async fn hold(api: &KubeApi, holder: &str, seconds: u32) {
    let mut lease = lease(api).await;
    lease["spec"]["holderIdentity"] = json!(holder);
    lease["spec"]["leaseDurationSeconds"] = json!(seconds);
    lease["metadata"] = json!({ "name": LEASE, "namespace": "default" });
    api.apply(&lease.to_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_is_ready_and_another_takes_over() {
    let api = api(&["get", "create", "update"]).await;
    let mut first = replica(&api).await;
    says(&first, "readiness", ServingStatus::Serving).await;
    let second = replica(&api).await;
    for service in ["", "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor"] {
        assert_eq!(second.health(service).await, ServingStatus::NotServing, "{service}");
        assert_eq!(first.health(service).await, ServingStatus::Serving, "{service}");
    }
    assert_eq!(second.health("liveness").await, ServingStatus::Serving);
    // It knows the pool already, and scrapes it.
    eventually("the follower follows", async || {
        second.get("/metrics").await.contains("model_server_pod=\"a\"").then_some(())
    })
    .await;
    let held = lease(&api).await;
    assert_eq!(
        (&held["spec"]["leaseDurationSeconds"], &held["spec"]["leaseTransitions"]),
        (&json!(15), &json!(0))
    );
    let master = format!("leader_election_master_status{{name=\"{LEASE}\"}}");
    assert_eq!((first.metric(&master).await, second.metric(&master).await), (Some(1.0), Some(0.0)));

    first.terminate();
    says(&second, "readiness", ServingStatus::Serving).await;
    assert_ne!(lease(&api).await["spec"]["holderIdentity"], held["spec"]["holderIdentity"]);

    // Somebody takes the lease away: not ready at once, and neither gone nor alone for ever.
    hold(&api, "somebody else", 15).await;
    says(&second, "readiness", ServingStatus::NotServing).await;
    assert_eq!(second.health("liveness").await, ServingStatus::Serving);
    hold(&api, "", 1).await;
    says(&second, "readiness", ServingStatus::Serving).await;
    assert_eq!(first.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_leases_nobody_leads_and_the_log_says_why() {
    let api = api(&["get"]).await;
    let epp = replica(&api).await;
    eventually("the log names the right", async || {
        epp.log_lines()
            .iter()
            .any(|line| line["level"] == "error" && line["remedy"].is_string())
            .then_some(())
    })
    .await;
    assert_eq!(epp.health("readiness").await, ServingStatus::NotServing);
    assert_eq!(epp.health("liveness").await, ServingStatus::Serving);
}
